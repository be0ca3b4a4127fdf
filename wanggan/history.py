"""Two weeks of a simulated district's hours, scores and verdicts, without the raw points that they would come from.

Agents measured at a lighter schedule until two days ago, so that a demonstration need not wait for millions of records:
their announced jobs say so, and every figure is computed by perception's own code.
"""

import argparse
import asyncio
import gc
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple

from contract.series import RAW_SERIES, VERDICT
from perception.config import Profiles, load
from perception.progress import Progress, ProgressFile
from perception.rollups.jobs import Jobs
from perception.rollups.roll import HOUR_NS
from perception.rollups.roller import Roller
from perception.scores.scorer import Scorer
from perception.verdicts.verdict import Verdict
from perception.verdicts.verdicts import Verdicts
from perception.week import Week
from perception.work import opened, place
from simulator import district, faults
from simulator.output import announcements, statuses, to_points
from simulator.virtual import VirtualAgent
from simulator.world import World
from store.interface import Block, Row, Store
from store.point import Point
from store.register import Roll

HOUR_MS: Final = 3_600_000
SPARE: Final = 5.0
"""Light tests of the older days are so much rarer."""
DAY: Final = 24
"""Hours at a time."""
WRITE: Final = 5_000
WORKERS: Final = 2


class Plan(NamedTuple):
    """Everything that a process of its own needs to know."""

    config: Path
    venues: int
    script: Path
    start_ms: int
    full_ms: int
    """From here on with the default schedule."""
    end_ms: int
    upgrade_minute: int

    def world(self) -> World:
        """The district of `wanggan simulate` with the same arguments."""
        built = district.build(1, self.venues, self.venues, self.upgrade_minute)
        start = datetime.fromtimestamp(self.start_ms / 1000, UTC)
        return World(built, faults.load(self.script, built, start))

    def spare(self, at_ms: int) -> float:
        return SPARE if at_ms < self.full_ms else 1.0


