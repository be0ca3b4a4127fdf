"""What people read, in Chinese and in English."""

from typing import Final, Literal, NamedTuple, get_args

Language = Literal["zh", "en"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)


class Words(NamedTuple):
    """One thing in both languages."""

    zh: str
    en: str

    def of(self, language: Language) -> str:
        return self.zh if language == "zh" else self.en


class Told(NamedTuple):
    """A panel's title, and what it answers and how to read it."""

    title: Words
    description: Words


def _told(zh: str, en: str, zh_more: str, en_more: str) -> Told:
    return Told(Words(zh, en), Words(zh_more, en_more))


DASHBOARDS: Final[dict[str, Told]] = {
    "district": _told(
        "全区总览", "District wall",
        "每个场所：得分、由哪一段负责、从何时起；最差的在最前。",
        "Every venue: its score, the segment to blame, since when; the worst first.",
    ),
    "venue": _told(
        "场所详情", "Venue detail",
        "一个场所，从用户往外逐段：无线、接入、门户、解析、内网、上联、互联网。",
        "One venue, segment by segment from the user outwards: radio, join, portal, names, LAN, uplink, internet.",
    ),
    "upgrade": _told(
        "Wi-Fi 改造前后", "Wi-Fi upgrade",
        "改造前后各 28 天的日得分均值，并与未改造场所对照。割接的那几天用两个日期空出来。正式结论见周报的双重差检验。",
        "Means of day scores, 28 days before and after, beside venues not upgraded. The two dates leave out the "
        "cut-over. The verdict that counts is the weekly report's test of the double difference.",
    ),
    "gov": _told(
        "政务网络", "Government network",
        "政务外网节点：可用率、往返时延、丢包、忙闲速率、中断清单。从不与 Wi-Fi 一同排名。",
        "Nodes of the government network: availability, round trip, loss, busy and idle rates, outages. Never ranked "
        "together with Wi-Fi.",
    ),
    "incidents": _told(
        "事件与短板", "Incidents and short boards",
        "正在发生和已经结束的事件、由哪一段负责；各场所最低的指标。",
        "Incidents, open and past, with the segment to blame; each venue's lowest indicators.",
    ),
    "fleet": _told(
        "探针", "Agent fleet",
        "探针是否失联，发件箱、时钟、版本、完整率。",
        "Which agents are silent, and their outbox, clock, version and completeness.",
    ),
    "collector": _told(
        "采集端", "Collector health",
        "收到、入库、暂缓、拒收、死信、延迟，以及数据库是否接受写入。",
        "Received, stored, put off, rejected, dead letters, lag, and whether the database takes writes.",
    ),
}  # fmt: skip

NO_DATA: Final[dict[str, Words]] = {
    "score": Words(
        "没有评分。请检查：perception run 是否在运行；场所是否已登记；时间范围是否太短。",
        "No score. Check: is perception run running, is the venue registered, is the time range long enough?",
    ),
    "verdict": Words(
        "没有判定。请检查：perception run 是否在运行；该时段是否有探针上报。",
        "No verdict. Check: is perception run running, and did any agent report in this range?",
    ),
    "incident": Words(
        "没有事件。若“全区总览”的判定也是空的，请检查 perception run。",
        "No incident. If the wall shows no verdicts either, check perception run.",
    ),
    "rollup": Words(
        "该时段没有这项测量。请检查：探针配置里是否有该任务；探针是否在线；perception run 是否在运行。",
        "Not measured in this range. Check: does the agent have this job, is it online, is perception run running?",
    ),
    "wifi": Words(
        "没有无线测量。政务节点没有；Wi-Fi 场所请检查无线网卡，以及是否允许主动入网。",
        "No Wi-Fi measurement. Nodes have none; else check the radio, and whether active joins are allowed.",
    ),
    "raw": Words(
        "最近 48 小时没有原始记录。请检查：探针是否在线；采集端是否在写入；时间范围是否太早。",
        "No raw records of the last 48 hours. Check: is the agent online, does the collector write?",
    ),
    "failures": Words(
        "最近 48 小时没有失败。若其他面板也是空的，请检查探针是否在线。",
        "No failures in the last 48 hours. If other panels are empty too, check that the agent is online.",
    ),
    "fleet": Words(
        "没有探针状态。请检查：perception run 是否在运行；登记表里是否有探针。",
        "No state of agents. Check: is perception run running, and does the site register name any agent?",
    ),
    "health": Words(
        "没有探针自检记录。请检查：探针配置里是否有 agent 任务；探针是否在线。",
        "No health records. Check: does the agent's configuration have the job agent, and is it online?",
    ),
    "collector": Words(
        "没有采集端记录。请检查：采集端是否在运行；数据库是否接受写入。",
        "No points of a collector. Check: is it running, and does the database take writes?",
    ),
    "upgrade": Words(
        "改造前或改造后没有日评分。请检查两个日期、所选场所，以及 wanggan_1h 的保存期限。",
        "No day scores before or after. Check both dates, the venues chosen, and the retention of wanggan_1h.",
    ),
}  # fmt: skip
"""Why a panel may be empty and what to check, by who writes its data."""

