"""本周要点 and 总体得分: what a reader must know, conclusion first, and the district's score."""

import math
from collections.abc import Sequence

from perception.report import names
from perception.report.facts import CHART_WEEKS, NETWORKS, Facts, number
from perception.report.model import Block, Cell, Chart, Column, Curve, Figure, Line, Section, Table, Text, count, figure
from perception.report.sections.shortfalls import Shortfall, shortfalls
from perception.statistics.change import Word, word
from perception.week import Week

LIMIT = 5
"""Lines of the first page."""


def score(facts: Facts, network: str) -> Figure:
    """The district's index: every rated venue weighs the same."""
    lo, hi = facts.interval(network)
    return figure(
        f"{network}/ppi", "points", facts.average(network, "ppi"), missing="unrated", lo=lo, hi=hi,
        n=len(facts.scored(network)),
    )  # fmt: skip


def change(facts: Facts, network: str) -> Figure:
    """环比. Its interval is that of the days' mean, not of the median that is printed: it decides the word, and is not
    printed beside it."""
    found = facts.change(network)
    trend: Word = word(found, found.p, "score")
    return figure(f"{network}/change", "points", found.estimate, missing="incomparable", trend=trend, n=found.pairs)


def highlights(facts: Facts) -> Section:
    """At most five lines: score and change of either network, shortfalls, what has to be decided."""
    lines: list[Block] = []
    for network in NETWORKS:
        if not facts.venues[network]:
            continue
        name = names.network(network)
        lines.append(
            Line(
                Text(
                    f"{name.zh}感知度指数{{ppi}}（{_level(facts, network).zh}），环比{{change}}。",
                    f"{name.en}: perception index {{ppi}} ({_level(facts, network).en}), week on week {{change}}.",
                ),
                {"ppi": score(facts, network), "change": change(facts, network)},
            )
        )
    if not lines:
        lines.append(Line(Text("本周无已登记场所，不评。", "No venue was registered this week: not rated.")))
    short = shortfalls(facts)
    if short:
        worst = short[0]
        lines.append(
            Line(
                Text(
                    f"短板{{short}}项；首要为{worst.venue.name.zh}的{worst.name.zh}，现值{{value}}，门限{{threshold}}。",
                    f"{{short}} shortfalls; first {worst.name.en} of {worst.venue.name.en}: {{value}}, "
                    f"mark {{threshold}}.",
                ),
                {"short": count("short", len(short)), "value": worst.value, "threshold": worst.threshold},
            )
        )
    elif any(facts.judged(network) for network in NETWORKS):
        lines.append(Line(Text("本周无短板。", "No shortfall this week.")))
    lines.append(_decision(facts, short))
    return Section(2, "highlights", Text("本周要点", "Highlights"), tuple(lines[:LIMIT]))


def _decision(facts: Facts, short: Sequence[Shortfall]) -> Line:
    """What is overdue; else shortfalls that nobody does anything about; else nothing."""
    overdue = [one for one in facts.setting.measures if one.done is None and one.due <= facts.setting.week.days[-1]]
    if not overdue:
        return _unplanned(facts, short)
    first = overdue[0]
    return Line(
        Text(
            f"需决策：逾期未完成的整改措施{{overdue}}项，最早为“{first.action}”（{first.owner}，时限{first.due}）。",
            f'To be decided: measures overdue {{overdue}}; the oldest is "{first.action}" ({first.owner}, due '
            f"{first.due}).",
        ),
        {"overdue": count("measures/overdue", len(overdue))},
    )


def _unplanned(facts: Facts, short: Sequence[Shortfall]) -> Line:
    planned = {one.venue for one in facts.setting.measures if one.done is None}
    bare = [one for one in short if one.venue.slug not in planned]
    if bare:
        first = bare[0].venue
        unit = Text.same(first.venue.unit) if first.venue.unit else Text("未登记", "not registered")
        return Line(
            Text(
                f"需决策：{{bare}}项短板尚无整改措施，首要为{first.name.zh}（责任单位：{unit.zh}）。",
                f"To be decided: {{bare}} shortfalls have no measure; first {first.name.en} (responsible: {unit.en}).",
            ),
            {"bare": count("short/unplanned", len(bare))},
        )
    if short:
        return Line(
            Text(
                "短板所在场所均有进行中的整改措施，无逾期；本周无需决策事项。",
                "Every venue with a shortfall has a measure under way, none is overdue: nothing to be decided this week.",
            )
        )
    return Line(Text("本周无需决策事项。", "Nothing to be decided this week."))


def _level(facts: Facts, network: str) -> Text:
    profile = facts.setting.profiles[network][0]
    return names.level(profile.levels.of(facts.average(network, "ppi")))


def overall(facts: Facts) -> Section:
    """PPI with its interval, dimensions, level, changes, and four weeks."""
    rows: list[tuple[Cell, ...]] = []
    for network in NETWORKS:
        if not facts.venues[network]:
            continue
        dimensions = (
            figure(f"{network}/{name}", "points", facts.average(network, name), missing="unrated")
            for name in names.DIMENSIONS
        )
        rows.append(
            (
                names.network(network),
                score(facts, network),
                _level(facts, network),
                *dimensions,
                change(facts, network),
                against(facts, network, "year", facts.setting.week.last_year),
                against(facts, network, "baseline", facts.setting.baseline),
                count(f"{network}/venues", len(facts.venues[network])),
            )
        )
    columns = (
        Column(Text("网络", "Network"), 1.6, figures=False),
        Column(Text("感知度指数［参考区间］", "Index [interval]"), 2.2),
        Column(Text("等级", "Level"), 1.0, figures=False),
        *(Column(name, 1.1) for name in names.DIMENSIONS.values()),
        Column(Text("环比", "Week on week"), 2.0),
        Column(Text("同比", "Year on year"), 1.1),
        Column(Text("较基线", "To baseline"), 1.1),
        Column(Text("场所数", "Venues"), 0.9),
    )
    table = Table(
        id="overall",
        title=Text("感知度指数", "Perception index"),
        columns=columns,
        rows=tuple(rows),
        empty=Text("本周无已登记场所，不评。", "No venue was registered this week: not rated."),
    )
    blocks: list[Block] = [table, *_notes(facts)]
    if rows:
        blocks.append(chart(facts))
    return Section(3, "overall", Text("总体得分", "Overall score"), tuple(blocks))