class Simulated:
    """A store whose raw points are made up as they are asked for; everything else is that of a real one."""

    def __init__(self, store: Store, points: Iterable[Point]) -> None:
        self._store = store
        self._points: dict[tuple[str, int], list[Point]] = defaultdict(list)
        for point in points:
            self._points[point.series, point.time_ns // HOUR_NS].append(point)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def columns(
        self, series: str, fields: Sequence[str], start_ns: int, end_ns: int, *, where: Mapping[str, str] | None = None
    ) -> AsyncIterator[Block]:
        """A whole hour of raw points, or what the real store has of anything else."""
        if series not in RAW_SERIES:
            async for block in self._store.columns(series, fields, start_ns, end_ns, where=where):
                yield block
            return
        found = self._points.get((series, start_ns // HOUR_NS))
        if found:
            names = list(RAW_SERIES[series].fields)
            values = list(zip(*(point.fields for point in found), strict=True))
            yield Block(
                [point.time_ns for point in found],
                tuple(zip(*(point.tags for point in found), strict=True)),
                {name: values[names.index(name)] for name in fields},
            )

    async def rows(
        self, series: str, start_ns: int, end_ns: int, *, where: Mapping[str, str] | None = None
    ) -> AsyncIterator[Row]:
        async for row in self._store.rows(series, start_ns, end_ns, where=where):
            yield row


def roll(plan: Plan, begin_ms: int, stop_ms: int) -> None:
    """Roll up some hours, in a process of its own."""
    asyncio.run(_roll(plan, begin_ms, stop_ms))


async def _roll(plan: Plan, begin_ms: int, stop_ms: int) -> None:
    settings = load(plan.config)
    world = plan.world()
    agents = [VirtualAgent(world, box, spare=plan.spare(begin_ms)) for box in world.district.boxes]
    async with opened(settings) as store:
        made = Simulated(store, (p for agent in agents for p in to_points(agent, agent.records(begin_ms, stop_ms))))
        roller = Roller(made, place(settings, Profiles(settings.profiles, plan.config.parent)))
        jobs = await roller.jobs(begin_ms * 10**6, stop_ms * 10**6)
        for hour_ms in range(begin_ms, stop_ms, HOUR_MS):
            await roller.write(hour_ms * 10**6, jobs, until_ns=plan.end_ms * 10**6)


def score(plan: Plan, hours: Sequence[int]) -> None:
    """Score some hours, in a process of its own."""
    asyncio.run(_score(plan, hours))


async def _score(plan: Plan, hours: Sequence[int]) -> None:
    async with _perceived(plan) as (store, roll, profiles):
        jobs = await Jobs.load(store, roll, hours[0], hours[-1] + HOUR_NS)
        async for _ in Scorer(store, roll, profiles).score(hours, jobs):
            pass


def judge(plan: Plan, hours: Sequence[int]) -> None:
    """Verdicts of some hours, in a process of its own; their incidents are :func:`tell`'s."""
    asyncio.run(_judge(plan, hours))


async def _judge(plan: Plan, hours: Sequence[int]) -> None:
    async with _perceived(plan) as (store, roll, profiles):
        jobs = await Jobs.load(store, roll, hours[0], hours[-1] + HOUR_NS)
        await Verdicts(store, roll, profiles.busy()).verdicts(hours, jobs)


async def tell(plan: Plan) -> None:
    """The incidents that all verdicts together make."""
    async with _perceived(plan) as (store, roll, profiles):
        rows = store.rows(VERDICT.key, plan.start_ms * 10**6, plan.end_ms * 10**6)
        await Verdicts(store, roll, profiles.busy()).incidents([Verdict.of(row) async for row in rows])


@asynccontextmanager
async def _perceived(plan: Plan) -> AsyncIterator[tuple[Store, Roll, Profiles]]:
    settings = load(plan.config)
    profiles = Profiles(settings.profiles, plan.config.parent)
    async with opened(settings) as store:
        yield store, place(settings, profiles).roll, profiles


def main(argv: Sequence[str] | None = None) -> int:
    """Make all of it."""
    plan = _parse(argv)
    settings = load(plan.config)
    world = plan.world()
    told = announcements(world, plan.start_ms, plan.full_ms, spare=SPARE)
    told += announcements(world, plan.full_ms, plan.end_ms) + statuses(world, plan.start_ms, plan.end_ms)
    asyncio.run(_write(plan, told))
    chunks = [
        (begin, min(begin + DAY * HOUR_MS, limit))
        for start, limit in ((plan.full_ms, plan.end_ms), (plan.start_ms, plan.full_ms))
        for begin in range(start, limit, DAY * HOUR_MS)
    ]
    hours = [hour_ms * 10**6 for hour_ms in range(plan.start_ms, plan.end_ms, HOUR_MS)]
    zone = place(settings, Profiles(settings.profiles, plan.config.parent)).roll.zone
    weeks: dict[Week, list[int]] = defaultdict(list)
    for hour_ns in hours:
        weeks[Week.of(datetime.fromtimestamp(hour_ns / 1e9, UTC).astimezone(zone).date())].append(hour_ns)
    # Nothing that is made here is a cycle, and the collector of cycles took a fifth of the time.
    with ProcessPoolExecutor(WORKERS, get_context("spawn"), gc.disable) as pool:
        for done in [pool.submit(roll, plan, begin, stop) for begin, stop in chunks]:
            done.result()
        rated = [pool.submit(score, plan, found) for found in weeks.values()]
        rated += [pool.submit(judge, plan, hours[first : first + DAY]) for first in range(0, len(hours), DAY)]
        for done in rated:
            done.result()
    asyncio.run(tell(plan))
    settings.state.mkdir(parents=True, exist_ok=True)
    today = datetime.fromtimestamp(plan.end_ms / 1000, UTC).astimezone(zone).date()
    # What the service finds is done: it goes on from the running hour, and makes last week's report.
    ProgressFile(settings.state).write(
        Progress(next_hour_ns=plan.end_ms * 10**6 // HOUR_NS * HOUR_NS, reconciled=today.isoformat())
    )
    return 0


async def _write(plan: Plan, points: Sequence[Point]) -> None:
    async with opened(load(plan.config)) as store:
        for first in range(0, len(points), WRITE):
            await store.write(points[first : first + WRITE])


def _parse(argv: Sequence[str] | None) -> Plan:
    parser = argparse.ArgumentParser(prog="wanggan.history", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--venues", type=int, required=True)
    parser.add_argument("--faults", type=Path, required=True)
    for name in ("from", "full", "to", "upgrade"):
        parser.add_argument(f"--{name}", type=datetime.fromisoformat, required=True)
    found = vars(parser.parse_args(argv))
    ms = {name: round(found[name].timestamp()) * 1000 for name in ("from", "full", "to", "upgrade")}
    return Plan(
        config=found["config"],
        venues=found["venues"],
        script=found["faults"],
        start_ms=ms["from"],
        full_ms=ms["full"],
        end_ms=ms["to"],
        upgrade_minute=ms["upgrade"] // 60_000,
    )


if __name__ == "__main__":
    raise SystemExit(main())
