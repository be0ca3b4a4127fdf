"""方法说明 and 附表、术语: how every number is made, so that it can be defended, and what may not be said."""

from perception.report import names
from perception.report.facts import NETWORKS, Facts, VenueFacts, number
from perception.report.model import Block, Cell, Column, Line, Section, Table, Text, Unit, figure
from perception.report.printed import NOTICE

TEXTS = (
    Text("统计单位为“场所·周”，周为 ISO 周（周一 00:00 至周日 24:00，当地时间）。区级数值为各有评分场所（含不参与排名者）的等权平均，不按测试次数加权。",
         "The unit is a venue's week, the ISO week (Monday 00:00 to Sunday 24:00, local time). The district is the mean "
         "of rated venues (those without a rank, too), each with the same weight, never the mean of tests."),
    Text("感知度指数（PPI，0—100）＝0.40×覆盖＋0.30×网络质量＋0.30×终端业务；40/30/30 参照本市 2024 年上半年方案，内部权重未公开，"
         "以下各指标权重与端点均为自定。等级：不低于 90 优，不低于 80 良，不低于 60 中，其余差。",
         "The perception index (PPI, 0-100) is 0.40 coverage + 0.30 network quality + 0.30 services. The 40/30/30 mirror "
         "the city's scheme of 2024; its inner weights are not public, so all weights and ends below are our own. "
         "Levels: 90 excellent, 80 good, 60 fair, else poor."),
    Text("失败的测试也是结果：速率记 0，时延记超时（＋∞），计入成功率分母；全部丢失的时延测试丢包率记 100%。只有没有记录的时隙是缺测。",
         "A failed test is a result: a rate counts as 0, a time as timed out, and it is in the success ratio; a latency "
         "test that lost everything has a loss of 100 %. Only a slot without a record is missing."),
    Text("分位数：全部有限时为线性插值（Hyndman-Fan 7），有失败时为最近秩，失败视为＋∞；一周的分位数由小时草图相加得到，相对误差不超过 1%。域名解析、网页与视频的用时只取有应答的测试，其失败另计成功率。",
         "Quantiles: linear (Hyndman-Fan 7) where all are finite, nearest rank where tests failed; those of a week are "
         "from hourly sketches that add, within 1 %. Times of DNS, web and video are those of answers; their failures count in success ratios."),
    Text("参考区间：得分为 7 个日值的 t 区间（不足 4 天不给）；比率为 Wilson 95% 区间。样本下限：p50 为 30，p95 为 72，p99 为 368；"
         "接入 50 次；速率 28 次（忙时不少于 10 次，不少于 5 天）。",
         "Intervals: of a score Student's t over seven day values (none under 4 days); of a ratio Wilson's, 95 %. Least "
         "samples: p50 30, p95 72, p99 368; access 50; rates 28 (10 busy, on 5 days)."),
    Text("环比：按（场所，一周中的小时）配对求差，估计为 Hodges-Lehmann 中位数；区间与 p 值为日均差的 t 检验，场所间作 Holm 校正；"
         "区间不含 0、校正后 p<0.05 且变化不小于 2 分才称提升或下降，否则为持平。节假日与调休周只与同类周比较。",
         "Week on week: paired by venue and hour of the week; the estimate is Hodges-Lehmann's, interval and p by "
         "Student's t on day means, Holm's correction over venues. Up or down only when the interval excludes 0, the "
         "corrected p is below 0.05 and the change is 2 points or more; else flat."),
    Text("往返时延见 RFC 2681，往返丢包率见 RFC 6673，PDV 见 RFC 5481，可用速率（goodput）见 RFC 3148 与 RFC 6349；"
         "本报告不给出单向时延、单向丢包和容量。",
         "Round-trip time: RFC 2681; round-trip loss: RFC 6673; PDV: RFC 5481; goodput: RFC 3148 and RFC 6349. This "
         "report has no one-way delay, no one-way loss, no capacity."),
    Text("与标准的关系：YD/T 2691-2014（固定）与 YD/T 2892-2015（移动）规定的测试方法、环境与样本不同，GB/T 32420-2015 的门限仅作引用；"
         "本报告不构成对任何标准的符合性结论。评分方案状态见版头。",
         "Standards: YD/T 2691-2014 and YD/T 2892-2015 have other methods, settings and samples; GB/T 32420-2015 is "
         "quoted for marks alone. Nothing here is a statement of conformity. The profile's status stands in the head."),
    NOTICE,
)  # fmt: skip

TERMS = (
    (Text("感知度指数", "Perception index"), Text("三个维度的加权平均，0—100，自定。", "Weighted mean of three dimensions, our own.")),
    (Text("完整率", "Completeness"), Text("有记录的时隙 / 应测时隙。", "Slots with a record / expected slots.")),
    (Text("有效率", "Validity"), Text("已测时隙 /（应测－计划内）。", "Attempted / (expected - planned).")),
    (Text("成功率", "Success ratio"), Text("成功 / 已测（成功＋失败）。", "Ok / attempted (ok + failed).")),
    (Text("可用率", "Availability"), Text("至少一个独立目标应答的 5 分钟时段 / 已测时段。",
                                       "5-minute slots in which an independent target answered / slots attempted.")),
    (Text("忙闲比", "Busy/idle"), Text("忙时与闲时平均下行可用速率之比。", "Mean downlink goodput, busy over idle.")),
    (Text("负载时延增量", "Working latency rise"), Text("满载时往返时延 p50 减空闲时 p50。", "Round-trip p50 loaded, less idle.")),
    (Text("双重差分", "Difference in differences"), Text("改造场所前后之差减对照场所前后之差。",
                                                     "An upgraded venue's change less that of its controls.")),
    (Text("并列/分档", "Tier"), Text("与档首区间重叠的场所同档。", "Venues whose interval overlaps the leader's.")),
)  # fmt: skip

