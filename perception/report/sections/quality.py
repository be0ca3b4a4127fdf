"""数据质量: what became of every scheduled slot, and what was left out, by which rule."""

from collections import Counter

from contract import vocabulary
from perception.report import names
from perception.report.facts import NETWORKS, Counts, Facts
from perception.report.model import Block, Cell, Column, Figure, Line, Section, Table, Text, count, ratio
from perception.report.sections.ranking import completeness, validity
from perception.rollups.roll import PLANNED

RULES = Text(
    "剔除规则：无效、跳过、检修窗口内及缺测的时隙不计入得分；失败的测试计入（速率记 0，时延记超时）；不剔除离群值，"
    "只剔除不可能的数值。统一暂停超过 5% 的场所加 *。",
    "What is left out: slots that are invalid, skipped, under maintenance or missing are in no score; a failed test is "
    "in (a rate as 0, a time as timed out); outliers stay, impossible values do not. Venues with more than 5 % "
    "suppressed have a star.",
)
COLUMNS = Text(
    "各列关系：记录＝成功＋失败＋无效＋跳过＋检修窗口内；计划内不另加，是跳过中的非开放时段与统一暂停，加检修窗口内的时隙；"
    "缺测＝应测－记录，不小于 0。应测由已公布的任务推算：同一探针对同一目标的同种测试（如速率的快测与满载测试）只作一项公布，"
    "其记录可多于应测。",
    "How columns belong together: records = ok + failed + invalid + skipped + those under maintenance; planned is not "
    "added, it is what was skipped outside opening hours or by a pause, and what was under maintenance; missing = "
    "expected - records, not below 0. Expected follows from announced jobs: tests of one kind of one agent against one "
    "target (quick and loaded goodput) are announced as one, so there can be more records than expected.",
)
LOW = 0.9
SHOWN = 30


def section(facts: Facts) -> Section:
    """Slots by probe, reasons, venues with little data."""
    blocks: list[Block] = []
    for network in NETWORKS:
        if facts.venues[network]:
            blocks += [_summary(facts, network), _slots(facts, network)]
    if blocks:
        blocks.append(Line(COLUMNS))
    reasons = _reasons(facts)
    if reasons.rows:
        blocks.append(reasons)
    blocks.append(_low(facts))
    return Section(10, "quality", Text("数据质量", "Data quality"), (*blocks, Line(RULES)))


def _summary(facts: Facts, network: str) -> Line:
    total = facts.counts(network)
    minutes, known = facts.stored.online.get(network, (0.0, 0))
    key, name = f"quality/{network}", names.network(network)
    return Line(
        Text(f"{name.zh}：完整率{{complete}}，有效率{{valid}}，成功率{{success}}，探针在线率{{online}}。",
             f"{name.en}: completeness {{complete}}, validity {{valid}}, success {{success}}, agents online {{online}}."),
        {
            "complete": ratio(f"{key}/completeness", total.records, total.expected),
            "valid": ratio(f"{key}/validity", total.valid, total.due),
            "success": ratio(f"{key}/success", total.ok, total.attempted),
            "online": ratio(f"{key}/online", round(minutes), known),
        },
    )  # fmt: skip


def _slots(facts: Facts, network: str) -> Table:
    name = names.network(network)
    rows: list[tuple[Cell, ...]] = []
    for probe, title in names.PROBES.items():
        counts = facts.counts(network, probe)
        if counts.expected or counts.n:
            rows.append((title, *_states(f"quality/{network}/{probe}", counts)))
    rows.append((Text("合计", "Total"), *_states(f"quality/{network}", facts.counts(network))))
    titles = {"expected": ("应测", "Expected"), "n": ("记录", "Records"), "ok": ("成功", "Ok"), "failed": ("失败", "Failed"),
              "invalid": ("无效", "Invalid"), "skipped": ("跳过", "Skipped"), "planned": ("计划内", "Planned"),
              "missing": ("缺测", "Missing")}  # fmt: skip
    return Table(
        id=f"slots-{network}",
        title=Text(f"{name.zh}各测试的时隙", f"{name.en}: slots by test"),
        columns=(
            Column(Text("测试", "Test"), 1.5, figures=False),
            *(Column(Text(*title), 1.0) for title in titles.values()),
        ),
        rows=tuple(rows),
    )


def _states(key: str, counts: Counts) -> tuple[Figure, ...]:
    states = ("expected", "n", "ok", "failed", "invalid", "skipped", "planned", "missing")
    return tuple(count(f"{key}/{state}", getattr(counts, state)) for state in states)


def _reasons(facts: Facts) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for network in NETWORKS:
        total: Counter[str] = facts.counts(network).reasons
        for outcome, reasons in (
            ("failed", vocabulary.REASONS["failed"]),
            ("invalid", vocabulary.REASONS["invalid"] | {"implausible"}),
            ("skipped", vocabulary.REASONS["skipped"] - PLANNED),
            ("planned", PLANNED | {"maintenance"}),
        ):
            for reason in sorted(reasons, key=lambda name: (-total[name], name)):
                if total[reason]:
                    figure = count(f"quality/{network}/reason/{reason}", total[reason])
                    name = names.REASONS.get(reason, Text.same(reason))
                    rows.append((names.network(network), names.OUTCOMES[outcome], name, figure))
    return Table(
        id="reasons",
        title=Text("按原因", "By reason"),
        columns=(
            Column(Text("网络", "Network"), 1.5, figures=False),
            Column(Text("状态", "State"), 1.5, figures=False),
            Column(Text("原因", "Reason"), 2.0, figures=False),
            Column(Text("时隙数", "Slots"), 1.0),
        ),
        rows=tuple(rows),
    )


def _low(facts: Facts) -> Table:
    venues = [
        venue
        for network in NETWORKS
        for venue in facts.venues[network]
        if venue.counts.records < LOW * venue.counts.expected or not venue.counts.expected
    ]
    venues.sort(key=lambda venue: (venue.counts.records / max(1, venue.counts.expected), venue.key))
    return Table(
        id="low",
        title=Text("完整率低于 90% 的场所", "Venues with completeness below 90 %"),
        columns=(
            Column(Text("场所", "Venue"), 2.2, figures=False),
            Column(Text("网络", "Network"), 1.2, figures=False),
            Column(Text("完整率", "Completeness"), 1.6),
            Column(Text("有效率", "Validity"), 1.6),
        ),
        rows=tuple((one.name, names.network(one.network), completeness(one), validity(one)) for one in venues),
        limit=SHOWN,
        empty=Text("无。", "None."),
    )
