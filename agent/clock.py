"""Two clocks: wall time says when, boot time says how long. Both are injected, so that tests run a week in a second."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the agent knows of time."""

    def wall(self) -> float:
        """Seconds since 1970 UTC; may be wrong and may step."""

    def boot(self) -> float:
        """Seconds since boot, suspend included (CLOCK_BOOTTIME); never steps. For durations and for the schedule."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`, at once when that is not positive."""


class SystemClock:
    """The machine's clocks."""

    def wall(self) -> float:
        return time.time()

    def boot(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


def utc(seconds: float) -> datetime:
    """Wall seconds as an aware datetime."""
    return datetime.fromtimestamp(seconds, UTC)


async def wait(clock: Clock, event: asyncio.Event, seconds: float) -> None:
    """Return when `event` is set, or after `seconds`."""
    if event.is_set() or seconds <= 0:
        return
    tasks = [
        asyncio.create_task(event.wait(), name="wait for an event"),
        asyncio.create_task(clock.sleep(seconds), name="wait for a time"),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
