"""Agents without probes: the real outbox, publisher and timekeeper, fed with records that can be computed again.

    python -m bench.agents FLEET.json

Several agents share this process, as `bench.lab.Fleet` says. They feed while the file `feed` exists, and end on
SIGTERM.
"""

import asyncio
import contextlib
import signal
import sys
import time
from pathlib import Path

import msgspec

from agent.clock import Clock, SystemClock
from agent.config import Mqtt
from agent.facts import Facts
from agent.outbox import Outbox
from agent.publisher import Publisher
from agent.timekeeper import Timekeeper
from bench import planted
from bench.lab import Fleet
from bench.source import Source, identity
from bench.truth import Gauges, Journal
from contract.record import Record


class FastClock:
    """The machine's clocks, started together and running `speed` times faster."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._real = SystemClock()
        self._wall = self._real.wall()
        self._boot = self._real.boot()

    def wall(self) -> float:
        return self._wall + (self._real.boot() - self._boot) * self._speed

    def boot(self) -> float:
        return self._boot + (self._real.boot() - self._boot) * self._speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self._speed)


async def _synchronised() -> bool:
    return True


async def run_agent(agent: str, fleet: Fleet, gauges: Gauges) -> None:
    """One agent until cancelled; then what waits is committed."""
    folder = Path(fleet.folder)
    clock: Clock = FastClock(fleet.speed) if fleet.speed != 1 else SystemClock()
    facts = Facts()
    timekeeper = Timekeeper(clock, [_synchronised], facts)
    await timekeeper.ask_services()
    outbox = await Outbox.open(folder / agent, agent=agent, clock=clock, facts=facts)
    journal = Journal(folder / f"{agent}.journal")

    def note(record: Record, outcome: str) -> None:
        if outcome in ("stored", "rejected") and (found := identity(record.detail)) is not None:
            journal.settled(outcome, [found[1]])

    kind = planted.DeletesOnPuback if fleet.plant == "delete_on_puback" else Publisher
    publisher = kind(
        Mqtt(host="127.0.0.1", port=fleet.broker_port, tls=False),
        agent=agent,
        outbox=outbox,
        timekeeper=timekeeper,
        facts=facts,
        clock=clock,
        on_final=note,
    )
    source = Source(agent, fleet.start, fleet.period_ms, fleet.odd.get(agent, {}))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(publisher.run(), name="publisher")
            group.create_task(_feed(source, publisher, clock, journal, folder / "feed"), name="feed")
            group.create_task(_sample(outbox, facts, fleet, gauges, agent), name="gauge")
    finally:
        gauges.put(fleet.agents[agent], 0, facts.outbox_records)


async def _feed(source: Source, publisher: Publisher, clock: Clock, journal: Journal, on: Path) -> None:
    """Hand over every record when its slot has come, the current number first: what was missed is missed."""
    period_s = source.period_ms / 1000
    number = int((time.time() - source.start.timestamp()) / period_s) + 1
    while True:
        await asyncio.sleep(max(0.0, source.start.timestamp() + number * period_s - time.time()))
        if not on.exists():
            return
        record = source.record(number)
        journal.submitted(number)
        publisher.submit(record, clock.boot() - (clock.wall() - record.slot.timestamp()))
        number += 1


async def _sample(outbox: Outbox, facts: Facts, fleet: Fleet, gauges: Gauges, agent: str) -> None:
    file = Path(fleet.folder) / f"{agent}.facts"
    told_s = 0.0
    while True:
        gauges.put(fleet.agents[agent], sum(batch.flying for batch in outbox.batches.values()), facts.outbox_records)
        if time.monotonic() - told_s > 1:
            told_s = time.monotonic()
            part = file.with_suffix(".part")
            part.write_bytes(msgspec.json.encode(facts))
            part.replace(file)
        await asyncio.sleep(fleet.sample_s)


async def main(file: Path) -> None:
    fleet = msgspec.json.decode(file.read_bytes(), type=Fleet)
    gauges = Gauges(Path(fleet.folder) / "gauges")
    everything = asyncio.create_task(_all(fleet, gauges), name="agents")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, everything.cancel)
    file.with_suffix(".up").touch()
    with contextlib.suppress(asyncio.CancelledError):
        await everything


async def _all(fleet: Fleet, gauges: Gauges) -> None:
    async with asyncio.TaskGroup() as group:
        for agent in fleet.agents:
            group.create_task(run_agent(agent, fleet, gauges), name=agent)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
