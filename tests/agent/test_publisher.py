"""Against a real mosquitto and a collector that answers as the test says."""

import asyncio
import contextlib
import itertools
import random
import shutil
import ssl
import time
import warnings
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiomqtt
import pytest
import trustme

from agent.clock import SystemClock, utc
from agent.config import Mqtt, OutboxLimits
from agent.facts import Facts
from agent.outbox import Outbox
from agent.publisher import WINDOW, Publisher, Timing, _Client
from agent.timekeeper import Timekeeper
from contract.codec import decode_status, encode
from contract.messages import Ack, Batch, Job
from contract.record import Record
from contract.values import Hop, Portal
from contract.values import Path as Path_
from tests.agent.durable import Broker, Collector, free_port, later, numbers, record, stored, until

QUICK = Timing(
    linger_s=0.05,
    silence_s=(0.4, 0.8),
    later_s=(0.3, 1.0),
    reconnect_s=(0.1, 0.4),
    replay_spread_s=0.2,
    replay_gap_s=0.05,
    ask_time_s=0.3,
)
JOB = Job(probe="latency", target="core", interface="lo", period_s=60.0)


async def yes() -> bool:
    return True


class ShiftedClock(SystemClock):
    """The machine's clocks, with a wall clock that is off."""

    def __init__(self, off_s: float = 0.0) -> None:
        self.off_s = off_s

    def wall(self) -> float:
        return super().wall() + self.off_s


class Agent:
    """Outbox, timekeeper and publisher of one agent, wired as `agent.main` does."""

    def __init__(self, folder: Path, mqtt: Mqtt, *, clock: ShiftedClock | None = None, synced: bool = True,
                 hold_s: float = 0.5, timing: Timing = QUICK) -> None:  # fmt: skip
        self.folder, self.mqtt, self.timing, self.hold_s = folder, mqtt, timing, hold_s
        self.clock = clock or ShiftedClock()
        self.facts = Facts()
        self.timekeeper = Timekeeper(self.clock, [yes] if synced else [], self.facts)
        self.final: dict[int, list[str]] = {}

    async def start(self) -> "Agent":
        self.outbox = await Outbox.open(
            self.folder, agent="a01", limits=OutboxLimits(hold_s=self.hold_s), clock=self.clock, facts=self.facts,
            retry_s=0.5,
        )  # fmt: skip
        self.publisher = Publisher(
            self.mqtt, agent="a01", outbox=self.outbox, timekeeper=self.timekeeper, facts=self.facts,
            clock=self.clock, jobs=[JOB], config_version=7, version="0.1", timing=self.timing,
            on_final=lambda item, outcome: self.final.setdefault(int(item.duration_s), []).append(outcome),
        )  # fmt: skip
        self.task = asyncio.create_task(self.publisher.run(), name="agent under test")
        return self

    def submit(self, *which: int, probe: str = "latency", **fields: Any) -> None:
        for number in which:
            slot = utc(self.clock.wall()) + timedelta(milliseconds=number)
            self.publisher.submit(record(number, probe, slot=slot, **fields), self.clock.boot() + number / 1000)

    async def idle(self, timeout_s: float = 20.0) -> None:
        await asyncio.wait_for(self.publisher.idle(), timeout_s)

    async def stop(self) -> float:
        """End it; how long that took, in seconds."""
        begun = time.monotonic()
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        return time.monotonic() - begun


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


@pytest.fixture
async def agent(tmp_path: Path, broker: Broker) -> AsyncIterator[Agent]:
    agent = await Agent(tmp_path / "state", plain(broker)).start()
    yield agent
    await agent.stop()


def plain(broker: Broker) -> Mqtt:
    return Mqtt(host="127.0.0.1", port=broker.port, tls=False)


def got(collector: Collector) -> list[int]:
    return sorted(numbers(collector.stored))


# -- the ordinary way


async def test_records_are_stored_once_with_their_own_values_and_times(agent: Agent, collector: Collector) -> None:
    began = time.monotonic()
    agent.submit(0)
    await agent.idle()
    assert time.monotonic() - began < 5
    agent.submit(*range(1, 250))
    await agent.idle()
    assert numbers(collector.stored) == list(range(250))
    assert all(item.values.sent == int(item.duration_s) for item in collector.stored)  # type: ignore[union-attr]
    assert all(item.flags == [] and item.clock == "synced" for item in collector.stored)
    assert all(len(batch.records) <= 100 and batch.config_version == 7 for batch in collector.batches)
    assert agent.final == {n: ["stored"] for n in range(250)}
    assert agent.facts.outbox_records == 0
    assert agent.facts.clock_offset_ms is not None
    assert abs(agent.facts.clock_offset_ms) < 500


