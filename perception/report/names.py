"""What things are called in the report, in both languages. Terms are those of the IPPM standards."""

from typing import Final

from perception.report.model import Text, Unit

NETWORKS: Final = {"wifi": Text("公共无线网络", "Public Wi-Fi"), "gov": Text("政务网络", "Government network")}

DIMENSIONS: Final = {
    "coverage": Text("覆盖", "Coverage"),
    "quality": Text("网络质量", "Network quality"),
    "service": Text("终端业务", "Services"),
}

INDICATORS: Final[dict[str, tuple[Text, Unit]]] = {
    "access_success_ratio": (Text("接入成功率", "Access success ratio"), "ratio"),
    "online_ms": (Text("上网用时（p50）", "Time to get online (p50)"), "ms"),
    "good_signal_ratio": (Text("良好信号占比", "Good signal ratio"), "ratio"),
    "availability_ratio": (Text("可用率", "Availability"), "ratio2"),
    "reach_ratio": (Text("业务目标可达率", "Service reach ratio"), "ratio"),
    "down_mbps": (Text("下行可用速率", "Downlink goodput"), "mbps"),
    "up_mbps": (Text("上行可用速率", "Uplink goodput"), "mbps"),
    "rtt_p50_ms": (Text("往返时延（p50）", "Round-trip time (p50)"), "ms"),
    "rt_pdv_p95_ms": (Text("往返时延变化 PDV", "Round-trip PDV"), "ms"),
    "loss_ratio": (Text("往返丢包率", "Round-trip loss ratio"), "ratio2"),
    "working_rise_ms": (Text("负载时延增量（p50）", "Working latency rise (p50)"), "ms"),
    "dns_rtt_ms": (Text("域名解析时延（p50）", "DNS round-trip time (p50)"), "ms"),
    "web": (Text("网页打开用时（p50）", "Web page time (p50)"), "ms"),
    "video": (Text("视频卡顿占比", "Video stall ratio"), "ratio2"),
    "voice": (Text("语音 R 值（E 模型）", "Voice R (E-model)"), "points"),
}
"""By indicator of the index: its name, and the unit of the value that its mark is about."""

TYPES: Final = {
    "gov_hall": Text("政务服务大厅", "Government service halls"),
    "library": Text("图书馆", "Libraries"),
    "culture": Text("文化场馆", "Cultural centres"),
    "sports": Text("体育场馆", "Sports centres"),
    "park": Text("公园", "Parks"),
    "hospital": Text("医疗机构", "Hospitals"),
    "community": Text("社区中心", "Community centres"),
    "school": Text("学校", "Schools"),
    "node": Text("政务网络节点", "Government nodes"),
}

LEVELS: Final = {"优": "excellent", "良": "good", "中": "fair", "差": "poor"}

PROBES: Final = {
    "latency": Text("往返时延与丢包", "Round trips"),
    "throughput": Text("可用速率", "Goodput"),
    "dns": Text("域名解析", "DNS"),
    "web": Text("网页", "Web"),
    "video": Text("视频", "Video"),
    "path": Text("路径", "Path"),
    "wifi_link": Text("无线链路", "Wi-Fi link"),
    "wifi_scan": Text("无线扫描", "Wi-Fi scan"),
    "wifi_join": Text("接入", "Wi-Fi join"),
    "portal": Text("认证门户", "Portal"),
    "agent": Text("探针自检", "Agent health"),
}

REASONS: Final = {
    # failed
    "no_link": Text("无链路", "no link"),
    "not_associated": Text("未关联", "not associated"),
    "auth_failed": Text("认证失败", "authentication failed"),
    "dhcp_failed": Text("未获地址", "no address"),
    "portal": Text("门户拦截", "caught by a portal"),
    "dns_failed": Text("解析失败", "lookup failed"),
    "dns_hijacked": Text("解析被劫持", "lookup hijacked"),
    "nxdomain": Text("域名不存在", "no such name"),
    "unreachable": Text("不可达", "unreachable"),
    "refused": Text("被拒绝", "refused"),
    "timeout": Text("超时", "timed out"),
    "reset": Text("连接被重置", "reset"),
    "tls_failed": Text("TLS 失败", "TLS failed"),
    "cert_invalid": Text("证书无效", "certificate invalid"),
    "http_status": Text("HTTP 状态异常", "HTTP status"),
    "all_lost": Text("全部丢失", "all lost"),
    # invalid
    "cpu_limited": Text("探针算力不足", "agent's processor too busy"),
    "clock_step": Text("时钟跳变", "clock stepped"),
    "wrong_interface": Text("走错接口", "wrong interface"),
    "target_down": Text("目标端停机", "target down"),
    "no_permission": Text("无权限", "no permission"),
    "target_denied": Text("目标端拒绝测试", "target denies tests"),
    "tool_missing": Text("缺少工具", "tool missing"),
    "internal": Text("探针内部错误", "agent's own fault"),
    # skipped
    "no_slot": Text("测试位已满", "no test slot"),
    "budget": Text("流量预算用尽", "data budget spent"),
    "cross_traffic": Text("本机流量干扰", "own cross traffic"),
    "quiet_hours": Text("非开放时段", "outside opening hours"),
    "suppressed": Text("统一暂停", "suppressed"),
    "no_interface": Text("无接口", "no interface"),
    "busy": Text("上次测试未完", "former test still running"),
    # ours
    "maintenance": Text("检修窗口", "maintenance"),
    "implausible": Text("数值不可能", "implausible value"),
}

OUTCOMES: Final = {
    "failed": Text("失败（计入）", "failed (counted)"),
    "invalid": Text("无效（剔除）", "invalid (left out)"),
    "skipped": Text("跳过（剔除）", "skipped (left out)"),
    "planned": Text("计划内（剔除）", "planned (left out)"),
}

SEGMENTS: Final = {
    "radio": Text("无线射频", "radio"),
    "join": Text("接入认证", "join"),
    "dhcp": Text("DHCP", "DHCP"),
    "portal": Text("认证门户", "portal"),
    "dns": Text("DNS", "DNS"),
    "lan": Text("场所内网", "LAN"),
    "uplink": Text("接入链路", "uplink"),
    "internet": Text("互联网出口", "internet exit"),
    "target": Text("目标端", "target"),
    "agent": Text("探针", "agent"),
    "none": Text("无", "none"),
}


SOURCES: Final = {
    "operators' acceptance tests": Text("运营商验收规范", "operators' acceptance tests"),
    "互联网接入服务规范": Text("互联网接入服务规范", "Internet Access Service Specification"),
}
"""Of a mark, as profiles name it; a standard's number is the same in every language."""


def source(name: str | None) -> Text:
    """Of a mark; our own without one."""
    return Text("自定", "our own") if name is None else SOURCES.get(name, Text.same(name))


def network(name: str) -> Text:
    """Of a network."""
    return NETWORKS.get(name, Text.same(name))


def venue_type(slug: str) -> Text:
    """Of a venue type; the register's own word for one that is not known here."""
    return TYPES.get(slug, Text.same(slug))


def level(zh: str | None) -> Text:
    """Of a score."""
    return Text("不评", "not rated") if zh is None else Text(zh, LEVELS.get(zh, zh))


def segment(name: str) -> Text:
    """Of the path."""
    return SEGMENTS.get(name, Text.same(name))
