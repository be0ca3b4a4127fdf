"""Scores of a store's hours, days and weeks: read from the rollups, written beside them."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from contract.values import VALUES
from perception.config import Profiles
from perception.rollups.jobs import Jobs
from perception.rollups.roll import HOUR_NS
from perception.scores import score
from perception.scores.down import everywhere_down
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
        self, start_ns: int, end_ns: int, jobs: Jobs, *, venues: frozenset[str] | None = None
    ) -> AsyncIterator[int]:
        """Score each hour of a window, and each local day and week that it touches; of all venues, or of these.

        Yields the points written, day by day.

        :raises StoreError: when the store cannot be read or written.
        """
        first, last = self._day(start_ns), self._day(end_ns - 1)
        for week in _weeks(first, last):
            whole: dict[Key, Venue] = defaultdict(Venue)
            days: dict[tuple[Key, str], list[float]] = defaultdict(list)
            for day in week.days:
                hours, total = await self._hours(day, start_ns, end_ns, jobs)
                points = hours if first <= day <= last else []
                for key, venue in total.items():
                    for profile in self._of(key, venue):
                        fields, rated = score.score(venue, profile, "day")
                        if rated.score is not None:
                            days[key, profile.series].append(rated.score)
                        if first <= day <= last:
                            points.append(score.point(key, profile, "day", midnight_ns(day, self._zone), fields))
                    whole[key].merge(venue)
                yield await self._write(points, venues)
            points = []
            for key, venue in whole.items():
                for profile in self._of(key, venue):
                    fields, _ = score.score(venue, profile, "week", days=days[key, profile.series])
                    points.append(score.point(key, profile, "week", week.start_ns(self._zone), fields))
            yield await self._write(points, venues)

    def steps(self, start_ns: int, end_ns: int) -> int:
        """How often :meth:`score` yields."""
        return 8 * len(list(_weeks(self._day(start_ns), self._day(end_ns - 1))))

    async def _hours(self, day: date, start_ns: int, end_ns: int, jobs: Jobs) -> tuple[list[Point], dict[Key, Venue]]:
        """Scores of a day's hours within the window, and all of the day added."""
        points: list[Point] = []
        total: dict[Key, Venue] = defaultdict(Venue)
        begin, stop = midnight_ns(day, self._zone), midnight_ns(day + timedelta(days=1), self._zone)
        joining = jobs.agents("wifi_join")
        for hour_ns in range(-(-begin // HOUR_NS) * HOUR_NS, stop, HOUR_NS):
            found = await self._hour(hour_ns, day, jobs, joining)
            for key, venue in found.items():
                if start_ns < hour_ns + HOUR_NS and hour_ns < end_ns:
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
        missed = everywhere_down(rows, jobs.role)
        found: dict[Key, Venue] = defaultdict(Venue)
        for row in rows:
            venue = found[row.venue, row.network]
            venue.add(row, jobs.role, day.toordinal(), counts=(row.venue, row.probe, row.target) not in missed)
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


def _weeks(first: date, last: date) -> Iterable[Week]:
    week = Week.of(first)
    while week.monday <= last:
        yield week
        week = week.shifted(1)
