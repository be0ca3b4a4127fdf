"""What the store holds of the last hour, read in few queries however many pages are open."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple

from collector.web.faces import drawn_field
from contract.series import RAW_SERIES, RECORD_TAGS
from store.interface import Row, Store, StoreError

log = logging.getLogger(__name__)

FRESH_S: Final = 2.0
"""What was read is given to everyone for so long, and an open page asks so often."""
OVERLAP_S: Final = 180.0
"""What is newer than this is read every time."""
HOUR_EVERY_S: Final = 60.0
"""The whole hour is read anew so often: records that come late (a backlog) show then."""
OLDER_EVERY_S: Final = 900.0
"""The newest values that are older than the hour are looked for so often; it costs most."""
PATIENCE_S: Final = 1.5
"""A page does not wait longer for a slow store; it gets what was read before."""
DEADLINE_S: Final = 15.0
"""A store that takes longer for one query has failed."""
HOUR_S: Final = 3600.0
KEEP_S: Final = 26 * HOUR_S
"""Age up to which a newest value is looked for: jobs that run twice a day are on the page."""
AHEAD_S: Final = 3600.0
"""Slots of clocks that are ahead are read too."""


class Track(NamedTuple):
    """A job's stored points are one track: one probe and one set of tags."""

    probe: str
    agent: str
    venue: str
    network: str
    target: str
    interface: str
    provider: str
    resolver: str


@dataclass
class Seen:
    """What was read of one track."""

    newest: Row
    hour: dict[int, tuple[float | None, str]] = field(default_factory=dict)
    """The last hour: slot in ns -> the drawn value, None where the slot was not ok, and the outcome."""


class Recent:
    """The newest rows and the last hour of every track, kept fresh while someone looks."""

    def __init__(
        self,
        store: Store,
        *,
        fresh_s: float = FRESH_S,
        wall: Callable[[], float] = time.time,
        boot: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._fresh_s = fresh_s
        self._wall = wall
        self._boot = boot
        self._task: asyncio.Task[None] | None = None
        self._ended = float("-inf")
        self._hour_read = self._older_read = float("-inf")
        self.tracks: dict[Track, Seen] = {}
        self.read_at: datetime | None = None
        """When the store last answered; None before the first answer."""
        self.failure: str | None = None
        """Why it does not answer; None while it does."""
        self.failing_since: datetime | None = None

    async def refresh(self) -> None:
        """Read anew unless that was done a moment ago; return when read, or when patience is over."""
        if self._task is None:
            if self._boot() - self._ended < self._fresh_s:
                return
            self._task = asyncio.create_task(self._read(), name="web: read the store")
        task = self._task
        done, _ = await asyncio.wait({task}, timeout=PATIENCE_S)
        if done:
            task.result()

    async def close(self) -> None:
        """End a read that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _read(self) -> None:
        try:
            await self._read_hour()
            self._answered()
            await self._read_older()
        except TimeoutError:
            self._failed(f"no answer within {DEADLINE_S:g} s")
        except StoreError as error:
            self._failed(str(error))
        finally:
            self._ended = self._boot()
            self._task = None

    def _answered(self) -> None:
        if self.failure is not None:
            log.info("status page: the store answers again")
        self.failure = self.failing_since = None
        self.read_at = self._now()

    def _failed(self, reason: str) -> None:
        if self.failure is None:
            self.failing_since = self._now()
            log.warning("status page: cannot read the store: %s", reason)
        self.failure = reason

    async def _read_hour(self) -> None:
        now_s, boot_s = self._wall(), self._boot()
        whole = boot_s - self._hour_read >= HOUR_EVERY_S or self.failure is not None
        start_ns = _ns(now_s - (HOUR_S if whole else OVERLAP_S))
        for probe in RAW_SERIES:
            drawn = drawn_field(probe)
            async with asyncio.timeout(DEADLINE_S):
                async for row in self._store.rows(probe, start_ns, _ns(now_s + AHEAD_S)):
                    _note(self.tracks, probe, drawn, row)
        if whole:
            self._hour_read = boot_s
        for seen in self.tracks.values():
            for slot in [slot for slot in seen.hour if slot < _ns(now_s - HOUR_S)]:
                del seen.hour[slot]

    async def _read_older(self) -> None:
        now_s, boot_s = self._wall(), self._boot()
        if boot_s - self._older_read < OLDER_EVERY_S:
            return
        oldest_ns = _ns(now_s - KEEP_S)
        for probe in RAW_SERIES:
            async with asyncio.timeout(DEADLINE_S):
                for row in await self._store.latest(probe, RECORD_TAGS, since_ns=oldest_ns):
                    self.tracks.setdefault(Track(probe, **row.tags), Seen(row))
        self.tracks = {track: seen for track, seen in self.tracks.items() if seen.newest.time_ns >= oldest_ns}
        self._older_read = boot_s

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), UTC)


def _note(tracks: dict[Track, Seen], probe: str, drawn: str, row: Row) -> None:
    track = Track(probe, **row.tags)
    seen = tracks.get(track)
    if seen is None:
        seen = tracks[track] = Seen(row)
    elif row.time_ns >= seen.newest.time_ns:
        seen.newest = row
    value = row.fields[drawn] if row.fields["ok"] else None
    seen.hour[row.time_ns] = (float(value) if isinstance(value, float | int) else None, str(row.fields["outcome"]))


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
