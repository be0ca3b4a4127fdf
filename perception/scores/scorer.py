"""Scores of a store's hours, days and weeks: read from the rollups, written beside them."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Final

from contract.values import VALUES
from perception.config import Profiles
from perception.rollups.jobs import Jobs
from perception.rollups.roll import HOUR_NS
from perception.scores import score
from perception.scores.samples import METRICS, Venue
from perception.scoring.profile import Profile
from perception.stored import read
from perception.week import Week, midnight_ns
from store.interface import Store, StoreError
from store.point import Point
from store.register import Roll

WRITE: Final = 5_000
"""Points of one write."""

Key = tuple[str, str]
"""Venue and network."""


class Scorer:
    """Scores one store."""

    def __init__(self, store: Store, roll: Roll, profiles: Profiles, *, only: Sequence[Profile] | None = None) -> None:
        """:param only: score under these instead of the configured ones."""
        self._store = store
        self._zone = roll.zone
        self._profiles = profiles
        self._only = only

    async def score(
        self,
        hours: Sequence[int],
        jobs: Jobs,
        *,
        venues: frozenset[str] | None = None,
        days: bool = True,
        weeks: bool = True,
    ) -> AsyncIterator[int]:
        """Score these hours (their starts, ascending), and with `days` and `weeks` each local day and week that they
        lie in; of all venues, or of `venues`.

        Yields the points written, day by day.

        :raises StoreError: when the store cannot be read or written.
        """
        wanted = {day: frozenset(found) for day, found in groupby(hours, self._day)}
        for week in dict.fromkeys(map(Week.of, wanted)):
            whole: dict[Key, Venue] = defaultdict(Venue)
            rated_days: dict[tuple[Key, str], list[float]] = defaultdict(list)
            for day in week.days:
                if day not in wanted and not weeks:
                    continue
                points, total = await self._hours(day, wanted.get(day, frozenset()), jobs, alone=not days)
                for key, venue in total.items() if days else ():
                    for profile in self._of(key, venue):
                        fields, rated = score.score(venue, profile, "day")
                        if rated.score is not None:
                            rated_days[key, profile.series].append(rated.score)
                        if day in wanted:
                            points.append(score.point(key, profile, "day", midnight_ns(day, self._zone), fields))
                    whole[key].merge(venue)
                yield await self._write(points, venues)
            if weeks:
                points = []
                for key, venue in whole.items():
                    for profile in self._of(key, venue):
                        fields, _ = score.score(venue, profile, "week", days=rated_days[key, profile.series])
                        points.append(score.point(key, profile, "week", week.start_ns(self._zone), fields))
                yield await self._write(points, venues)

    def steps(self, hours: Sequence[int]) -> int:
        """How often :meth:`score` yields, weeks included."""
        return 8 * len({Week.of(self._day(hour_ns)) for hour_ns in hours})

    async def _hours(
        self, day: date, wanted: frozenset[int], jobs: Jobs, *, alone: bool
    ) -> tuple[list[Point], dict[Key, Venue]]:
        """Scores of the wanted hours of a day, and all of the day added; `alone` reads no other hours."""
        points: list[Point] = []
        total: dict[Key, Venue] = defaultdict(Venue)
        begin, stop = midnight_ns(day, self._zone), midnight_ns(day + timedelta(days=1), self._zone)
        joining = jobs.agents("wifi_join")
        for hour_ns in range(-(-begin // HOUR_NS) * HOUR_NS, stop, HOUR_NS):
            if alone and hour_ns not in wanted:
                continue
            found = await self._hour(hour_ns, day, jobs, joining)
            for key, venue in found.items():
                if hour_ns in wanted:
                    for profile in self._of(key, venue):
                        fields, _ = score.score(venue, profile, "hour")
                        fields["busy"] = int(venue.busy)
                        points.append(score.point(key, profile, "hour", hour_ns, fields))
                total[key].merge(venue)
        return points, total

    async def _hour(self, hour_ns: int, day: date, jobs: Jobs, joining: frozenset[str]) -> dict[Key, Venue]:
        rows = [
            row
            for probe in VALUES
            async for row in read(self._store, probe, hour_ns, hour_ns + HOUR_NS, metrics=METRICS.get(probe, ()))
        ]
        found: dict[Key, Venue] = defaultdict(Venue)
        for row in rows:
            venue = found[row.venue, row.network]
            venue.add(row, jobs.role, day.toordinal())
            venue.joins |= row.agent in joining
            venue.busy |= bool(row.busy)
        return found

    def _of(self, key: Key, venue: Venue) -> list[Profile]:
        network = key[1]
        if self._only is not None:
            return [profile for profile in self._only if profile.network == network]
        return self._profiles.of(network, joins=venue.joins)

    def _day(self, time_ns: int) -> date:
        return datetime.fromtimestamp(time_ns // 10**9, UTC).astimezone(self._zone).date()

    async def _write(self, points: Sequence[Point], venues: frozenset[str] | None) -> int:
        wanted = [point for point in points if venues is None or point.tags[0] in venues]
        for first in range(0, len(wanted), WRITE):
            refused = await self._store.write(wanted[first : first + WRITE])
            if refused:
                raise StoreError(f"the store refuses {len(refused)} scores: {refused[0].message}")
        return len(wanted)
