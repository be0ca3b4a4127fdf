# ruff: noqa: S608 - nobody's input: every word stands here, and Grafana fills in its variables
"""Every query of every dashboard, by name. InfluxQL, for it alone runs on InfluxDB 1.x, 2.x and 3.x.

Rules that tests/grafana keeps: identifiers in double quotes; names from contract.series; no policy names and no words
that 3.x lacks; raw points not older than 48 hours; values of raw points only where ``"ok" = 1``. A table's query has
no GROUP BY outside (its tags are columns), so that all its rows are one frame in every version of Grafana.
"""

from typing import Final, Literal, NamedTuple

from contract.series import INDICATOR_SCORES
from grafana.generator.marks import TIMEZONE

Shape = Literal["table", "time_series"]

RAW: Final = "wanggan"
"""Uid of the source of raw points."""
HOURS: Final = "wanggan-1h"
"""Uid of the source of rollups, scores, verdicts and incidents."""


class Query(NamedTuple):
    """A text, where it is asked, and what its answer looks like."""

    source: str
    text: str
    shape: Shape = "time_series"


RECENT: Final = "$timeFilter AND time > now() - 48h"
"""The dashboard's range, but of raw points never more than two days: a mistaken range must not stop the database."""
_TZ: Final = f"tz('{TIMEZONE}')"
_NETWORK: Final = '"network" =~ /^$network$/'
_VENUE: Final = f'"venue" =~ /^$venue$/ AND {_NETWORK}'
_GOV: Final = "\"network\" = 'gov'"
_WIFI: Final = "\"network\" = 'wifi'"
_AGENT: Final = '"agent" =~ /^$agent$/'
_PROFILE: Final = '"profile" =~ /^$profile$/'

UPGRADE_METRICS: Final = (
    "ppi",
    "access_success_ratio",
    "online_ms",
    "down_mbps",
    "up_mbps",
    "rtt_p50_ms",
    "loss_ratio",
    "web_total_ms",
)
"""What is compared before and after."""
GOV_VALUES: Final = (
    "availability_ratio",
    "reach_ratio",
    "rtt_p50_ms",
    "rt_pdv_p95_ms",
    "loss_ratio",
    "down_mbps",
    "up_mbps",
    "dns_rtt_ms",
    "web_total_ms",
)
WIFI_VALUES: Final = (
    "access_success_ratio",
    "online_ms",
    "good_signal_ratio",
    "availability_ratio",
    "down_mbps",
    "up_mbps",
    "rtt_p50_ms",
    "loss_ratio",
    "working_rise_ms",
    "dns_rtt_ms",
    "web_total_ms",
    "video_stall_ratio",
)
AGENT_VALUES: Final = (
    "uptime_s",
    "restarts",
    "outbox_records",
    "outbox_oldest_s",
    "clock_offset_ms",
    "cpu_ratio",
    "disk_free_bytes",
    "temperature_c",
    "cert_days_left",
    "config_version",
    "degraded",
)
SIGNAL: Final = ("rssi_dbm", "snr_db")
AIR: Final = ("tx_retry_ratio", "busy_ratio")
JOIN_STAGES: Final = ("scan_ms", "auth_ms", "assoc_ms", "handshake_ms", "dhcp_ms", "online_ms")
ITEM_STATES: Final = ("l_state", "d_state", "p_state", "g_state", "c_state", "i_state", "s_state")
"""Of a verdict, from the user outwards."""
WHO: Final = {"venue": '"venue" =~ /^$venue$/', "controls": '"venue" =~ /^$controls$/'}
WHEN: Final = {
    "before": "time >= '$upgraded' - 28d AND time < '$upgraded'",
    "after": "time >= '$settled' AND time < '$settled' + 28d",
}


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _scores(which: str, period: str = "day", value: str = "ppi") -> str:
    """Where `value` is what the newest run found, and not what an older one left where there is none any more."""
    known = f" AND {_known(value)}" if value else ""
    return f'FROM "score" WHERE {which} AND "period" = \'{period}\'{known} AND $timeFilter'


def _known(value: str) -> str:
    return f'"absent" !~ /\\b{value}\\b/'


def _last(columns: str, inner: str, source: str, where: str, by: tuple[str, ...]) -> str:
    """The newest point of each group of tags as a row; `inner` begins with the field that must be there."""
    first, _, rest = inner.partition(", ")
    selected = f"last({first}) AS {first}" + (f", {rest}" if rest else "")
    return f"SELECT {columns} FROM (SELECT {selected} FROM {source} WHERE {where} GROUP BY {_names(by)})"


