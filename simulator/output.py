"""Where a simulation goes: a file of JSON lines, or a store, joined with the register as the collector does it."""

import asyncio
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import msgspec
from pydantic import TypeAdapter, ValidationError

from contract.codec import encode
from contract.record import Record
from contract.series import JOBS, STATUS, FieldValue
from simulator.district import Box, District
from simulator.faults import Fault
from simulator.schedule import jobs
from simulator.virtual import VirtualAgent
from simulator.world import World
from store.interface import Store, StoreError
from store.point import Point
from store.records import to_point
from store.settings import StoreSettings, open_store

BLOCK_MS: Final = 24 * 3_600_000
"""A file is written in blocks of a day, agent after agent, each in the order of its slots."""
STORE_BLOCK_MS: Final = 6 * 3_600_000
"""A store gets shorter ones, the agents together, so that it only ever appends."""
WRITE: Final = 10_000
DAY_MS: Final = 86_400_000
AWAY: Final = ("power_cut", "agent_offline")
"""Faults that end an agent's connection."""

Told = Callable[[int], None]
"""Gets the number of records that were just written."""


class OutputError(Exception):
    """The place cannot be written to; the text says why."""


def blocks(start_ms: int, end_ms: int, length_ms: int) -> Iterator[tuple[int, int]]:
    """The window, cut at whole multiples of `length_ms`."""
    while start_ms < end_ms:
        stop = min(end_ms, (start_ms // length_ms + 1) * length_ms)
        yield start_ms, stop
        start_ms = stop


def to_file(path: Path, world: World, start_ms: int, end_ms: int, told: Told) -> None:
    """Records as agents send them, each behind the name of its agent, which in a batch stands once for all.

    :raises OSError: when it cannot be written.
    """
    agents = [VirtualAgent(world, box) for box in world.district.boxes]
    with path.open("wb") as file:
        for begin, stop in blocks(start_ms, end_ms, BLOCK_MS):
            for agent in agents:
                records = agent.records(begin, stop)
                named = b'{"agent":"%s",' % agent.box.agent.encode()
                file.write(b"".join(named + encode(record)[1:] + b"\n" for record in records))
                told(len(records))


def read_store_settings(path: Path) -> Any:
    """The table `store` of a collector's configuration.

    :raises OutputError: when there is none that can be used.
    """
    try:
        table = tomllib.loads(path.read_text()).get("store")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OutputError(f"{path}: {error}") from error
    if not isinstance(table, dict):
        raise OutputError(f"{path}: store: missing; add a [store] table as in a collector's configuration")
    folder = path.parent.absolute()
    for key in table:
        if key == "path" or key.endswith("_file"):
            table[key] = str(folder / table[key])
    try:
        return TypeAdapter(StoreSettings).validate_python(table)
    except ValidationError as error:
        lines = [f"store.{'.'.join(str(s) for s in e['loc'][1:])}: {e['msg']}" for e in error.errors()]
        raise OutputError("\n".join(f"{path}: {line}" for line in lines)) from None


def to_store(settings: Any, world: World, start_ms: int, end_ms: int, told: Told, *, workers: int = 1) -> None:
    """Write to a store, the agents shared among processes.

    :raises OutputError: when the store fails.
    """
    asyncio.run(_prepare(settings, world, start_ms, end_ms))
    boxes = world.district.boxes
    shares = [boxes[place::workers] for place in range(min(workers, len(boxes)))]
    if len(shares) == 1:
        for begin, stop in blocks(start_ms, end_ms, STORE_BLOCK_MS):
            told(_share(settings, world.district, world.faults, begin, stop))
        return
    with ProcessPoolExecutor(len(shares), get_context("spawn")) as pool:
        tasks = [
            pool.submit(_share, settings, _of(world.district, share), world.faults, begin, stop)
            for begin, stop in blocks(start_ms, end_ms, BLOCK_MS)
            for share in shares
        ]
        try:
            for task in as_completed(tasks):
                told(task.result())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _of(district: District, boxes: list[Any]) -> District:
    return District(district.seed, district.venues, boxes)


def _share(settings: Any, district: District, faults: list[Fault], start_ms: int, end_ms: int) -> int:
    world = World(district, faults)
    return asyncio.run(_write_all(settings, [VirtualAgent(world, box) for box in district.boxes], start_ms, end_ms))


async def _prepare(settings: Any, world: World, start_ms: int, end_ms: int) -> None:
    store = open_store(settings)
    try:
        await store.ensure()
        await _write(store, announcements(world, start_ms, end_ms) + statuses(world, start_ms, end_ms))
    except StoreError as error:
        raise OutputError(f"the store does not take it: {error}") from error
    finally:
        await store.close()


async def _write_all(settings: Any, agents: Sequence[VirtualAgent], start_ms: int, end_ms: int) -> int:
    store = open_store(settings)
    written = 0
    try:
        for begin, stop in blocks(start_ms, end_ms, STORE_BLOCK_MS):
            points = [point for agent in agents for point in to_points(agent, agent.records(begin, stop))]
            points.sort(key=lambda point: point.time_ns)
            await _write(store, points)
            written += len(points)
    except StoreError as error:
        raise OutputError(f"the store does not take it: {error}") from error
    finally:
        await store.close()
    return written


async def _write(store: Store, points: Sequence[Point]) -> None:
    for place in range(0, len(points), WRITE):
        refused = await store.write(points[place : place + WRITE])
        if refused:
            raise OutputError(f"the store refuses a point: {refused[0].message}")


def to_points(agent: VirtualAgent, records: Sequence[Record]) -> Iterator[Point]:
    """With the register's labels. What a collector rejects (a clock that was never known) is no point."""
    box = agent.box
    for record in records:
        if record.clock == "none":
            continue
        tags = (
            box.agent,
            box.venue.slug,
            box.venue.network,
            record.target,
            record.interface,
            record.provider or "",
            record.resolver or "",
        )
        yield to_point(record, tags, round(record.slot.timestamp() * 1000) * 1_000_000)


def announcements(world: World, start_ms: int, end_ms: int, *, spare: float = 1) -> list[Point]:
    """The jobs of every agent, as the collector notes them: at a birth, and again at each midnight (UTC)."""
    times_ms = [start_ms, *range(-(-(start_ms + 1) // DAY_MS) * DAY_MS, end_ms, DAY_MS)]
    return [
        Point(JOBS.name, tags, time_ms * 1_000_000, fields)
        for box in world.district.boxes
        for tags, fields in _announced(world, box, spare).items()
        for time_ms in times_ms
    ]


def _announced(world: World, box: Box, spare: float) -> dict[tuple[str, ...], tuple[FieldValue, ...]]:
    found: dict[tuple[str, ...], tuple[FieldValue, ...]] = {}
    # Of two modes in one series the more frequent.
    for job in sorted(jobs(box, spare), key=lambda job: -job.period_s):
        told = job.announced(box)
        tags = (box.agent, told.probe, told.target, told.interface, told.provider or "", told.resolver or "")
        found[tags] = (told.role, float(told.period_s), 1)
    return found


def statuses(world: World, start_ms: int, end_ms: int) -> list[Point]:
    """Births and wills, as the collector notes them: at the start, and around what cuts an agent off."""
    return [
        Point(STATUS.name, (box.agent,), at_ms * 1_000_000, (online, session, "simulated", None, 0))
        for box in world.district.boxes
        for session, (at_ms, online) in enumerate(_presence(world, box.venue.slug, start_ms, end_ms), 1)
    ]


def _presence(world: World, venue: str, start_ms: int, end_ms: int) -> list[tuple[int, int]]:
    """When agents of a venue went (0) and came (1)."""
    away: list[tuple[int, int]] = []
    for fault in sorted(world.faults_at(venue), key=lambda fault: fault.start_minute):
        begin_ms, stop_ms = fault.start_minute * 60_000, fault.end_minute * 60_000
        if fault.kind in AWAY:
            if away and begin_ms <= away[-1][1]:
                begin_ms, stop_ms = away[-1][0], max(stop_ms, away.pop()[1])
            away.append((begin_ms, stop_ms))
    turns = [(start_ms, 1), *((at_ms, online) for span in away for at_ms, online in zip(span, (0, 1), strict=True))]
    return sorted((at_ms, online) for at_ms, online in turns if start_ms <= at_ms < end_ms)


def write_lines(path: Path, rows: Iterator[msgspec.Struct]) -> None:
    """:raises OSError: when it cannot be written."""
    with path.open("wb") as file:
        file.writelines(msgspec.json.encode(row) + b"\n" for row in rows)
