"""Names of everything stored. Dashboards, reports and engines take them from here and from nowhere else."""

import types
from typing import Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec import Struct

from contract.values import VALUES, Values

RAW: Final = "wanggan"
"""Database of raw points."""

HOURS: Final = "wanggan_1h"
"""Database of what is computed from them: rollups, scores, verdicts, incidents. It outlives the raw points."""

FieldType = Literal["float", "int", "str"]
FieldValue = float | int | str | None

MAX_COLUMNS: Final = 500
"""InfluxDB 3's limit of a table."""


class Series(Struct, frozen=True, kw_only=True):
    """One measurement: its tags (bounded identity) and its fields with types, both in storage order."""

    name: str
    """The measurement, in its database."""
    tags: tuple[str, ...]
    fields: dict[str, FieldType]
    database: str = RAW

    @property
    def key(self) -> str:
        """What it is called where both databases meet: the store's interface, and the tables of one SQLite file."""
        return self.name if self.database == RAW else f"{self.name}_1h"


RECORD_TAGS: Final = ("agent", "venue", "network", "target", "interface", "provider", "resolver")
"""Tags of every raw measurement; provider and resolver are empty where the job has none."""

OUTCOME_FIELDS: Final[dict[str, FieldType]] = {
    "ok": "int",
    "attempted": "int",
    "outcome": "str",
    "reason": "str",
    "detail": "str",
    "flags": "str",
    "clock": "str",
    "duration_s": "float",
}
"""Fields of every raw measurement, after the probe's own. `attempted` is 1 for ok and failed, else 0; `flags` are
joined with commas."""


def field_type(annotation: Any) -> FieldType:
    """The stored type of a value struct's annotation: bool becomes int 0/1, a list becomes one string."""
    if isinstance(annotation, types.UnionType) or str(get_origin(annotation)) == "typing.Union":
        annotation = next(a for a in get_args(annotation) if a is not type(None))
    if get_origin(annotation) is Literal or get_origin(annotation) is list:
        return "str"
    base = getattr(annotation, "__origin__", annotation)
    match base:
        case t if t is float:
            return "float"
        case t if t is int or t is bool:
            return "int"
        case t if t is str:
            return "str"
    raise TypeError(f"no stored type for {annotation!r}")


def value_fields(values: type[Values]) -> dict[str, FieldType]:
    """Stored fields of a value struct, in its own order."""
    return {field.encode_name: field_type(field.type) for field in msgspec.structs.fields(values)}


RAW_SERIES: Final[dict[str, Series]] = {
    probe: Series(name=probe, tags=RECORD_TAGS, fields=value_fields(values) | OUTCOME_FIELDS)
    for probe, values in VALUES.items()
}
"""One measurement per probe."""

COLLECTOR: Final = Series(
    name="collector",
    tags=("collector",),
    fields={
        "received": "int",
        "stored": "int",
        "rejected": "int",
        "later": "int",
        "dead_letters": "int",
        "dropped": "int",
        "queue_bytes": "int",
        "lag_p95_ms": "float",
        "connected": "int",
        "store_up": "int",
    },
)
"""The collector's own minute: counts since the last point, and state at its end. `lag_p95_ms` is receipt to stored."""

JOBS: Final = Series(
    name="jobs",
    tags=("agent", "probe", "target", "interface", "provider", "resolver"),
    fields={"role": "str", "period_s": "float", "announced": "int"},
)
"""An agent's announced jobs: one point when a job appears or changes (announced 1), one a day while it stays, so that
retention never takes the last one, and one when it goes away (0)."""

STATUS: Final = Series(
    name="status",
    tags=("agent",),
    fields={"online": "int", "session": "int", "version": "str", "outbox": "str", "config_version": "int"},
)
"""An agent came (1) or went (0), by its birth and its last will."""

