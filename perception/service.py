"""`wanggan perception run`: what falls due, minute by minute.

Every minute: the fleet, and late records. Every five minutes: the running hour. Five minutes after an hour: that hour,
its scores and verdicts. Every night: raw counts against rolled-up ones. Mondays at six, local time: the week's report.
All of it can be done again, and is after a failure; nothing is lost when this stops, only late.
"""

import asyncio
import logging
import signal
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from typing import Final

from contract.series import ROLLUPS, TOUCHED
from contract.values import VALUES
from perception.config import Format, Profiles, Settings
from perception.fleet import FleetWatch
from perception.progress import ProgressFile, alone
from perception.rollups.jobs import Jobs
from perception.rollups.roll import HOUR_NS
from perception.rollups.roller import Place, Roller
from perception.scores.scorer import Scorer
from perception.scores.stored import read as read_scores
from perception.stored import Row
from perception.week import Week
from perception.work import judged, place
from store.interface import Store, StoreError
from store.point import Point
from store.register import Register
from store.settings import open_store

log = logging.getLogger(__name__)

MINUTE_S: Final = 60
SECOND_NS: Final = 10**9
MINUTE_NS: Final = MINUTE_S * SECOND_NS
CLOSED_NS: Final = 5 * MINUTE_NS
"""An hour is rolled up so long after its end: agents send within seconds, and what comes later is told as late."""
RUNNING_NS: Final = 5 * MINUTE_NS
"""Between two looks at the running hour."""
JUDGED_NS: Final = 15 * MINUTE_NS
"""A running hour has no verdict before: records of its last minute are on their way, and would be missed."""
RETENTION_DAYS: Final = 30
"""Looked back over where the store keeps raw points for ever."""
CATCH_UP_HOURS: Final = 24
"""Hours of downtime that are rolled up in one go, before others get a turn."""
MANY_AGENTS: Final = 5
"""More agents with late records in one hour: the whole hour is rolled up, in one read."""
WEEK_HOURS: Final = (0, 6, 12, 18)
"""Local hours at whose beginning the running week is scored anew."""
OVERLAP_S: Final = 600.0
"""Collectors' clocks may differ by so much."""
NIGHT: Final = time_of_day(3, 30)
"""Local time of the nightly comparison."""
FREEZE: Final = time_of_day(6, 0)
"""Local time, on Mondays, from which the week before is reported."""
REVISE_MINUTE: Final = 10
"""Of an hour: when a reported week that got late records is reported again; so at most once an hour."""
AWAY_S: Final = 10.0
"""Before a store that failed is asked again."""