SHOWN = 30

EXTRAS = (
    ("iqb_typ", Text("IQB（典型）", "IQB typical"), "factor"),
    ("iqb_95", Text("IQB（p95）", "IQB p95"), "factor"),
    ("rpm", Text("RPM", "RPM"), "count"),
    ("r_factor", Text("语音 R", "Voice R"), "points"),
    ("web_mos", Text("网页 MOS（自定）", "Web MOS (our own)"), "points"),
    ("bloat_rise_ms", Text("负载时延增量", "Working rise"), "ms"),
)


def section(facts: Facts) -> Section:
    """Definitions, and the profiles with their weights."""
    blocks: list[Block] = [Line(text) for text in TEXTS]
    for network in NETWORKS:
        if facts.venues[network]:
            blocks.append(_weights(facts, network))
    return Section(11, "method", Text("方法说明", "Method"), tuple(blocks))


def _weights(facts: Facts, network: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for profile in facts.setting.profiles[network]:
        if not any(venue.profile.series == profile.series for venue in facts.venues[network]):
            continue
        for indicator in profile.indicators:
            name, unit = names.INDICATORS[indicator.id]
            key = f"method/{profile.series}/{indicator.id}"
            rows.append(
                (
                    Text.same(profile.series),
                    names.DIMENSIONS[indicator.dim],
                    name,
                    figure(f"{key}/w", "plain", indicator.w),
                    _end(f"{key}/bad", unit, indicator.bad),
                    _end(f"{key}/good", unit, indicator.good),
                    figure(f"{key}/min_n", "count", indicator.min_n),
                    Text("其表内端点", "ends of its own table") if indicator.bad is None else Text("", ""),
                )
            )
    name = names.network(network)
    return Table(
        id=f"weights-{network}",
        title=Text(f"{name.zh}评分方案", f"{name.en}: scoring profile"),
        columns=(
            Column(Text("方案", "Profile"), 1.6, figures=False),
            Column(Text("维度", "Dimension"), 1.0, figures=False),
            Column(Text("指标", "Indicator"), 2.2, figures=False),
            Column(Text("权重", "Weight"), 0.7),
            Column(Text("0 分", "Scores 0"), 1.0),
            Column(Text("100 分", "Scores 100"), 1.0),
            Column(Text("样本下限", "Least n"), 0.8),
            Column(Text("备注", "Note"), 1.1, figures=False),
        ),
        rows=tuple(rows),
    )


def _end(key: str, unit: Unit, value: float | None) -> Cell:
    return Text.same("—") if value is None else figure(key, unit, value)


def annex(facts: Facts) -> Section:
    """Every venue's indicators, other scores, and terms."""
    blocks: list[Block] = []
    for network in NETWORKS:
        if _known(facts, network):
            blocks += [_indicators(facts, network), _others(facts, network)]
    terms = Table(
        id="terms",
        title=Text("术语", "Terms"),
        columns=(Column(Text("术语", "Term"), 1.2, figures=False), Column(Text("含义", "Meaning"), 4.0, figures=False)),
        rows=TERMS,
    )
    return Section(12, "annex", Text("附表与术语", "Annex and terms"), (*blocks, terms))


def _known(facts: Facts, network: str) -> list[VenueFacts]:
    """Those of which anything was scored, also where it was too little for an index."""
    return [venue for venue in facts.venues[network] if venue.week]


def _indicators(facts: Facts, network: str) -> Table:
    ids: dict[str, None] = {}
    for profile in facts.setting.profiles[network]:
        ids |= dict.fromkeys(indicator.id for indicator in profile.indicators)
    name = names.network(network)
    return Table(
        id=f"indicators-{network}",
        title=Text(f"{name.zh}各场所指标得分", f"{name.en}: indicator scores by venue"),
        columns=(
            Column(Text("场所", "Venue"), 2.6, figures=False),
            *(Column(names.INDICATORS[indicator][0], 1.0) for indicator in ids),
        ),
        rows=tuple((venue.name, *(_indicator(venue, one) for one in ids)) for venue in _known(facts, network)),
        limit=SHOWN,
        wide=True,
    )


def _indicator(venue: VenueFacts, indicator: str) -> Cell:
    key = f"{venue.key}/score/{indicator}"
    if venue.profile.indicator(indicator) is None:
        return Text("不适用", "not used")
    value = number(venue.week, f"{indicator}_score")
    return figure(key, "points", value, missing="few" if venue.count(indicator) else "unknown")


def _others(facts: Facts, network: str) -> Table:
    name = names.network(network)
    return Table(
        id=f"others-{network}",
        title=Text(f"{name.zh}其他评分（不计入感知度指数）", f"{name.en}: other scores (not in the index)"),
        columns=(
            Column(Text("场所", "Venue"), 2.4, figures=False),
            *(Column(title, 1.0) for _, title, _ in EXTRAS),
            Column(Text("DSLReports 量表", "DSLReports scale"), 1.0, figures=False),
        ),
        rows=tuple(
            (
                venue.name,
                *(figure(f"{venue.key}/{field}", unit, number(venue.week, field)) for field, _, unit in EXTRAS),  # type: ignore[arg-type]
                Text.same(str(venue.week.get("bloat_grade") or "—")),
            )
            for venue in _known(facts, network)
        ),
        limit=SHOWN,
        wide=True,
    )
