"""The reflector's page for people: what it serves, how full it is, whom it refused, and whether it is itself the limit.

Self-contained: no script, no second request.
"""

from html import escape
from typing import Final, Literal

from reflector.status import Status

Language = Literal["zh", "en"]

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"

_WORDS: Final[dict[str, tuple[str, str]]] = {
    "title": ("网感反射器", "Wanggan reflector"),
    "intro": (
        "各监测点的探针以本机为对端，测量两者之间的网络。",
        "Agents measure the network between themselves and this machine.",
    ),
    "serves": ("运行正常，接受测试。", "In service: tests are accepted."),
    "draining": (
        "即将停机：进行中的测试会完成，不再接受新测试。",
        "About to stop: running tests end, new ones are refused.",
    ),
    "late": (
        "本机处理不过来：此时测得的数值可能受本机限制。",
        "This machine is too busy: what is measured now may be its own limit.",
    ),
    "full": ("测试名额已满：新测试会被告知稍后再试。", "Every slot is taken: new tests are told to come back later."),
    "open": ("未启用口令：任何人都可以测试（仅限实验环境）。", "Tests need no token: for a laboratory only."),
    "services": ("提供的服务", "Services"),
    "off": ("未启用", "off"),
    "at": ("端口 {}", "port {}"),
    "use": ("使用情况", "Use"),
    "slots": ("测试名额（占用 / 总数）", "test slots (in use / all)"),
    "public": ("公众测试名额（占用 / 总数）", "public slots (in use / all)"),
    "connections": ("当前连接数", "open connections"),
    "tests": ("测试（启动以来）", "Tests since the start"),
    "refused": ("拒绝与丢弃（启动以来）", "Refused and dropped since the start"),
    "nothing": ("无", "none"),
    "load": ("本机负载", "Load"),
    "lag": ("事件循环延迟 P95", "event loop lag, p95"),
    "cpu": ("CPU 时间", "CPU time"),
    "memory": ("内存", "memory"),
    "uptime": ("已运行", "up for"),
    "unknown": ("尚无", "not known yet"),
    "days": ("{:.1f} 天", "{:.1f} days"),
    "hours": ("{:.1f} 小时", "{:.1f} h"),
    "down": ("下行", "download"),
    "up": ("上行", "upload"),
    "video": ("视频", "video"),
    "ndt7": ("NDT7", "NDT7"),
    "TCP": ("吞吐量测试（TCP）", "throughput (TCP)"),
    "UDP": ("时延与丢包：STAMP（UDP）", "latency and loss: STAMP (UDP)"),
    "HTTP": ("视频、门户检测、本页（HTTP）", "video, portal check, this page (HTTP)"),
    "portal": ("门户检测（HTTP）", "portal check (HTTP)"),
    "NDT7": ("浏览器测速：NDT7（HTTP）", "speed test for browsers: NDT7 (HTTP)"),
    "stamp_replied": ("STAMP 应答包", "STAMP replies"),
    "stamp_dropped": ("STAMP 包", "STAMP packets"),
    "joins_refused": ("数据连接", "data connections"),
    "tests_refused": ("测试", "tests"),
    "connections_refused": ("连接", "connections"),
    "http_refused": ("HTTP 请求", "HTTP requests"),
    "no_slot": ("名额已满", "no free slot"),
    "bad_token": ("口令无效", "bad token"),
    "bad_request": ("请求不合规", "bad request"),
    "over_budget": ("超出流量限额", "over its data budget"),
    "banned": ("错误过多，暂不受理", "too many errors of late"),
    "source_rate": ("来源发包过快", "too fast from one source"),
    "total_rate": ("总发包过快", "too fast in all"),
    "short": ("过短", "too short"),
    "port": ("来源端口可疑", "suspicious source port"),
    "overdue": ("超时未结束", "not ended in time"),
    "source": ("来源超限", "too many from one source"),
    "total": ("总数超限", "too many in all"),
}
"""In Chinese and in English; a word that is not here is shown as it is."""