def _rollup(probe: str, metric: str, by: str = "") -> Query:
    """The exact mean of a rolled-up value over any window. Its windows hold values, for nothing divided by nothing is 0
    in InfluxQL, and never 0 is what was not measured."""
    mean = f'sum("{metric}_sum") / sum("{metric}_n") AS "{metric}"'
    where = f'{_VENUE} AND "{metric}_n" > 0 AND $timeFilter'
    groups = f"time($__interval){f', {by}' if by else ''}"
    return Query(HOURS, f'SELECT {mean} FROM "{probe}" WHERE {where} GROUP BY {groups} fill(none)')


def _segments(where: str) -> Query:
    """Each venue's verdicts; of a step of several hours the last one."""
    groups = 'GROUP BY time($__interval), "venue" fill(none)'
    return Query(HOURS, f'SELECT last("segment") AS "segment" FROM "verdict" WHERE {where} AND $timeFilter {groups}')


def _agent(field: str, how: str = "max") -> Query:
    where = f'{_AGENT} AND "ok" = 1 AND {RECENT}'
    select = f'SELECT {how}("{field}") AS "{field}" FROM "agent"'
    return Query(RAW, f'{select} WHERE {where} GROUP BY time($__interval), "agent" fill(none)')


def _collector(select: str) -> Query:
    where = f'"collector" =~ /^$collector$/ AND {RECENT}'
    return Query(
        RAW, f'SELECT {select} FROM "collector" WHERE {where} GROUP BY time($__interval), "collector" fill(none)'
    )


def _window(metric: str, who: str, when: str) -> Query:
    where = f"{WHO[who]} AND {_WIFI} AND \"period\" = 'day' AND {_known(metric)} AND {WHEN[when]}"
    return Query(HOURS, f'SELECT mean("{metric}") AS "{metric}" FROM "score" WHERE {where} {_TZ}')


_SCORE_COLUMNS: Final = ("ppi", "coverage", "quality", "service", "completeness", "validity")
_INCIDENT_COLUMNS: Final = ("confidence", "scope", "venues", "target", "cause", "open", "end_s", "zh", "en")
_RATED: Final = ("venue", "network", "profile")

