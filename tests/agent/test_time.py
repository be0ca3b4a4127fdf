"""A wrong clock from the schedule to the wire: real runner, outbox, timekeeper and publisher against a real broker.

The agent lives on a fake clock, the network in real time: while messages travel, fake time passes in small steps.
"""

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent.clock import utc
from agent.config import Job, Mqtt
from agent.facts import Facts
from agent.outbox import Outbox
from agent.probe import Context, Probe, Settings, Target
from agent.publisher import Publisher
from agent.runner import Runner
from agent.schedule import JITTER_RATIO
from agent.timekeeper import Timekeeper
from contract.messages import Ack, Batch
from contract.record import Record
from contract.values import Latency
from tests.agent.durable import Broker, Collector, stored
from tests.fakes import FakeClock

TRUE = 1_795_000_000.0
"""True wall time at boot time START."""
START = 5.0
PERIOD = 10.0
TAKES = 2.0
"""Duration of every run."""
TARGETS = {name: Target(role="core", host="core.example") for name in ("core", "gateway", "internet")}


class Box:
    """An agent without a clock chip, or with one; `said` is what its time service says."""

    def __init__(self, clock: FakeClock, said: bool | None) -> None:
        self.clock, self.said = clock, said
        self.facts = Facts()
        self.slots_s: dict[int, float] = {}
        """Boot time of each record's slot, by the number that its probe gave it."""
        self.measuring: set[int] = set()
        """Numbers of the runs that go on now."""
        self._measured = 0

    @contextlib.asynccontextmanager
    async def running(self, folder: Path, port: int) -> AsyncIterator["Box"]:
        async def service() -> bool | None:
            return self.said

        outbox = await Outbox.open(folder, agent="a01", clock=self.clock, facts=self.facts)
        self.publisher = Publisher(
            Mqtt(host="127.0.0.1", port=port, tls=False),
            agent="a01",
            outbox=outbox,
            timekeeper=Timekeeper(self.clock, [service], self.facts),
            facts=self.facts,
            clock=self.clock,
        )
        runner = Runner(
            "a01",
            [Job(probe="latency", target=target, interface="lo", period_s=PERIOD, timeout_s=5.0) for target in TARGETS],
            targets=TARGETS,
            resolvers={},
            clock=self.clock,
            facts=self.facts,
            submit=self._submit,
            probes={"latency": Probe(settings=Settings, measure=self._measure, timeout_s=5.0, needs=frozenset())},
            jitter=random.Random(1),
        )
        tasks = [asyncio.create_task(part.run()) for part in (self.publisher, runner)]
        try:
            yield self
        finally:
            for task in reversed(tasks):
                task.cancel()
                await asyncio.wait({task})

    async def _measure(self, settings: Any, context: Context) -> Latency:
        self._measured += 1
        number = self._measured
        self.measuring.add(number)
        await context.clock.sleep(TAKES)
        self.measuring.discard(number)
        return Latency(sent=number)

    def _submit(self, record: Record, boot_s: float) -> None:
        if isinstance(record.values, Latency):
            assert record.values.sent is not None
            self.slots_s[record.values.sent] = boot_s
        self.publisher.submit(record, boot_s)

    async def live(self, seconds: float, step_s: float = 1.0) -> None:
        """Let fake time pass, with a moment of real time in each step."""
        end_s = self.clock.boot() + seconds
        while self.clock.boot() < end_s:
            await self.clock.advance(step_s)
            await asyncio.sleep(0.001)

    async def deliver(self, collector: Collector) -> dict[int, Record]:
        """Every record measured so far as the collector got it, by number; a repetition must be the same point."""
        wanted = self.slots_s.keys() | set()
        async with asyncio.timeout(60):
            while not wanted <= {sent(record) for record in collector.stored}:
                await self.live(0.5, step_s=0.05)
        found: dict[int, Record] = {}
        for record in collector.stored:
            assert found.setdefault(sent(record), record).slot == record.slot
        return {number: found[number] for number in wanted}


