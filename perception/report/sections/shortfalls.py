"""短板清单: which indicator of which venue misses its mark, for how long, why as far as one may say, and whose it is."""

from collections.abc import Sequence
from typing import NamedTuple

from perception.report import names
from perception.report.facts import NETWORKS, Facts, VenueFacts
from perception.report.model import Column, Figure, Section, Table, Text, figure

SHOWN = 30


class Shortfall(NamedTuple):
    """One."""

    venue: VenueFacts
    name: Text
    value: Figure
    threshold: Figure
    weeks: Figure
    cause: Text
    gap: float
    """Points lost by it: its weight in the index times what is missing to 100."""


def shortfalls(facts: Facts) -> list[Shortfall]:
    """Those that cost most first."""
    found = [one for network in NETWORKS for venue in facts.judged(network) for one in _of(facts, venue)]
    return sorted(found, key=lambda one: (-round(one.gap, 6), one.value.key))


def _of(facts: Facts, venue: VenueFacts) -> list[Shortfall]:
    found = []
    for indicator in venue.profile.indicators:
        if venue.passes(indicator) is not False:
            continue
        name, unit = names.INDICATORS[indicator.id]
        key = f"{venue.key}/short/{indicator.id}"
        dimension = [one.w for one in venue.profile.indicators if one.dim == indicator.dim]
        weight = venue.profile.dimensions[indicator.dim] * indicator.w / sum(dimension)
        score = venue.week.get(f"{indicator.id}_score")
        found.append(
            Shortfall(
                venue,
                name,
                figure(key, unit, venue.measured(indicator), n=venue.count(indicator.id)),
                figure(f"{key}/threshold", unit, venue.threshold(indicator)),
                figure(f"{key}/weeks", "weeks", venue.weeks_short(indicator)),
                cause(facts, venue),
                weight * (100 - (score or 0.0)),
            )
        )
    return found


def cause(facts: Facts, venue: VenueFacts) -> Text:
    """What verdicts of medium confidence or more blame in most hours; never one of low confidence."""
    blamed = facts.causes(venue)
    if not blamed:
        return Text("待查", "open")
    segment, blame = blamed[0]
    name = names.segment(segment)
    return Text(f"{name.zh}（{blame.hours} 小时）", f"{name.en} ({blame.hours} h)")


def section(facts: Facts) -> Section:
    """The list."""
    judged = any(facts.judged(network) for network in NETWORKS)
    empty = (
        Text("本周无短板。", "No shortfall this week.")
        if judged
        else Text("本周无场所可判定。", "No venue can be judged.")
    )
    return Section(7, "shortfalls", Text("短板清单", "Shortfalls"), (_table(shortfalls(facts), empty),))


def _table(found: Sequence[Shortfall], empty: Text) -> Table:
    rows = tuple(
        (
            one.venue.name,
            one.name,
            one.value,
            one.threshold,
            one.weeks,
            one.cause,
            Text.same(one.venue.venue.unit) if one.venue.venue.unit else Text("未登记", "not registered"),
        )
        for one in found
    )
    return Table(
        id="shortfalls",
        title=Text("未达标的场所与指标", "Venues and indicators below their marks"),
        columns=(
            Column(Text("场所", "Venue"), 2.2, figures=False),
            Column(Text("指标", "Indicator"), 1.8, figures=False),
            Column(Text("现值", "Value"), 1.1),
            Column(Text("门限", "Mark"), 1.1),
            Column(Text("连续周数", "Weeks"), 0.8),
            Column(Text("初步原因", "Likely cause"), 1.8, figures=False),
            Column(Text("责任单位", "Responsible"), 1.5, figures=False),
        ),
        rows=rows,
        limit=SHOWN,
        empty=empty,
    )