async def test_birth_will_and_goodbye(agent: Agent, collector: Collector, broker: Broker, tmp_path: Path) -> None:
    await until(lambda: collector.statuses)
    birth = decode_status(collector.statuses[0])
    assert birth.online
    assert birth.jobs == [JOB]
    assert (birth.version, birth.config_version, birth.outbox) == ("0.1", 7, agent.outbox.id)
    await agent.stop()
    await until(lambda: len(collector.statuses) == 2)
    goodbye = decode_status(collector.statuses[1])
    assert (goodbye.online, goodbye.session) == (False, birth.session)
    # A new run has a greater session; another client with its id throws it off, and the will is published.
    again = await Agent(tmp_path / "state", plain(broker)).start()
    await until(lambda: len(collector.statuses) == 3)
    second = decode_status(collector.statuses[2])
    assert second.session > birth.session
    async with aiomqtt.Client("127.0.0.1", broker.port, identifier="a01"):
        await until(lambda: len(collector.statuses) >= 4)
    will = decode_status(collector.statuses[3])
    assert (will.online, will.session) == (False, second.session)
    await until(lambda: decode_status(collector.statuses[-1]).online)
    assert decode_status(collector.statuses[-1]).session > second.session
    assert again.facts.reconnects >= 1
    await again.stop()


async def test_the_end_commits_what_waits_within_two_seconds(tmp_path: Path, broker: Broker) -> None:
    agent = await Agent(tmp_path / "state", plain(broker), hold_s=10).start()
    agent.submit(1, 2, 3)
    await asyncio.sleep(0.3)
    assert await agent.stop() < 2
    async with Collector(broker.port).running() as collector:
        again = await Agent(tmp_path / "state", plain(broker)).start()
        await until(lambda: got(collector) == [1, 2, 3])
        await again.stop()


async def test_the_end_is_as_quick_without_a_broker(tmp_path: Path) -> None:
    agent = await Agent(tmp_path / "state", Mqtt(host="127.0.0.1", port=free_port(), tls=False)).start()
    agent.submit(1)
    await asyncio.sleep(0.2)
    assert await agent.stop() < 2


async def test_the_end_is_as_quick_when_the_broker_hangs(tmp_path: Path, broker: Broker) -> None:
    agent = await Agent(tmp_path / "state", plain(broker)).start()
    await until(lambda: agent.publisher._connected_s)
    assert broker._process is not None
    broker._process.send_signal(19)  # SIGSTOP
    agent.submit(1)
    await asyncio.sleep(0.2)
    assert await agent.stop() < 2
    broker._process.send_signal(18)


# -- answers


async def test_rejected_is_final_for_the_record_that_it_names(agent: Agent, collector: Collector) -> None:
    def reject_odd(batch: Batch) -> Ack:
        odd = [place for place, n in enumerate(numbers(batch.records)) if n % 2]
        return Ack(outbox=batch.outbox, batch=batch.batch, at=datetime.now(UTC),
                   stored=len(batch.records) - len(odd), rejected=[(place, "invalid") for place in odd])  # fmt: skip

    collector.script = reject_odd
    agent.submit(*range(10))
    await agent.idle()
    assert got(collector) == [0, 2, 4, 6, 8]
    assert agent.final == {n: ["rejected" if n % 2 else "stored"] for n in range(10)}
    assert len(collector.batches) <= 2


async def test_a_batch_refused_as_a_whole_is_split_until_the_bad_record_is_alone(
    agent: Agent, collector: Collector
) -> None:
    def refuse(batch: Batch) -> Ack:
        if 37 in numbers(batch.records):
            return Ack(outbox=batch.outbox, batch=batch.batch, at=datetime.now(UTC), rejected=[(None, "invalid")])
        return stored(batch)

    collector.script = refuse
    agent.submit(*range(50))
    await agent.idle()
    assert got(collector) == [n for n in range(50) if n != 37]
    assert agent.final[37] == ["rejected"]
    assert agent.facts.outbox_quarantined == 0
    assert_numbers_and_content_are_kept(collector)