FLEET: Final = Series(
    name="fleet",
    tags=("agent", "venue", "network"),
    fields={"online": "int", "silent_s": "float", "completeness": "float"},
)
"""Every registered agent and minute. A query cannot see what is not there: this is where silence is seen.
`silent_s`: since its newest record, null when it never sent one; `completeness`: of the last whole hour."""

TOUCHED: Final = Series(name="touched", tags=("agent",), fields={"records": "int", "at_s": "float"})
"""An hour (its start is the time) of an agent that received records after it had been rolled up; written with them.
`at_s` is when, seconds since 1970, by the collector's clock: it tells a second time from the first."""

METRICS: Final[dict[str, tuple[str, ...]]] = {
    "latency": (
        "rtt_min_ms", "rtt_p50_ms", "rtt_p95_ms", "rt_pdv_p95_ms", "ipdv_mean_ms",
        "loss_ratio", "loss_up_ratio", "loss_down_ratio",
    ),
    "throughput": (
        "down_mbps", "up_mbps", "down_p10_mbps", "up_p10_mbps", "idle_rtt_p50_ms", "loaded_down_rtt_p50_ms",
        "loaded_up_rtt_p50_ms", "working_rise_ms", "rpm_down", "rpm_up", "down_bytes", "up_bytes",
    ),
    "dns": ("rtt_ms",),
    "web": ("dns_ms", "tcp_ms", "tls_ms", "ttfb_ms", "total_ms", "cert_days_left"),
    "video": ("start_s", "stall_count", "stall_ratio", "mean_mbps"),
    "path": ("hop_count", "pmtu_bytes", "pmtu_blackhole"),
    "wifi_link": (
        "rssi_dbm", "noise_dbm", "snr_db", "tx_mbps", "rx_mbps", "tx_retry_ratio", "tx_failed_ratio", "beacon_loss",
        "busy_ratio", "stations",
    ),
    "wifi_scan": ("ap_count", "co_channel_count", "overlap_count", "strongest_neighbour_dbm"),
    "wifi_join": (
        "scan_ms", "auth_ms", "assoc_ms", "eap_ms", "handshake_ms", "dhcp_ms", "first_dns_ms", "first_byte_ms",
        "online_ms",
    ),
    "wifi_event": ("roam_ms",),
    "portal": ("detect_ms", "portal_ms"),
    "agent": (
        "uptime_s", "rss_bytes", "cpu_ratio", "loop_lag_p95_ms", "outbox_records", "outbox_oldest_s", "outbox_dropped",
        "disk_free_bytes", "clock_offset_ms", "restarts", "temperature_c", "reconnects", "degraded", "cert_days_left",
    ),
}  # fmt: skip
"""What is rolled up of each probe's values."""

SKETCHED: Final[dict[str, frozenset[str]]] = {
    "latency": frozenset({"rtt_p50_ms", "rtt_p95_ms", "rt_pdv_p95_ms", "loss_ratio"}),
    "throughput": frozenset({"down_mbps", "up_mbps", "working_rise_ms"}),
    "dns": frozenset({"rtt_ms"}),
    "web": frozenset({"ttfb_ms", "total_ms"}),
    "video": frozenset({"start_s", "stall_ratio"}),
    "wifi_link": frozenset({"tx_retry_ratio", "busy_ratio"}),
    "wifi_join": frozenset({"online_ms"}),
    "portal": frozenset({"portal_ms"}),
}
"""Those of them whose percentiles are asked for over more than an hour: they carry a sketch that can be added.
Signal levels are negative and go without: their hours have p50 and p95, their weeks have counts above a mark."""

TIMES: Final[dict[str, frozenset[str]]] = {
    "latency": frozenset({"rtt_min_ms", "rtt_p50_ms", "rtt_p95_ms"}),
    "dns": frozenset({"rtt_ms"}),
    "web": frozenset({"ttfb_ms", "total_ms"}),
    "video": frozenset({"start_s"}),
    "wifi_join": frozenset({"online_ms"}),
}
"""Times to an answer: each failed slot is +infinity in their quantiles and a failure in their sketch. An infinite
`_p50` or `_p95` is not stored; it is infinite where ceil(p * (`_n` + `failed`)) > `_n`."""

