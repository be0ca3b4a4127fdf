"""A verdict as one sentence, in Chinese and in English. A clause about something that is not known is left out."""

from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from perception.verdicts.verdict import HIGH, LOW, MEDIUM, Verdict
from store.register import Names

Language = Literal["zh", "en"]

_SURE: Final[dict[Language, dict[float, str]]] = {
    "zh": {HIGH: "高", MEDIUM: "中", LOW: "低"},
    "en": {HIGH: "high", MEDIUM: "medium", LOW: "low"},
}
_POSSIBLY: Final[dict[Language, str]] = {"zh": "疑似：", "en": "Possibly: "}
_SCOPE: Final[dict[str, dict[Language, str]]] = {
    "district": {"zh": "（多个场所）", "en": " (many venues)"},
    "venue": {"zh": "（本场所）", "en": " (this venue)"},
}
_STAGES: Final = {
    "scan": "扫描", "auth": "认证", "assoc": "关联", "eap": "EAP认证", "handshake": "握手", "dhcp": "地址获取",
}  # fmt: skip
_PORTAL: Final = {"portal": ("拦截", "in the way"), "limited": ("无应答", "without an answer")}
_SLOW: Final = ("缓慢", "slow")
_OWN: Final = {
    "no_records": ("无记录", "no records"),
    "cpu_limited": ("处理器不足", "CPU-limited"),
    "clock_step": ("时钟跳变", "clock stepped"),
    "wrong_interface": ("接口有误", "wrong interface"),
    "no_permission": ("权限不足", "no permission"),
    "target_denied": ("目标拒绝", "denied by the target"),
    "tool_missing": ("缺少工具", "tool missing"),
    "internal": ("内部错误", "internal error"),
    "gateway_elsewhere": ("同场所另一探针网关正常", "the gateway is fine for another agent there"),
}
_NONE: Final = {
    "good": ("各段正常", "All fine"),
    "too_little": ("数据不足", "Too little data"),
    "open": ("有异常，原因待查", "Something is wrong, cause open"),
}


def sentence(verdict: Verdict, names: Names | None, zone: ZoneInfo, language: Language, end_ns: int = 0) -> str:
    """One sentence, with venue and time in front. `end_ns`: of several hours, the end of the last one."""
    name = verdict.venue if names is None else names.zh if language == "zh" else names.en
    when = _when(verdict.time_ns, end_ns, zone, language)
    body, cause = _chinese(verdict) if language == "zh" else _english(verdict)
    text = _joined(body, cause, language)
    if verdict.blames and verdict.confidence <= LOW:
        text = _POSSIBLY[language] + (text if language == "zh" else text[:1].lower() + text[1:])
    sure = _SURE[language].get(verdict.confidence)
    if language == "zh":
        return f"{name}，{when}：{text}" + (f"（置信度{sure}）。" if sure else "。")
    return f"{name}, {when}: {text}" + (f" (confidence {sure})." if sure else ".")


def _joined(clauses: list[str | None], cause: str, language: Language) -> str:
    known = [clause for clause in clauses if clause]
    comma, colon = ("，", "：") if language == "zh" else (", ", ": ")
    text = comma.join(known)
    if not cause:
        return text
    return text + colon + cause if text else cause