@pytest.mark.parametrize("reason", ["store_limit", "clock_ahead"])
async def test_later_deletes_nothing_and_sends_the_same_batch_again(
    agent: Agent, collector: Collector, reason: str
) -> None:
    times: list[float] = []

    def postpone(batch: Batch) -> Ack:
        times.append(time.monotonic())
        return later(batch, reason) if len(times) <= 2 else stored(batch)

    collector.script = postpone
    agent.submit(1, 2, 3)
    await agent.idle()
    assert got(collector) == [1, 2, 3]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert min(gaps) >= 0.25
    first = collector.batches[0]
    assert len(collector.payloads[(str(first.outbox), first.batch)]) == 1
    assert sum(batch.batch == first.batch for batch in collector.batches) >= 2


async def test_a_reason_that_holds_for_all_pauses_sending_and_another_does_not(
    agent: Agent, collector: Collector
) -> None:
    collector.script = lambda batch: later(batch, "unknown_probe") if 0 in numbers(batch.records) else stored(batch)
    agent.submit(0)
    await until(lambda: collector.batches)
    agent.submit(1)
    await until(lambda: got(collector) == [1], timeout_s=2)
    collector.script = lambda batch: later(batch, "store_limit")
    agent.submit(2)
    await until(lambda: agent.publisher._pauses)
    seen = len(collector.batches)
    agent.submit(3)
    await asyncio.sleep(0.3)
    assert len(collector.batches) == seen
    collector.script = stored
    await agent.idle()
    assert got(collector) == [0, 1, 2, 3]


async def test_silence_sends_the_same_batch_again_at_growing_intervals(agent: Agent, collector: Collector) -> None:
    times: list[float] = []

    def ignore(batch: Batch) -> Ack | None:
        times.append(time.monotonic())
        return None if len(times) < 5 else stored(batch)

    collector.script = ignore
    agent.submit(1, 2)
    await agent.idle()
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert gaps[0] >= 0.35
    assert all(gap >= 0.7 for gap in gaps[1:])
    assert_numbers_and_content_are_kept(collector)
    assert agent.facts.outbox_quarantined == 0  # nobody else was answered: nothing is suspect


async def test_a_lost_acknowledgement_costs_a_repetition_and_nothing_else(agent: Agent, collector: Collector) -> None:
    lost: list[Batch] = []

    def lose_first(batch: Batch) -> Ack | None:
        if not lost:
            lost.append(batch)
            collector.stored += batch.records  # stored, but nobody says so
            return None
        return stored(batch)

    collector.script = lose_first
    agent.submit(1, 2, 3)
    await agent.idle()
    assert {(item.duration_s, item.slot) for item in collector.stored} == {
        (item.duration_s, item.slot) for item in lost[0].records
    }


async def test_answers_that_are_not_ours_or_make_no_sense_settle_nothing(
    agent: Agent, collector: Collector, broker: Broker
) -> None:
    collector.script = lambda batch: None
    agent.submit(1, 2, 3)
    await until(lambda: collector.batches)
    batch = collector.batches[0]
    at = datetime.now(UTC)
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        for payload in (
            b"", b"\xff\xfe", b"[]", b'{"outbox":1}', b"{" * 5000,
            encode(Ack(outbox=uuid4(), batch=batch.batch, at=at, stored=3)),  # another outbox's number
            encode(Ack(outbox=batch.outbox, batch=batch.batch + 1, at=at, stored=3)),
            encode(Ack(outbox=batch.outbox, batch=None, at=at, stored=3)),
            encode(Ack(outbox=batch.outbox, batch=batch.batch, at=at)),  # none stored, none rejected
            encode(Ack(outbox=batch.outbox, batch=batch.batch, at=at, stored=1, rejected=[(0, "invalid")])),
            encode(Ack(outbox=batch.outbox, batch=batch.batch, at=at, stored=2, rejected=[(3, "invalid")])),
            encode(Ack(outbox=batch.outbox, batch=batch.batch, at=at, stored=1, rejected=[(0, "invalid")] * 2)),
            encode(Ack(outbox=batch.outbox, batch=batch.batch, at=at, rejected=[(0, "invalid")] * 3)),
        ):  # fmt: skip
            await client.publish("wanggan/1/down/a01/ack", payload)
    seen = len(collector.batches)
    await until(lambda: len(collector.batches) > seen)
    assert agent.facts.outbox_records == 3
    assert agent.final == {}
    collector.script = stored
    await agent.idle()
    assert sorted(set(got(collector))) == [1, 2, 3]


