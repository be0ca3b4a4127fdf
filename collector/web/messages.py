"""Every text of the status page, in Chinese and English side by side."""

from typing import Final, Literal, NamedTuple

from contract.fields import CERT_ALARM_DAYS

Language = Literal["zh", "en"]
LANGUAGES: Final[tuple[Language, ...]] = ("zh", "en")
HTML_LANGUAGE: Final[dict[Language, str]] = {"zh": "zh-CN", "en": "en"}


class Text(NamedTuple):
    """One text; both languages have the same ``{placeholders}``."""

    zh: str
    en: str


TEXTS: Final[dict[str, Text]] = {
    # The page
    "title": Text("网感 · 网络状态", "Wanggan · network status"),
    "product": Text("网感", "Wanggan"),
    "skip_to_values": Text("跳到测量结果", "Skip to the measurements"),
    "language": Text("语言", "Language"),
    "health": Text("系统状态", "System health"),
    "venues": Text("场所", "Venues"),
    "waiting": Text("等待登记的探针", "Agents waiting for registration"),
    "waiting_why": Text(
        "这些探针已连接，但尚未登记，数据保留在探针上。把下面的内容加入 sites.toml：",
        "These agents are connected but not registered; they keep their records. Add this to sites.toml:",
    ),
    "score": Text("感知度指数", "Perception index"),
    "score.none": Text("不评", "not rated"),
    "score.why": Text("{profile}；{days} 天", "{profile}; {days} days"),
    "score_level.优": Text("优", "excellent"),
    "score_level.良": Text("良", "good"),
    "score_level.中": Text("中", "fair"),
    "score_level.差": Text("差", "poor"),
    "reports": Text("最新网络感知周报", "Newest weekly report"),
    "no_venues": Text("还没有已登记的场所。", "No venue is registered yet."),
    "simulated": Text(
        "仿真数据：均由程序生成，没有一项是实测结果", "Simulated data: made up by a program, nothing was measured"
    ),
    "simulated.title": Text("仿真", "simulated"),
    "version": Text("版本", "version"),
    "times_in": Text("时间为您所在时区", "Times are in your time zone"),
    "times_utc": Text("时间为 UTC", "Times are in UTC"),
    "started": Text("采集器启动于", "Collector started"),
    "live": Text("实时", "Live"),
    "gone": Text(
        "采集器自 {time} 起无响应，正在重试；以下为最后已知的值",
        "Collector unreachable since {time}, trying again; last known values below",
    ),
    "lost": Text("已断开", "Disconnected"),
    # Links and counts
    "link.broker": Text("消息代理", "Broker"),
    "link.store": Text("数据库", "Database"),
    "colon": Text("：", ": "),
    "stop": Text("。", ". "),
    "link.up": Text("正常", "connected"),
    "link.pending": Text("尚未连接", "not connected yet"),
    "link.down": Text("自 {time} 起不可达", "unreachable since {time}"),
    "link.broker.down_means": Text(
        "收不到新的测量；探针会保留记录，恢复后补传",
        "No new measurement arrives; agents keep their records and send them later",
    ),
    "link.store.down_means": Text(
        "以下为最后已知的旧值；探针会保留记录，恢复后补传",
        "Values below are old, the last ones known; agents keep their records and send them later",
    ),
    "alarm.register": Text("新的 sites.toml 有误，仍用旧的登记", "The new sites.toml is not taken, the old one holds"),
    "alarm.store_limit": Text(
        "数据库达到自身上限，探针保留记录，稍后补传",
        "The store says that its limit is reached, agents keep their records and send them later",
    ),
    "alarm.dead_letters": Text(
        "死信无法保存，暂不拒收任何记录", "Dead letters cannot be kept, nothing is rejected meanwhile"
    ),
    "alarm.certificates": Text(
        f"证书不足 {CERT_ALARM_DAYS} 天，请重新入网（wanggan fleet enrol --renew）",
        f"Certificates end in less than {CERT_ALARM_DAYS} days, enrol again (wanggan fleet enrol --renew)",
    ),
    "old": Text("旧值", "old"),
    "agents": Text("探针", "Agents"),
    "agents.online": Text("在线", "online"),
    "agents.silent": Text("静默", "silent"),
    "agents.unknown": Text("未知", "unknown"),
    "agents.waiting": Text("待登记", "waiting"),
    "records": Text("记录", "Records"),
    "records.stored": Text("已存", "stored"),
    "records.rejected": Text("拒收", "rejected"),
    "records.later": Text("稍后", "later"),
    "records.dead_letters": Text("死信", "dead letters"),
    "records.rejected.why": Text("数据无效或过旧，已入死信", "invalid or too old, kept as dead letters"),
    "records.later.why": Text("探针会再次发送，没有丢失", "the agent sends them again, nothing is lost"),
    "records.dead_letters.why": Text(
        "用 wanggan collector dead-letters list 查看", "wanggan collector dead-letters list"
    ),
    # An agent
    "agent.online": Text("在线", "online"),
    "agent.silent": Text("自 {time} 起没有消息", "no message since {time}"),
    "agent.silent.offline": Text("自 {time} 起离线，没有消息", "offline, no message since {time}"),
    "agent.silent.never": Text("采集器启动后没有消息", "no message since the collector started"),
    "agent.unknown": Text("未知：采集器未连上消息代理", "unknown: the collector has no broker"),
    "agent.clock": Text("时钟偏差 {value}", "clock off by {value}"),
    # States of a job
    "state.ok": Text("正常", "ok"),
    "state.failed": Text("失败", "failed"),
    "state.invalid": Text("无效", "invalid"),
    "state.skipped": Text("跳过", "skipped"),
    "state.stale": Text("无新结果", "no new result"),
    "state.waiting": Text("还没有结果", "no result yet"),
    "level.bad": Text("故障", "Trouble"),
    "level.caution": Text("注意", "Caution"),
    "level.ok": Text("正常", "Good"),
    "summary.failed": Text("{n} 项失败", "{n} failing"),
    "summary.silent": Text("{n} 个探针静默", "{n} silent"),
    "summary.caution": Text("{n} 项需注意", "{n} to check"),
    "summary.ok": Text("{n} 项正常", "{n} ok"),
    "column.job": Text("测量", "Measurement"),
    "column.hour": Text("最近一小时", "Last hour"),
    "column.value": Text("最新值", "Newest value"),
    "column.age": Text("距今", "Age"),
    "spark.range": Text("最近一小时：{low} 至 {high}", "last hour: {low} to {high}"),
    "spark.failed": Text("{n} 次失败", "{n} failed"),
    "spark.none": Text("最近一小时没有数据", "nothing in the last hour"),
    "age.s": Text("{n} 秒", "{n} s"),
    "age.min": Text("{n} 分", "{n} min"),
    "age.h": Text("{n} 时", "{n} h"),
    "age.d": Text("{n} 天", "{n} d"),
    # Probes and how their values are said
    "probe.latency": Text("时延", "Latency"),
    "probe.throughput": Text("速率", "Throughput"),
    "probe.dns": Text("域名解析", "DNS"),
    "probe.web": Text("网页", "Web"),
    "probe.video": Text("视频", "Video"),
    "probe.path": Text("路径", "Path"),
    "probe.wifi_link": Text("无线信号", "Wi-Fi link"),
    "probe.wifi_scan": Text("无线环境", "Wi-Fi scan"),
    "probe.wifi_join": Text("无线接入", "Wi-Fi join"),
    "probe.wifi_event": Text("漫游与掉线", "Wi-Fi event"),
    "probe.portal": Text("认证页", "Portal"),
    "probe.agent": Text("探针自身", "Agent"),
    "role.gateway": Text("网关", "gateway"),
    "role.core": Text("核心", "core"),
    "role.internet": Text("互联网", "internet"),
    "role.service": Text("业务", "service"),
    "network.wifi": Text("无线", "Wi-Fi"),
    "network.gov": Text("政务网", "Gov"),
    "type.gov_hall": Text("政务大厅", "government hall"),
    "type.library": Text("图书馆", "library"),
    "type.culture": Text("文化场馆", "culture"),
    "type.sports": Text("体育场馆", "sports"),
    "type.park": Text("公园", "park"),
    "type.hospital": Text("医院", "hospital"),
    "type.community": Text("社区", "community"),
    "type.school": Text("学校", "school"),
    "type.node": Text("政务网节点", "network node"),
    "value.loss_ratio": Text("丢包 {value}", "loss {value}"),
    "value.down_mbps": Text("↓ {value}", "↓ {value}"),
    "value.up_mbps": Text("↑ {value}", "↑ {value}"),
    "value.ttfb_ms": Text("首字节 {value}", "first byte {value}"),
    "value.status": Text("状态码 {value}", "status {value}"),
    "value.rcode": Text("{value}", "{value}"),
    "value.start_s": Text("起播 {value}", "start {value}"),
    "value.stall_ratio": Text("卡顿 {value}", "stalled {value}"),
    "value.hop_count": Text("{value} 跳", "{value} hops"),
    "value.pmtu_bytes": Text("路径 MTU {value}", "path MTU {value}"),
    "value.snr_db": Text("信噪比 {value}", "SNR {value}"),
    "value.ssid": Text("{value}", "{value}"),
    "value.ap_count": Text("{value} 个热点", "{value} APs"),
    "value.co_channel_count": Text("同信道 {value}", "{value} co-channel"),
    "value.failed_stage": Text("止于{value}", "stopped at {value}"),
    "value.dhcp_ms": Text("DHCP {value}", "DHCP {value}"),
    "value.roam_ms": Text("漫游 {value}", "roam {value}"),
    "value.reason_code": Text("原因码 {value}", "reason {value}"),
    "value.detect_ms": Text("检测 {value}", "detected in {value}"),
    "value.outbox_records": Text("待发 {value}", "{value} queued"),
    "value.rss_bytes": Text("内存 {value}", "{value}"),
    "value.cpu_ratio": Text("CPU {value}", "CPU {value}"),
    "portal.open": Text("畅通", "open"),
    "portal.portal": Text("需认证", "portal"),
    "portal.dns_hijack": Text("域名劫持", "DNS hijack"),
    "portal.walled": Text("受限网", "walled"),
    "portal.limited": Text("部分可用", "limited"),
    "portal.no_internet": Text("无互联网", "no internet"),
    "portal.no_dns": Text("无解析", "no DNS"),
    "portal.no_ip": Text("无地址", "no address"),
    "portal.unknown": Text("未知", "unknown"),
    # A site's Wi-Fi
    "wifi": Text("无线网络", "Wi-Fi"),
    "wifi.signal": Text("信号", "Signal"),
    "wifi.channel": Text("信道", "Channel"),
    "wifi.channel_is": Text("{channel}（{band} GHz）", "{channel} ({band} GHz)"),
    "wifi.busy": Text("空口占用 {value}", "air {value} busy"),
    "wifi.portal": Text("认证页", "Portal"),
    "wifi.join": Text("接入用时", "Time to join"),
    "wifi.join_failed": Text("止于{stage}", "stopped at {stage}"),
    "wifi.no_join": Text("尚无接入记录", "no join yet"),
    "stage.scan": Text("搜索", "scan"),
    "stage.auth": Text("链路认证", "authentication"),
    "stage.assoc": Text("关联", "association"),
    "stage.eap": Text("802.1X", "802.1X"),
    "stage.handshake": Text("密钥协商", "keys"),
    "stage.dhcp": Text("获取地址", "DHCP"),
    "stage.first_dns": Text("域名解析", "DNS"),
    "stage.first_byte": Text("首字节", "first byte"),
    "stage.dns": Text("域名解析", "DNS"),
    "stage.portal": Text("认证页", "portal"),
    "stage.internet": Text("互联网", "internet"),
    "kind.roam": Text("漫游", "roam"),
    "kind.disconnect": Text("掉线", "disconnect"),
    # Why a slot failed, in plain words
    "reason.no_link": Text("网口无链路", "no link"),
    "reason.not_associated": Text("未连上无线", "not associated"),
    "reason.auth_failed": Text("无线认证失败", "Wi-Fi authentication failed"),
    "reason.dhcp_failed": Text("未获得地址", "no address from DHCP"),
    "reason.portal": Text("被认证页拦截", "stopped by a captive portal"),
    "reason.dns_failed": Text("域名解析失败", "DNS failed"),
    "reason.dns_hijacked": Text("域名解析被劫持", "DNS answer forged"),
    "reason.nxdomain": Text("域名不存在", "no such name"),
    "reason.unreachable": Text("网络不可达", "network unreachable"),
    "reason.refused": Text("连接被拒绝", "connection refused"),
    "reason.timeout": Text("超时无响应", "timed out"),
    "reason.reset": Text("连接被重置", "connection reset"),
    "reason.tls_failed": Text("加密连接失败", "TLS failed"),
    "reason.cert_invalid": Text("证书无效", "invalid certificate"),
    "reason.http_status": Text("网页返回错误", "HTTP error"),
    "reason.all_lost": Text("全部丢包", "all packets lost"),
    "reason.cpu_limited": Text("探针 CPU 不足", "agent short of CPU"),
    "reason.clock_step": Text("探针时钟跳变", "agent's clock jumped"),
    "reason.wrong_interface": Text("走错网口", "wrong interface"),
    "reason.target_down": Text("测量目标自身故障", "our own target is down"),
    "reason.no_permission": Text("探针权限不足", "agent lacks permission"),
    "reason.target_denied": Text("目标不被允许", "target not allowed"),
    "reason.tool_missing": Text("探针缺少工具", "tool missing on the agent"),
    "reason.internal": Text("探针内部错误", "agent's own error"),
    "reason.no_slot": Text("没有空闲测试位", "no free test slot"),
    "reason.budget": Text("流量额度用完", "data budget used up"),
    "reason.cross_traffic": Text("有其他流量", "other traffic"),
    "reason.quiet_hours": Text("静默时段", "quiet hours"),
    "reason.suppressed": Text("测试已暂停", "tests are paused"),
    "reason.no_interface": Text("没有此网口", "no such interface"),
    "reason.busy": Text("探针忙", "agent busy"),
}


