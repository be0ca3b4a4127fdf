"""The closed vocabularies: outcomes, reasons, flags, clocks, answers. Changing one is a contract change."""

from typing import Final, Literal, get_args

Outcome = Literal["ok", "failed", "invalid", "skipped"]
"""How a slot ended; see :mod:`contract.record` for the definition of each."""

NetworkReason = Literal[
    "no_link", "not_associated", "auth_failed", "dhcp_failed", "portal", "dns_failed", "dns_hijacked", "nxdomain",
    "unreachable", "refused", "timeout", "reset", "tls_failed", "cert_invalid", "http_status", "all_lost",
]  # fmt: skip
"""Why a slot `failed`: the network's fault, it counts against the network."""

OwnReason = Literal[
    "cpu_limited", "clock_step", "wrong_interface", "target_down", "no_permission", "target_denied",
    "tool_missing", "internal",
]  # fmt: skip
"""Why a slot is `invalid`: our own fault, excluded from every figure and printed."""

SkipReason = Literal[
    "no_slot", "budget", "cross_traffic", "quiet_hours", "suppressed", "no_interface", "busy",
]  # fmt: skip
"""Why a slot was `skipped`: deliberately not run."""

Reason = Literal[NetworkReason, OwnReason, SkipReason]

REASONS: Final[dict[str, frozenset[str]]] = {
    "ok": frozenset(),
    "failed": frozenset(get_args(NetworkReason)),
    "invalid": frozenset(get_args(OwnReason)),
    "skipped": frozenset(get_args(SkipReason)),
}
"""The reasons that each outcome may carry."""

Flag = Literal[
    "byte_cap", "short_test", "cross_traffic", "not_saturated", "clock_unsynced", "clock_corrected",
    "method_fallback", "replayed",
]  # fmt: skip
"""Cautions on an `ok` value."""

ClockState = Literal["synced", "corrected", "none"]
"""How far `slot` can be trusted. `none` is answered `rejected: invalid` and never stored."""

Rejection = Literal["invalid", "too_old"]
"""Final answers: the agent deletes the record, the collector keeps a dead letter."""

Later = Literal[
    "rate_limited", "unknown_version", "unknown_probe", "unknown_agent", "store_limit", "clock_ahead",
]  # fmt: skip
"""Answers that delete nothing: the agent sends the same batch again after 1 to 60 min."""

Role = Literal["gateway", "core", "internet", "service"]
"""What a job's target stands for on the path: the first hop, the reflector, the internet, what users go to."""

CLASSES: Final = ("context", "light", "heavy", "rare")
"""Eviction classes of a full outbox, the first to go first. Never by outcome: that would bias every ratio."""

CLASS_OF: Final = {
    "agent": 0, "wifi_scan": 0, "wifi_link": 0, "path": 0,
    "latency": 1, "dns": 1, "web": 1, "video": 1,
    "throughput": 2,
    "wifi_join": 3, "wifi_event": 3, "portal": 3,
}  # fmt: skip
"""The place in :data:`CLASSES` of every probe's records."""
