"""What a column or a curve is called, its unit, and the colours of its values."""

from typing import Final, NamedTuple

from contract.fields import CERT_ALARM_DAYS
from grafana.generator import marks
from grafana.generator.marks import NEUTRAL, Steps
from grafana.generator.messages import Words


class Column(NamedTuple):
    """A name of an answer as people read it. Units are Grafana's."""

    zh: str
    en: str
    unit: str = "none"
    decimals: int | None = None
    steps: Steps = NEUTRAL

    @property
    def words(self) -> Words:
        return Words(self.zh, self.en)


def _value(name: str, zh: str, en: str, unit: str, decimals: int, network: str = "wifi", rated: str = "") -> Column:
    return Column(zh, en, unit, decimals, marks.indicator(rated or name, network))


def _score(zh: str, en: str) -> Column:
    return Column(zh, en, "none", 1, marks.levels())


def values(network: str) -> dict[str, Column]:
    """Indicators as measured, coloured by the marks of the network's profile."""
    return {
        name: _value(name, zh, en, unit, decimals, network, rated)
        for name, zh, en, unit, decimals, rated in (
            ("access_success_ratio", "接入成功率", "Access success", "percentunit", 1, ""),
            ("online_ms", "上网用时", "Time to be online", "ms", 0, ""),
            ("good_signal_ratio", "信号良好占比", "Good signal", "percentunit", 1, ""),
            ("availability_ratio", "可用率", "Availability", "percentunit", 2, ""),
            ("reach_ratio", "业务可达率", "Reach", "percentunit", 2, ""),
            ("down_mbps", "下行速率", "Download", "Mbits", 1, ""),
            ("up_mbps", "上行速率", "Upload", "Mbits", 1, ""),
            ("rtt_p50_ms", "往返时延", "Round trip", "ms", 1, ""),
            ("rt_pdv_p95_ms", "时延变化", "Delay variation", "ms", 1, ""),
            ("loss_ratio", "往返丢包率", "Loss", "percentunit", 2, ""),
            ("working_rise_ms", "负载时延增量", "Rise under load", "ms", 0, ""),
            ("dns_rtt_ms", "解析用时", "DNS", "ms", 0, ""),
            ("web_total_ms", "网页用时", "Web", "ms", 0, "web"),
            ("video_stall_ratio", "视频卡顿占比", "Video stalls", "percentunit", 2, "video"),
        )
    }


