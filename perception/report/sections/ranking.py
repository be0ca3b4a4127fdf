"""场所排名: by venue type, in tiers; those with too few samples apart."""

from perception.report import names
from perception.report.facts import Facts, Place, VenueFacts, missing, number
from perception.report.model import Block, Cell, Column, Figure, Line, Section, Table, Text, Unit, figure, ratio
from perception.report.wording import MISSING

NOTE = Text(
    "同一档内差异不显著，视为并列。名次区间为 2000 次按日重抽的 5%—95% 分位。带 * 者有效率低于 90%，或有指标缺测，或统一暂停超过 5%。",
    "Venues of one tier cannot be told apart. The rank's interval holds 90 % of 2,000 draws of days. A star: validity "
    "below 90 %, an indicator missing, or more than 5 % suppressed.",
)

ALONE = Text.same("—")
"""The tier of a venue that has none beside it."""


def section(facts: Facts) -> Section:
    """A table for each type of Wi-Fi venues; nodes have a section of their own."""
    ranking = facts.ranking("wifi")
    blocks: list[Block] = [_table(kind, places) for kind, places in ranking.items()]
    apart = [venue for venue in facts.venues["wifi"] if not venue.is_ranked]
    if ranking:
        blocks.append(Line(NOTE))
    if apart or not ranking:
        blocks.append(_apart(apart))
    return Section(5, "ranking", Text("场所排名", "Ranking"), tuple(blocks))


def _table(kind: str, places: list[Place]) -> Table:
    name = names.venue_type(kind)
    return Table(
        id=f"ranking-{kind}",
        title=name,
        columns=(
            Column(Text("档", "Tier"), 0.5),
            Column(Text("名次［区间］", "Rank [interval]"), 1.0),
            Column(Text("场所", "Venue"), 2.2, figures=False),
            Column(Text("得分［参考区间］", "Score [interval]"), 1.6),
            Column(Text("环比", "Week on week"), 1.2),
            Column(Text("忙时下行", "Busy downlink"), 1.0),
            Column(Text("闲时下行", "Idle downlink"), 1.0),
            Column(Text("接入成功率", "Access"), 1.3),
            Column(Text("样本量", "Tests"), 0.9),
            Column(Text("完整率", "Completeness"), 1.4),
        ),
        rows=tuple(_row(place, alone=len(places) == 1) for place in places),
    )


def _row(place: Place, *, alone: bool) -> tuple[Cell, ...]:
    venue, lo, hi = place.facts, place.interval.lo, place.interval.hi
    rank = figure(f"{venue.key}/rank", "rank", place.rank, lo=lo, hi=hi)
    return (
        ALONE if alone else figure(f"{venue.key}/tier", "rank", place.tier),
        Text("仅一个场所，不排名", "the only venue: no rank") if alone else rank,
        venue.name,
        score(venue),
        change(venue),
        rate(venue, "down_busy_mbps"),
        rate(venue, "down_idle_mbps"),
        share(venue, "access_success_ratio"),
        figure(f"{venue.key}/attempted", "count", venue.counts.attempted),
        completeness(venue),
    )


def _apart(venues: list[VenueFacts]) -> Table:
    reasons = []
    for venue in venues:
        if venue.ppi is None:
            why = unrated(venue)
        elif venue.gate == "no_rank":
            why = Text("有效率不足 70%", "validity below 70 %")
        else:
            why = Text("样本不足：不满 4 天", "too few samples: under 4 days")
        reasons.append((venue.name, score(venue), validity(venue), completeness(venue), why))
    return Table(
        id="apart",
        title=Text("样本不足或不评（不参与排名）", "Too few samples, or not rated (no rank)"),
        columns=(
            Column(Text("场所", "Venue"), 2.2, figures=False),
            Column(Text("得分", "Score"), 1.2),
            Column(Text("有效率", "Validity"), 1.6),
            Column(Text("完整率", "Completeness"), 1.6),
            Column(Text("原因", "Why"), 2.4, figures=False),
        ),
        rows=tuple(reasons),
        empty=Text("本周无场所。", "No venue this week."),
    )


def unrated(venue: VenueFacts) -> Text:
    """Why a venue has no index: the indicators that it lacks."""
    if not venue.week:
        return Text("无得分", "no score")
    lacks = []
    for name in missing(venue.week):
        what = MISSING["few" if venue.count(name) else "unknown"]
        title, _ = names.INDICATORS[name]
        lacks.append(Text(f"{title.zh}{what.zh}", f"{title.en}: {what.en}"))
    return Text(
        f"不评，某一维度超过三分之一的权重缺失：{'、'.join(one.zh for one in lacks)}",
        f"not rated, a dimension lacks more than a third of its weight: {', '.join(one.en for one in lacks)}",
    )


def score(venue: VenueFacts) -> Figure:
    """A venue's index with its interval."""
    return figure(
        f"{venue.key}/ppi", "points", venue.ppi, missing="unrated", lo=number(venue.week, "ppi_lo"),
        hi=number(venue.week, "ppi_hi"), mark=venue.is_marked,
    )  # fmt: skip


def change(venue: VenueFacts) -> Figure:
    """环比, corrected for the number of venues."""
    return figure(
        f"{venue.key}/change",
        "points",
        venue.change.estimate,
        missing="incomparable",
        trend=venue.trend,
        n=venue.change.pairs,
    )


def share(venue: VenueFacts, name: str, unit: Unit = "ratio") -> Figure:
    """A stored ratio with the counts that it was made of."""
    value, state = venue.indicator(name)
    key, n = f"{venue.key}/{name}", int(venue.week.get(f"{name}_n") or 0)
    if value is None or not n:
        return figure(key, unit, None, missing=state)
    return figure(key, unit, value, numerator=round(value * n), denominator=n)


def rate(venue: VenueFacts, name: str) -> Figure:
    """A mean of busy or idle hours; too few tests are too few for either."""
    _, state = venue.indicator("down_mbps")
    value = None if "down_mbps" in missing(venue.week) else number(venue.week, name)
    return figure(f"{venue.key}/{name}", "mbps", value, missing=state)


def completeness(venue: VenueFacts) -> Figure:
    """完整率."""
    return ratio(f"{venue.key}/completeness", venue.counts.records, venue.counts.expected)


def validity(venue: VenueFacts) -> Figure:
    """有效率."""
    return ratio(f"{venue.key}/validity", venue.counts.valid, venue.counts.due)