QUERIES: Final[dict[str, Query]] = {
    # -- District wall
    "wall.index": Query(
        HOURS,
        'SELECT mean("ppi") AS "ppi", min("ppi") AS "worst", count("ppi") AS "rated" FROM '
        f'(SELECT last("ppi") AS "ppi" {_scores(f"{_NETWORK} AND {_PROFILE}")} GROUP BY "venue")',
    ),
    "wall.open": Query(
        HOURS,
        'SELECT count("hours") AS "open" FROM (SELECT last("hours") AS "hours" FROM "incident" '
        f'WHERE {_NETWORK} AND "open" = 1 AND "hours" > 0 AND $timeFilter GROUP BY "venue")',
    ),
    "wall.complete": Query(
        HOURS,
        'SELECT mean("completeness") AS "completeness" FROM (SELECT last("completeness") AS "completeness" '
        f'{_scores(_NETWORK, value="completeness")} GROUP BY "venue")',
    ),
    "wall.scores": Query(
        HOURS,
        "SELECT "
        + _names((*_RATED, *_SCORE_COLUMNS))
        + f' FROM (SELECT last("ppi") AS "ppi", {_names(_SCORE_COLUMNS[1:])} '
        + f"{_scores(f'{_NETWORK} AND {_PROFILE}')} GROUP BY {_names(_RATED)})",
        "table",
    ),
    "wall.trend": Query(
        HOURS,
        f'SELECT {_names((*_RATED, "trend"))} FROM (SELECT last("ppi") - mean("ppi") AS "trend" '
        f"{_scores(f'{_NETWORK} AND {_PROFILE}')} GROUP BY {_names(_RATED)})",
        "table",
    ),
    "wall.blame": Query(
        HOURS,
        _last(
            _names(("venue", "network", "segment", "confidence", "zh", "en")),
            _names(("segment", "confidence", "zh", "en")),
            '"verdict"',
            f"{_NETWORK} AND $timeFilter",
            ("venue", "network"),
        ),
        "table",
    ),
    "wall.since": Query(
        HOURS,
        _last(
            _names(("venue", "network", "hours")),
            '"hours"',
            '"incident"',
            f'{_NETWORK} AND "open" = 1 AND "hours" > 0 AND $timeFilter',
            ("venue", "network"),
        ),
        "table",
    ),
    "wall.worst": Query(
        HOURS,
        'SELECT bottom("ppi", 10) AS "ppi", "venue" FROM (SELECT last("ppi") AS "ppi" '
        f'{_scores(f"{_NETWORK} AND {_PROFILE}")} GROUP BY "venue")',
        "table",
    ),
    "wall.course": Query(
        HOURS,
        # No look at what is absent: of a month's hours it would take as long as all else of the wall together.
        f'SELECT mean("ppi") AS "ppi", min("ppi") AS "worst" {_scores(f"{_NETWORK} AND {_PROFILE}", "hour", "")} '
        "GROUP BY time($__interval) fill(none)",
    ),
    "wall.segments": _segments(_NETWORK),
    # -- Venue detail
    "venue.index": Query(HOURS, f'SELECT last("ppi") AS "ppi" {_scores(_VENUE)} GROUP BY "profile"'),
    "venue.complete": Query(
        HOURS, f'SELECT last("completeness") AS "completeness" {_scores(_VENUE, value="completeness")}'
    ),
    "venue.silent": Query(
        RAW, f'SELECT last("silent_s") AS "silent_s" FROM "fleet" WHERE {_VENUE} AND {RECENT} GROUP BY "agent"'
    ),
    "venue.blame": Query(
        HOURS,
        'SELECT "segment", "confidence", "scope", "rule", "zh", "en" FROM "verdict" '
        f"WHERE {_VENUE} AND $timeFilter ORDER BY time DESC LIMIT 24",
        "table",
    ),
    "venue.course": Query(
        HOURS,
        'SELECT mean("ppi") AS "ppi", mean("coverage") AS "coverage", mean("quality") AS "quality", '
        f'mean("service") AS "service" {_scores(_VENUE, "hour", "")} GROUP BY time($__interval) fill(none)',
    ),
    "venue.terms": Query(
        HOURS,
        "SELECT "
        + ", ".join(f'last("{name}_score") AS "{name}_score"' for name in INDICATOR_SCORES)
        + f" {_scores(_VENUE, value='')}",
    ),
    "venue.items": Query(HOURS, f'SELECT {_names(ITEM_STATES)} FROM "verdict" WHERE {_VENUE} AND $timeFilter'),
    "venue.success": Query(
        HOURS,
        'SELECT sum("ok") / sum("attempted") AS "success" FROM "latency", "dns", "web", "portal", "wifi_join", '
        f'"throughput", "video" WHERE {_VENUE} AND "attempted" > 0 AND $timeFilter '
        "GROUP BY time($__interval) fill(none)",
    ),
    **{f"venue.wifi_link.{name}": _rollup("wifi_link", name) for name in SIGNAL + AIR},
    **{f"venue.wifi_join.{name}": _rollup("wifi_join", name) for name in JOIN_STAGES},
    "venue.portal": _rollup("portal", "detect_ms"),
    "venue.dns": _rollup("dns", "rtt_ms", '"target", "resolver"'),
    "venue.rtt": _rollup("latency", "rtt_p50_ms", '"target"'),
    "venue.loss": _rollup("latency", "loss_ratio", '"target"'),
    "venue.rate.down": _rollup("throughput", "down_mbps"),
    "venue.rate.up": _rollup("throughput", "up_mbps"),
    "venue.rise": _rollup("throughput", "working_rise_ms"),
    "venue.web": _rollup("web", "total_ms", '"target"'),
    "venue.video.start": _rollup("video", "start_s"),
    "venue.video.stall": _rollup("video", "stall_ratio"),
    "venue.rtt_now": Query(
        RAW,
        'SELECT percentile("rtt_p50_ms", 50) AS "p50", percentile("rtt_p95_ms", 95) AS "p95" FROM "latency" '
        f'WHERE {_VENUE} AND "ok" = 1 AND {RECENT} GROUP BY time($__interval), "target" fill(none)',
    ),
    "venue.failures": Query(
        RAW,
        'SELECT "target", "resolver", "reason", "detail", "duration_s" FROM "latency", "dns", "web", "portal", '
        f'"wifi_join", "throughput", "video", "path" WHERE {_VENUE} AND "outcome" = \'failed\' AND {RECENT} '
        "ORDER BY time DESC LIMIT 50",
        "table",
    ),
    # -- Wi-Fi upgrade
    **{
        f"upgrade.{metric}.{who}.{when}": _window(metric, who, when)
        for metric in UPGRADE_METRICS
        for who in WHO
        for when in WHEN
    },
    "upgrade.course": Query(
        HOURS,
        f'SELECT mean("ppi") AS "ppi" {_scores(WHO["venue"])} GROUP BY time(1d), "venue" fill(none) {_TZ}',
    ),
    "upgrade.controls": Query(
        HOURS, f'SELECT mean("ppi") AS "ppi" {_scores(WHO["controls"])} GROUP BY time(1d) fill(none) {_TZ}'
    ),
    "upgrade.busy": Query(
        HOURS,
        'SELECT mean("down_busy_mbps") AS "down_busy_mbps", mean("down_idle_mbps") AS "down_idle_mbps" '
        f"{_scores(WHO['venue'], value='down_mbps')} GROUP BY time(1d) fill(none) {_TZ}",
    ),
    # -- Government network
    "gov.index": Query(
        HOURS,
        'SELECT mean("ppi") AS "ppi", min("ppi") AS "worst" FROM (SELECT last("ppi") AS "ppi" '
        f'{_scores(_GOV)} GROUP BY "venue")',
    ),
    "gov.nodes": Query(
        HOURS,
        f'SELECT {_names(("venue", "ppi", *GOV_VALUES))} FROM (SELECT last("ppi") AS "ppi", {_names(GOV_VALUES)} '
        f'{_scores(_GOV)} GROUP BY "venue")',
        "table",
    ),
    **{
        f"gov.{name}": Query(
            HOURS,
            f'SELECT mean("{name}") AS "{name}" {_scores(_GOV, "hour", name)} '
            'GROUP BY time($__interval), "venue" fill(none)',
        )
        for name in ("availability_ratio", "rtt_p50_ms", "loss_ratio", "rt_pdv_p95_ms")
    },
    "gov.busy": Query(
        HOURS,
        'SELECT "venue", "down_busy_mbps", "down_idle_mbps", "up_busy_mbps", "up_idle_mbps" FROM '
        '(SELECT last("down_mbps") AS "down_mbps", "down_busy_mbps", "down_idle_mbps", "up_busy_mbps", "up_idle_mbps" '
        f'{_scores(_GOV, value="down_mbps")} GROUP BY "venue")',
        "table",
    ),
    "gov.segments": _segments(_GOV),
    "gov.outages": Query(
        HOURS,
        f'SELECT "venue", "segment", "hours", {_names(_INCIDENT_COLUMNS)} FROM "incident" '
        'WHERE "network" = \'gov\' AND "hours" > 0 AND $timeFilter ORDER BY time DESC LIMIT 200',
        "table",
    ),
    # -- Incidents and short boards
    "incidents.open": Query(
        HOURS,
        f'SELECT "venue", "network", "segment", "hours", {_names(_INCIDENT_COLUMNS)} FROM "incident" '
        f'WHERE {_NETWORK} AND "open" = 1 AND "hours" > 0 AND $timeFilter ORDER BY time DESC LIMIT 200',
        "table",
    ),
    "incidents.all": Query(
        HOURS,
        f'SELECT "venue", "network", "segment", "hours", {_names(_INCIDENT_COLUMNS)} FROM "incident" '
        f'WHERE {_NETWORK} AND "hours" > 0 AND $timeFilter ORDER BY time DESC LIMIT 500',
        "table",
    ),
    "incidents.hours": Query(
        HOURS,
        f'SELECT sum("hours") AS "hours" FROM "incident" WHERE {_NETWORK} AND "hours" > 0 AND $timeFilter '
        'GROUP BY "segment"',
    ),
    "incidents.days": Query(
        HOURS,
        f'SELECT count("hours") AS "incidents" FROM "incident" WHERE {_NETWORK} AND "hours" > 0 AND $timeFilter '
        f'GROUP BY time(1d), "segment" fill(none) {_TZ}',
    ),
    "incidents.venues": Query(
        HOURS,
        'SELECT top("hours", 10) AS "hours", "venue" FROM (SELECT sum("hours") AS "hours" FROM "incident" '
        f'WHERE {_NETWORK} AND "hours" > 0 AND $timeFilter GROUP BY "venue")',
        "table",
    ),
    "boards.scores": Query(
        HOURS,
        "SELECT "
        + _names(("venue", "profile", "ppi", *(f"{name}_score" for name in INDICATOR_SCORES)))
        + ' FROM (SELECT last("ppi") AS "ppi", '
        + _names(tuple(f"{name}_score" for name in INDICATOR_SCORES))
        + f' {_scores(_NETWORK)} GROUP BY "venue", "profile")',
        "table",
    ),
    "boards.values": Query(
        HOURS,
        f'SELECT {_names(("venue", "profile", *WIFI_VALUES))} FROM (SELECT last("ppi") AS "ppi", {_names(WIFI_VALUES)} '
        f'{_scores(_WIFI)} GROUP BY "venue", "profile")',
        "table",
    ),
    # -- Agent fleet
    "fleet.online": Query(
        RAW,
        'SELECT sum("online") AS "online", count("online") AS "registered" FROM (SELECT last("online") AS "online" '
        f'FROM "fleet" WHERE {RECENT} GROUP BY "agent")',
    ),
    "fleet.silent": Query(
        RAW,
        'SELECT max("silent_s") AS "silent_s" FROM (SELECT last("silent_s") AS "silent_s" FROM "fleet" '
        f'WHERE {RECENT} GROUP BY "agent")',
    ),
    "fleet.complete": Query(
        RAW,
        'SELECT mean("completeness") AS "completeness" FROM (SELECT last("completeness") AS "completeness" '
        f'FROM "fleet" WHERE {RECENT} GROUP BY "agent")',
    ),
    "fleet.waiting": Query(
        RAW,
        'SELECT sum("outbox_records") AS "outbox_records" FROM (SELECT last("outbox_records") AS "outbox_records" '
        f'FROM "agent" WHERE "ok" = 1 AND {RECENT} GROUP BY "agent")',
    ),
    "fleet.agents": Query(
        RAW,
        _last(
            _names(("agent", "venue", "network", "online", "silent_s", "completeness")),
            _names(("online", "silent_s", "completeness")),
            '"fleet"',
            f"{_AGENT} AND {RECENT}",
            ("agent", "venue", "network"),
        ),
        "table",
    ),
    "fleet.health": Query(
        RAW,
        _last(
            _names(("agent", *AGENT_VALUES)),
            _names(AGENT_VALUES),
            '"agent"',
            f'{_AGENT} AND "ok" = 1 AND {RECENT}',
            ("agent",),
        ),
        "table",
    ),
    "fleet.versions": Query(
        RAW,
        _last('"agent", "version"', '"version"', '"status"', f"{_AGENT} AND time > now() - 30d", ("agent",)),
        "table",
    ),
    "fleet.presence": Query(
        RAW,
        f'SELECT min("online") AS "online" FROM "fleet" WHERE {_AGENT} AND {RECENT} '
        'GROUP BY time($__interval), "agent" fill(none)',
    ),
    "fleet.course": Query(
        RAW,
        f'SELECT min("completeness") AS "completeness" FROM "fleet" WHERE {_AGENT} AND {RECENT} '
        'GROUP BY time($__interval), "agent" fill(none)',
    ),
    "fleet.outbox": _agent("outbox_records"),
    "fleet.oldest": _agent("outbox_oldest_s"),
    "fleet.clock": _agent("clock_offset_ms", "median"),
    "fleet.cpu": _agent("cpu_ratio", "mean"),
    "fleet.memory": _agent("rss_bytes"),
    "fleet.temperature": _agent("temperature_c"),
    "fleet.disk": _agent("disk_free_bytes", "min"),
    # -- Collector
    "collector.state": Query(
        RAW,
        'SELECT last("store_up") AS "store_up", last("connected") AS "connected" FROM "collector" '
        f'WHERE "collector" =~ /^$collector$/ AND {RECENT}',
    ),
    "collector.dead": Query(
        RAW,
        'SELECT sum("dead_letters") AS "dead_letters", sum("dropped") AS "dropped" FROM "collector" '
        f'WHERE "collector" =~ /^$collector$/ AND {RECENT}',
    ),
    "collector.lag_now": Query(
        RAW,
        'SELECT last("lag_p95_ms") AS "lag_p95_ms" FROM "collector" '
        f'WHERE "collector" =~ /^$collector$/ AND {RECENT} GROUP BY "collector"',
    ),
    "collector.records": _collector('mean("received") AS "received", mean("stored") AS "stored"'),
    "collector.refused": _collector(
        'sum("rejected") AS "rejected", sum("later") AS "later", sum("dead_letters") AS "dead_letters", '
        'sum("dropped") AS "dropped"'
    ),
    "collector.lag": _collector('max("lag_p95_ms") AS "lag_p95_ms"'),
    "collector.queue": _collector('max("queue_bytes") AS "queue_bytes"'),
    "collector.up": _collector('min("store_up") AS "store_up", min("connected") AS "connected"'),
}

