"""What the reflector tells of itself: one picture, from which metrics, page and health are made."""

import importlib.metadata
from collections.abc import Mapping

from msgspec import Struct

from reflector.admission import Admission
from reflector.connections import Connections
from reflector.counts import Counts
from reflector.load import Load


class Status(Struct, kw_only=True, frozen=True):
    """A moment."""

    version: str
    draining: bool
    open: bool
    """Tests need no token."""
    services: Mapping[str, int | None]
    """Port of each; None where it is not served."""
    slots: int
    slots_in_use: int
    public_slots: int
    public_slots_in_use: int
    connections: int
    uptime_s: float
    loop_lag_p95_s: float | None
    cpu_s: float
    rss_bytes: int
    counts: list[tuple[str, str, int]]
    """Name, reason and value; sorted."""

    def of(self, name: str) -> dict[str, int]:
        """The values of a count by reason."""
        return {reason: value for other, reason, value in self.counts if other == name}

    @property
    def is_late(self) -> bool:
        """Whether the process itself holds its tests back."""
        return (self.loop_lag_p95_s or 0.0) > LATE_S


LATE_S = 0.05


class Reporter:
    """Takes the picture."""

    def __init__(
        self,
        *,
        admission: Admission,
        connections: Connections,
        counts: Counts,
        load: Load,
        services: Mapping[str, int | None],
    ) -> None:
        self._admission = admission
        self._connections = connections
        self._counts = counts
        self._load = load
        self.services = dict(services)
        self._version = importlib.metadata.version("wanggan")

    def status(self) -> Status:
        admission = self._admission
        return Status(
            version=self._version,
            draining=admission.draining,
            open=admission.open,
            services=self.services,
            slots=admission.limits.slots,
            slots_in_use=admission.running,
            public_slots=admission.limits.public_slots,
            public_slots_in_use=admission.public_running,
            connections=self._connections.open,
            uptime_s=self._load.uptime_s,
            loop_lag_p95_s=self._load.loop_lag_p95_s,
            cpu_s=self._load.cpu_s,
            rss_bytes=self._load.rss_bytes,
            counts=self._counts.rows(),
        )