def sent(record: Record) -> int:
    assert isinstance(record.values, Latency)
    assert record.values.sent is not None
    return record.values.sent


def series(records: dict[int, Record]) -> dict[str, list[datetime]]:
    """Slots of each target in order; no two may be equal, they would be one point."""
    found = defaultdict(list)
    for record in records.values():
        found[record.target].append(record.slot)
    for slots in found.values():
        assert len(set(slots)) == len(slots)
        slots.sort()
    return found


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = Broker(tmp_path)
    await broker.start()
    yield broker
    broker.kill()


@pytest.fixture
async def collector(broker: Broker) -> AsyncIterator[Collector]:
    async with Collector(broker.port).running() as collector:
        yield collector


@pytest.mark.parametrize("known_by", ["service", "collector"])
async def test_three_hundred_records_from_1970_land_in_their_true_slots(
    known_by: str, tmp_path: Path, broker: Broker, collector: Collector
) -> None:
    clock = FakeClock(wall=30.0, boot=START)

    def true_time(boot_s: float) -> float:
        return TRUE + boot_s - START

    def answer(batch: Batch) -> Ack:
        ack = stored(batch)
        ack.at = utc(true_time(clock.boot()))
        return ack

    collector.script, collector.at = answer, lambda: None
    said = False if known_by == "service" else None
    async with Box(clock, said=said).running(tmp_path / "state", broker.port) as box:
        await box.live(100 * PERIOD)
        before = box.slots_s.keys() | set()
        assert len(before) >= 295
        assert collector.batches == [], "a record was sent before its time was known"
        if known_by == "service":
            clock.step_wall(true_time(clock.boot()) - clock.wall())
            box.said = True
        else:
            collector.at = lambda: utc(true_time(clock.boot()))
        await box.live(10 * PERIOD, step_s=0.05)
        records = await box.deliver(collector)

    for number, record in records.items():
        assert abs(record.slot.timestamp() - true_time(box.slots_s[number])) < 1
        assert abs((record.started_at - record.slot).total_seconds()) <= PERIOD * JITTER_RATIO + 0.01
    assert {records[number].clock for number in before} == {"corrected"}
    assert all("clock_corrected" in records[number].flags for number in before)
    for slots in series(records).values():
        assert len(slots) >= 108
        assert all(abs((b - a).total_seconds() - PERIOD) < 1 for a, b in pairwise(slots))


async def test_a_backward_step_repeats_no_slot_and_leaves_none_out(
    tmp_path: Path, broker: Broker, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    step_s = -3 * PERIOD  # so that labels come again exactly
    clock = FakeClock(wall=TRUE, boot=START)
    async with Box(clock, said=True).running(tmp_path / "state", broker.port) as box:
        await box.live(10 * PERIOD, step_s=0.05)
        before = await box.deliver(collector)
        broker.kill()
        await box.live(10 * PERIOD)
        while not box.measuring:
            await box.live(0.25, step_s=0.25)
        cut_short = set(box.measuring)
        clock.step_wall(step_s)
        await box.live(10 * PERIOD)
        await broker.start()
        records = await box.deliver(collector)

    for number, record in records.items():
        offset_s = TRUE - START + (0 if number in before else step_s)
        assert abs(record.slot.timestamp() - box.slots_s[number] - offset_s) < 0.01
        assert record.duration_s == pytest.approx(TAKES)
        assert (record.reason == "clock_step") == (number in cut_short)
        assert record.clock in {"synced", "corrected"}
    assert f"stepped by {step_s:+.3f} s" in caplog.text
    assert len(records) == max(records), "a run has no record"
    for slots in series(records).values():
        assert len(slots) >= 29
    for target in TARGETS:
        boots_s = sorted(box.slots_s[number] for number, record in records.items() if record.target == target)
        assert all(b - a == pytest.approx(PERIOD) for a, b in pairwise(boots_s))