COLUMNS: Final[dict[str, Column]] = {
    **values("wifi"),
    # Who and when
    "Time": Column("时间", "Time", "dateTimeAsIso"),
    "venue": Column("场所", "Venue"),
    "network": Column("网络", "Network"),
    "profile": Column("评分方案", "Profile"),
    "agent": Column("探针", "Agent"),
    "target": Column("目标", "Target"),
    "resolver": Column("解析器", "Resolver"),
    # Scores
    "ppi": _score("指数", "Index"),
    "worst": _score("最低", "Lowest"),
    "trend": Column(
        "趋势", "Trend", "none", 1,
        (marks.Step(None, marks.RED), marks.Step(-marks.DROP_POINTS, marks.YELLOW), marks.Step(-2, marks.GREEN)),
    ),
    "coverage": _score("覆盖", "Coverage"),
    "quality": _score("质量", "Quality"),
    "service": _score("业务", "Service"),
    "completeness": Column("完整率", "Completeness", "percentunit", 1, marks.completeness()),
    "validity": Column("有效率", "Validity", "percentunit", 1, marks.completeness()),
    "rated": Column("已评场所", "Venues rated", "short", 0),
    **{
        f"{name}_score": _score(zh, en)
        for name, zh, en in (
            ("access_success_ratio", "接入成功率", "Access success"),
            ("online_ms", "上网用时", "Time to be online"),
            ("good_signal_ratio", "信号", "Signal"),
            ("availability_ratio", "可用率", "Availability"),
            ("reach_ratio", "业务可达", "Reach"),
            ("down_mbps", "下行", "Download"),
            ("up_mbps", "上行", "Upload"),
            ("rtt_p50_ms", "往返时延", "Round trip"),
            ("rt_pdv_p95_ms", "时延变化", "Delay variation"),
            ("loss_ratio", "丢包", "Loss"),
            ("working_rise_ms", "负载时延", "Rise under load"),
            ("dns_rtt_ms", "解析", "DNS"),
            ("web", "网页", "Web"),
            ("video", "视频", "Video"),
            ("voice", "语音", "Voice"),
        )
    },
    "down_busy_mbps": Column("忙时下行", "Download, busy", "Mbits", 1, marks.indicator("down_mbps")),
    "down_idle_mbps": Column("闲时下行", "Download, idle", "Mbits", 1, marks.indicator("down_mbps")),
    "up_busy_mbps": Column("忙时上行", "Upload, busy", "Mbits", 1, marks.indicator("up_mbps")),
    "up_idle_mbps": Column("闲时上行", "Upload, idle", "Mbits", 1, marks.indicator("up_mbps")),
    # Verdicts and incidents
    "segment": Column("由哪段负责", "To blame"),
    "confidence": Column("置信度", "Confidence", "none", 1, marks.rising(0.9, 0.6)),
    "scope": Column("范围", "Scope"),
    "rule": Column("规则", "Rule"),
    "zh": Column("说明", "Explanation"),
    "en": Column("说明", "Explanation"),
    "hours": Column("持续小时", "Hours", "short", 0, marks.falling(2, 6)),
    "open": Column("未结", "Open", "short", 0, marks.falling(1, 5)),
    "incidents": Column("事件", "Incidents", "short", 0),
    "venues": Column("场所数", "Venues", "short", 0, marks.falling(2, 5)),
    "cause": Column("共同原因", "Cause"),
    "l_state": Column("无线", "Radio"),
    "d_state": Column("解析", "Names"),
    "p_state": Column("门户", "Portal"),
    "g_state": Column("网关", "Gateway"),
    "c_state": Column("核心", "Core"),
    "i_state": Column("互联网", "Internet"),
    "s_state": Column("业务", "Service"),
    # Raw records and rollups
    "success": Column("成功率", "Success ratio", "percentunit", 1, marks.rising(0.95, 0.75)),
    "reason": Column("原因", "Reason"),
    "detail": Column("详情", "Detail"),
    "duration_s": Column("用时", "Took", "s", 2),
    "rssi_dbm": Column("信号强度", "RSSI", "dBm", 0, marks.rising(-65, marks.limit("rssi_dbm"))),
    "snr_db": Column("信噪比", "SNR", "dB", 0, marks.rising(25, marks.limit("snr_db"))),
    "tx_retry_ratio": Column("重传率", "Retries", "percentunit", 1, marks.falling(0.15, marks.limit("tx_retry_ratio"))),
    "busy_ratio": Column("信道占用", "Channel busy", "percentunit", 1, marks.falling(0.5, marks.limit("busy_ratio"))),
    "scan_ms": Column("扫描", "Scan", "ms", 0),
    "auth_ms": Column("认证", "Authentication", "ms", 0),
    "assoc_ms": Column("关联", "Association", "ms", 0),
    "handshake_ms": Column("密钥握手", "Handshake", "ms", 0),
    "dhcp_ms": Column("获取地址", "DHCP", "ms", 0),
    "detect_ms": Column("检测用时", "Check", "ms", 0, marks.falling(2000, marks.limit("portal_ms"))),
    "rtt_ms": Column("解析用时", "DNS", "ms", 0, marks.indicator("dns_rtt_ms")),
    "total_ms": Column("网页用时", "Web", "ms", 0, marks.indicator("web")),
    "start_s": Column("起播", "Start", "s", 1),
    "stall_ratio": Column("卡顿占比", "Stalling", "percentunit", 2, marks.indicator("video")),
    "p50": Column("中位数", "median", "ms", 1, marks.indicator("rtt_p50_ms")),
    "p95": Column("p95", "p95", "ms", 1, marks.indicator("rtt_p50_ms")),
    # Agents
    "online": Column("在线", "Online", "short", 0, marks.rising(1, 1)),
    "registered": Column("已登记", "Registered", "short", 0),
    "silent_s": Column("静默", "Silent", "s", 0, marks.falling(300, marks.SILENT_S)),
    "version": Column("版本", "Version"),
    "config_version": Column("配置版本", "Configuration", "none", 0),
    "uptime_s": Column("运行时间", "Uptime", "s", 0),
    "restarts": Column("重启次数", "Restarts", "short", 0),
    "outbox_records": Column(
        "发件箱", "Outbox", "short", 0, marks.falling(marks.OUTBOX_GROWTH, 10 * marks.OUTBOX_GROWTH)
    ),
    "outbox_oldest_s": Column("最旧记录", "Oldest", "s", 0, marks.falling(60, marks.OUTBOX_OLD_S)),
    "clock_offset_ms": Column("时钟偏差", "Clock offset", "ms", 1),
    "cpu_ratio": Column("处理器", "CPU", "percentunit", 0, marks.falling(0.7, 0.9)),
    "rss_bytes": Column("内存", "Memory", "bytes", 0),
    "disk_free_bytes": Column("剩余磁盘", "Free disk", "bytes", 1, marks.rising(1e9, 2e8)),
    "temperature_c": Column("温度", "Temperature", "celsius", 0, marks.falling(70, 85)),
    "cert_days_left": Column("证书剩余", "Certificate", "d", 0, marks.rising(CERT_ALARM_DAYS, CERT_ALARM_DAYS / 2)),
    "degraded": Column("降级", "Degraded", "short", 0, marks.falling(1, 1)),
    # Collector
    "received": Column("收到", "Received", "short", 0),
    "stored": Column("入库", "Stored", "short", 0),
    "rejected": Column("拒收", "Rejected", "short", 0, marks.falling(1, 100)),
    "later": Column("暂缓", "Put off", "short", 0, marks.falling(1, 1000)),
    "dead_letters": Column("死信", "Dead letters", "short", 0, marks.falling(1, 100)),
    "dropped": Column("丢弃", "Dropped", "short", 0, marks.falling(1, 1000)),
    "lag_p95_ms": Column("入库延迟 p95", "Lag p95", "ms", 0, marks.falling(1000, marks.LAG_MS)),
    "queue_bytes": Column("排队", "Queue", "bytes", 1, marks.falling(2**24, 2**26)),
    "store_up": Column("数据库", "Database", "none", 0, marks.rising(1, 1)),
    "connected": Column("消息代理", "Broker", "none", 0, marks.rising(1, 1)),
}  # fmt: skip
"""By the name that the query gives it."""
