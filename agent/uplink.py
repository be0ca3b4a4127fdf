"""What the agent knows of one interface as a way out: how fast it was, and what a test may cost."""

from msgspec import Struct


class Uplink(Struct, kw_only=True, frozen=True):
    """Given to every run; read only. None means not known (yet)."""

    metered: bool = False
    """Traffic costs money: tests stay small."""
    best_down_mbps: float | None = None
    """The best rate of the last 24 h."""
    best_up_mbps: float | None = None
