"""Shared fakes: the narrowest thing injected, no patching."""

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from contract.series import FieldValue
from store.interface import Refusal, Row
from store.point import Point


class FakeClock:
    """A clock that moves only when a test says so; sleepers wake in order of their time."""

    def __init__(self, wall: float = 1_795_000_000.0, boot: float = 1_000.0) -> None:
        self._wall = wall
        self._boot = boot
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._count = 0

    def wall(self) -> float:
        return self._wall

    def boot(self) -> float:
        return self._boot

    def step_wall(self, seconds: float) -> None:
        """Move wall time alone, as a time service or a hand does."""
        self._wall += seconds

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        self._count += 1
        heapq.heappush(self._sleepers, (self._boot + max(0.0, seconds), self._count, event))
        await event.wait()

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass; everything that becomes due runs, in order."""
        end = self._boot + seconds
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, event = heapq.heappop(self._sleepers)
            self._pass(max(0.0, due - self._boot))
            event.set()
            await _settle()
        self._pass(end - self._boot)
        await _settle()

    def _pass(self, seconds: float) -> None:
        self._wall += seconds
        self._boot += seconds


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class RecordingStore:
    """Keeps every point in memory by its identity, as an engine does; fails, hangs or refuses when told to."""

    durable = True

    def __init__(self, ack_hold_s: float = 0.0) -> None:
        self.ack_hold_s = ack_hold_s
        self.points: dict[tuple[str, tuple[str, ...], int], tuple[FieldValue, ...]] = {}
        self.writes: list[int] = []
        """Points of each write that was tried."""
        self.failure: Exception | None = None
        self.refuse: Callable[[Point], str | None] = lambda point: None
        self.gate = asyncio.Event()
        """Writes wait until it is set."""
        self.gate.set()

    def of(self, series: str) -> list[tuple[tuple[str, ...], int, tuple[FieldValue, ...]]]:
        """Tags, time and fields of every point of a series."""
        return [(tags, time_ns, fields) for (name, tags, time_ns), fields in self.points.items() if name == series]

    async def ensure(self) -> None:
        await self.ping()

    async def ping(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def write(self, points: Sequence[Point]) -> list[Refusal]:
        self.writes.append(len(points))
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        refusals = []
        for place, point in enumerate(points):
            words = self.refuse(point)
            if words is not None:
                refusals.append(Refusal(place, words))
            else:
                self.points[point.series, point.tags, point.time_ns] = point.fields
        return refusals

    async def rows(
        self, series: str, start_ns: int, end_ns: int, *, where: Mapping[str, str] | None = None
    ) -> AsyncIterator[Row]:
        for row in ():
            yield row

    async def latest(
        self, series: str, by: Sequence[str], *, since_ns: int, where: Mapping[str, str] | None = None
    ) -> list[Row]:
        return []

    async def aggregate(self, *_: object, **__: object) -> list[object]:
        return []

    async def close(self) -> None:
        pass
