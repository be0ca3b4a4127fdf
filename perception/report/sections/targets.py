"""达标情况: how many venues meet each mark, with the public values that they may be laid beside."""

from perception.report import names
from perception.report.facts import NETWORKS, Facts
from perception.report.model import Block, Column, Line, Section, Table, Text, figure, ratio
from perception.scoring.profile import Indicator
from perception.statistics.intervals import wilson

REFERENCE = Text(
    "对标行：工业和信息化部“信号升格”2025 年底目标为移动网络下行、上行均值不低于 220、45 Mbps，达标占比不低于 95%。"
    "仅作移动网络参考线，不作公共无线网络合格线。",
    "For reference: the ministry's targets for mobile networks at the end of 2025 are mean rates of 220 and 45 Mbit/s, "
    "met in 95 % of tests. A line for mobile networks, no mark for Wi-Fi.",
)
CONTRACTS = Text(
    "场所登记有合同速率或可用率的，以合同值为门限。",
    "Where the site register has a contract's rate or availability, that is the mark.",
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
        for venue in facts.scored(network)
    ]
    known = [[answer for answer in of if answer is not None] for of in answers]
    passed, judged = sum(sum(of) for of in known), sum(len(of) for of in known)
    whole = [of for of in known if of]
    name = names.network(network)
    return Line(
        Text(f"{name.zh}：达标率{{ratio}}，全部指标达标的场所{{venues}}。",
             f"{name.en}: {{ratio}} of marks met; venues that meet all of theirs: {{venues}}."),
        {
            "ratio": ratio(f"{network}/pass", passed, judged),
            "venues": ratio(f"{network}/pass/venues", sum(all(of) for of in whole), len(whole)),
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
        answers = [
            venue.passes(own)
            for venue in facts.scored(network)
            if (own := venue.profile.indicator(indicator.id)) is not None
        ]
        passed, judged = answers.count(True), len(answers) - answers.count(None)
        lo, hi = wilson(passed, judged)
        mark = indicator.pass_
        sign = "≥" if mark is not None and mark.op == ">=" else "≤"
        key = f"{network}/pass/{indicator.id}"
        rows.append(
            (
                name,
                Text.same(sign),
                figure(f"{key}/threshold", unit, mark.v if mark else None),
                ratio(key, passed, judged),
                figure(f"{key}/lo", "ratio", lo),
                figure(f"{key}/hi", "ratio", hi),
                Text.same(indicator.source) if indicator.source else Text("自定", "our own"),
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