VARIABLES: Final[dict[str, Query]] = {
    "venue": Query(
        HOURS,
        f'SELECT DISTINCT("venue") AS "venue" FROM (SELECT "n", "venue" {_scores(_NETWORK, value="")})',
    ),
    "controls": Query(
        HOURS,
        """SELECT DISTINCT("venue") AS "venue" FROM (SELECT "n", "venue" """
        f"{_scores(_WIFI, value='')})",
    ),
    "profile": Query(
        HOURS,
        f'SELECT DISTINCT("profile") AS "profile" FROM (SELECT "n", "profile" {_scores(_NETWORK, value="")})',
    ),
    "agent": Query(
        RAW,
        'SELECT DISTINCT("agent") AS "agent" FROM (SELECT "online", "agent" FROM (SELECT last("online") AS "online" '
        f'FROM "fleet" WHERE {RECENT} GROUP BY "agent"))',
    ),
    "collector": Query(
        RAW,
        'SELECT DISTINCT("collector") AS "collector" FROM (SELECT "received", "collector" FROM '
        f'(SELECT last("received") AS "received" FROM "collector" WHERE {RECENT} GROUP BY "collector"))',
    ),
}
"""What a variable offers: only what has points in the dashboard's range, so that no dead agent stands in a list."""


def _watched(select: str, source: str, minutes: int, by: str, where: str = "") -> str:
    """A rule's query: its own window and no variable, for Grafana's versions do not agree on a `$` in a rule."""
    condition = f"{where} AND " if where else ""
    return f'SELECT {select} FROM "{source}" WHERE {condition}time > now() - {minutes}m AND time <= now() GROUP BY {by}'