_DAY_S: Final = 86_400.0
_STYLE: Final = (
    "body{font:16px/1.6 system-ui,'Noto Sans CJK SC','Microsoft YaHei',sans-serif;max-width:44rem;margin:2rem auto;"
    "padding:0 1rem;color:#1c2430;background:#fff}"
    "h1{font-size:1.5rem;margin:0}h2{font-size:1.05rem;margin:1.6rem 0 .3rem}"
    "table{border-collapse:collapse;width:100%}td{padding:.25rem 0;border-bottom:1px solid #e3e7ec}"
    "td+td{text-align:right;font-variant-numeric:tabular-nums}"
    "p.state{padding:.5rem .8rem;border-left:4px solid #2e7d4f;background:#eef7f1}"
    "p.state.bad{border-color:#b3541e;background:#fdf3ec}footer{margin-top:2rem;color:#66707c;font-size:.85rem}"
    "@media(prefers-color-scheme:dark){body{color:#dfe5ec;background:#14181d}td{border-color:#2a313a}"
    "p.state{background:#17281e}p.state.bad{background:#2e2016}}"
)


def page(status: Status, language: Language) -> str:
    """One HTML document."""

    def say(word: str, value: object = None) -> str:
        return escape(_WORDS.get(word, (word, word))[language == "en"].format(value))

    def table(rows: list[tuple[str, str]]) -> str:
        cells = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows)
        return f"<table>{cells}</table>" if rows else f"<p>{say('nothing')}</p>"

    services = [(say(name), say("off") if port is None else say("at", port)) for name, port in status.services.items()]
    use = [
        (say("slots"), f"{status.slots_in_use} / {status.slots}"),
        (say("public"), f"{status.public_slots_in_use} / {status.public_slots}"),
        (say("connections"), str(status.connections)),
    ]
    tests = [(say(name), f"{value:,}") for name, value in status.of("tests_admitted").items()]
    tests += [(say("stamp_replied"), f"{value:,}") for value in status.of("stamp_replied").values()]
    refused = [
        (f"{say(name)}: {say(reason)}" if reason else say(name), f"{value:,}")
        for name, reason, value in status.counts
        if name.endswith(("_refused", "_dropped"))
    ]
    lag_s = status.loop_lag_p95_s
    long = status.uptime_s >= _DAY_S
    uptime = say("days", status.uptime_s / _DAY_S) if long else say("hours", status.uptime_s / 3600)
    load = [
        (say("lag"), say("unknown") if lag_s is None else f"{lag_s * 1000:.1f} ms"),
        (say("cpu"), f"{status.cpu_s:,.0f} s"),
        (say("memory"), f"{status.rss_bytes / 1e6:.0f} MB"),
        (say("uptime"), uptime),
    ]
    word = state(status)
    notes = f"<p class='state bad'>{say('open')}</p>" if status.open else ""
    return (
        f"<!doctype html><html lang={'zh-CN' if language == 'zh' else 'en'}><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{say('title')}</title><style>{_STYLE}</style>"
        f"<h1>{say('title')}</h1><p>{say('intro')}</p>"
        f"<p class='state{'' if word == 'serves' else ' bad'}'>{say(word)}</p>{notes}"
        f"<h2>{say('services')}</h2>{table(services)}<h2>{say('use')}</h2>{table(use)}"
        f"<h2>{say('tests')}</h2>{table(tests)}<h2>{say('refused')}</h2>{table(refused)}"
        f"<h2>{say('load')}</h2>{table(load)}<footer>wanggan {escape(status.version)}</footer></html>\n"
    )


def state(status: Status) -> Literal["serves", "draining", "late", "full"]:
    """What matters most now."""
    if status.draining:
        return "draining"
    if status.is_late:
        return "late"
    if status.slots_in_use >= status.slots:
        return "full"
    return "serves"


def choose_language(accept: str) -> Language:
    """The reader's best by Accept-Language (RFC 9110, 12.5.4), else Chinese."""
    best: tuple[float, Language] = (0.0, "zh")
    for item in accept[:500].split(","):
        tag, _, quality = item.partition(";")
        try:
            weight = float(quality.strip().removeprefix("q=")) if quality else 1.0
        except ValueError:
            continue
        match tag.strip().lower().partition("-")[0]:
            case "zh" | "en" as language if weight > best[0]:
                best = (weight, language)
    return best[1]
