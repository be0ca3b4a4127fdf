"""What the commands do once: windows of a store, computed again."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

from perception.config import Profiles, Settings, calendar
from perception.rollups.jobs import Jobs
from perception.rollups.roll import HOUR_NS
from perception.rollups.roller import Place, Roller
from perception.scores.scorer import Scorer
from perception.scoring.profile import Profile
from perception.verdicts.verdicts import Verdicts
from store import register
from store.interface import Store
from store.register import Roll, microseconds
from store.settings import open_store

DAY: Final = 24
"""Hours that are judged at a time."""
Told = Callable[[int, int], None]
"""Gets how much is done, of how much."""


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Store]:
    """The configured store, made when missing and closed in the end.

    :raises StoreError: when it does not answer.
    """
    store = open_store(settings.store)
    try:
        await store.ensure()
        yield store
    finally:
        await store.close()


def place(settings: Settings, profiles: Profiles) -> Place:
    """What the hours are computed with.

    :raises ConfigError: when a file that the settings name cannot be used.
    """
    return Place(register.read(settings.sites), profiles.busy(), calendar(settings))


def hours(start: datetime, end: datetime) -> range:
    """The hours that a window touches, nanoseconds."""
    first = microseconds(start) * 1000 // HOUR_NS * HOUR_NS
    return range(first, microseconds(end) * 1000, HOUR_NS)


def kept(settings: Settings, start: datetime, now: datetime) -> datetime:
    """`start`, or where raw points begin to be kept: hours before it would lose what was rolled up of them."""
    days = settings.store.retention_days
    return start if days is None else max(start, now - timedelta(days=days - 1))


async def rollup(settings: Settings, profiles: Profiles, start: datetime, end: datetime, told: Told) -> tuple[int, int]:
    """Roll up every hour of a window; hours and rows that it made.

    :raises ConfigError: when a file cannot be used.
    :raises StoreError: when the store cannot be read or written.
    """
    found = place(settings, profiles)
    async with opened(settings) as store:
        roller = Roller(store, found)
        window = hours(start, end)
        jobs = await roller.jobs(window.start, window.stop)
        rows = 0
        for done, hour_ns in enumerate(window, 1):
            rows += len(await roller.write(hour_ns, jobs, until_ns=microseconds(end) * 1000))
            told(done, len(window))
    return len(window), rows


async def score(
    settings: Settings, profiles: Profiles, start: datetime, end: datetime, told: Told, *, only: Sequence[Profile] = ()
) -> int:
    """Score every hour, day and week of a window, under the configured profiles or under `only`; scores written. Under
    the configured ones also its verdicts.

    :raises ConfigError: when a file cannot be used.
    :raises StoreError: when the store cannot be read or written.
    """
    found = place(settings, profiles)
    window = hours(start, end)
    async with opened(settings) as store:
        jobs = await Jobs.load(store, found.roll, window.start, window.stop)
        scorer = Scorer(store, found.roll, profiles, only=only or None)
        steps = scorer.steps(window) + (0 if only else len(window))
        written = 0
        done = 0
        async for points in scorer.score(window, jobs):
            written += points
            done += 1
            told(done, steps)
        if not only:
            for first in range(0, len(window), DAY):
                day = window[first : first + DAY]
                await judged(store, found.roll, profiles, jobs, day)
                done += len(day)
                told(done, steps)
    return written


async def judged(store: Store, roll: Roll, profiles: Profiles, jobs: Jobs, hours: Sequence[int]) -> None:
    """The verdicts of some hours and the incidents that they make.

    :raises StoreError: when the store cannot be read or written.
    """
    await Verdicts(store, roll, profiles.busy()).judge(hours, jobs)
