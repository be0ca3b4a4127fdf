"""达标情况: how many venues meet each mark, with the public values that they may be laid beside."""

from collections.abc import Sequence

from perception.report import names
from perception.report.facts import NETWORKS, Facts, VenueFacts
from perception.report.model import Block, Cell, Column, Line, Section, State, Table, Text, Unit, figure, ratio
from perception.report.wording import shown
from perception.scoring.profile import Indicator
from perception.statistics.intervals import wilson

REFERENCE = Text(
    "对标行：工业和信息化部“信号升格”2025 年底目标为移动网络下行、上行均值不低于 220、45 Mbps，达标占比不低于 95%。"
    "仅作移动网络参考线，不作公共无线网络合格线。",
    "For reference: the ministry's targets for mobile networks at the end of 2025 are mean rates of 220 and 45 Mbit/s, "
    "met in 95 % of tests. A line for mobile networks, no mark for Wi-Fi.",
)
CONTRACTS = Text(
    "场所登记有合同速率或可用率的，以合同值为门限。各指标只计样本足够的场所，含综合得分不评者；有效率不足 70% 的场所不判定。"
    "未达标者即短板清单所列。",
    "Where the site register has a contract's rate or availability, that is the mark. Venues with enough tests of an "
    "indicator count, also those without an index; those with a validity below 70 % do not. What is missed is what the "
    "shortfalls list.",
)


def section(facts: Facts) -> Section:
    """One table a network."""
    blocks: list[Block] = []
    for network in NETWORKS:
        if facts.venues[network]:
            blocks += [_summary(facts, network), _table(facts, network)]
    if not blocks:
        blocks.append(Line(Text("本周无场所可评。", "No venue can be rated this week.")))
    else:
        blocks.append(Line(CONTRACTS))
    return Section(4, "targets", Text("达标情况", "Marks met"), (*blocks, Line(REFERENCE)))


def _summary(facts: Facts, network: str) -> Line:
    answers = [
        [venue.passes(indicator) for indicator in venue.profile.indicators if indicator.pass_]
        for venue in facts.judged(network)
    ]
    known = [[answer for answer in of if answer is not None] for of in answers]
    passed, judged = sum(sum(of) for of in known), sum(len(of) for of in known)
    name = names.network(network)
    return Line(
        Text(f"{name.zh}：达标率{{ratio}}，全部指标达标的场所{{venues}}。",
             f"{name.en}: {{ratio}} of marks met; venues that meet all of theirs: {{venues}}."),
        {
            "ratio": ratio(f"{network}/pass", passed, judged),
            "venues": ratio(f"{network}/pass/venues", sum(all(of) for of in known), len(known)),
        },
    )  # fmt: skip


def _table(facts: Facts, network: str) -> Table:
    indicators: dict[str, Indicator] = {}
    for profile in facts.setting.profiles[network]:
        for indicator in profile.indicators:
            if indicator.pass_ is not None:
                indicators.setdefault(indicator.id, indicator)
    rows = []
    for indicator in indicators.values():
        name, unit = names.INDICATORS[indicator.id]
        judges = [
            (venue, own)
            for venue in facts.judged(network)
            if (own := venue.profile.indicator(indicator.id)) is not None
        ]
        answers = [venue.passes(own) for venue, own in judges]
        passed, judged = answers.count(True), len(answers) - answers.count(None)
        lo, hi = wilson(passed, judged)
        sign = "≥" if indicator.pass_ is not None and indicator.pass_.op == ">=" else "≤"
        key = f"{network}/pass/{indicator.id}"
        tested = any(venue.count(indicator.id) for venue in facts.venues[network])
        missing: State = "few" if tested else "unknown"
        rows.append(
            (
                name,
                Text.same(sign),
                _threshold(key, unit, indicator, [venue for venue, _ in judges]),
                ratio(key, passed, judged, missing=missing),
                figure(f"{key}/lo", "ratio", lo, missing=missing),
                figure(f"{key}/hi", "ratio", hi, missing=missing),
                names.source(indicator.source),
            )
        )
    name = names.network(network)
    return Table(
        id=f"targets-{network}",
        title=Text(f"{name.zh}各指标达标场所", f"{name.en}: venues that meet each mark"),
        columns=(
            Column(Text("指标", "Indicator"), 2.4, figures=False),
            Column(Text("方向", "Is"), 0.6, figures=False),
            Column(Text("门限", "Mark"), 1.1),
            Column(Text("达标场所占比（分子/分母）", "Share of venues"), 1.8),
            Column(Text("区间下限", "Low"), 0.9),
            Column(Text("区间上限", "High"), 0.9),
            Column(Text("出处", "Source"), 1.9, figures=False),
        ),
        rows=tuple(rows),
    )


def _threshold(key: str, unit: Unit, indicator: Indicator, venues: Sequence[VenueFacts]) -> Cell:
    """The profile's mark; in words where contracts stand in its place, each venue's then stands among the shortfalls."""
    profile = figure(f"{key}/threshold", unit, indicator.pass_.v if indicator.pass_ else None)
    promised = [indicator.id in venue.promised for venue in venues]
    if not any(promised):
        return profile
    zh, en = shown(profile, "zh"), shown(profile, "en")
    return Text("合同值", "contract") if all(promised) else Text(f"合同值，无合同者 {zh}", f"contract, else {en}")