ABSENT: Final = "–"
"""In a table's cell: not measured."""

PANELS: Final[dict[str, Told]] = {
    # District wall
    "wall.index": _told(
        "感知度指数", "Perception index",
        "各场所最近一个日得分的等权均值，以及其中最差的一个。内部监测，非官方排名。",
        "Mean of the venues' latest day scores, each venue alike, and the worst of them. Internal monitoring, no "
        "official ranking.",
    ),
    "wall.rated": _told(
        "已评场所", "Venues rated", "所选时段内有日得分的场所数。", "Venues that have a day score in this range."
    ),
    "wall.open": _told(
        "未结事件的场所", "Venues with an open incident",
        "判定为某一段异常且尚未恢复的场所数。", "Venues whose verdict blames a segment and that have not recovered.",
    ),
    "wall.complete": _told(
        "完整率", "Completeness",
        "应有记录中实际到达的比例；低于 90 % 时先看探针，再看得分。",
        "Share of the expected records that arrived. Below 90 % look at the agents before the scores.",
    ),
    "wall.venues": _told(
        "各场所（最差在前）", "Every venue, worst first",
        "得分为最近一个日得分；趋势为它减去所选时段内日得分的均值；判定为最近一小时。点场所名进入详情。",
        "Score: the latest day. Trend: that score less the mean of the days in this range. Verdict: the latest hour. "
        "A venue's name leads to its detail.",
    ),
    "wall.worst": _told(
        "得分最低的十个", "The ten lowest", "最近一个日得分。", "The latest day score."
    ),
    "wall.course": _told(
        "全区走势", "The district's course",
        "小时得分：各场所的均值与最低值。", "Hour scores: mean of all venues, and the lowest.",
    ),
    "wall.segments": _told(
        "由哪一段负责", "The segment to blame",
        "每场所每小时的判定；超过八天时每格是其最后一小时。同一时刻许多行同色：一个共同的原因。",
        "Each venue's verdict, hour by hour; above eight days each step shows its last hour. Many rows of one colour "
        "at one time: one common cause.",
    ),
    # Venue detail
    "venue.index": _told(
        "感知度指数", "Perception index", "最近一个日得分，按评分方案。", "The latest day score, by scoring profile."
    ),
    "venue.complete": _told(
        "完整率", "Completeness", "最近一日应有记录中实际到达的比例。",
        "Share of the latest day's expected records that arrived.",
    ),
    "venue.silent": _told(
        "距最近一条记录", "Since the newest record", "该场所每个探针的静默时间。", "How long each agent here is silent."
    ),
    "venue.blame": _told(
        "最近的判定", "Latest verdicts",
        "每小时一条，附依据。置信度低的以“疑似”开头，不进短板清单。",
        "One an hour, with its evidence. Those of low confidence begin with Possibly and never become short boards.",
    ),
    "venue.course": _told(
        "得分走势", "Course of the scores", "小时得分：指数与三个维度。", "Hour scores: the index and its dimensions."
    ),
    "venue.terms": _told(
        "各指标得分", "Score of each indicator",
        "最近一日，0-100，最低的就是短板。没有条的指标未测或不评。",
        "The latest day, 0-100; the lowest is the short board. No bar: not measured or not rated here.",
    ),
    "venue.items": _told(
        "各段状态", "State of each segment",
        "从用户往外：无线、解析、门户、网关、核心、互联网、业务。",
        "From the user outwards: radio, names, portal, gateway, core, internet, service.",
    ),
    "venue.success": _told(
        "成功率", "Success ratio",
        "成功数/尝试数，按探测；无效和跳过的不计。", "Ok over attempted, by probe; invalid and skipped do not count.",
    ),
    "venue.signal": _told(
        "无线信号", "Signal", "RSSI 与信噪比，小时均值。", "RSSI and signal-to-noise ratio, means of an hour."
    ),
    "venue.air": _told(
        "空口", "Airtime", "重传率与信道占用，小时均值。", "Retries and channel occupancy, means of an hour."
    ),
    "venue.join": _told(
        "入网各阶段", "Stages of joining",
        "成功入网的各阶段耗时均值；失败见成功率。", "Mean time of each stage of joins that succeeded.",
    ),
    "venue.portal": _told(
        "联网检测", "Portal check", "判断是否能上网所需的时间。", "Time until it is known whether the internet is open."
    ),
    "venue.dns": _told(
        "域名解析", "Names", "有应答的查询的耗时均值，按域名与解析器。",
        "Mean time of answered queries, by name and resolver.",
    ),
    "venue.rtt": _told(
        "往返时延", "Round trip", "每次测量中位数的均值，按目标(RFC 2681)。",
        "Mean of each measurement's median, by target (RFC 2681).",
    ),
    "venue.loss": _told(
        "往返丢包率", "Round-trip loss", "按目标(RFC 6673)；全部丢失计为 100 %。",
        "By target (RFC 6673); nothing received counts as 100 %.",
    ),
    "venue.rate": _told(
        "可用速率", "Goodput", "成功测试的均值，下行与上行。", "Mean of successful tests, down and up."
    ),
    "venue.rise": _told(
        "负载时延增量", "Rise under load",
        "满载时往返时延比空闲时高多少；每天两次。", "How much the round trip rises under full load; twice a day.",
    ),
    "venue.web": _told("网页", "Web", "打开网页的总时间均值，按网页。", "Mean time to open a page, by page."),
    "venue.video": _told(
        "视频", "Video", "起播时间与卡顿占比，小时均值。", "Time to start and share of stalling, means of an hour."
    ),
    "venue.rtt_now": _told(
        "最近 48 小时的往返时延", "Round trip of the last 48 hours",
        "原始记录，十分钟以上一点：中位数与 p95。", "Raw records, a point for ten minutes or more: median and p95.",
    ),
    "venue.failures": _told(
        "最近的失败", "Latest failures",
        "48 小时内失败的测量及原因，每种探测最多 50 条。", "Failed measurements of 48 hours with reasons, 50 a probe.",
    ),
    # Wi-Fi upgrade
    "upgrade.effect": _told(
        "双重差（指数）", "Double difference (index)",
        "（改造后 − 改造前）− 同期对照场所的变化。没有对照场所时不作因果判断。",
        "(After less before) less what the control venues changed in the same time. Without controls: no proof.",
    ),
    **{
        f"upgrade.{metric}": _told(
            f"{zh}：前后", f"{en}: before and after",
            "改造前、改造后各 28 天的日均值；旁边是对照场所。",
            "Mean of 28 days before and 28 days after; beside it the control venues.",
        )
        for metric, zh, en in (
            ("ppi", "感知度指数", "Index"),
            ("access_success_ratio", "接入成功率", "Access success"),
            ("online_ms", "上网用时", "Time to be online"),
            ("down_mbps", "下行速率", "Download"),
            ("up_mbps", "上行速率", "Upload"),
            ("rtt_p50_ms", "往返时延", "Round trip"),
            ("loss_ratio", "往返丢包率", "Round-trip loss"),
            ("web_total_ms", "网页用时", "Web"),
        )
    },
    "upgrade.course": _told(
        "日得分走势", "Course of the day scores",
        "所选场所，与对照场所的均值。", "The venue chosen, and the mean of its controls.",
    ),
    "upgrade.busy": _told(
        "忙闲下行速率", "Download, busy and idle hours",
        "忙时与闲时的下行速率，日均值。", "Download in busy and in idle hours, means of a day.",
    ),
    # Government network
    "gov.index": _told(
        "节点感知度指数", "Index of the nodes", "各节点最近日得分的均值与最低值。",
        "Mean and lowest of the nodes' latest day scores.",
    ),
    "gov.nodes": _told(
        "各节点（最差在前）", "Every node, worst first",
        "最近一日。颜色按政务网评分方案的达标值。", "The latest day. Colours by the marks of the government profile.",
    ),
    "gov.availability_ratio": _told(
        "可用率", "Availability",
        "至少两个独立目标中有一个应答的 5 分钟时段占比。",
        "Share of 5-minute slots in which at least one of two independent targets answered.",
    ),
    "gov.rtt_p50_ms": _told("到核心的往返时延", "Round trip to the core", "小时中位数。", "Median of each hour."),
    "gov.loss_ratio": _told("往返丢包率", "Round-trip loss", "小时均值。", "Mean of each hour."),
    "gov.rt_pdv_p95_ms": _told(
        "时延变化(PDV)", "Delay variation (PDV)", "往返，RFC 5481，p95 的小时中位数。",
        "Round trip, RFC 5481: an hour's median of p95.",
    ),
    "gov.busy": _told(
        "忙闲速率", "Busy and idle rates", "最近一日忙时与闲时的速率。", "Rates in busy and idle hours, latest day."
    ),
    "gov.segments": _told(
        "由哪一段负责", "The segment to blame", "每节点每小时的判定。", "Each node's verdict, hour by hour."
    ),
    "gov.outages": _told(
        "中断清单", "Outages", "政务网络的事件，最近的在前。", "Incidents of the government network, newest first."
    ),
    # Incidents and short boards
    "incidents.open": _told(
        "未结事件", "Open incidents",
        "仍在继续的事件；“场所数”大于 1 为共同原因。", "Still going on; more than one venue: a common cause.",
    ),
    "incidents.hours": _told(
        "各段负责的小时数", "Hours by segment", "所选时段内事件小时数之和。", "Hours of all incidents in this range."
    ),
    "incidents.venues": _told(
        "事件最多的场所", "Venues with most hours", "事件小时数最多的十个。", "The ten with most hours of incidents."
    ),
    "incidents.days": _told(
        "每日新增事件", "New incidents a day", "按负责的段。", "By the segment to blame."
    ),
    "incidents.all": _told(
        "全部事件", "All incidents", "所选时段内开始的事件，最近的在前。", "Begun in this range, newest first."
    ),
    "boards.scores": _told(
        "短板：各指标得分", "Short boards: score of each indicator",
        "最近一日，0-100；红色即短板。", "The latest day, 0-100; red is a short board.",
    ),
    "boards.values": _told(
        "短板：实测值与达标值", "Short boards: values beside their marks",
        "Wi-Fi 场所最近一日的实测值；绿色达标，红色得 0 分。",
        "Wi-Fi venues' values of the latest day; green passes the mark, red scores 0.",
    ),
    # Agent fleet
    "fleet.online": _told(
        "在线 / 已登记", "Online / registered", "当前在线的探针与登记的探针。", "Agents online now, and registered."
    ),
    "fleet.silent": _told(
        "最长静默", "Longest silence", "所有探针中距最近一条记录最久的。", "The longest without a record."
    ),
    "fleet.complete": _told(
        "平均完整率", "Mean completeness", "上一整小时，各探针等权。", "Of the last whole hour, each agent alike."
    ),
    "fleet.waiting": _told(
        "发件箱合计", "Waiting in outboxes",
        "所有探针尚未被确认的记录数。", "Records of all agents that are not yet acknowledged.",
    ),
    "fleet.agents": _told(
        "各探针", "Every agent",
        "静默最久的在前。版本为最近一次上线时所报。", "The most silent first. Version as told when it came online.",
    ),
    "fleet.presence": _told("在线", "Online", "每个探针何时在线。", "When each agent was online."),
    "fleet.course": _told(
        "完整率走势", "Course of completeness", "每个探针，上一整小时。", "Each agent, of the last whole hour."
    ),
    "fleet.outbox": _told("发件箱", "Outbox", "尚未被确认的记录数。", "Records not yet acknowledged."),
    "fleet.oldest": _told("发件箱最旧记录", "Oldest in the outbox", "它等了多久。", "How long it has waited."),
    "fleet.clock": _told(
        "时钟偏差", "Clock offset", "与采集端时间之差，中位数。", "Against the collector's time, median."
    ),
    "fleet.cpu": _told("处理器", "CPU", "整机占用，均值。", "Of the whole box, mean."),
    "fleet.memory": _told("内存", "Memory", "探针进程占用。", "Of the agent's process."),
    "fleet.temperature": _told("温度", "Temperature", "机箱内最高值。", "The highest in the box."),
    "fleet.disk": _told("剩余磁盘", "Free disk", "最少的一刻。", "At its least."),
    # Collector
    "collector.state": _told(
        "数据库与消息代理", "Database and broker", "1：正常；0：不可用。", "1: up, 0: down."
    ),
    "collector.lag_now": _told(
        "入库延迟", "Lag", "最近一分钟，从收到到入库，p95。", "Last minute, from receipt to stored, p95."
    ),
    "collector.dead": _told(
        "死信与丢弃", "Dead letters and dropped",
        "所选时段合计；丢弃的由探针重发，死信请用 wanggan collector dead-letters 查看。",
        "In this range. Agents send again what was dropped; see dead letters with wanggan collector dead-letters.",
    ),
    "collector.records": _told(
        "收到与入库", "Received and stored", "每分钟记录数。", "Records a minute."
    ),
    "collector.refused": _told(
        "没有入库的", "Not stored",
        "拒收、暂缓、死信、丢弃，每格合计。", "Rejected, put off, dead letters, dropped; sums of each step.",
    ),
    "collector.lag": _told("延迟走势", "Course of the lag", "从收到到入库，p95。", "From receipt to stored, p95."),
    "collector.queue": _told(
        "等待入库", "Queue", "排队等数据库的字节数。", "Bytes that wait for the database."
    ),
    "collector.up": _told(
        "何时可用", "When it was up", "数据库与消息代理的状态。", "State of the database and of the broker."
    ),
}  # fmt: skip

