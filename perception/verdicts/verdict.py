"""A verdict: the stored fields of :data:`contract.series.VERDICT`, as a type."""

from dataclasses import dataclass
from typing import Any, Final, Literal, Self, cast, get_args

from contract.series import VERDICT
from store.interface import Row
from store.point import Point

Segment = Literal[
    "radio", "join", "dhcp", "portal", "dns", "lan", "uplink", "internet", "target", "agent", "none"
]  # fmt: skip
SEGMENTS: Final[tuple[Segment, ...]] = get_args(Segment)
"""From the user outwards."""

HIGH, MEDIUM, LOW, NOT_KNOWN = 0.9, 0.6, 0.3, 0.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Which segment of a venue's hour is to blame. Numbers are None where they were not measured."""

    venue: str
    network: str
    time_ns: int
    segment: Segment = "none"
    confidence: float = NOT_KNOWN
    """0.9 high, 0.6 medium, 0.3 low, 0 nothing is known."""
    rule: int = 0
    """Its number in :data:`perception.verdicts.rules.RULES`, from 1."""
    scope: str = ""
    """``district`` where the peers share it, ``venue`` where they do not, ``""`` where that is open."""
    peers: int = 0
    peers_bad: int = 0
    """Other venues that know the item that the verdict rests on, and those of them where it is bad."""
    g_state: str = "unknown"
    c_state: str = "unknown"
    i_state: str = "unknown"
    s_state: str = "unknown"
    l_state: str = "unknown"
    d_state: str = "unknown"
    p_state: str = "unknown"
    j_stage: str = ""
    target: str = ""
    reason: str = ""
    """Of `agent`: why its records do not count; `portal`: its state; `none`: ``good``, ``too_little``, ``open``."""
    rssi_dbm: float | None = None
    snr_db: float | None = None
    tx_retry_ratio: float | None = None
    busy_ratio: float | None = None
    gateway_ms: float | None = None
    gateway_loss_ratio: float | None = None
    core_ms: float | None = None
    core_loss_ratio: float | None = None
    internet_ms: float | None = None
    internet_loss_ratio: float | None = None
    dns_ms: float | None = None
    dns_failed_ratio: float | None = None
    portal_ms: float | None = None
    joins: int = 0
    joins_failed: int = 0
    targets: int = 0
    targets_bad: int = 0
    down_mbps: float | None = None
    working_rise_ms: float | None = None
    zh: str = ""
    en: str = ""

    @property
    def absent(self) -> str:
        """Names of the numbers that are null."""
        return ",".join(name for name in VERDICT.fields if name != "absent" and getattr(self, name) is None)

    @property
    def blames(self) -> bool:
        """Whether it names a segment."""
        return self.segment != "none"

    def point(self) -> Point:
        """As it is stored."""
        fields = tuple(getattr(self, name) for name in VERDICT.fields)
        return Point(VERDICT.key, (self.venue, self.network), self.time_ns, fields)

    @classmethod
    def of(cls, row: Row) -> Self:
        """As it was stored."""
        absent = {"absent", *str(row.fields.get("absent") or "").split(",")}
        known: dict[str, Any] = {
            name: value for name, value in row.fields.items() if value is not None and name not in absent
        }
        known["segment"] = cast(Segment, known.get("segment", "none"))
        return cls(venue=row.tags["venue"], network=row.tags["network"], time_ns=row.time_ns, **known)
