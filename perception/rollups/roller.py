"""Hours of a store, rolled up: read, computed, written over what stood there. Doing it again changes nothing."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from contract.series import ROLLUPS
from contract.values import VALUES
from perception.calendar import Calendar
from perception.rollups import raw, target_down
from perception.rollups.jobs import Jobs
from perception.rollups.local import Clock
from perception.rollups.raw import Raw
from perception.rollups.roll import HOUR_NS, Facts, Tags, Window, emptied, roll
from perception.scoring.profile import Profile, Verdict
from perception.stored import Row
from perception.stored import read as read_rows
from store.interface import Store, StoreError
from store.point import Point
from store.register import Roll, microseconds

log = logging.getLogger(__name__)

WRITE: Final = 5_000
"""Points of one write."""


@dataclass(frozen=True)
class Place:
    """What the hours of a store are computed with."""

    roll: Roll
    profiles: Mapping[str, Profile]
    """By network: the busy hours of venues whose register entry has none."""
    calendar: Calendar

    def maintenance(self) -> Callable[[str, str], Sequence[Window]]:
        """Windows of a target at a venue: the register's for all of the venue, the calendar's for the target."""
        zone = self.roll.zone

        def nanoseconds(at: datetime) -> int:
            return microseconds(at if at.tzinfo is not None else at.replace(tzinfo=zone)) * 1000

        of_venue = {
            slug: [(nanoseconds(window.from_), nanoseconds(window.to)) for window in venue.maintenance]
            for slug, venue in self.roll.venues.items()
        }
        of_target: dict[str, Sequence[Window]] = {}

        def windows(venue: str, target: str) -> Sequence[Window]:
            if target not in of_target:
                of_target[target] = self.calendar.windows(target, zone)
            return [*of_venue.get(venue, ()), *of_target[target]]

        return windows


class Roller:
    """Rolls hours of one store."""

    def __init__(self, store: Store, place: Place) -> None:
        self._store = store
        self.place = place
        self._clock = Clock(place.roll, place.profiles, place.calendar)
        self._maintenance = place.maintenance()

    async def jobs(self, start_ns: int, end_ns: int, *, agent: str | None = None) -> Jobs:
        """What was expected over a window: to be loaded once for all its hours.

        :raises StoreError: when it cannot be read.
        """
        return await Jobs.load(self._store, self.place.roll, start_ns, end_ns, agent=agent)

    async def roll(
        self, hour_ns: int, jobs: Jobs, *, agent: str | None = None, until_ns: int | None = None
    ) -> list[Row]:
        """:meth:`write` one hour; its rows.

        :raises StoreError: when it could not be read or written.
        """
        return list(map(Row.of, await self.write(hour_ns, jobs, agent=agent, until_ns=until_ns)))

    async def write(
        self, hour_ns: int, jobs: Jobs, *, agent: str | None = None, until_ns: int | None = None
    ) -> list[Point]:
        """Roll one hour up, of all agents or of one, and write it; what was written.

        `until_ns` is where a running hour has come to: what is due later is not expected yet.

        :raises StoreError: when it could not be read or written.
        """
        end_ns = hour_ns + HOUR_NS
        expected = jobs.expected(self.place.roll, hour_ns, min(end_ns, until_ns or end_ns))
        if agent is not None:
            expected = {
                probe: {tags: n for tags, n in series.items() if tags[0] == agent} for probe, series in expected.items()
            }
        facts = Facts(
            hour_ns=hour_ns,
            local=lambda venue, network: self._clock.local(venue, network, hour_ns),
            expected=expected,
            maintenance=self._maintenance,
            is_gateway=jobs.is_gateway,
        )
        seen, away = await self._away(hour_ns, jobs, agent)
        points: list[Point] = []
        for probe in VALUES:
            found = seen.pop(probe, None)
            if found is None:
                found = await raw.read(self._store, probe, hour_ns, end_ns, agent=agent)
            if probe in target_down.RELABELLED:
                found = target_down.relabelled(found, away)
            points += await self._points(probe, found, facts, agent)
        await self._write(points)
        return points

    async def _away(
        self, hour_ns: int, jobs: Jobs, agent: str | None
    ) -> tuple[dict[str, Raw], frozenset[tuple[str, str]]]:
        """Agents' targets that are away for everybody, and the rows that tell it. Of one agent's late records the other
        agents' hours are taken as they stand."""
        end_ns = hour_ns + HOUR_NS
        found, sights = {}, []
        for probe in target_down.PROBES:
            found[probe] = await raw.read(self._store, probe, hour_ns, end_ns, agent=agent)
            sights.append(target_down.seen(found[probe]))
            if agent is not None:
                stood = read_rows(self._store, probe, hour_ns, end_ns, metrics=())
                sights.append(target_down.seen_in([row async for row in stood if row.agent != agent]))
        return found, target_down.find(target_down.added(sights), jobs.role, self._limits)

    def _limits(self, network: str) -> Verdict | None:
        profile = self.place.profiles.get(network)
        return None if profile is None else profile.verdict

    async def _points(self, probe: str, found: Raw, facts: Facts, agent: str | None) -> list[Point]:
        """The new rows of a probe, and emptied ones for series that a former run found and this one did not."""
        points = await asyncio.to_thread(roll, probe, found, facts)
        made = {point.tags for point in points}
        gone = await self._standing(probe, facts.hour_ns, agent) - made
        return points + [emptied(probe, tags, facts.hour_ns, facts.local(tags[1], tags[2])) for tags in sorted(gone)]

    async def _standing(self, probe: str, hour_ns: int, agent: str | None) -> set[Tags]:
        """Series with a row of the hour."""
        where = None if agent is None else {"agent": agent}
        blocks = self._store.columns(ROLLUPS[probe].key, ["n"], hour_ns, hour_ns + HOUR_NS, where=where)
        return {tags for block in [block async for block in blocks] for tags in zip(*block.tags, strict=True)}

    async def _write(self, points: Sequence[Point]) -> None:
        for first in range(0, len(points), WRITE):
            refused = await self._store.write(points[first : first + WRITE])
            if refused:
                raise StoreError(f"the store refuses {len(refused)} rollup rows: {refused[0].message}")
