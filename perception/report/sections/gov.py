"""政务网络节点: under a profile of their own, never ranked with Wi-Fi; their outages."""

from datetime import UTC, datetime

from perception.report import names
from perception.report.facts import SURE, Facts, Incident, VenueFacts, number
from perception.report.model import Block, Cell, Column, Figure, Line, Section, Table, Text, figure
from perception.report.sections.ranking import ALONE, change, completeness, score, share, unrated
from perception.statistics.busy import combine
from perception.statistics.floors import is_enough

NETWORK = "gov"
SHOWN = 40


def section(facts: Facts) -> Section:
    """Nodes in tiers, and incidents of the week."""
    places = {place.facts.slug: place for of in facts.ranking(NETWORK).values() for place in of}
    venues = sorted(
        facts.venues[NETWORK], key=lambda one: (places[one.slug].rank if one.slug in places else 1e9, one.slug)
    )
    rows: list[tuple[Cell, ...]] = []
    for venue in venues:
        place = places.get(venue.slug)
        tier = figure(f"{venue.key}/tier", "rank", place.tier if place else None, missing="unrated")
        cells: tuple[Cell, ...] = (ALONE if place and len(places) == 1 else tier, venue.name)
        rows.append((*cells, *_row(facts, venue)))
    blocks: list[Block] = [
        Table(
            id="gov",
            title=Text("节点", "Nodes"),
            columns=(
                Column(Text("档", "Tier"), 0.7),
                Column(Text("节点", "Node"), 2.2, figures=False),
                Column(Text("得分［参考区间］", "Score [interval]"), 1.5),
                Column(Text("环比", "Week on week"), 1.1),
                Column(Text("可用率", "Availability"), 1.5),
                Column(Text("往返时延 p50", "RTT p50"), 0.9),
                Column(Text("往返时延 p95", "RTT p95"), 0.9),
                Column(Text("往返丢包率", "Loss"), 0.9),
                Column(Text("忙闲比", "Busy/idle"), 0.8),
                Column(Text("完整率", "Completeness"), 1.4),
            ),
            rows=tuple(rows),
            empty=Text("本周无政务网络节点。", "No government node this week."),
        )
    ]
    for venue in venues:
        if venue.ppi is None:
            why = unrated(venue)
            blocks.append(Line(Text(f"{venue.name.zh}：{why.zh}。", f"{venue.name.en}: {why.en}.")))
    if rows:
        blocks.append(_outages(facts))
    return Section(6, "gov", Text("政务网络节点", "Government nodes"), tuple(blocks))


def _row(facts: Facts, venue: VenueFacts) -> tuple[Figure, ...]:
    busy = combine(number(venue.week, "down_busy_mbps"), number(venue.week, "down_idle_mbps"), 0.5)
    delay = facts.stored.delays.get(venue.slug)
    return (
        score(venue),
        change(venue),
        share(venue, "availability_ratio", "ratio2"),
        _delay(venue, "rtt_p50_ms", delay.p50_ms if delay else None, 0.5, delay.n if delay else 0),
        _delay(venue, "rtt_p95_ms", delay.p95_ms if delay else None, 0.95, delay.n if delay else 0),
        _loss(venue),
        figure(f"{venue.key}/busy_idle", "factor", busy.ratio, missing=venue.indicator("down_mbps")[1]),
        completeness(venue),
    )


def _loss(venue: VenueFacts) -> Figure:
    value, state = venue.indicator("loss_ratio")
    n = int(venue.week.get("loss_ratio_n") or 0)
    return figure(f"{venue.key}/loss_ratio", "ratio2", value, missing=state, n=n)


def _delay(venue: VenueFacts, name: str, value: float | None, q: float, n: int) -> Figure:
    key = f"{venue.key}/{name}"
    if n and not is_enough(n, q):
        return figure(key, "ms", None, missing="few", n=n)
    return figure(key, "ms", value, n=n)


def _outages(facts: Facts) -> Table:
    rows: list[tuple[Cell, ...]] = []
    known = {venue.slug: venue for venue in facts.venues[NETWORK]}
    for one in facts.stored.incidents:
        told = one.segment not in ("none", "agent") and one.confidence >= SURE
        if told and one.network == NETWORK and one.venue in known:
            rows.append(_outage(facts, known[one.venue], one))
    return Table(
        id="outages",
        title=Text("中断与劣化清单", "Outages and degradations"),
        columns=(
            Column(Text("节点", "Node"), 1.8, figures=False),
            Column(Text("开始", "From"), 1.2, figures=False),
            Column(Text("时长", "Lasted"), 0.8),
            Column(Text("环节", "Segment"), 1.0, figures=False),
            Column(Text("说明", "What"), 3.4, figures=False),
        ),
        rows=tuple(rows),
        limit=SHOWN,
        empty=Text("本周无置信度中以上的中断或劣化。", "No outage or degradation of medium confidence or more."),
    )


def _outage(facts: Facts, venue: VenueFacts, one: Incident) -> tuple[Cell, ...]:
    start = datetime.fromtimestamp(one.start_ns // 10**9, UTC).astimezone(facts.setting.zone)
    return (
        venue.name,
        Text(f"{start.month}月{start.day}日 {start:%H:%M}", f"{start:%m-%d %H:%M}"),
        figure(f"{venue.key}/outage/{one.segment}/{start:%Y-%m-%dT%H}", "hours", one.hours),
        names.segment(one.segment),
        one.sentence,
    )
