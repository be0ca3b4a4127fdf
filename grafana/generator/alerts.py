"""Alert rules as a provisioning file: A asks, B takes the last value, C compares.

The file holds no `$`: Grafana's versions differ in whether they replace one in a query or an annotation. Templates say
`.Labels` and `.Values` where the manual has `$labels` and `$values`.
"""

from typing import Any, Final, Literal, NamedTuple

import yaml

from contract.fields import CERT_ALARM_DAYS
from grafana.generator import marks
from grafana.generator.messages import Words
from grafana.generator.queries import ALERTS

FOLDER: Final = "Wanggan 网感"
HEAD: Final = "# Written by python -m grafana.generator; change grafana/generator/alerts.py and queries.py.\n"

WINDOW: Final = {"from": 86_400, "to": 0}
"""Grafana wants a range, although each query has its own."""

Cause = Literal["outage", "platform", "upkeep"]
"""Label `wanggan`, by which notifications are grouped: all that one outage upstream sets off is one of them."""


class Rule(NamedTuple):
    """One alert rule."""

    name: str
    """Of its query; its uid is this with `wanggan-`."""
    title: Words
    summary: Words
    """A template of what happened where."""
    compare: Literal["gt", "lt"]
    limit: float
    pending: str
    """How long it must hold."""
    cause: Cause
    severity: Literal["critical", "warning"]
    board: str
    """The dashboard that shows more."""
    silent_is_bad: bool = False
    """Whether no answer at all is an alarm, too."""


_AGENT: Final = Words(
    "探针 {{ .Labels.agent }}({{ .Labels.venue }})", "agent {{ .Labels.agent }} ({{ .Labels.venue }})"
)
_VALUE: Final = "{{ .Values.B }}"

GROUPS: Final[dict[str, tuple[Rule, ...]]] = {
    "wanggan-agents": (
        Rule(
            "agent-silent",
            Words("探针失联", "Agent silent"),
            Words(f"{_AGENT.zh} 已静默 {_VALUE} 秒", f"{_AGENT.en} has been silent for {_VALUE} s"),
            "gt", marks.SILENT_S, "2m", "outage", "warning", "fleet", silent_is_bad=True,
        ),
        Rule(
            "completeness-low",
            Words("完整率低", "Completeness low"),
            Words(f"{_AGENT.zh} 上一小时完整率 {_VALUE}", f"{_AGENT.en}: completeness {_VALUE} in the last hour"),
            "lt", marks.PROFILES["wifi"].gates.publish, "30m", "outage", "warning", "fleet",
        ),
        Rule(
            "outbox-growing",
            Words("发件箱增长", "Outbox growing"),
            Words(f"{_AGENT.zh} 的发件箱半小时多了 {_VALUE} 条", f"{_AGENT.en}: {_VALUE} more wait than 30 min ago"),
            "gt", marks.OUTBOX_GROWTH, "10m", "outage", "warning", "fleet",
        ),
        Rule(
            "certificate-agent",
            Words("探针证书将到期", "Agent's certificate near expiry"),
            Words(f"{_AGENT.zh} 的证书还剩 {_VALUE} 天", f"{_AGENT.en}: certificate ends in {_VALUE} days"),
            "lt", CERT_ALARM_DAYS, "1h", "upkeep", "warning", "fleet",
        ),
    ),
    "wanggan-network": (
        Rule(
            "index-drop",
            Words("感知度指数下降", "Perception index drops"),
            Words(
                "{{ .Labels.venue }} 的指数比一周均值变化 " + _VALUE + " 分",
                "{{ .Labels.venue }}: index " + _VALUE + " points against the week's mean",
            ),
            "lt", -marks.DROP_POINTS, "10m", "outage", "warning", "venue",
        ),
        *(
            Rule(
                f"loss-{network}",
                Words(f"丢包({zh})", f"Loss ({en})"),
                Words(
                    "{{ .Labels.venue }} 到 {{ .Labels.target }} 的往返丢包率 " + _VALUE,
                    "{{ .Labels.venue }} to {{ .Labels.target }}: round-trip loss " + _VALUE,
                ),
                "gt", marks.worst("loss_ratio", network), "5m", "outage", "critical", "venue",
            )
            for network, zh, en in (("wifi", "公共 Wi-Fi", "public Wi-Fi"), ("gov", "政务网络", "government network"))
        ),
        Rule(
            "portal",
            Words("认证门户受阻", "Portal in the way"),
            Words(
                "{{ .Labels.venue }} 应放行却被门户拦住，或门户太慢（近 3 小时中 " + _VALUE + " 小时）",
                "{{ .Labels.venue }}: portal in the way though allow-listed, or slow (" + _VALUE + " of 3 hours)",
            ),
            "gt", 0, "5m", "outage", "warning", "venue",
        ),
        Rule(
            "certificate-web",
            Words("网站证书将到期", "A web site's certificate near expiry"),
            Words(
                "{{ .Labels.target }} 的证书还剩 " + _VALUE + " 天",
                "{{ .Labels.target }}: certificate ends in " + _VALUE + " days",
            ),
            "lt", marks.WEB_CERT_DAYS, "1h", "upkeep", "warning", "venue",
        ),
    ),
    "wanggan-platform": (
        Rule(
            "collector-behind",
            Words("采集端落后", "Collector behind"),
            Words(
                "采集端 {{ .Labels.collector }} 五分钟来入库延迟都在 " + _VALUE + " 毫秒以上",
                "collector {{ .Labels.collector }}: lag never below " + _VALUE + " ms in five minutes",
            ),
            "gt", marks.LAG_MS, "5m", "platform", "warning", "collector",
        ),
        Rule(
            "store-refuses",
            Words("数据库拒绝写入", "Database refuses writes"),
            Words(
                "采集端 {{ .Labels.collector }} 写不进数据库，或它自己不再上报",
                "collector {{ .Labels.collector }} cannot write to the database, or no longer reports",
            ),
            "lt", 1, "2m", "platform", "critical", "collector", silent_is_bad=True,
        ),
    ),
}  # fmt: skip