class Words:
    """The texts of one language."""

    def __init__(self, language: Language) -> None:
        self.language: Language = language

    def __call__(self, key: str, **parts: object) -> str:
        """The text of `key` with its placeholders filled.

        :raises KeyError: when there is no such text.
        """
        text: str = getattr(TEXTS[key], self.language)
        return text.format(**parts) if parts else text

    def name(self, family: str, word: str | None) -> str:
        """A word of an open vocabulary: its text where there is one, else the word itself; `""` for None."""
        if word is None:
            return ""
        text = TEXTS.get(f"{family}.{word}")
        return word if text is None else str(getattr(text, self.language))


def choose_language(query: str | None, accept: str) -> Language:
    """What `?lang=` asks for, else the reader's best by Accept-Language (RFC 9110, 12.5.4), else Chinese."""
    for language in LANGUAGES:
        if query == language:
            return language
    best: tuple[float, Language] = (0.0, "zh")
    for item in accept[:500].split(","):
        tag, _, quality = item.partition(";")
        primary = tag.strip().lower().partition("-")[0]
        try:
            weight = float(quality.strip().removeprefix("q=")) if quality else 1.0
        except ValueError:
            continue
        for language in LANGUAGES:
            if primary == language and weight > best[0]:
                best = (weight, language)
    return best[1]