async def test_at_most_four_batches_are_in_flight(agent: Agent, collector: Collector) -> None:
    collector.script = lambda batch: None
    agent.submit(*range(1000))
    await until(lambda: len(collector.payloads) == WINDOW)
    await asyncio.sleep(1.5)
    assert len(collector.payloads) == WINDOW
    collector.script = stored
    await agent.idle()
    assert sorted(set(got(collector))) == list(range(1000))


async def test_a_poison_record_ends_alone_in_quarantine(agent: Agent, collector: Collector) -> None:
    collector.script = lambda batch: None if 5 in numbers(batch.records) else stored(batch)
    agent.submit(*range(8))
    for n in range(100, 400):
        agent.submit(n)
        await asyncio.sleep(0.03)
        if agent.facts.outbox_quarantined:
            break
    await agent.idle()
    sent = [n for n in agent.final if n != 5]
    assert agent.final[5] == ["quarantined"]
    assert agent.facts.outbox_quarantined == 1
    assert got(collector) == sorted(sent)
    whole = [batch for batch in collector.batches if {4, 5} <= set(numbers(batch.records))]
    alone = [batch for batch in collector.batches if numbers(batch.records) == [5]]
    assert sum(batch.batch == whole[0].batch for batch in whole) == 3
    assert len(alone) == 3
    assert_numbers_and_content_are_kept(collector)


