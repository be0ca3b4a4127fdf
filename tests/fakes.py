"""Shared fakes: the narrowest thing injected, no patching."""

import asyncio
import heapq


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
