"""A line with known faults between two namespaces: delay, rate, queue, loss, duplicates, late packets, exact counts.

The packets are carried by `relay.c` between two TUN devices, which is compiled once and kept in `build/`.
"""

import functools
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from tests.network.namespaces import Namespace, namespace

_SOURCE = Path(__file__).with_name("relay.c")
_BUILD = Path(__file__).parents[2] / "build"


def truth_mbps(rate_mbps: float) -> float:
    """What TCP can carry at most over a line of this rate: 1448 bytes of 1500 (timestamps on, no Ethernet)."""
    return rate_mbps * 1448 / 1500


@dataclass(frozen=True, kw_only=True)
class Way:
    """How one direction treats its packets."""

    delay_ms: float = 0.0
    rate_mbps: float | None = None
    """None: as fast as it goes, without a queue."""
    queue_ms: float = 50.0
    """What the queue holds at this rate; what has no room is dropped (tail drop)."""
    queue_bytes: int | None = None
    """The same in bytes, when given."""
    loss_ratio: float = 0.0
    """Chance of each packet to be lost, drawn from `seed`."""
    seed: int = 1
    every: int | None = None
    """One in so many is lost: the n-th, the 2n-th, ..."""
    lose: tuple[int, ...] = ()
    """Places of packets that are lost, from 0, in the order in which they come."""
    duplicate: tuple[int, ...] = ()
    late: tuple[int, ...] = ()
    """Places of packets that come `late_ms` later than the others, which overtake them."""
    late_ms: float = 50.0
    port: int | None = None
    """UDP packets to or from this port are counted apart."""
    only: bool = False
    """Losses, duplicates, late ones and places concern only the packets of `port`."""


class Counts(NamedTuple):
    """Packets of one direction since the start: all ``packets - lost + duplicated - dropped`` are sent in the end."""

    packets: int
    bytes: int
    """Of IP packets, as they came."""
    lost: int
    dropped: int
    """By the full queue."""
    duplicated: int
    sent: int
    sent_bytes: int


class State(NamedTuple):
    """One direction at this moment."""

    all: Counts
    matching: Counts
    """UDP to or from the way's port."""
    queue_bytes: int
    queue_ms: float
    """That a packet would wait that came now."""
    under_way: int
    """Packets that have left the queue and not arrived yet."""
    refused: int
    """Packets that the far end's kernel did not take: its device is down."""


class Direction:
    """One direction of a running line."""

    def __init__(self, line: "Line", place: int, way: Way) -> None:
        self._line, self._place, self.way = line, place, way
        self._tell(way)

    def change(self, **settings: Any) -> None:
        """Other settings of :class:`Way` from now on; places count from now on again when some are given."""
        self.way = replace(self.way, lose=(), duplicate=(), late=())
        if settings.keys() & {"every", "lose", "duplicate", "late"}:
            self._line.tell(f"{self._place} restart 0")
        self.way = replace(self.way, **settings)
        self._tell(self.way)

    def state(self) -> State:
        found = self._line.ask()[self._place]
        return State(Counts(**found.pop("all")), Counts(**found.pop("matching")), **found)

    def counts(self) -> Counts:
        return self.state().all

    def _tell(self, way: Way) -> None:
        rate = (way.rate_mbps or 0.0) * 1e6
        numbers = {
            "delay_ns": way.delay_ms * 1e6,
            "late_ns": way.late_ms * 1e6,
            "limit": way.queue_bytes or rate * way.queue_ms / 8000,
            "seed": way.seed,
            "loss": way.loss_ratio,
            "every": way.every or 0,
            "port": way.port or 0,
            "only": way.only,
        }
        for fate in ("lose", "duplicate", "late"):
            for place in getattr(way, fate):
                self._line.tell(f"{self._place} {fate} {place}")
        for name, value in numbers.items():
            self._line.tell(f"{self._place} {name} {float(value)!r}")
        self._line.tell(f"{self._place} rate {rate!r}")
        self._line.ask()


class Line:
    """Two namespaces and the line between them: 10.77.0.1 on `v0` here, 10.77.0.2 on `v0` there, as on a cable."""

    def __init__(self, here: Namespace, there: Namespace, up: Way, down: Way, mtu: int) -> None:
        self.here, self.there = here, there
        self.process = subprocess.Popen(
            [_program(), here.name, there.name, "v0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()
        for space, address in ((here, "10.77.0.1/24"), (there, "10.77.0.2/24")):
            # Without an address of its own making, no packet is sent that nobody asked for.
            space.ip("link", "set", "v0", "mtu", str(mtu), "addrgenmode", "none", "txqueuelen", "5000")
            space.ip("addr", "add", address, "dev", "v0")
            space.ip("link", "set", "v0", "up")
        self.up = Direction(self, 0, up)
        """From here to there."""
        self.down = Direction(self, 1, down)

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")

    def ask(self) -> list[dict[str, Any]]:
        assert self.process.stdin is not None
        self.tell("count")
        with suppress(BrokenPipeError):
            self.process.stdin.flush()
        return self._answer()

    def overrun(self) -> int:
        """Packets that the relay was too slow to fetch, or came while it was down: of a true run, 0."""
        return sum(space.counters("v0").tx_dropped for space in (self.here, self.there))

    def cpu_s(self) -> float:
        """What the relay itself has used of a processor."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:13]) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=10)

    def _answer(self) -> list[dict[str, Any]]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the relay has ended (exit {self.process.wait(10)})")
        found: list[dict[str, Any]] = json.loads(line)
        return found


@contextmanager
def relay(
    *,
    delay_ms: float = 0.0,
    rate_mbps: float | None = None,
    up: Way | None = None,
    down: Way | None = None,
    mtu: int = 1500,
    congestion_control: str | None = "cubic",
) -> Iterator[Line]:
    """A line, the same in both directions unless `up` (from here to there) or `down` say otherwise."""
    both = Way(delay_ms=delay_ms, rate_mbps=rate_mbps)
    _program()
    with namespace() as here, namespace() as there:
        line = Line(here, there, up or both, down or both, mtu)
        try:
            for space in (here, there) if congestion_control else ():
                space.pin(str(congestion_control))
            yield line
        finally:
            line.close()


@functools.cache
def _program() -> str:
    """The relay, compiled from the source as it is now; test processes side by side may compile it twice."""
    program = _BUILD / f"relay-{hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:12]}"
    if not program.exists():
        _BUILD.mkdir(exist_ok=True)
        fresh = program.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", "-O2", "-Wall", "-o", fresh, _SOURCE], check=True, timeout=60)
        fresh.replace(program)
    return str(program)