VARIABLES: Final[dict[str, Words]] = {
    "network": Words("网络", "Network"),
    "venue": Words("场所", "Venue"),
    "controls": Words("对照场所", "Controls"),
    "profile": Words("评分方案", "Profile"),
    "agent": Words("探针", "Agent"),
    "collector": Words("采集端", "Collector"),
    "upgraded": Words("改造开始日", "Upgrade began"),
    "settled": Words("改造后首日", "First day after"),
}

NETWORKS: Final[dict[str, Words]] = {
    "wifi": Words("公共 Wi-Fi", "Public Wi-Fi"),
    "gov": Words("政务网络", "Government network"),
}

SEGMENTS: Final[dict[str, Words]] = {
    "radio": Words("无线", "Radio"),
    "join": Words("接入", "Join"),
    "dhcp": Words("地址分配", "DHCP"),
    "portal": Words("门户", "Portal"),
    "dns": Words("域名解析", "DNS"),
    "lan": Words("场所内网", "LAN"),
    "uplink": Words("上联", "Uplink"),
    "internet": Words("互联网出口", "Internet"),
    "target": Words("目标端", "Target"),
    "agent": Words("探针", "Agent"),
    "none": Words("无", "None"),
}

STATES: Final[dict[str, Words]] = {
    "good": Words("正常", "Good"),
    "bad": Words("异常", "Bad"),
    "unknown": Words("未知", "Unknown"),
}

ALIASES: Final[dict[str, Words]] = {
    "before": Words("改造前", "Before"),
    "after": Words("改造后", "After"),
    "controls_before": Words("对照·前", "Controls before"),
    "controls_after": Words("对照·后", "Controls after"),
    "controls": Words("对照场所均值", "Mean of the controls"),
    "effect": Words("双重差", "Double difference"),
    "detail": Words("场所详情", "Venue detail"),
    "all": Words("其他看板", "Other dashboards"),
}