async def test_publish_refused_by_the_broker_is_kept_and_sent_again(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    allowed = "user collector\ntopic readwrite wanggan/1/#\npattern read wanggan/1/down/%u/#\n"
    acl.write_text(allowed + "pattern write wanggan/1/up/%u/status\n")
    acl.chmod(0o644)
    tmp_path.chmod(0o755)
    broker = Broker(tmp_path, f"acl_file {acl}")
    await broker.start()
    agent = await Agent(tmp_path / "state", plain(broker)).start()
    try:
        async with Collector(broker.port).running() as collector:
            agent.submit(*range(10))
            await asyncio.sleep(2)
            assert collector.batches == []  # the broker said PUBACK, and no more
            assert agent.facts.outbox_records == 10
            acl.write_text(allowed + "pattern write wanggan/1/up/%u/#\n")
            assert broker._process is not None
            broker._process.send_signal(1)  # SIGHUP
            await agent.idle()
            assert got(collector) == list(range(10))
            assert agent.facts.outbox_quarantined == 0
    finally:
        await agent.stop()
        broker.kill()


# -- size


async def test_the_brokers_packet_limit_is_obeyed(tmp_path: Path) -> None:
    broker = Broker(tmp_path, "max_packet_size 4000")
    await broker.start()
    agent = await Agent(tmp_path / "state", plain(broker)).start()
    try:
        async with Collector(broker.port).running() as collector:
            agent.submit(*range(40))
            await agent.idle()
            assert got(collector) == list(range(40))
            assert all(len(p) < 4000 for payloads in collector.payloads.values() for p in payloads)
            assert agent.facts.reconnects == 0
    finally:
        await agent.stop()
        broker.kill()


async def test_a_broker_that_takes_next_to_nothing_costs_no_record(tmp_path: Path, caplog: Any) -> None:
    broker = Broker(tmp_path, "max_packet_size 600")
    await broker.start()
    agent = await Agent(tmp_path / "state", plain(broker)).start()
    try:
        agent.submit(*range(10))
        await until(lambda: "max_packet_size" in caplog.text)
        assert (agent.facts.outbox_quarantined, agent.facts.outbox_records) == (0, 10)
        broker.kill()
        broker.lines = ()
        await broker.start()
        async with Collector(broker.port).running() as collector:
            await agent.idle()
            assert got(collector) == list(range(10))
    finally:
        await agent.stop()
        broker.kill()


@pytest.mark.parametrize("synced", [True, False])
async def test_a_time_beyond_the_calendar_is_not_learned(synced: bool, tmp_path: Path, broker: Broker) -> None:
    agent = await Agent(tmp_path / "state", plain(broker), synced=synced).start()
    try:
        async with Collector(broker.port).running() as collector:
            collector.at = lambda: None
            await until(lambda: collector.statuses)
            async with aiomqtt.Client("127.0.0.1", broker.port) as client:
                for at in ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59Z"):
                    answer = f'{{"outbox":"{agent.outbox.id}","batch":null,"at":"{at}"}}'
                    await client.publish("wanggan/1/down/a01/ack", answer)
            await until(lambda: agent.publisher._heard)
            collector.at = lambda: datetime.now(UTC)
            agent.submit(1)
            await agent.idle()
            assert abs((collector.stored[0].slot - datetime.now(UTC)).total_seconds()) < 60
            assert agent.facts.reconnects == 0
    finally:
        await agent.stop()


async def test_a_batch_on_disk_that_has_become_too_large_is_split(tmp_path: Path, broker: Broker) -> None:
    agent = await Agent(tmp_path / "state", plain(broker)).start()
    agent.submit(*range(40))
    await until(lambda: agent.outbox.batches and all(batch.on_disk for batch in agent.outbox.batches.values()))
    await agent.stop()
    broker.kill()
    broker.lines = ("max_packet_size 4000",)
    await broker.start()
    agent = await Agent(tmp_path / "state", plain(broker)).start()
    async with Collector(broker.port).running() as collector:
        await until(lambda: got(collector) == list(range(40)))
        assert agent.facts.outbox_quarantined == 0
    await agent.stop()


async def test_a_batch_that_breaks_the_connection_is_found_and_its_neighbours_pass(
    tmp_path: Path, broker: Broker, collector: Collector
) -> None:
    """A broker that closes on size without having said its limit; played by a proxy between agent and mosquitto."""
    async with Cutter(broker.port, longest=9000).running() as cutter:
        agent = await Agent(tmp_path / "state", Mqtt(host="127.0.0.1", port=cutter.port, tls=False)).start()
        big = "x" * 190
        agent.submit(*range(10), outcome="failed", reason="timeout", detail=big)
        hops = Path_(hops=[Hop(address="a" * 200, rtt_ms=1.0)] * 60)
        agent.submit(99, probe="path", values=hops)
        for n in range(100, 160):
            agent.submit(n)
            await asyncio.sleep(0.1)
            if agent.facts.outbox_quarantined:
                break
        await agent.idle()
        assert agent.final.pop(99) == ["quarantined"]
        assert set(map(tuple, agent.final.values())) == {("stored",)}
        assert sorted(set(got(collector))) == sorted(agent.final)
        assert cutter.cuts >= 6
        await agent.stop()


class Cutter:
    """A TCP proxy that closes a connection when one read from the agent is longer than allowed."""

    def __init__(self, upstream: int, longest: int) -> None:
        self.port = free_port()
        self.cuts = 0
        self._upstream = upstream
        self._longest = longest

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Cutter"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)

        async def down() -> None:
            while data := await up_reader.read(65_536):
                writer.write(data)
                await writer.drain()
            writer.close()

        back = asyncio.create_task(down())
        try:
            while head := await reader.readexactly(1):
                length, shift, raw = 0, 0, b""
                while True:
                    byte = await reader.readexactly(1)
                    raw += byte
                    length |= (byte[0] & 0x7F) << shift
                    shift += 7
                    if not byte[0] & 0x80:
                        break
                if length > self._longest:
                    self.cuts += 1
                    break
                up_writer.write(head + raw + await reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        up_writer.transport.abort()
        writer.transport.abort()
        back.cancel()


# -- the broker goes and comes


async def test_an_outage_loses_nothing_and_new_records_do_not_wait_for_old_ones(
    tmp_path: Path, broker: Broker, collector: Collector
) -> None:
    timing = Timing(**{name: getattr(QUICK, name) for name in QUICK.__struct_fields__} | {"replay_gap_s": 0.4})
    agent = await Agent(tmp_path / "state", plain(broker), timing=timing).start()
    agent.submit(0)
    await agent.idle()
    broker.kill()
    await until(lambda: not collector.connected)
    agent.submit(*range(1, 701))
    await until(lambda: not agent.outbox.waiting)
    assert agent.facts.outbox_records == 700
    await broker.start()
    await until(lambda: agent.facts.reconnects and collector.connected)
    new = list(range(1000, 1010))
    for n in new:
        agent.submit(n)
        before = time.monotonic()
        await until(lambda n=n: n in got(collector))
        assert time.monotonic() - before < 5
    await agent.idle()
    assert sorted(set(got(collector))) == [*range(701), *new]
    old = [item for item in collector.stored if 1 <= item.duration_s <= 700]
    assert all("replayed" in item.flags for item in old)
    assert not any("replayed" in item.flags for item in collector.stored if item.duration_s >= 1000)
    await until(lambda: agent.outbox._due_s() > agent.clock.boot())
    await agent.stop()


async def test_old_batches_are_paced(tmp_path: Path, broker: Broker) -> None:
    agent = await Agent(tmp_path / "state", Mqtt(host="127.0.0.1", port=free_port(), tls=False)).start()
    agent.submit(*range(500))
    await until(lambda: not agent.outbox.waiting)
    await agent.stop()
    times: list[float] = []
    async with Collector(broker.port).running() as collector:

        def note(batch: Batch) -> Ack:
            times.append(time.monotonic())
            return stored(batch)

        collector.script = note
        slow = Timing(**{name: getattr(QUICK, name) for name in QUICK.__struct_fields__} | {"replay_gap_s": 0.5})
        agent = await Agent(tmp_path / "state", plain(broker), timing=slow).start()
        await until(lambda: len(collector.stored) == 500)
        await agent.stop()
    assert min(b - a for a, b in itertools.pairwise(times)) > 0.3
    assert len(times) >= 5


async def test_a_broker_killed_ten_times_under_load_loses_nothing(
    tmp_path: Path, broker: Broker, collector: Collector
) -> None:
    dice = random.Random(10)
    agent = await Agent(tmp_path / "state", plain(broker)).start()
    made = 0
    for _ in range(10):
        for _ in range(dice.randrange(10, 30)):
            agent.submit(made)
            made += 1
            await asyncio.sleep(0.01)
        broker.kill()
        agent.submit(made)
        made += 1
        await asyncio.sleep(dice.uniform(0, 0.3))
        await broker.start()
    await agent.idle()
    by_number: dict[int, set[datetime]] = {}
    for item in collector.stored:
        by_number.setdefault(int(item.duration_s), set()).add(item.slot)
    assert sorted(by_number) == list(range(made))
    assert all(len(slots) == 1 for slots in by_number.values())
    assert_numbers_and_content_are_kept(collector)
    assert agent.facts.outbox_quarantined == 0
    assert set(map(tuple, agent.final.values())) <= {("stored",)}
    await agent.stop()


async def test_what_was_in_flight_when_the_broker_died_is_sent_until_it_is_answered(
    agent: Agent, collector: Collector, broker: Broker
) -> None:
    """Suspects are tried alone; one whose answer is lost on a living connection must not wait for itself."""
    answered: list[int] = []

    def ignore_the_second(batch: Batch) -> Ack | None:
        if len(collector.batches) <= 2:
            return None
        answered.append(batch.batch)
        return stored(batch)

    collector.script = ignore_the_second
    agent.submit(1)
    await until(lambda: len(collector.batches) == 1)
    broker.kill()
    await until(lambda: not collector.connected)
    await broker.start()
    await agent.idle(15)
    assert got(collector) == [1]
    assert len({batch.batch for batch in collector.batches}) == len(set(answered)) == 1


async def test_without_a_broker_the_attempts_spread_out(tmp_path: Path) -> None:
    """Exponential with full jitter, from 1 s to 5 min: simulated on a clock that jumps."""
    sleeps: list[float] = []

    class Jumping(ShiftedClock):
        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(0)

    clock = Jumping()
    facts = Facts()
    outbox = await Outbox.open(tmp_path / "state", agent="a01", limits=OutboxLimits(), clock=clock, facts=facts)
    publisher = Publisher(
        Mqtt(host="127.0.0.1", port=free_port(), tls=False), agent="a01", outbox=outbox,
        timekeeper=Timekeeper(clock), facts=facts, clock=clock, chance=Noting(sleeps),
    )  # fmt: skip
    task = asyncio.create_task(publisher._stay_connected())
    await until(lambda: len(sleeps) >= 12)
    task.cancel()
    assert sleeps[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]


class Noting(random.Random):
    """Notes every upper bound and takes it."""

    def __init__(self, notes: list[float]) -> None:
        super().__init__()
        self._notes = notes

    def uniform(self, a: float, b: float) -> float:
        self._notes.append(b)
        return b


# -- time


async def test_a_start_in_1970_without_a_time_service(tmp_path: Path, broker: Broker, collector: Collector) -> None:
    collector.at = lambda: None
    clock = ShiftedClock(off_s=-time.time() + 60)
    agent = await Agent(tmp_path / "state", plain(broker), clock=clock, synced=False).start()
    truth = {}
    for n in range(300):
        truth[n] = time.time() + n / 1000
        agent.submit(n)
    await until(lambda: collector.statuses)
    await asyncio.sleep(1)
    assert collector.batches == []  # they wait, in memory and on disk
    assert agent.facts.outbox_records == 300
    collector.at = lambda: datetime.now(UTC)
    await agent.idle()
    assert got(collector) == list(range(300))
    assert len({item.slot for item in collector.stored}) == 300
    for item in collector.stored:
        assert abs(item.slot.timestamp() - truth[int(item.duration_s)]) < 1
        assert item.clock == "corrected"
        assert "clock_corrected" in item.flags
    assert agent.facts.clock_offset_ms is not None
    assert agent.facts.clock_offset_ms < -1e9
    await agent.stop()


async def test_a_crash_between_correction_and_answer_does_not_move_the_time_again(
    tmp_path: Path, broker: Broker, collector: Collector
) -> None:
    clock = ShiftedClock(off_s=-time.time() + 60)
    agent = await Agent(tmp_path / "state", Mqtt(host="127.0.0.1", port=free_port(), tls=False), clock=clock,
                        synced=False).start()  # fmt: skip
    agent.submit(1, 2, 3)
    await until(lambda: not agent.outbox.waiting)
    await agent.stop()
    first: list[Record] = []

    def swallow(batch: Batch) -> None:
        first.extend(batch.records)

    collector.script = swallow
    agent = await Agent(tmp_path / "state", plain(broker), clock=clock, synced=False, hold_s=10).start()
    await until(lambda: len(first) == 3)
    shutil.copytree(tmp_path / "state", tmp_path / "crashed")
    await agent.stop()
    collector.script = stored
    collector.at = lambda: datetime.now(UTC) + timedelta(seconds=0.4)  # told a little otherwise now
    again = await Agent(tmp_path / "crashed", plain(broker), clock=clock, synced=False).start()
    await until(lambda: len(collector.stored) == 3)
    assert {item.duration_s: item.slot for item in collector.stored} == {item.duration_s: item.slot for item in first}
    await again.stop()


async def test_after_a_reboot_without_an_anchor_the_clock_is_none(
    tmp_path: Path, broker: Broker, collector: Collector
) -> None:
    clock = ShiftedClock(off_s=-time.time() + 60)
    agent = Agent(tmp_path / "state", Mqtt(host="127.0.0.1", port=free_port(), tls=False), clock=clock, synced=False)
    agent.timekeeper.boot = UUID(int=1)  # type: ignore[misc]
    await agent.start()
    agent.submit(1)
    await until(lambda: not agent.outbox.waiting)
    await agent.stop()
    again = await Agent(tmp_path / "state", plain(broker)).start()
    await until(lambda: collector.batches)
    (item,) = collector.batches[0].records
    assert item.clock == "none"
    assert "clock_unsynced" in item.flags
    assert item.slot.year == 1970
    await again.stop()


# -- the disk, and the portal


async def test_without_a_disk_records_are_sent_all_the_same(
    tmp_path: Path, broker: Broker, collector: Collector
) -> None:
    (tmp_path / "state").write_text("in the way")
    agent = await Agent(tmp_path / "state", plain(broker)).start()
    assert agent.facts.degraded
    agent.submit(*range(150))
    await agent.idle()
    assert got(collector) == list(range(150))
    await agent.stop()


async def test_an_outbox_file_replaced_by_an_empty_one_confuses_nothing(
    agent: Agent, collector: Collector, tmp_path: Path
) -> None:
    collector.script = lambda batch: None
    agent.submit(1, 2, 3)
    await until(lambda: collector.batches)
    before = agent.outbox.id
    for path in (tmp_path / "state").glob("outbox.db*"):
        path.unlink()
    (tmp_path / "state" / "outbox.db").touch()
    agent.submit(4)
    await until(lambda: agent.outbox.id != before)
    collector.script = stored
    agent.submit(5)
    await agent.idle()
    assert sorted(set(got(collector))) == [1, 2, 3, 4, 5]
    assert {batch.outbox for batch in collector.batches} == {before, agent.outbox.id}
    assert_numbers_and_content_are_kept(collector)


async def test_a_change_of_portal_state_is_committed_at_once(tmp_path: Path) -> None:
    agent = await Agent(tmp_path / "state", Mqtt(host="127.0.0.1", port=free_port(), tls=False), hold_s=10).start()
    await until(lambda: agent.outbox._open)

    for number, state in enumerate(["open", "open", "open", "portal", "open"]):
        agent.submit(number, probe="portal", values=Portal(state=state))
        await asyncio.sleep(0.1)
        # Two equal results make a state; one other result is none yet.
        assert sum(entry.on_disk for entry in agent.outbox.waiting) == (2 if number else 0)
    await agent.stop()


# -- TLS


@pytest.mark.parametrize("case", ["good", "wrong ca", "wrong name", "no certificate of ours"])
async def test_tls_is_verified(case: str, tmp_path: Path) -> None:
    ca = trustme.CA()
    server = ca.issue_cert("localhost" if case == "wrong name" else "127.0.0.1")
    client = ca.issue_cert("a01", common_name="a01")
    tmp_path.chmod(0o755)
    for name, pem in (("server.pem", server.cert_chain_pems[0]), ("server.key", server.private_key_pem),
                      ("client.pem", client.cert_chain_pems[0]), ("client.key", client.private_key_pem),
                      ("ca.pem", (trustme.CA() if case == "wrong ca" else ca).cert_pem),
                      ("client-ca.pem", ca.cert_pem)):  # fmt: skip
        pem.write_to_path(str(tmp_path / name))
        (tmp_path / name).chmod(0o644)
    inner = free_port()
    lines = [f"cafile {tmp_path}/client-ca.pem", f"certfile {tmp_path}/server.pem", f"keyfile {tmp_path}/server.key",
             "require_certificate true", "use_identity_as_username true", f"listener {inner} 127.0.0.1"]  # fmt: skip
    broker = Broker(tmp_path, *lines)
    await broker.start()
    ours = {} if case == "no certificate of ours" else {
        "cert_file": str(tmp_path / "client.pem"), "key_file": str(tmp_path / "client.key")
    }  # fmt: skip
    mqtt = Mqtt(host="127.0.0.1", port=broker.port, ca_file=str(tmp_path / "ca.pem"), **ours)
    agent = await Agent(tmp_path / "state", mqtt).start()
    try:
        async with Collector(inner).running() as collector:
            agent.submit(1)
            if case == "good":
                await agent.idle()
                assert got(collector) == [1]
            else:
                await asyncio.sleep(1.0)
                assert collector.batches == []
                assert collector.statuses == []
                assert agent.facts.outbox_records == 1
                assert not agent.task.done()
    finally:
        await agent.stop()
        broker.kill()


async def test_tls_1_1_is_refused(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    handshakes: list[int] = []
    server = await asyncio.start_server(lambda reader, writer: handshakes.append(1), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    agent = await Agent(tmp_path / "state", Mqtt(host="127.0.0.1", port=port, ca_file=str(tmp_path / "ca.pem"))).start()
    await asyncio.sleep(1.0)
    assert handshakes == []
    await agent.stop()
    server.close()


async def test_a_cancellation_that_comes_together_with_an_answer_is_not_swallowed() -> None:
    """Else a stop at the wrong moment would be waited for until the service manager kills."""
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(_Client("127.0.0.1")._wait_for(answer, None), name="waiting")
    await asyncio.sleep(0)
    answer.set_result(None)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_missing_certificate_file_stops_nothing(tmp_path: Path, broker: Broker) -> None:
    mqtt = Mqtt(host="127.0.0.1", port=broker.port, ca_file=str(tmp_path / "none.pem"))
    agent = await Agent(tmp_path / "state", mqtt).start()
    agent.submit(1)
    await asyncio.sleep(0.5)
    assert not agent.task.done()
    assert agent.facts.outbox_records == 1
    await agent.stop()


async def test_the_password_comes_from_its_file_and_the_user_name_is_the_agent(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    passwords = tmp_path / "passwords"
    passwords.write_text("a01:secret one\ncollector:c\n")
    process = await asyncio.create_subprocess_exec("mosquitto_passwd", "-U", str(passwords))
    assert await process.wait() == 0
    passwords.chmod(0o644)
    secret = tmp_path / "secret"
    secret.write_text("secret one\nsecond line\n")
    broker = Broker(tmp_path, f"password_file {passwords}", "allow_anonymous false")
    await broker.start()
    mqtt = Mqtt(host="127.0.0.1", port=broker.port, tls=False, password_file=str(secret))
    agent = await Agent(tmp_path / "state", mqtt).start()
    try:
        await until(lambda: agent.publisher._connected_s)
    finally:
        await agent.stop()
        broker.kill()


def test_the_tls_context_asks_for_a_certificate_and_tls_1_2() -> None:
    from agent.publisher import tls

    context = tls(Mqtt(host="example.net"))
    assert context is not None
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert tls(Mqtt(host="127.0.0.1", tls=False)) is None


def assert_numbers_and_content_are_kept(collector: Collector) -> None:
    """One number has one content, however often it was sent."""
    assert all(len(contents) == 1 for contents in collector.payloads.values())
