"""The kernel's byte counters of an interface: what really went through it, ours and everybody's."""

from pathlib import Path
from typing import Final, Literal, NamedTuple

from agent.probe import Context

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


async def watch(way: Literal["down", "up"], context: Context) -> None:
    """Tell the run's watcher the rate of every second, until cancelled: for tests of which another program counts."""
    before, begun_s = read(context.interface), context.clock.boot()
    at_s = begun_s
    while before is not None:
        await context.clock.sleep(1.0)
        after, now_s = read(context.interface), context.clock.boot()
        if after is None:
            return
        moved = after.rx_bytes - before.rx_bytes if way == "down" else after.tx_bytes - before.tx_bytes
        context.progress(f"{way} {moved * 8 / 1e6 / (now_s - at_s):.1f} Mbit/s, {now_s - begun_s:.0f} s")
        before, at_s = after, now_s