_PATH: Final = ("venue", "network", "target")
_LOSS: Final = '("ok" = 1 OR "reason" = \'all_lost\') AND "target" !~ /gateway/'

ALERTS: Final[dict[str, Query]] = {
    "agent-silent": Query(
        RAW, _watched('last("silent_s") AS "silent_s"', "fleet", 10, _names(("agent", "venue", "network")))
    ),
    "completeness-low": Query(
        RAW, _watched('last("completeness") AS "completeness"', "fleet", 10, _names(("agent", "venue", "network")))
    ),
    "outbox-growing": Query(
        RAW,
        _watched(
            'last("outbox_records") - first("outbox_records") AS "growth"',
            "agent", 30, _names(("agent", "venue", "network")), '"ok" = 1',
        ),
    ),
    "certificate-agent": Query(
        RAW,
        _watched('last("cert_days_left") AS "days"', "agent", 1440, _names(("agent", "venue", "network")), '"ok" = 1'),
    ),
    "certificate-web": Query(
        RAW, _watched('min("cert_days_left") AS "days"', "web", 1440, '"target"', '"ok" = 1')
    ),
    "index-drop": Query(
        HOURS,
        # Blocks of three hours, so that one hour without a busy test is no drop; the newest beside the week's mean.
        'SELECT last("ppi") - mean("ppi") AS "change" FROM (SELECT mean("ppi") AS "ppi" FROM "score" '
        f'WHERE "period" = \'hour\' AND {_known("ppi")} AND time > now() - 7d AND time <= now() '
        'GROUP BY time(3h), "venue", "network", "profile" fill(none)) '
        'GROUP BY "venue", "network", "profile"',
    ),
    "loss-wifi": Query(
        RAW,
        _watched(
            'mean("loss_ratio") AS "loss"', "latency", 15, _names(_PATH), f"{_LOSS} AND {_WIFI}"
        ),
    ),
    "loss-gov": Query(
        RAW,
        _watched(
            'mean("loss_ratio") AS "loss"', "latency", 15, _names(_PATH), f"{_LOSS} AND {_GOV}"
        ),
    ),
    "portal": Query(
        HOURS,
        _watched(
            'count("segment") AS "hours"', "verdict", 180, _names(("venue", "network")),
            "\"segment\" = 'portal' AND \"confidence\" > 0.5",
        ),
    ),
    "collector-behind": Query(RAW, _watched('min("lag_p95_ms") AS "lag"', "collector", 5, '"collector"')),
    "store-refuses": Query(RAW, _watched('last("store_up") AS "up"', "collector", 5, '"collector"')),
}  # fmt: skip
"""What each alert rule asks."""
