"""Validity of a heavy test: whether it measured the network, or our own limits, or somebody else's traffic."""

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from msgspec import Struct

from agent import counters
from agent.counters import Counters
from agent.probe import Context, Failure

CPU_LIMIT: Final = 0.85
"""Of one core: this program runs on one."""
WAIT_LIMIT: Final = 0.15
"""Share of the time in which we could have run and another program had the core."""
OWN_SHARE: Final = 0.90
"""Of our bytes must have gone through the interface."""
FOREIGN_SHARE: Final = 0.15
FOREIGN_MBPS: Final = 1.0
"""What more than the greater of the two moved there is other people's. Headers, acknowledgements and what was sent
again make 7.8 % of a clean run, 9.9 % where a short queue drops much."""

_SCHEDSTAT: Final = Path("/proc/self/schedstat")
_CGROUP: Final = Path("/proc/self/cgroup")
_CGROUPS: Final = Path("/sys/fs/cgroup")


class Reading(Struct, frozen=True):
    """What the machine has counted up to a moment."""

    wall_s: float
    cpu_s: float
    waited_s: float
    """For a core, ready to run."""
    throttled: int
    """How often our control group was stopped for having used its share."""
    moved: Counters | None


def read(interface: str) -> Reading:
    """Now."""
    return Reading(
        time.monotonic(), time.process_time(), _waited_s(), _throttled(), counters.read(interface)
    )  # fmt: skip


class Gates:
    """Watches from :meth:`__enter__` to :meth:`__exit__`; then :meth:`judge`."""

    def __init__(self, context: Context, reading: Callable[[str], Reading] = read) -> None:
        self._context = context
        self._read = reading
        self._before: Reading | None = None
        self._after: Reading | None = None

    def __enter__(self) -> Self:
        self._before = self._read(self._context.interface)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._after = self._read(self._context.interface)

    @property
    def cpu_ratio(self) -> float:
        """Of one core, 0 to 1."""
        before, after = self._readings()
        return min(1.0, max(0.0, (after.cpu_s - before.cpu_s) / max(1e-9, after.wall_s - before.wall_s)))

    def judge(self, own_bytes: int, *, all_counted: bool = True) -> None:
        """Flag `cross_traffic` where others used the interface.

        :param own_bytes: payload of our own, both directions together.
        :param all_counted: False: there was more, so nothing can be said of others.
        :raises Failure: `cpu_limited`, `wrong_interface`.
        """
        before, after = self._readings()
        seconds = max(1e-9, after.wall_s - before.wall_s)
        if self.cpu_ratio > CPU_LIMIT:
            raise Failure("cpu_limited", f"this program used {self.cpu_ratio:.0%} of a core")
        waited = (after.waited_s - before.waited_s) / seconds
        if waited > WAIT_LIMIT:
            raise Failure("cpu_limited", f"this program waited {waited:.0%} of the time for a core")
        if after.throttled > before.throttled:
            raise Failure("cpu_limited", "the control group's share of CPU was used up")
        if before.moved is None or after.moved is None:
            return
        moved = self._moved(before.moved, after.moved)
        if moved < OWN_SHARE * own_bytes:
            raise Failure(
                "wrong_interface", f"{self._context.interface} moved {moved} bytes while the test moved {own_bytes}"
            )
        if not all_counted:
            return
        foreign = moved - own_bytes
        allowed = max(FOREIGN_MBPS * 1e6 / 8 * seconds, FOREIGN_SHARE * own_bytes)
        if foreign > allowed and "cross_traffic" not in self._context.flags:
            self._context.flags.append("cross_traffic")

    def _readings(self) -> tuple[Reading, Reading]:
        assert self._before is not None
        assert self._after is not None
        return self._before, self._after

    def _moved(self, before: Counters, after: Counters) -> int:
        received = after.rx_bytes - before.rx_bytes
        # Loopback receives what it sends: each byte is in both counters.
        return received if self._context.interface == "lo" else received + after.tx_bytes - before.tx_bytes


def _waited_s() -> float:
    """Of the main thread, in which everything runs; 0 where the kernel keeps no count (CONFIG_SCHEDSTATS)."""
    try:
        return int(_SCHEDSTAT.read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _throttled() -> int:
    """0 where there is no control group with a limit (cgroup v2 only)."""
    try:
        path = next(line[3:] for line in _CGROUP.read_text().splitlines() if line.startswith("0::"))
        stat = (_CGROUPS / path.lstrip("/") / "cpu.stat").read_text().split()
        return int(stat[stat.index("nr_throttled") + 1])
    except (OSError, ValueError, IndexError, StopIteration):
        return 0
