"""Batch in, points stored, answer out: through a real broker, into a store that can be told to fail."""

import asyncio
import json
import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from collector import ingest as module
from collector.config import load
from collector.deadletters import DeadLetters
from collector.ingest import Timing
from collector.main import Collector
from contract.codec import encode
from contract.messages import MAX_BYTES, BatchId
from contract.series import RAW_SERIES
from store.interface import StoreError, StoreLimit, StoreMisconfigured, StoreUnavailable
from tests.collector.lab import (
    AGENT,
    OUTBOX,
    Mosquitto,
    batch,
    box,
    now,
    record,
    running,
    status,
    until,
    write_files,
)
from tests.fakes import RecordingStore


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts at a store that is away come soon."""
    quick = Timing(linger_s=0.01, retry_s=(0.02, 0.05), misconfigured_s=0.1, ping_s=0.05)
    monkeypatch.setattr("collector.main.Timing", lambda **_: quick)


def letters_of(collector: Collector) -> list[tuple[int | None, str, str]]:
    """Index, reason and refusal of every dead letter."""
    found = DeadLetters(collector.settings.state, 2**20).letters()
    return [(letter.index, letter.reason, letter.refusal) for letter in found]


def counted(collector: Collector) -> dict[str, int]:
    names = ("received", "stored", "rejected", "later", "dropped", "dead_letters")
    return {name: collector.state.counters[name] for name in names if collector.state.counters[name]}


async def test_a_batch_is_stored_and_answered(tmp_path: Path, mosquitto: Mosquitto) -> None:
    store = RecordingStore()
    async with running(tmp_path, mosquitto.port, store) as collector, box(mosquitto.port) as agent:
        await agent.send(7, batch(7, [record() for _ in range(10)]))
        ack = await agent.answer(7)
        assert (ack.outbox, ack.stored, ack.rejected, ack.later) == (OUTBOX, 10, [], None)
        assert abs((ack.at - now()).total_seconds()) < 30
        assert len(store.of("latency")) == 10
        assert counted(collector) == {"received": 10, "stored": 10}
        seen = collector.state.agents[AGENT]
        assert seen.registered
        assert seen.last_stored == BatchId(OUTBOX, 7)
        assert seen.clock_offset_ms is not None
        assert abs(seen.clock_offset_ms) < 30_000
        assert collector.state.queue_bytes == 0

        await agent.send(7, batch(7, [record() for _ in range(10)]))
        assert (await agent.answer(7)).stored == 10, "an answer that was lost is given again"


async def test_hours_that_were_rolled_up_are_told_with_the_records(tmp_path: Path, mosquitto: Mosquitto) -> None:
    store = RecordingStore()
    hour_s = int(time.time()) // 3600 * 3600
    late = [record(slot=datetime.fromtimestamp(hour_s - 86_400 + second, UTC)) for second in (0, 1, 3599, 3600)]
    async with running(tmp_path, mosquitto.port, store), box(mosquitto.port) as agent:
        await agent.send(1, batch(1, [*late, record()]))
        assert (await agent.answer(1)).stored == 5
        told = [(tags, time_ns // 10**9 - hour_s, fields[0]) for tags, time_ns, fields in store.of("touched")]
        assert sorted(told) == [((AGENT,), -86_400, 3), ((AGENT,), -82_800, 1)]
        assert all(abs(float(fields[1] or 0) - time.time()) < 60 for _, _, fields in store.of("touched"))
        assert store.writes == [7], "in one write: none without the other"
        await agent.send(2, batch(2, [record()]))
        await agent.answer(2)
        assert len(store.of("touched")) == 2


async def test_no_answer_before_the_store_has_it(tmp_path: Path, mosquitto: Mosquitto) -> None:
    store = RecordingStore()
    store.gate.clear()
    async with running(tmp_path, mosquitto.port, store) as collector, box(mosquitto.port) as agent:
        await agent.send(1, batch(1, [record()]))
        await until(lambda: store.writes)
        await agent.send(1, batch(1, [record()]))  # impatience: the same batch again
        await until(lambda: collector.state.counters["repeated"] == 1)
        await asyncio.sleep(0.2)
        assert agent.acks == []
        assert counted(collector) == {"received": 2}
        store.gate.set()
        assert (await agent.answer(1)).stored == 1
        await asyncio.sleep(0.1)
        assert agent.acks == []
        assert store.writes == [1], "one copy was kept"


async def test_acknowledgements_are_held_where_the_store_is_not_durable_at_once(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    store = RecordingStore(ack_hold_s=0.6)
    async with running(tmp_path, mosquitto.port, store), box(mosquitto.port) as agent:
        began = time.monotonic()
        await agent.send(1, batch(1, [record()]))
        await until(lambda: store.of("latency"))
        await agent.answer(1)
        assert time.monotonic() - began >= 0.6


async def test_a_store_that_went_away_while_answers_were_held_gets_them_again(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    store = RecordingStore(ack_hold_s=0.5)
    async with running(tmp_path, mosquitto.port, store) as collector, box(mosquitto.port) as agent:
        await agent.send(1, batch(1, [record()]))
        await until(lambda: store.of("latency"))
        store.failure = StoreUnavailable("killed")
        await until(lambda: not collector.state.store.up)
        store.failure = None
        await asyncio.sleep(0.8)
        assert agent.acks == []
        await agent.send(1, batch(1, [record()]))
        assert (await agent.answer(1)).stored == 1


async def test_one_bad_record_of_a_hundred_costs_no_other(tmp_path: Path, mosquitto: Mosquitto) -> None:
    store = RecordingStore()
    tree = json.loads(encode(batch(1, [record(values=None) for _ in range(100)])))
    tree["records"][42]["duration_s"] = "long"
    async with running(tmp_path, mosquitto.port, store) as collector, box(mosquitto.port) as agent:
        await agent.send(1, json.dumps(tree, separators=(",", ":")).encode())
        ack = await agent.answer(1)
        assert (ack.stored, ack.rejected, ack.later) == (99, [(42, "invalid")], None)
        assert len(store.of("latency")) == 99
        assert letters_of(collector) == [(42, "invalid", "bad_field")]
        assert counted(collector) == {"received": 100, "stored": 99, "rejected": 1, "dead_letters": 1}


async def test_what_may_pass_later_is_not_settled(tmp_path: Path, mosquitto: Mosquitto) -> None:
    store = RecordingStore()
    bad = [
        ([record(), record(now() + timedelta(days=1))], "clock_ahead"),
        ([record(), record(interface="eth7")], "unknown_agent"),
    ]
    async with running(tmp_path, mosquitto.port, store) as collector, box(mosquitto.port) as agent:
        for number, (records, reason) in enumerate(bad):
            old = record(now() - timedelta(days=40))
            await agent.send(number, batch(number, [*records, old]))
            ack = await agent.answer(number)
            assert (ack.stored, ack.rejected, ack.later) == (1, [], reason)
        assert letters_of(collector) == [], "a dead letter belongs to a final answer"
        assert len(store.of("latency")) == 2
        assert counted(collector) == {"received": 6, "stored": 2, "later": 4}
        assert collector.state.agents[AGENT].last_stored is None

        tree = json.loads(encode(batch(5, [record(), record()])))
        tree["records"][0]["probe"] = "laser"
        await agent.send(5, json.dumps(tree).encode())
        ack = await agent.answer(5)
        assert (ack.stored, ack.rejected, ack.later) == (1, [], "unknown_probe")

        tree["v"], tree["batch"] = 2, 6
        await agent.send(6, json.dumps(tree).encode())
        ack = await agent.answer(6)
        assert (ack.stored, ack.rejected, ack.later) == (0, [], "unknown_version")

        await agent.send(7, batch(7, [record(now() - timedelta(days=40)), record(clock="none"), record()]))
        ack = await agent.answer(7)
        assert (ack.stored, ack.rejected, ack.later) == (1, [(0, "too_old"), (1, "invalid")], None)
        assert letters_of(collector) == [(0, "too_old", "too_old"), (1, "invalid", "clock_none")]


async def test_an_unregistered_agent_waits_and_its_records_come_after_registration(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    store = RecordingStore()
    async with running(tmp_path, mosquitto.port, store) as collector, box(mosquitto.port, "box-0009") as agent:
        await agent.tell(status(1))
        await agent.answer(None)
        await agent.send(1, batch(1, [record()], agent="box-0009"))
        assert (await agent.answer(1)).later == "unknown_agent"
        assert not collector.state.agents["box-0009"].registered
        assert store.of("latency") == []

        sites = tmp_path / "sites.toml"
        sites.write_text(sites.read_text().replace("box-0002", "box-0009"))
        await until(lambda: collector.state.agents["box-0009"].registered)
        await agent.send(1, batch(1, [record()], agent="box-0009"))
        assert (await agent.answer(1)).stored == 1


async def test_a_broken_register_is_an_alarm_and_the_old_one_holds(tmp_path: Path, mosquitto: Mosquitto) -> None:
    store = RecordingStore()
    async with running(tmp_path, mosquitto.port, store) as collector, box(mosquitto.port) as agent:
        sites = tmp_path / "sites.toml"
        good = sites.read_text()
        sites.write_text(good + "\n[[sites]]\n")
        await until(lambda: "register" in collector.state.alarms)
        assert "sites[2].agent: missing" in collector.state.alarms["register"]
        await agent.send(1, batch(1, [record()]))
        assert (await agent.answer(1)).stored == 1
        sites.write_text(good)
        await until(lambda: "register" not in collector.state.alarms)


UNDECODABLE = {
    "no JSON": b"{",
    "NaN": encode(batch(1, [record()])).replace(b'"records":[', b'"x":NaN,"records":['),
    "depth 1,000": b'{"records":' * 1000,
    "depth 1,000 beside": encode(batch(1, [record()]))[:-1] + b',"x":' + b"[" * 1000 + b"]" * 1000 + b"}",
    "duplicate keys": encode(batch(1, [record()]))[:-1] + b',"v":1}',
    "over 64 KiB": encode(batch(1, [record()]))[:-1] + b',"x":"' + b"x" * MAX_BYTES + b'"}',
    "not UTF-8": encode(batch(1, [record()])).replace(b"core", b"\xff\xfe"),
    "101 records": encode(batch(1, [record()])).replace(b"[{", b"[" + b"{}," * 100 + b"{"),
}  # fmt: skip


@pytest.mark.parametrize("what", UNDECODABLE)
async def test_what_cannot_be_decoded_is_answered_by_its_correlation_data(
    what: str, tmp_path: Path, mosquitto: Mosquitto
) -> None:
    store = RecordingStore()
    async with running(tmp_path, mosquitto.port, store) as collector, box(mosquitto.port) as agent:
        await agent.send(1, UNDECODABLE[what])
        ack = await agent.answer(1)
        assert (ack.outbox, ack.stored, ack.rejected, ack.later) == (OUTBOX, 0, [(None, "invalid")], None)
        (letter,) = letters_of(collector)
        assert letter[:2] == (None, "invalid")
        assert collector.state.counters[f"refused.{letter[2]}"] == 1
        assert store.points == {}
        await agent.send(2, batch(2, [record()]))
        assert (await agent.answer(2)).stored == 1


async def test_identity_must_be_the_senders_own(tmp_path: Path, mosquitto: Mosquitto) -> None:
    store = RecordingStore()
    async with running(tmp_path, mosquitto.port, store), box(mosquitto.port) as agent:
        await agent.send(1, batch(1, [record()], agent="box-0002"))
        assert (await agent.answer(1)).rejected == [(None, "invalid")]
        await agent.send(2, batch(3, [record()]))
        assert (await agent.answer(2)).rejected == [(None, "invalid")]
        await agent.send(4, batch(4, [record()], outbox=UUID(int=5)))
        assert (await agent.answer(4)).rejected == [(None, "invalid")]
        assert store.points == {}


async def test_unknown_fields_are_tolerated(tmp_path: Path, mosquitto: Mosquitto) -> None:
    store = RecordingStore()
    tree = json.loads(encode(batch(1, [record()])))
    tree["colour"] = tree["records"][0]["colour"] = tree["records"][0]["values"]["colour"] = "green"
    async with running(tmp_path, mosquitto.port, store), box(mosquitto.port) as agent:
        await agent.send(1, json.dumps(tree).encode())
        assert (await agent.answer(1)).stored == 1
        assert len(store.of("latency")) == 1


async def test_a_flood_is_answered_later_and_does_not_hurt_others(tmp_path: Path, mosquitto: Mosquitto) -> None:
    store = RecordingStore()
    async with (
        running(tmp_path, mosquitto.port, store) as collector,
        box(mosquitto.port) as flooder,
        box(mosquitto.port, "box-0002") as other,
    ):
        payload = encode(batch(1, [record()])).replace(b'"batch":1,', b'"batch":%d,')
        for number in range(1500):
            await flooder.send(number, payload % number)
        await other.send(1, batch(1, [record()], agent="box-0002"))
        assert (await other.answer(1)).stored == 1
        await until(lambda: len(flooder.acks) == 1500)
        limited = [ack for ack in flooder.acks if ack.later == "rate_limited"]
        # 200 at once, and 10 a second for as long as the sending took.
        assert 800 < len(limited) <= 1300
        assert all(ack.stored == 0 and ack.rejected == [] for ack in limited)
        assert collector.state.counters["later.rate_limited"] == len(limited)
        assert counted(collector)["stored"] == 1501 - len(limited)


async def test_the_broker_keeps_what_is_enormous_from_us(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """10 MB: mosquitto's own limit ends the sender's connection; 300 kB: our Maximum Packet Size."""
    store = RecordingStore()
    async with running(tmp_path, mosquitto.port, store) as collector:
        async with box(mosquitto.port) as agent:
            await agent.send(1, b'{"x":"' + b"x" * 300_000 + b'"}')
            await agent.send(2, batch(2, [record()]))
            assert (await agent.answer(2)).stored == 1
            assert agent.acks == []
        assert collector.state.counters["received"] == 1


async def test_database_down_then_up(tmp_path: Path, mosquitto: Mosquitto) -> None:
    store = RecordingStore()
    async with running(tmp_path, mosquitto.port, store) as collector, box(mosquitto.port) as agent:
        store.failure = StoreUnavailable("connection refused")
        await agent.send(1, batch(1, [record()]))
        await until(lambda: len(store.writes) >= 3)
        assert not collector.state.store.up
        assert collector.state.store.reason == "connection refused"
        for number in range(2, 30):
            await agent.send(number, batch(number, [record()]))
            await agent.send(number, batch(number, [record()]))
        await until(lambda: collector.state.counters["repeated"] == 28)
        assert agent.acks == []
        assert collector.state.queue_bytes > 0
        store.failure = None
        await until(lambda: len(agent.acks) == 29)
        assert len(store.of("latency")) == 29, "one copy of each batch was kept"
        assert collector.state.store.up
        assert collector.state.queue_bytes == 0


async def test_a_misconfigured_store_stops_the_writing_and_says_why(tmp_path: Path, mosquitto: Mosquitto) -> None:
    store = RecordingStore()
    async with running(tmp_path, mosquitto.port, store) as collector, box(mosquitto.port) as agent:
        store.failure = StoreMisconfigured("database missing, or server older than 1.8: use endpoint /write")
        await agent.send(1, batch(1, [record()]))
        await until(lambda: not collector.state.store.up)
        assert collector.state.store.reason == str(store.failure)
        await asyncio.sleep(0.3)
        assert agent.acks == []
        store.failure = None
        assert (await agent.answer(1)).stored == 1


async def test_no_error_of_the_store_ends_the_collector(tmp_path: Path, mosquitto: Mosquitto) -> None:
    store = RecordingStore()
    store.failure = StoreError("retention policy conflicts with an existing policy")
    async with running(tmp_path, mosquitto.port, store) as collector, box(mosquitto.port) as agent:
        await until(lambda: collector.state.store.reason == str(store.failure))
        collector.ingest.minute()
        await asyncio.sleep(0.2)
        store.failure = None
        await until(lambda: collector.state.store.up)
        await agent.send(1, batch(1, [record()]))
        assert (await agent.answer(1)).stored == 1


async def test_a_batch_that_breaks_our_own_code_takes_no_other_with_it(
    tmp_path: Path, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RecordingStore()
    async with running(tmp_path, mosquitto.port, store) as collector, box(mosquitto.port) as agent:
        await until(lambda: collector.state.store.up)
        sound = collector.ingest._judge.judge

        def judge(agent: str, places: Any, now_us: int) -> Any:
            if len(places) == 2:
                raise RuntimeError("nobody foresaw this")
            return sound(agent, places, now_us)

        monkeypatch.setattr(collector.ingest._judge, "judge", judge)
        await agent.send(1, batch(1, [record(), record()]))
        await agent.send(2, batch(2, [record()]))
        assert (await agent.answer(2)).stored == 1
        assert collector.state.counters["refused.internal"] == 1
        monkeypatch.undo()
        await agent.send(1, batch(1, [record(), record()]))
        assert (await agent.answer(1)).stored == 2


async def test_a_full_store_is_no_fault_of_the_records(tmp_path: Path, mosquitto: Mosquitto) -> None:
    store = RecordingStore()
    async with running(tmp_path, mosquitto.port, store) as collector, box(mosquitto.port) as agent:
        await until(lambda: collector.state.store.up)
        store.failure = StoreLimit("max-values-per-tag limit exceeded")
        await agent.send(1, batch(1, [record(), record(clock="none")]))
        ack = await agent.answer(1)
        assert (ack.stored, ack.rejected, ack.later) == (0, [], "store_limit")
        assert letters_of(collector) == []
        assert collector.state.alarms["store_limit"] == "max-values-per-tag limit exceeded"
        store.failure = None
        await agent.send(1, batch(1, [record(), record(clock="none")]))
        ack = await agent.answer(1)
        assert (ack.stored, ack.rejected) == (1, [(1, "invalid")])
        assert "store_limit" not in collector.state.alarms


async def test_a_line_that_the_store_refuses_is_a_dead_letter_with_its_words(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    store = RecordingStore()
    place = list(RAW_SERIES["latency"].fields).index("detail")
    store.refuse = lambda point: "field type conflict" if point.fields[place] == "odd" else None
    async with (
        running(tmp_path, mosquitto.port, store) as collector,
        box(mosquitto.port) as agent,
        box(mosquitto.port, "box-0002") as other,
    ):
        store.gate.clear()
        await agent.send(0, batch(0, [record()]))  # keeps a writer busy, so that the next ones are written together
        await until(lambda: store.writes)
        await other.send(1, batch(1, [record(), record()], agent="box-0002"))
        await agent.send(1, batch(1, [record(clock="none"), record(), record(detail="odd"), record()]))
        store.gate.set()
        assert (await other.answer(1)).stored == 2
        ack = await agent.answer(1)
        assert ack.stored == 2
        assert sorted(ack.rejected) == [(0, "invalid"), (2, "invalid")]
        refused = [
            letter for letter in DeadLetters(collector.settings.state, 2**20).letters() if letter.refusal == "store"
        ]
        assert [(letter.index, letter.words) for letter in refused] == [(2, "field type conflict")]
        assert json.loads(refused[0].bytes() or b"")["detail"] == "odd"


async def test_the_queue_is_bounded_and_what_does_not_fit_is_counted(tmp_path: Path, mosquitto: Mosquitto) -> None:
    store = RecordingStore()
    store.gate.clear()
    limits = "queue_mib = 1\nmessages_per_s = 1000\nburst = 10000"
    async with running(tmp_path, mosquitto.port, store, limits) as collector, box(mosquitto.port) as agent:
        records = [record(detail="x" * 200) for _ in range(70)]
        for number in range(40):
            await agent.send(number, batch(number, records))
        await until(lambda: collector.state.counters["received"] == 40 * 70)
        assert collector.state.queue_bytes <= 2**20
        dropped = collector.state.counters["dropped"]
        assert dropped > 0
        assert dropped % 70 == 0
        store.gate.set()
        await until(lambda: len(agent.acks) == 40 - dropped // 70)
        answered = {ack.batch for ack in agent.acks}
        agent.acks.clear()
        for number in set(range(40)) - answered:
            # One by one: all of them at once would not fit again.
            await agent.send(number, batch(number, records))
            assert (await agent.answer(number)).stored == 70
        assert collector.state.queue_bytes == 0


async def test_no_dead_letter_no_rejection(
    tmp_path: Path, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RecordingStore()
    async with running(tmp_path, mosquitto.port, store) as collector, box(mosquitto.port) as agent:

        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(DeadLetters, "keep", full)
            await agent.send(1, batch(1, [record(), record(clock="none")]))
            await until(lambda: "dead_letters" in collector.state.alarms)
            await asyncio.sleep(0.1)
            assert agent.acks == []
        await agent.send(1, batch(1, [record(), record(clock="none")]))
        assert (await agent.answer(1)).rejected == [(1, "invalid")]
        assert collector.state.alarms == {}


async def test_broker_restart(tmp_path: Path, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.mqtt.RECONNECT_S", (0.05, 0.1))
    store = RecordingStore()
    async with running(tmp_path, mosquitto.port, store) as collector:
        for number in range(3):
            async with box(mosquitto.port) as agent:
                await agent.send(number, batch(number, [record()]))
                assert (await agent.answer(number)).stored == 1
            mosquitto.stop()
            await until(lambda: not collector.state.broker.up)
            assert collector.state.broker.reason
            mosquitto.start()
            await until(lambda: collector.state.broker.up)
        tasks = {task.get_name() for task in asyncio.all_tasks()}
        assert len([name for name in tasks if name.startswith("mqttium")]) < 10, "old clients leave nothing behind"


async def test_an_answer_that_the_broker_does_not_take_is_silence(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """The store has it, the broker is gone before the answer: the agent sends again, and it is one point."""
    store = RecordingStore()
    store.gate.clear()
    sent = batch(1, [record()])
    async with running(tmp_path, mosquitto.port, store) as collector:
        async with box(mosquitto.port) as agent:
            await agent.send(1, sent)
            await until(lambda: store.writes)
        mosquitto.stop()
        await until(lambda: not collector.state.broker.up)
        store.gate.set()
        await until(lambda: store.of("latency"))
        mosquitto.start()
        await until(lambda: collector.state.broker.up)
        async with box(mosquitto.port) as agent:
            await agent.send(1, sent)
            assert (await agent.answer(1)).stored == 1
    assert len(store.of("latency")) == 1


async def test_any_bytes_are_survived(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """Cut, flipped and spliced payloads: every one is answered or counted, the collector lives."""
    store = RecordingStore()
    chance = random.Random(7)
    good = encode(batch(1, [record() for _ in range(5)]))
    limits = "messages_per_s = 1000\nburst = 10000"
    async with running(tmp_path, mosquitto.port, store, limits) as collector, box(mosquitto.port) as agent:
        for number in range(300):
            data = bytearray(good.replace(b'"batch":1,', f'"batch":{number},'.encode()))
            for _ in range(chance.randrange(1, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            await agent.send(number, bytes(data[: chance.randrange(1, len(data) + 1)] if number % 2 else data))
        await until(lambda: len(agent.acks) == 300)
        counters = collector.state.counters
        assert counters["received"] == counters["stored"] + counters["rejected"] + counters["later"]
        await agent.send(1000, batch(1000, [record()]))
        assert (await agent.answer(1000)).stored == 1


async def test_the_collectors_own_minute(tmp_path: Path, mosquitto: Mosquitto) -> None:
    store = RecordingStore()
    async with running(tmp_path, mosquitto.port, store) as collector, box(mosquitto.port) as agent:
        await agent.send(1, batch(1, [record() for _ in range(3)] + [record(clock="none")]))
        await agent.answer(1)
        collector.ingest.minute()
        await until(lambda: store.of("collector"))
        ((tags, time_ns, fields),) = store.of("collector")
        assert tags == ("collector",)
        assert time_ns % (60 * 10**9) == 0
        named = dict(zip(module.COLLECTOR.fields, fields, strict=True))
        lag = named.pop("lag_p95_ms")
        assert isinstance(lag, float)
        assert 0 < lag < 30_000
        assert named == {
            "received": 4, "stored": 3, "rejected": 1, "later": 0, "dead_letters": 1, "dropped": 0,
            "queue_bytes": 0, "connected": 1, "store_up": 1,
        }  # fmt: skip


async def test_a_group_shares_the_records(tmp_path: Path, mosquitto: Mosquitto) -> None:
    stores = [RecordingStore(), RecordingStore()]
    folders = [tmp_path / "a", tmp_path / "b"]
    collectors = []
    for number, folder in enumerate(folders):
        folder.mkdir()
        file = write_files(folder, mosquitto.port)
        file.write_text(
            f'name = "collector-{number}"\n'
            + file.read_text().replace("tls = false", 'tls = false\nshare_group = "all"')
        )
        collectors.append(Collector(load(file), stores[number]))
    tasks = [asyncio.create_task(collector.run()) for collector in collectors]
    try:
        await until(lambda: all(collector.state.broker.up for collector in collectors))
        async with box(mosquitto.port) as agent:
            await agent.tell(status(1))
            for number in range(40):
                await agent.send(number, batch(number, [record()]))
            await until(lambda: sum(ack.batch is not None for ack in agent.acks) == 40)
        assert all(store.of("latency") for store in stores)
        assert sum(len(store.of("latency")) for store in stores) == 40
        assert all(collector.state.agents[AGENT].status for collector in collectors), "births reach every collector"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_a_delivery_is_small() -> None:
    """The queue's bound is in bytes of payload: what stands around one must not outweigh it."""
    assert len(msgspec.structs.fields(module.Delivery)) < 20
