"""The seven dashboards: which panels, in which order, with which variables."""

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from grafana.generator import columns, queries
from grafana.generator.marks import TIMEZONE
from grafana.generator.messages import ALIASES, DASHBOARDS, NETWORKS, VARIABLES, Language
from grafana.generator.panels import WIDTH, Ask, Json, Names, Panel, render

SCHEMA_VERSION: Final = 37
MOST_STEPS: Final = 200
"""Of a state timeline: each hour of a week, and no more answers than that for a month."""
GOV: Final = columns.values("gov")


class Dashboard(NamedTuple):
    """One dashboard, before it has a language."""

    name: str
    start: str
    """How far back it looks when it is opened."""
    refresh: str
    variables: tuple[str, ...]
    panels: Callable[[Language], list[Panel]]


def uid(name: str, language: Language) -> str:
    """The fixed uid that links rely on."""
    return f"wanggan-{name}-{language}"


def build(dashboard: Dashboard, language: Language, names: Names) -> Json:
    """The dashboard as Grafana reads it."""
    told = DASHBOARDS[dashboard.name]
    return {
        "uid": uid(dashboard.name, language),
        "title": told.title.of(language),
        "description": told.description.of(language),
        "tags": ["wanggan", f"wanggan-{language}"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": TIMEZONE,
        "weekStart": "monday",
        "refresh": dashboard.refresh,
        "time": {"from": dashboard.start, "to": "now"},
        "timepicker": {},
        "annotations": {"list": []},
        "links": [_others(language)],
        "templating": {"list": [_variable(name, dashboard, language) for name in dashboard.variables]},
        "panels": list(_placed(dashboard.panels(language), language, names)),
    }


def _placed(panels: Iterable[Panel], language: Language, names: Names) -> Iterable[Json]:
    """From left to right, a new row where one is full."""
    x = y = height = 0
    for id_, panel in enumerate(panels, 1):
        if x + panel.width > WIDTH:
            x, y, height = 0, y + height, 0
        yield render(panel, id_, x, y, language, names)
        x, height = x + panel.width, max(height, panel.height)


def _others(language: Language) -> Json:
    """A menu of the other dashboards; venue and time range go with it."""
    return {
        "type": "dashboards",
        "title": ALIASES["all"].of(language),
        "tags": [f"wanggan-{language}"],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def _to_venue(language: Language, network: str, value: str = "${__value.raw}") -> Json:
    """From a venue's name to its detail, at the same time range."""
    variables = f"var-venue={value}&var-network={network}"
    return {
        "title": ALIASES["detail"].of(language),
        "url": f"/d/{uid('venue', language)}?{variables}&${{__url_time_range}}",
        "targetBlank": False,
    }


def _variable(name: str, dashboard: Dashboard, language: Language) -> Json:
    found: Json = {"name": name, "label": VARIABLES[name].of(language), "hide": 0, "skipUrlSync": False}
    if name == "network":
        choices = [(text.of(language), value) for value, text in NETWORKS.items()]
        options = [{"text": text, "value": value, "selected": value == "wifi"} for text, value in choices]
        return found | {
            "type": "custom",
            "query": ", ".join(f"{text} : {value}" for text, value in choices),
            "options": options,
            "current": options[0],
            "multi": False,
            "includeAll": False,
        }
    if name in ("upgraded", "settled"):
        day = {"upgraded": "2026-11-02", "settled": "2026-11-09"}[name]
        value = {"text": day, "value": day, "selected": True}
        return found | {"type": "textbox", "query": day, "options": [value], "current": value}
    any_wifi = name == "venue" and "network" not in dashboard.variables
    query = queries.VARIABLES["controls" if any_wifi else name]
    many = name in ("profile", "agent", "controls", "collector")
    found |= {
        "type": "query",
        "datasource": {"type": "influxdb", "uid": query.source},
        "query": query.text,
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "multi": many,
        "includeAll": many,
        "options": [],
    }
    if many:
        found |= {"allValue": ".*", "current": {"text": ["All"], "value": ["$__all"], "selected": True}}
    return found


def _asks(*names: str) -> tuple[Ask, ...]:
    return tuple(Ask(name) for name in names)


def _district(language: Language) -> list[Panel]:
    link = _to_venue(language, "${network}")
    series = _to_venue(language, "${network}", "${__field.labels.venue}")
    bar = _to_venue(language, "${network}", "${__data.fields.venue}")
    return [
        Panel("wall.index", "stat", _asks("wall.index"), "ppi", "score", 9, 4, options=_named("ppi", "worst")),
        Panel("wall.rated", "stat", _asks("wall.index"), "rated", "score", 5, 4, options=_only("rated")),
        Panel("wall.open", "stat", _asks("wall.open"), "open", "incident", 5, 4),
        Panel("wall.complete", "gauge", _asks("wall.complete"), "completeness", "score", 5, 4, bounds=(0, 1)),
        Panel(
            "wall.venues", "table", _asks("wall.scores", "wall.trend", "wall.blame", "wall.since"), "ppi", "score",
            WIDTH, 16, hidden=("Time", "validity"), sort=("ppi", False), links=(link,),
        ),
        Panel("wall.worst", "bargauge", _asks("wall.worst"), "ppi", "score", 8, 9, bounds=(0, 100), links=(bar,)),
        Panel("wall.course", "timeseries", _asks("wall.course"), "ppi", "score", 16, 9, "1h", bounds=(0, 100)),
        Panel(
            "wall.segments", "state-timeline", (Ask("wall.segments", "$tag_venue"),), "segment", "verdict",
            WIDTH, 18, "1h", MOST_STEPS, links=(series,),
        ),
    ]  # fmt: skip


def _venue(language: Language) -> list[Panel]:
    def curve(key: str, shown: str, empty: str, alias: str = "$col", of: Iterable[str] = (), **more: Any) -> Panel:
        asks = tuple(Ask(name, alias) for name in of) or (Ask(key, alias),)
        return Panel(key, "timeseries", asks, shown, empty, min_interval="1h", **more)

    return [
        Panel("venue.index", "stat", (Ask("venue.index", "$tag_profile"),), "ppi", "score", 6, 4),
        Panel("venue.complete", "gauge", _asks("venue.complete"), "completeness", "score", 4, 4, bounds=(0, 1)),
        Panel("venue.silent", "stat", (Ask("venue.silent", "$tag_agent"),), "silent_s", "fleet", 6, 4),
        Panel("venue.success", "timeseries", (Ask("venue.success", "$m"),), "success", "rollup", 8, 8, "1h",
              bounds=(0, 1)),
        Panel("venue.terms", "bargauge", _asks("venue.terms"), "web_score", "score", 8, 12, bounds=(0, 100)),
        Panel("venue.course", "timeseries", _asks("venue.course"), "ppi", "score", 16, 12, "1h", bounds=(0, 100)),
        Panel("venue.items", "state-timeline", _asks("venue.items"), "g_state", "verdict", WIDTH, 8),
        Panel("venue.blame", "table", _asks("venue.blame"), "confidence", "verdict", WIDTH, 8, sort=("Time", True)),
        curve("venue.signal", "rssi_dbm", "wifi", of=[f"venue.wifi_link.{name}" for name in queries.SIGNAL]),
        curve("venue.air", "tx_retry_ratio", "wifi", of=[f"venue.wifi_link.{name}" for name in queries.AIR],
              bounds=(0, 1)),
        curve("venue.join", "online_ms", "wifi", of=[f"venue.wifi_join.{name}" for name in queries.JOIN_STAGES],
              bounds=(0, None)),
        curve("venue.portal", "detect_ms", "wifi", bounds=(0, None)),
        curve("venue.dns", "rtt_ms", "rollup", "$tag_target · $tag_resolver", bounds=(0, None)),
        curve("venue.rtt", "rtt_p50_ms", "rollup", "$tag_target", bounds=(0, None)),
        curve("venue.loss", "loss_ratio", "rollup", "$tag_target", bounds=(0, None)),
        curve("venue.rate", "down_mbps", "rollup", of=("venue.rate.down", "venue.rate.up"), bounds=(0, None)),
        curve("venue.rise", "working_rise_ms", "rollup", bounds=(0, None)),
        curve("venue.web", "total_ms", "rollup", "$tag_target", bounds=(0, None)),
        curve("venue.video", "start_s", "rollup", of=("venue.video.start", "venue.video.stall"), bounds=(0, None)),
        Panel("venue.rtt_now", "timeseries", (Ask("venue.rtt_now", "$tag_target $col"),), "p50", "raw", 8, 8, "10m",
              bounds=(0, None)),
        Panel("venue.failures", "table", _asks("venue.failures"), "duration_s", "failures", WIDTH, 8,
              sort=("Time", True)),
    ]  # fmt: skip


def _upgrade(language: Language) -> list[Panel]:
    return [
        _effect(language),
        *(_before_after(metric, language) for metric in queries.UPGRADE_METRICS),
        Panel(
            "upgrade.course", "timeseries",
            (Ask("upgrade.course", "$tag_venue"), Ask("upgrade.controls", ALIASES["controls"].of(language))),
            "ppi", "upgrade", 12, 9, "1d", bounds=(0, 100),
        ),
        Panel("upgrade.busy", "timeseries", _asks("upgrade.busy"), "down_busy_mbps", "upgrade", 12, 9, "1d",
              bounds=(0, None)),
    ]  # fmt: skip


def _before_after(metric: str, language: Language) -> Panel:
    asks = tuple(
        Ask(f"upgrade.{metric}.{who}.{when}", ALIASES[when if who == "venue" else f"{who}_{when}"].of(language))
        for who in queries.WHO
        for when in queries.WHEN
    )
    return Panel(f"upgrade.{metric}", "stat", asks, metric, "upgrade", 12, 4)


def _effect(language: Language) -> Panel:
    """Grafana's own expressions subtract; the queries are those of the index."""
    asks = tuple(
        Ask(f"upgrade.ppi.{who}.{when}", ALIASES[when].of(language), ref, hide=True)
        for (who, when), ref in zip(
            ((who, when) for who in queries.WHO for when in queries.WHEN), ("A", "B", "C", "D"), strict=True
        )
    )
    source = {"type": "__expr__", "uid": "__expr__"}
    reduced = tuple(
        {"refId": f"R{ref}", "datasource": source, "type": "reduce", "expression": ref, "reducer": "last", "hide": True}
        for ref in ("A", "B", "C", "D")
    )
    effect = {
        "refId": "effect",
        "datasource": source,
        "type": "math",
        "expression": "($RB - $RA) - ($RD - $RC)",
    }
    return Panel("upgrade.effect", "stat", asks, "trend", "upgrade", WIDTH, 4, expressions=(*reduced, effect))


def _gov(language: Language) -> list[Panel]:
    link = _to_venue(language, "gov")

    def curve(name: str, shown: str, **more: Any) -> Panel:
        asks = (Ask(f"gov.{name}", "$tag_venue"),)
        return Panel(f"gov.{name}", "timeseries", asks, shown, "score", 12, 8, "1h", columns=GOV, **more)

    return [
        Panel("gov.index", "stat", _asks("gov.index"), "ppi", "score", WIDTH, 4, options=_named("ppi", "worst")),
        Panel(
            "gov.nodes", "table", _asks("gov.nodes"), "ppi", "score", WIDTH, 10,
            columns=GOV, hidden=("Time",), sort=("ppi", False), links=(link,),
        ),
        curve("availability_ratio", "availability_ratio", bounds=(None, 1)),
        curve("rtt_p50_ms", "rtt_p50_ms", bounds=(0, None)),
        curve("loss_ratio", "loss_ratio", bounds=(0, None)),
        curve("rt_pdv_p95_ms", "rt_pdv_p95_ms", bounds=(0, None)),
        Panel("gov.segments", "state-timeline", (Ask("gov.segments", "$tag_venue"),), "segment", "verdict", 14, 9,
              "1h", MOST_STEPS),
        Panel("gov.busy", "table", _asks("gov.busy"), "down_busy_mbps", "score", 10, 9, hidden=("Time",),
              links=(link,)),
        Panel("gov.outages", "table", _asks("gov.outages"), "hours", "incident", WIDTH, 9, hidden=("end_s", "cause"),
              sort=("Time", True), links=(link,)),
    ]  # fmt: skip


def _incidents(language: Language) -> list[Panel]:
    link = _to_venue(language, "${network}")
    return [
        Panel("incidents.open", "table", _asks("incidents.open"), "hours", "incident", WIDTH, 9,
              hidden=("end_s", "open"), sort=("hours", True), links=(link,)),
        Panel("incidents.hours", "bargauge", (Ask("incidents.hours", "$tag_segment"),), "hours", "incident", 8, 9,
              bounds=(0, None)),
        Panel("incidents.venues", "bargauge", _asks("incidents.venues"), "hours", "incident", 8, 9, bounds=(0, None),
              links=(_to_venue(language, "${network}", "${__data.fields.venue}"),)),
        Panel("incidents.days", "timeseries", (Ask("incidents.days", "$tag_segment"),), "incidents", "incident", 8, 9,
              "1d", custom={"drawStyle": "bars", "fillOpacity": 80, "stacking": {"mode": "normal", "group": "A"}},
              bounds=(0, None)),
        Panel("boards.scores", "table", _asks("boards.scores"), "ppi", "score", WIDTH, 12, hidden=("Time",),
              sort=("ppi", False), links=(link,)),
        Panel("boards.values", "table", _asks("boards.values"), "down_mbps", "score", WIDTH, 12, hidden=("Time",),
              links=(_to_venue(language, "wifi"),)),
        Panel("incidents.all", "table", _asks("incidents.all"), "hours", "incident", WIDTH, 12, hidden=("end_s",),
              sort=("Time", True), links=(link,)),
    ]  # fmt: skip


def _fleet(language: Language) -> list[Panel]:
    link = _to_venue(language, "${__data.fields.network}")

    def curve(name: str, shown: str, **more: Any) -> Panel:
        asks = (Ask(f"fleet.{name}", "$tag_agent"),)
        empty = "fleet" if name == "course" else "health"
        return Panel(f"fleet.{name}", "timeseries", asks, shown, empty, min_interval="10m", **more)

    return [
        Panel("fleet.online", "stat", _asks("fleet.online"), "online", "fleet", 8, 4,
              options=_named("online", "registered")),
        Panel("fleet.silent", "stat", _asks("fleet.silent"), "silent_s", "fleet", 5, 4),
        Panel("fleet.complete", "gauge", _asks("fleet.complete"), "completeness", "fleet", 5, 4, bounds=(0, 1)),
        Panel("fleet.waiting", "stat", _asks("fleet.waiting"), "outbox_records", "health", 6, 4),
        Panel("fleet.agents", "table", _asks("fleet.agents", "fleet.health", "fleet.versions"), "silent_s", "fleet",
              WIDTH, 14, hidden=("Time",), sort=("silent_s", True), links=(link,)),
        Panel("fleet.presence", "state-timeline", (Ask("fleet.presence", "$tag_agent"),), "online", "fleet", WIDTH, 14,
              "10m"),
        curve("course", "completeness", bounds=(0, 1)),
        curve("outbox", "outbox_records", bounds=(0, None)),
        curve("oldest", "outbox_oldest_s", bounds=(0, None)),
        curve("clock", "clock_offset_ms"),
        curve("cpu", "cpu_ratio", bounds=(0, 1)),
        curve("memory", "rss_bytes", bounds=(0, None)),
        curve("temperature", "temperature_c", width=12),
        curve("disk", "disk_free_bytes", width=12, bounds=(0, None)),
    ]  # fmt: skip


def _collector(language: Language) -> list[Panel]:
    def curve(name: str, shown: str, **more: Any) -> Panel:
        return Panel(f"collector.{name}", "timeseries", (Ask(f"collector.{name}", "$tag_collector $col"),), shown,
                     "collector", 12, 8, "5m", bounds=(0, None), **more)  # fmt: skip

    return [
        Panel("collector.state", "stat", _asks("collector.state"), "store_up", "collector", 8, 4),
        Panel("collector.lag_now", "stat", (Ask("collector.lag_now", "$tag_collector"),), "lag_p95_ms", "collector",
              8, 4),
        Panel("collector.dead", "stat", _asks("collector.dead"), "dead_letters", "collector", 8, 4),
        curve("records", "received"),
        curve("refused", "rejected", custom={"drawStyle": "bars", "fillOpacity": 60}),
        curve("lag", "lag_p95_ms"),
        curve("queue", "queue_bytes"),
        Panel("collector.up", "state-timeline", (Ask("collector.up", "$tag_collector $col"),), "store_up", "collector",
              WIDTH, 6, "5m"),
    ]  # fmt: skip


def _only(*columns_: str) -> Json:
    """Of an answer's columns only these."""
    return {"reduceOptions": {"calcs": ["lastNotNull"], "fields": _fields(columns_), "values": False}}


def _named(*columns_: str) -> Json:
    return _only(*columns_) | {"textMode": "value_and_name"}


def _fields(names: tuple[str, ...]) -> str:
    """A pattern of display names in either language: overrides have renamed the fields by then."""
    found = [word for name in names for word in columns.COLUMNS[name].words]
    return f"/^({'|'.join(found)})$/"


ALL: Final = (
    Dashboard("district", "now-7d", "5m", ("network", "profile"), _district),
    Dashboard("venue", "now-7d", "5m", ("network", "venue"), _venue),
    Dashboard("upgrade", "now-90d", "", ("venue", "controls", "upgraded", "settled"), _upgrade),
    Dashboard("gov", "now-7d", "5m", (), _gov),
    Dashboard("incidents", "now-14d", "5m", ("network",), _incidents),
    Dashboard("fleet", "now-24h", "1m", ("agent",), _fleet),
    Dashboard("collector", "now-24h", "1m", ("collector",), _collector),
)
