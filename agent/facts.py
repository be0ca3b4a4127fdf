"""What the agent knows about itself; each part of the program keeps its own fields up to date."""

from msgspec import Struct

from agent.wifi.radio import Radio


class Facts(Struct, kw_only=True):
    """Read by the `agent` probe. None means not known (yet)."""

    config_version: int = 0
    outbox_records: int = 0
    outbox_oldest_s: float | None = None
    """Age of the oldest record that waits; None when none waits."""
    outbox_dropped_context: int = 0
    outbox_dropped_light: int = 0
    outbox_dropped_heavy: int = 0
    outbox_dropped_rare: int = 0
    outbox_quarantined: int = 0
    disk_free_bytes: int | None = None
    degraded: bool = False
    """The outbox has no disk and keeps its records in memory."""
    clock_offset_ms: float | None = None
    reconnects: int = 0
    restarts: int | None = None
    last_exit: str | None = None
    cert_expires_s: float | None = None
    """Seconds since 1970; None without a certificate of our own."""
    loop_lag_p95_ms: float | None = None
    """How late the event loop wakes a sleeper, over the last minute."""
    cpu_read: tuple[float, float] | None = None
    """Boot seconds and CPU seconds of the last `agent` record: the start of the next one's `cpu_ratio`."""
    radios: dict[str, Radio] = {}
    """By interface: what a Wi-Fi probe's next run has to know of its last one."""
