"""版头: which week, by whom, from which data, under which profiles."""

from datetime import datetime, time, timedelta

from perception.report.facts import NETWORKS, Facts
from perception.report.model import Head, Line, ProfileMark, Section, Text

FREEZE = time(6)
"""Monday, local time."""


def head(facts: Facts, input_sha256: str) -> Head:
    """Of the report."""
    setting = facts.setting
    monday = setting.week.monday
    used = {
        venue.profile.series: venue.profile for network in NETWORKS for venue in facts.venues[network] if venue.week
    } or {profiles[0].series: profiles[0] for profiles in setting.profiles.values()}
    return Head(
        district=setting.district,
        year=setting.week.year,
        week=setting.week.number,
        start=datetime.combine(monday, time(), setting.zone),
        end=datetime.combine(monday + timedelta(days=7), time(), setting.zone),
        frozen_at=datetime.combine(monday + timedelta(days=7), FREEZE, setting.zone),
        author=setting.author,
        profiles=tuple(
            ProfileMark(used[name].id, used[name].profile.version, used[name].profile.status, used[name].sha256)
            for name in sorted(used)
        ),
        input_sha256=input_sha256,
        simulated=any(venue.slug.startswith("sim-") for network in NETWORKS for venue in facts.venues[network]),
    )


def section() -> Section:
    """The first of twelve: what its table of facts does not say."""
    text = Text(
        "本报告由网感自动生成。每个数值的计算方法见方法说明，原始值与区间见电子表格的“全部数值”。",
        "Made by Wanggan. How each number is computed stands under Method; values and intervals are in the "
        'spreadsheet, sheet "All figures".',
    )
    return Section(1, "head", Text("报告说明", "About this report"), (Line(text),))
