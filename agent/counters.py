"""The kernel's byte counters of an interface: what really went through it, ours and everybody's."""

from pathlib import Path
from typing import Final, NamedTuple

_INTERFACES: Final = Path("/sys/class/net")


class Counters(NamedTuple):
    """Bytes since the interface came up; super-frames of GSO and GRO count their headers once."""

    rx_bytes: int
    tx_bytes: int


def read(interface: str) -> Counters | None:
    """None when the interface is not there (any more)."""
    folder = _INTERFACES / interface / "statistics"
    try:
        return Counters(int((folder / "rx_bytes").read_text()), int((folder / "tx_bytes").read_text()))
    except (OSError, ValueError):
        return None