RATES: Final[dict[str, frozenset[str]]] = {
    "throughput": frozenset({"down_mbps", "up_mbps", "down_p10_mbps", "up_p10_mbps"}),
}
"""Rates of a test: a failed one is the value 0, in `_n`, `_sum`, quantiles and sketch."""

ROLLUP_TAGS: Final = ("agent", "venue", "network", "target", "provider", "resolver")

COUNTS: Final[dict[str, FieldType]] = {
    "busy": "int", "hour": "int", "dow": "int",
    "n": "int", "attempted": "int", "ok": "int", "failed": "int", "invalid": "int", "skipped": "int",
    "planned": "int", "expected": "int",
    "reasons": "str",
}  # fmt: skip
"""Of every rollup row. `busy` 0 or 1, `hour` 0-23 and `dow` 1-7 (Monday is 1) are local time; `n` is records of every
outcome; `planned` is what maintenance, opening hours or a fleet-wide pause left out; `expected` follows from the
announced jobs. A slot in a maintenance window is in `n` and `planned` and nowhere else. `reasons` is `name=count`
joined with commas, by name: reasons, `portal.STATE`, `stage.STAGE`, `event.KIND`, `maintenance`, and `implausible` for
values that no instrument measures."""

EXTRA: Final[dict[str, dict[str, FieldType]]] = {
    "latency": {"method": "str", "avail_5m_ok": "int", "avail_5m_n": "int"},
    "wifi_link": {"good_signal_ok": "int", "good_signal_n": "int"},
}
"""More fields of single probes. In the `latency` row whose target is `-`: the 5-minute slots in which at least one of
at least two independent targets answered, and all slots with such targets. `method` is the hour's commonest, the one
that the row is made of."""


def metric_fields(probe: str, metric: str) -> dict[str, FieldType]:
    """Rolled-up fields of one value: `_n` values present, `_sum` so that the mean of any window is sum / n, `_min _max
    _p50 _p95` (valid where `_n` > 0 or failures are counted), and `_sketch` where it has one."""
    fields: dict[str, FieldType] = {f"{metric}_n": "int"}
    fields |= {f"{metric}_{how}": "float" for how in ("sum", "min", "max", "p50", "p95")}
    if metric in SKETCHED.get(probe, ()):
        fields[f"{metric}_sketch"] = "str"
    return fields


def _rollup(probe: str) -> Series:
    fields = dict(COUNTS)
    for metric in METRICS[probe]:
        fields |= metric_fields(probe, metric)
    return Series(name=probe, tags=ROLLUP_TAGS, fields=fields | EXTRA.get(probe, {}), database=HOURS)


ROLLUPS: Final[dict[str, Series]] = {probe: _rollup(probe) for probe in VALUES}
"""One measurement per probe, by the probe's name: one row per series and hour, its time the hour's start (UTC)."""

INDICATORS: Final = (
    "access_success_ratio", "online_ms", "good_signal_ratio", "availability_ratio", "reach_ratio",
    "down_mbps", "up_mbps", "rtt_p50_ms", "rt_pdv_p95_ms", "loss_ratio", "working_rise_ms", "dns_rtt_ms",
    "web_total_ms", "web_success_ratio", "video_start_s", "video_stall_ratio", "video_success_ratio",
)  # fmt: skip
"""What the perception index is made of, as measured."""

INDICATOR_SCORES: Final = (
    "access_success_ratio", "online_ms", "good_signal_ratio", "availability_ratio", "reach_ratio",
    "down_mbps", "up_mbps", "rtt_p50_ms", "rt_pdv_p95_ms", "loss_ratio", "working_rise_ms", "dns_rtt_ms",
    "web", "video", "voice",
)  # fmt: skip
"""What each of its terms is called; the field is `<term>_score`, 0-100."""