def _notes(facts: Facts) -> list[Line]:
    lines = [
        Line(
            Text(
                "区级得分为各场所等权平均；公共无线网络与政务网络指标不同，不合并、不互比。",
                "The district's score is the mean of venues, each with the same weight; the two networks have different "
                "indicators and are neither added nor compared.",
            )
        )
    ]
    kind = facts.setting.calendar.kind(facts.setting.week)
    if kind != "plain":
        what = (
            Text("含法定节假日", "has a public holiday")
            if kind == "holiday"
            else Text("含调休", "has a worked weekend")
        )
        lines.append(
            Line(Text(f"本周{what.zh}，只与同类周比较。", f"This week {what.en}: it is compared with its like alone."))
        )
    if facts.compared is None:
        lines.append(Line(Text("上周与本周类型不同，无环比。", "The week before is of another kind: no week-on-week.")))
    for network in NETWORKS:
        lines += _counts(facts, network)
        if facts.compared and facts.scored(network) and not any(venue.last for venue in facts.scored(network)):
            lines.append(
                Line(
                    Text(
                        f"{names.network(network).zh}：上周没有按同一评分方案的得分，无环比。",
                        f"{names.network(network).en}: the week before has no score under the same profile: no "
                        "week-on-week.",
                    )
                )
            )
        lines += _overlap(facts, network)
    return lines


def _counts(facts: Facts, network: str) -> list[Line]:
    """Why sections count other numbers of venues."""
    venues, scored, judged = (len(of) for of in (facts.venues[network], facts.scored(network), facts.judged(network)))
    if venues == scored == judged:
        return []
    name = names.network(network)
    where = Text("政务网络节点", "the nodes") if network == "gov" else Text("场所排名", "the ranking")
    return [
        Line(
            Text(
                f"{name.zh}：登记场所{{venues}}个，其中有得分{{scored}}个（区级得分是其平均），可判定达标{{judged}}个；"
                f"其余的原因见“{where.zh}”。",
                f"{name.en}: of {{venues}} registered venues {{scored}} have an index (the district is their mean) and "
                f"{{judged}} can be judged by marks; why others are not stands under {where.en}.",
            ),
            {
                "venues": count(f"{network}/venues", venues),
                "scored": count(f"{network}/venues/scored", scored),
                "judged": count(f"{network}/venues/judged", judged),
            },
        )
    ]


def _overlap(facts: Facts, network: str) -> list[Line]:
    """A week that was scored under a second profile, too."""
    lines = []
    for profile in facts.setting.beside.get(network, ()):
        found = [
            x
            for at, fields in sorted(facts.stored.weeks.get(facts.setting.week, {}).items())
            if at.network == network and at.profile == profile.series and (x := number(fields, "ppi")) is not None
        ]
        if found:
            value = figure(f"{network}/overlap/{profile.series}", "points", sum(found) / len(found), n=len(found))
            lines.append(
                Line(
                    Text(
                        f"{names.network(network).zh}同周另按评分方案 {profile.series} 计分：{{value}}（{{venues}}个场所）。",
                        f"{names.network(network).en}: the same week under the profile {profile.series}: {{value}} "
                        "({venues} venues).",
                    ),
                    {"value": value, "venues": count(f"{network}/overlap/{profile.series}/venues", len(found))},
                )
            )
    return lines


def against(facts: Facts, network: str, name: str, week: Week | None) -> Figure:
    """The difference to another week, without a word on its meaning."""
    this, other = facts.average(network, "ppi"), None if week is None else facts.week_average(network, week)
    difference = None if this is None or other is None else this - other
    return figure(f"{network}/to_{name}", "points", difference, missing="incomparable")


def chart(facts: Facts) -> Chart:
    """Four weeks."""
    weeks = [facts.setting.week.shifted(-n) for n in reversed(range(CHART_WEEKS))]
    curves = tuple(
        Curve(
            names.network(network),
            tuple(
                figure(f"{network}/weeks/{week}", "points", facts.week_average(network, week), missing="unrated")
                for week in weeks
            ),
        )
        for network in NETWORKS
        if facts.venues[network]
    )
    known = [point.value for curve in curves for point in curve.points if point.value is not None] or [0.0, 100.0]
    # Whole tens around what is there, at least twenty points high: a change of one point must not look like a fall.
    bottom = max(0.0, min(80.0, 10.0 * math.floor((min(known) - 5) / 10)))
    top = min(100.0, max(bottom + 20.0, 10.0 * math.ceil((max(known) + 5) / 10)))
    return Chart(
        id="weeks",
        title=Text("近四周感知度指数", "Perception index, four weeks"),
        labels=tuple(f"W{week.number:02d}" for week in weeks),
        curves=curves,
        bottom=bottom,
        top=top,
    )