def text() -> str:
    """The provisioning file."""
    groups = [
        {"orgId": 1, "name": name, "folder": FOLDER, "interval": "1m", "rules": [_rule(rule) for rule in rules]}
        for name, rules in GROUPS.items()
    ]
    return HEAD + yaml.safe_dump({"apiVersion": 1, "groups": groups}, allow_unicode=True, sort_keys=False, width=1000)


def _rule(rule: Rule) -> dict[str, Any]:
    query = ALERTS[rule.name]
    asked = {"refId": "A", "query": query.text, "rawQuery": True, "resultFormat": "time_series"}
    reduced = {
        "refId": "B", "type": "reduce", "expression": "A", "reducer": "last", "settings": {"mode": "dropNN"},
        "datasource": {"type": "__expr__", "uid": "__expr__"},
    }  # fmt: skip
    compared = {
        "refId": "C", "type": "threshold", "expression": "B",
        "conditions": [{"evaluator": {"type": rule.compare, "params": [rule.limit]}}],
        "datasource": {"type": "__expr__", "uid": "__expr__"},
    }  # fmt: skip
    return {
        "uid": f"wanggan-{rule.name}",
        "title": f"{rule.title.zh} {rule.title.en}",
        "condition": "C",
        "data": [
            {"refId": "A", "relativeTimeRange": dict(WINDOW), "datasourceUid": query.source, "model": asked},
            {"refId": "B", "relativeTimeRange": dict(WINDOW), "datasourceUid": "__expr__", "model": reduced},
            {"refId": "C", "relativeTimeRange": dict(WINDOW), "datasourceUid": "__expr__", "model": compared},
        ],
        "noDataState": "Alerting" if rule.silent_is_bad else "OK",
        "execErrState": "Error",
        "for": rule.pending,
        "labels": {"wanggan": rule.cause, "severity": rule.severity},
        "annotations": {
            "summary": f"{rule.summary.zh} / {rule.summary.en}",
            "dashboard": f"/d/wanggan-{rule.board}-zh",
        },
        "isPaused": False,
    }