SCORE: Final = Series(
    name="score",
    tags=("venue", "network", "profile", "period"),
    fields={
        "ppi": "float", "ppi_lo": "float", "ppi_hi": "float", "level": "str", "partial": "int", "missing": "str",
        "coverage": "float", "quality": "float", "service": "float",
        **dict.fromkeys(INDICATORS, "float"),
        **{f"{name}_n": "int" for name in INDICATORS},
        **{f"{name}_score": "float" for name in INDICATOR_SCORES},
        "down_busy_mbps": "float", "down_idle_mbps": "float", "up_busy_mbps": "float", "up_idle_mbps": "float",
        "iqb_typ": "float", "iqb_95": "float", "qoo_web": "float", "qoo_meeting": "float", "rpm": "float",
        "r_factor": "float", "mos": "float", "web_mos": "float", "bloat_rise_ms": "float", "bloat_grade": "str",
        "aim_streaming": "float", "aim_gaming": "float", "aim_rtc": "float",
        "profile_sha": "str", "completeness": "float", "validity": "float", "n": "int", "busy": "int",
        "absent": "str", "timeouts": "str",
    },
    database=HOURS,
)  # fmt: skip
"""Every score of a venue's hour, day or week (tag `period`; the time is its start, local midnights as UTC).

`missing` are indicators of the profile without a score; `n` is attempted slots. What is null cannot erase what stood
there before: `absent` names every other field that is null in this point, and `timeouts` those that are infinite
(超时), joined with commas. A reader leaves out both."""

VERDICT: Final = Series(
    name="verdict",
    tags=("venue", "network"),
    fields={
        "segment": "str", "confidence": "float", "rule": "int", "scope": "str", "peers": "int", "peers_bad": "int",
        "g_state": "str", "c_state": "str", "i_state": "str", "s_state": "str", "l_state": "str", "d_state": "str",
        "p_state": "str", "j_stage": "str", "target": "str", "reason": "str",
        "rssi_dbm": "float", "snr_db": "float", "tx_retry_ratio": "float", "busy_ratio": "float",
        "gateway_ms": "float", "gateway_loss_ratio": "float", "core_ms": "float", "core_loss_ratio": "float",
        "internet_ms": "float", "internet_loss_ratio": "float", "dns_ms": "float", "dns_failed_ratio": "float",
        "portal_ms": "float", "joins": "int", "joins_failed": "int", "targets": "int", "targets_bad": "int",
        "down_mbps": "float", "working_rise_ms": "float", "zh": "str", "en": "str", "absent": "str",
    },
    database=HOURS,
)  # fmt: skip
"""Which segment of a venue's hour is to blame, with its evidence; `zh` and `en` are the sentence. `absent` names the
numbers that are null, joined with commas: what a former run left in their place is void."""

INCIDENT: Final = Series(
    name="incident",
    tags=("venue", "network", "segment"),
    fields={
        "end_s": "float", "hours": "int", "confidence": "float", "scope": "str", "venues": "int", "target": "str",
        "cause": "str", "open": "int", "zh": "str", "en": "str",
    },
    database=HOURS,
)  # fmt: skip
"""Verdicts of adjacent hours and one segment; the time is its first hour. `end_s` is seconds since 1970; `cause` is the
same for venues that share it; an incident that was merged into another has `hours` 0."""

_RAW: Final = (*RAW_SERIES.values(), COLLECTOR, JOBS, STATUS, FLEET, TOUCHED)
_HOURS: Final = (*ROLLUPS.values(), SCORE, VERDICT, INCIDENT)

SERIES: Final[dict[str, Series]] = {series.key: series for series in (*_RAW, *_HOURS)}
"""Every measurement of both databases, by its key."""