class Service:
    """All of it; :meth:`tick` does what is due, and is what :meth:`run` repeats."""

    def __init__(
        self, settings: Settings, profiles: Profiles, store: Store, *, wall: Callable[[], float] = time.time
    ) -> None:
        """:raises ConfigError: when a file that the settings name cannot be used."""
        self._settings = settings
        self._profiles = profiles
        self._store = store
        self._wall = wall
        self._file = ProgressFile(settings.state)
        self.progress = self._file.read()
        self._register = Register(settings.sites)
        self._place = place(settings, profiles)
        self._retention_days = settings.store.retention_days or RETENTION_DAYS
        self._fleet = FleetWatch(store, self._register, back_days=self._retention_days)
        self._running_ns = 0
        self._handled: dict[tuple[str, int], float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        await self._ensured()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every_minute(self.minute), name="fleet")
            group.create_task(self._every_minute(self.tick), name="work")

    async def minute(self) -> None:
        """The fleet's points.

        :raises StoreError: when the store cannot be read or written.
        """
        await self._write(await self._fleet.points(self._now_ns()))

    async def tick(self) -> None:
        """Whatever is due.

        :raises StoreError: when the store cannot be read or written; what was done is kept.
        """
        if self._register.refresh():
            self._place = Place(self._register.roll, self._place.profiles, self._place.calendar)
        await self._close_hours()
        await self._roll_running()
        await self._roll_late()
        await self._reconcile()
        await self._report()

    # -- hours

    async def _close_hours(self) -> None:
        """Hours that ended, also those of a downtime."""
        now_ns = self._now_ns()
        end_ns = (now_ns - CLOSED_NS) // HOUR_NS * HOUR_NS
        oldest_ns = end_ns - (self._retention_days - 1) * 24 * HOUR_NS
        first = self.progress.next_hour_ns
        first = end_ns - HOUR_NS if first is None else max(first, oldest_ns)
        while first < end_ns:
            hours = range(first, min(end_ns, first + CATCH_UP_HOURS * HOUR_NS), HOUR_NS)
            jobs = await self._jobs(hours)
            rows = await self._roll(hours, jobs)
            self._fleet.closed(rows)
            local = datetime.fromtimestamp(hours.stop // SECOND_NS, UTC).astimezone(self._place.roll.zone)
            await self._score(hours, jobs, weeks=len(hours) > 1 or local.hour in WEEK_HOURS)
            first = self.progress.next_hour_ns = hours.stop
            self._keep()
            log.info("rolled up until %s", local.isoformat(timespec="minutes"))

    async def _roll_running(self) -> None:
        now_ns = self._now_ns()
        if now_ns - self._running_ns < RUNNING_NS:
            return
        hour_ns = now_ns // HOUR_NS * HOUR_NS
        jobs = await self._jobs([hour_ns])
        await self._roll([hour_ns], jobs, until_ns=now_ns // MINUTE_NS * MINUTE_NS)
        await self._score([hour_ns], jobs, days=False, weeks=False)
        self._running_ns = now_ns

    async def _jobs(self, hours: Sequence[int]) -> Jobs:
        """Those announced in these hours, which are in order."""
        return await Roller(self._store, self._place).jobs(hours[0], hours[-1] + HOUR_NS)

    async def _roll(self, hours: Sequence[int], jobs: Jobs, *, until_ns: int | None = None) -> list[Row]:
        """Roll hours of everybody; the last one's rows."""
        roller = Roller(self._store, self._place)
        rows: list[Row] = []
        for hour_ns in hours:
            rows = await roller.roll(hour_ns, jobs, until_ns=until_ns)
        return rows

    async def _score(
        self,
        hours: Sequence[int],
        jobs: Jobs,
        *,
        venues: frozenset[str] | None = None,
        days: bool = True,
        weeks: bool = True,
    ) -> None:
        roll = self._place.roll
        scorer = Scorer(self._store, roll, self._profiles)
        async for _ in scorer.score(hours, jobs, venues=venues, days=days, weeks=weeks):
            await asyncio.sleep(0)
        since_ns = self._now_ns() - JUDGED_NS
        await judged(self._store, roll, self._profiles, jobs, [hour_ns for hour_ns in hours if hour_ns <= since_ns])

    # -- late records

    async def _roll_late(self) -> None:
        """Hours that got records after they had been rolled up, by the collectors' word."""
        now_ns = self._now_ns()
        since_s = self.progress.touched_s - OVERLAP_S
        late: dict[int, set[str]] = defaultdict(set)
        told: dict[tuple[str, int], float] = {}
        # Of older hours some raw points are deleted already: rolled up again they would lose what they have.
        start_ns = now_ns - (self._retention_days - 1) * 24 * HOUR_NS
        async for row in self._store.rows(TOUCHED.name, start_ns, now_ns):
            at_s, key = float(row.fields.get("at_s") or 0.0), (row.tags["agent"], row.time_ns)
            if at_s > since_s and at_s > self._handled.get(key, 0.0):
                late[row.time_ns].add(row.tags["agent"])
                told[key] = at_s
        if not late:
            return
        await self._roll_again(late)
        newest_s = max(told.values())
        self.progress.touched_s = max(self.progress.touched_s, newest_s)
        self._handled = {key: at_s for key, at_s in (self._handled | told).items() if at_s > newest_s - OVERLAP_S}
        self._revise(late)
        self._keep()
        log.info("%d hours rolled up again for late records", len(late))

    async def _roll_again(self, late: dict[int, set[str]]) -> None:
        """Some agents' hours: each alone where they are few."""
        hours = sorted(late)
        roller = Roller(self._store, self._place)
        jobs = await self._jobs(hours)
        venues: set[str] = set()
        until_ns = self._now_ns() // MINUTE_NS * MINUTE_NS
        for hour_ns in hours:
            agents = sorted(late[hour_ns])
            for agent in agents if len(agents) <= MANY_AGENTS else [None]:
                written = await roller.write(hour_ns, jobs, agent=agent, until_ns=until_ns)
                venues |= {tags[1] for _, tags, _, _ in written}
        await self._score(hours, jobs, venues=frozenset(venues))

    async def _reconcile(self) -> None:
        """Once a night, and at the very first: raw points counted, against what the rollups say."""
        local = self._local()
        today = local.date().isoformat()
        if self.progress.reconciled == today or (self.progress.reconciled and local.time() < NIGHT):
            return
        end_ns = self._now_ns() // HOUR_NS * HOUR_NS
        for back in range(self._retention_days - 1):  # the oldest day is being deleted
            begin_ns = end_ns - (back + 1) * 24 * HOUR_NS
            differing = await self._differing(begin_ns, begin_ns + 24 * HOUR_NS)
            if differing:
                log.warning("%d hours did not agree with their records, and are rolled up again", len(differing))
                await self._roll_again(differing)
                self._revise(differing)
        self.progress.reconciled = today
        self._keep()

    async def _differing(self, start_ns: int, end_ns: int) -> dict[int, set[str]]:
        """Hours, with the agents whose counts differ. An hour without any raw point was deleted, and its rows stay."""
        there: set[int] = set()
        differing: dict[int, set[str]] = defaultdict(set)
        for probe in VALUES:
            raw = await self._store.aggregate(
                probe, "attempted", "count", by=["agent"], start_ns=start_ns, end_ns=end_ns, every_ns=HOUR_NS,
                only_ok=False,
            )  # fmt: skip
            rolled = await self._store.aggregate(
                ROLLUPS[probe].key, "n", "sum", by=["agent"], start_ns=start_ns, end_ns=end_ns, every_ns=HOUR_NS
            )
            counted = {(bucket.time_ns, bucket.tags["agent"]): bucket.value for bucket in raw}
            there |= {hour_ns for hour_ns, _ in counted}
            stored = {(bucket.time_ns, bucket.tags["agent"]): bucket.value for bucket in rolled}
            for hour_ns, agent in counted.keys() | stored.keys():
                if counted.get((hour_ns, agent), 0) != stored.get((hour_ns, agent), 0):
                    differing[hour_ns].add(agent)
        return {hour_ns: agents for hour_ns, agents in differing.items() if hour_ns in there}

    # -- the report

    async def _report(self) -> None:
        """The week before, once it is frozen; every week that a downtime left out; again what got late records."""
        if not self._settings.report.weekly:
            return
        local = self._local()
        last = Week.of((local - timedelta(hours=FREEZE.hour, minutes=FREEZE.minute)).date()).shifted(-1)
        reported = Week.parse(self.progress.reported) if self.progress.reported else last.shifted(-1)
        week = reported.shifted(1)
        while week.monday <= last.monday:
            await self._make(week)
            self.progress.reported = str(week)
            self._keep()
            week = week.shifted(1)
        if self.progress.revise and local.minute >= REVISE_MINUTE:
            for label in list(self.progress.revise):
                await self._make(Week.parse(label))
                self.progress.revise.remove(label)
                self._keep()

    async def _make(self, week: Week) -> None:
        """A week's files; none where nothing was ever scored in it."""
        from perception.report import weekly  # its libraries are large, and needed once a week

        zone, named = self._place.roll.zone, self._settings.report
        start_ns = week.start_ns(zone)
        if not [score async for score in read_scores(self._store, "week", start_ns, start_ns + 1)]:
            log.info("no report of %s: nothing was scored in it", week)
            return
        lacking = weekly.lacking(named.formats)
        formats: list[Format] = [how for how in named.formats if how not in lacking] or ["html"]
        if lacking:
            log.error("report of %s: %s", week, weekly.advice(lacking))
        try:
            report = await weekly.report(
                self._store, self._settings, self._profiles, week, datetime.fromtimestamp(self._wall(), UTC)
            )
            made = await asyncio.to_thread(weekly.write, report, named.folder, named.languages, formats)
        except StoreError:
            raise
        except Exception:  # a missing font, a full disk: the hours must go on, and the next start tries again
            log.exception("the report of %s could not be made; `wanggan report weekly` makes it by hand", week)
            return
        log.info("report of %s: %s", week, ", ".join(str(path) for path in made.files))

    def _revise(self, hours: dict[int, set[str]]) -> None:
        """Note which of these hours lie in weeks that have their report."""
        if not self.progress.reported:
            return
        last = Week.parse(self.progress.reported)
        zone = self._place.roll.zone
        for hour_ns in hours:
            week = Week.of(datetime.fromtimestamp(hour_ns // SECOND_NS, UTC).astimezone(zone).date())
            if week.monday <= last.monday and str(week) not in self.progress.revise:
                self.progress.revise.append(str(week))

    # -- the rest

    async def _every_minute(self, do: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await do()
            except StoreError as error:
                log.error("store: %s; again in %.0f s", error, AWAY_S)
                await asyncio.sleep(AWAY_S)
            else:
                await asyncio.sleep(MINUTE_S - self._wall() % MINUTE_S)

    async def _ensured(self) -> None:
        while True:
            try:
                await self._store.ensure()
            except StoreError as error:
                log.error("store: %s; again in %.0f s", error, AWAY_S)
                await asyncio.sleep(AWAY_S)
            else:
                return

    async def _write(self, points: Sequence[Point]) -> None:
        for refusal in await self._store.write(points):
            log.error("the store refuses a point of our own: %s", refusal.message)

    def _keep(self) -> None:
        try:
            self._file.write(self.progress)
        except OSError as error:
            log.error("progress cannot be kept, after a restart some work is done again: %s", error)

    def _now_ns(self) -> int:
        return int(self._wall() * 1000) * 1_000_000

    def _local(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), UTC).astimezone(self._place.roll.zone)


async def run(settings: Settings, profiles: Profiles) -> None:
    """Run until SIGTERM or SIGINT.

    :raises ConfigError: when a file that the settings name cannot be used.
    :raises StoreMisconfigured: when a secret of the store cannot be read.
    """
    with alone(settings.state):
        store = open_store(settings.store)
        service = Service(settings, profiles, store)
        task = asyncio.create_task(service.run(), name="perception")
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()

        def stop() -> None:
            stopping.set()
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        log.info("perception starts")
        try:
            await task
        except asyncio.CancelledError:
            if not stopping.is_set():
                raise
        finally:
            await store.close()
        log.info("perception has stopped")