def _when(start_ns: int, end_ns: int, zone: ZoneInfo, language: Language) -> str:
    start = datetime.fromtimestamp(start_ns // 10**9, UTC).astimezone(zone)
    end = start + timedelta(hours=1) if not end_ns else datetime.fromtimestamp(end_ns // 10**9, UTC).astimezone(zone)
    last_day = (end - timedelta(seconds=1)).date()
    until = f"{end:%H:%M}" if last_day == start.date() and end.date() == last_day else ""
    if not until and last_day == start.date():
        until = "24:00"
    if language == "zh":
        day = f"{start.month}月{start.day}日"
        return f"{day}{start:%H:%M}–{until}" if until else f"{day}{start:%H:%M}–{end.month}月{end.day}日{end:%H:%M}"
    day = f"{start.day} {start:%b}"
    return f"{day} {start:%H:%M}–{until}" if until else f"{day} {start:%H:%M} – {end.day} {end:%b} {end:%H:%M}"


def _chinese(v: Verdict) -> tuple[list[str | None], str]:
    scope = _SCOPE.get(v.scope, {}).get("zh", "")
    match v.segment:
        case "radio":
            away = None if v.rssi_dbm is not None or not v.j_stage else f"无法接入（{_STAGES[v.j_stage]}）"
            return [
                _bracketed("无线差", _radio(v, "重传"), "（", "）") if away is None else away,
                _others_zh(v),
            ], "射频"
        case "join":
            stage = _STAGES[v.j_stage]
            told = f"{v.joins}次入网{v.joins_failed}次失败于{stage}" if v.joins_failed else f"入网失败于{stage}"
            return [told, "信号正常" if v.l_state == "good" else None], "接入"
        case "dhcp":
            return [f"已关联未获地址{_counted(v, '（', '）')}"], "DHCP"
        case "portal":
            state = _PORTAL.get(v.reason, _SLOW)[0]
            return ["网关正常" if v.g_state == "good" else None, f"认证页{state}", _ms(v.portal_ms)], "门户"
        case "dns":
            which = f"（{v.target}）" if v.target else ""
            return ["按地址可达", _tell(f"解析失败{{}}{which}", _ratio(v.dns_failed_ratio)), _ms(v.dns_ms)], "DNS"
        case "lan":
            link = "信号正常" if v.l_state == "good" else None
            return [link, _tell("网关{}", _ms(v.gateway_ms)), _tell("丢包{}", _ratio(v.gateway_loss_ratio))], "场所内网"
        case "uplink":
            gateway = "网关正常" if v.g_state == "good" else None
            if v.c_state == "good" and v.working_rise_ms is not None:
                rate = _tell("下行{} Mbps", None if v.down_mbps is None else f"{v.down_mbps:.1f}")
                return [gateway, rate, _tell("负载时延增加{}", _ms(v.working_rise_ms))], f"接入链路拥塞{scope}"
            core = [_tell("核心{}", _ms(v.core_ms)), _tell("丢包{}", _ratio(v.core_loss_ratio))]
            return [gateway, *core], f"接入链路{scope}"
        case "internet":
            core = ["核心正常"] if v.c_state == "good" else []
            return [*core, f"{v.targets_bad}/{v.targets}个外网目标异常"], f"互联网出口{scope}"
        case "target":
            return [f"仅{v.target}异常", f"{v.peers_bad}/{v.peers}个其他场所同时异常" if v.peers else None], "目标端"
        case "agent":
            return [f"探针异常（{_OWN.get(v.reason, (v.reason, v.reason))[0]}）", "不计分"], ""
        case _:
            return [_NONE[v.reason or "open"][0]], ""


def _english(v: Verdict) -> tuple[list[str | None], str]:
    scope = _SCOPE.get(v.scope, {}).get("en", "")
    match v.segment:
        case "radio":
            away = None if v.rssi_dbm is not None or not v.j_stage else f"Cannot join ({v.j_stage})"
            return [_bracketed("Wi-Fi poor", _radio(v, "retry "), " (", ")") if away is None else away,
                    _others_en(v)], "radio"  # fmt: skip
        case "join":
            told = f"{v.joins_failed}/{v.joins} joins failed" if v.joins_failed else "Joins fail"
            return [f"{told} at {v.j_stage}", "signal good" if v.l_state == "good" else None], "join"
        case "dhcp":
            return [f"Associated, no address{_counted(v, ' (', ')')}"], "DHCP"
        case "portal":
            state = _PORTAL.get(v.reason, _SLOW)[1]
            return ["Gateway fine" if v.g_state == "good" else None, f"portal {state}", _ms(v.portal_ms)], "portal"
        case "dns":
            which = f" ({v.target})" if v.target else ""
            lookups = _tell(f"lookups fail {{}}{which}", _ratio(v.dns_failed_ratio))
            return ["Reachable by address", lookups, _ms(v.dns_ms)], "DNS"
        case "lan":
            link = "Signal good" if v.l_state == "good" else None
            return [link, _tell("gateway {}", _ms(v.gateway_ms)), _tell("loss {}", _ratio(v.gateway_loss_ratio))], "LAN"
        case "uplink":
            gateway = "Gateway fine" if v.g_state == "good" else None
            if v.c_state == "good" and v.working_rise_ms is not None:
                rate = _tell("{} Mbps down", None if v.down_mbps is None else f"{v.down_mbps:.1f}")
                return [gateway, rate, _tell("{} more delay under load", _ms(v.working_rise_ms))], f"uplink full{scope}"
            core = [_tell("core {}", _ms(v.core_ms)), _tell("loss {}", _ratio(v.core_loss_ratio))]
            return [gateway, *core], f"uplink{scope}"
        case "internet":
            core = ["Core fine"] if v.c_state == "good" else []
            return [*core, f"{v.targets_bad}/{v.targets} internet targets bad"], f"exit{scope}"
        case "target":
            others = f"at {v.peers_bad}/{v.peers} other venues as well" if v.peers else None
            return [f"Only {v.target} bad", others], "target"
        case "agent":
            return [f"Agent fault ({_OWN.get(v.reason, (v.reason, v.reason))[1]})", "not scored"], ""
        case _:
            return [_NONE[v.reason or "open"][1]], ""


def _radio(v: Verdict, retry: str) -> list[str]:
    """What is known of the radio, the signal first."""
    rssi = None if v.rssi_dbm is None else f"{v.rssi_dbm:.0f}".replace("-", "−")
    known = [_tell("RSSI {} dBm", rssi), _tell(retry + "{}", _ratio(v.tx_retry_ratio))]
    return [text for text in known if text]


def _bracketed(text: str, known: list[str], left: str, right: str) -> str:
    comma = ", " if left == " (" else "，"
    return text + left + comma.join(known) + right if known else text


def _counted(v: Verdict, left: str, right: str) -> str:
    return f"{left}{v.joins_failed}/{v.joins}{right}" if v.joins_failed else ""


def _others_zh(v: Verdict) -> str | None:
    return f"{v.peers - v.peers_bad}/{v.peers}个其他场所正常" if v.peers else None


def _others_en(v: Verdict) -> str | None:
    return f"{v.peers - v.peers_bad}/{v.peers} other venues fine" if v.peers else None


def _tell(template: str, value: str | None) -> str | None:
    return None if value is None else template.format(value)


def _ms(value: float | None) -> str | None:
    """Whole milliseconds; one decimal below 10."""
    return None if value is None else f"{value:.0f} ms" if value >= TEN else f"{value:.1f} ms"


TEN: Final = 9.95


def _ratio(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.1f}%"
