"""Births, wills and announced jobs."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from collector.fleet import MAX_AGENTS, Fleet
from collector.state import AgentState, State
from contract.codec import decode_ack, encode
from contract.messages import Ack, BatchId, Job
from store.interface import Row, StoreMisconfigured, StoreUnavailable
from store.point import Point
from store.register import Register
from store.sqlite import SqliteStore
from tests.collector.lab import AGENT, OUTBOX, SITES, Mosquitto, batch, box, record, running, status, until
from tests.fakes import RecordingStore

LATENCY = Job(probe="latency", target="core", role="core", interface="wlan0", period_s=60.0)
DNS = Job(probe="dns", target="portal", role="service", interface="wlan0", resolver="isp-a", period_s=300.0)


class Lab:
    """A fleet without a broker."""

    def __init__(self, folder: Path, store: Any = None) -> None:
        self.sites = folder / "sites.toml"
        self.sites.write_text(SITES)
        self.state = State(started_at=datetime.now(UTC))
        self.register = Register(self.sites)
        self.sent: list[tuple[str, Ack]] = []
        self.points: list[Point] = []
        self.time = 1_795_000_000.0
        self.fleet = Fleet(
            self.state,
            self.register,
            store or RecordingStore(),
            publish=self._publish,
            note=self.points.extend,
            wall=lambda: self.time,
        )

    def _publish(self, topic: str, payload: bytes) -> bool:
        self.sent.append((topic, decode_ack(payload)))
        return True

    async def compare(self, name: str = AGENT) -> list[tuple[tuple[str, ...], int, Any]]:
        """What is written now about the agent's jobs."""
        at_ns = self.fleet._changed.pop(name, None)
        if at_ns is not None:
            await self.fleet._compare(name, at_ns)
        found = [(point.tags[1:3], point.time_ns, point.fields) for point in self.points if point.series == "jobs"]
        self.points.clear()
        return found


def test_a_birth_is_answered_with_time_and_the_last_stored_batch(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.fleet.take_status(AGENT, encode(status(1)))
    topic, ack = lab.sent[-1]
    assert topic == f"wanggan/1/down/{AGENT}/ack"
    assert (ack.outbox, ack.batch, ack.last_stored) == (OUTBOX, None, None)
    assert ack.at.timestamp() == lab.time
    lab.state.agents[AGENT].last_stored = BatchId(OUTBOX, 41)
    lab.fleet.take_status(AGENT, encode(status(2)))
    assert lab.sent[-1][1].last_stored == 41
    lab.fleet.take_status(AGENT, encode(status(3, outbox=UUID(int=99))))
    assert lab.sent[-1][1].last_stored is None, "another outbox has other numbers"
    lab.fleet.take_status(AGENT, encode(status(3, online=False)))
    assert len(lab.sent) == 3, "nobody reads the answer to a will"


def test_the_will_of_an_old_session_is_ignored(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.fleet.take_status(AGENT, encode(status(1)))
    lab.fleet.take_status(AGENT, encode(status(2)))
    lab.fleet.take_status(AGENT, encode(status(1, online=False)))
    seen = lab.state.agents[AGENT].status
    assert seen is not None
    assert seen.online
    lab.fleet.take_status(AGENT, encode(status(2, online=False)))
    seen = lab.state.agents[AGENT].status
    assert seen is not None
    assert not seen.online
    lab.fleet.take_status(AGENT, encode(status(1)))
    seen = lab.state.agents[AGENT].status
    assert seen is not None
    assert seen.online, "an outbox that was replaced counts its sessions from the start"


@pytest.mark.parametrize("payload", [b"", b"{", b'{"online":true}', b"\xff", encode(status(1)).replace(b"1", b"NaN")])
def test_a_status_that_is_none_changes_nothing(payload: bytes, tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.fleet.take_status(AGENT, encode(status(4)))
    lab.fleet.take_status(AGENT, payload)
    seen = lab.state.agents[AGENT].status
    assert seen is not None
    assert seen.session == 4


def test_names_that_no_agent_may_have_are_not_kept(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    for name in ("all", "ab", "Big-One", "a b c", "x" * 33, "图书馆"):
        assert lab.fleet.agent(name) is None
    assert lab.state.agents == {}
    lab.state.agents.update({f"box-{number:06d}": AgentState() for number in range(MAX_AGENTS)})
    assert lab.fleet.agent("one-too-many") is None


def test_invented_names_do_not_crowd_out_a_registered_agent(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.state.agents |= {f"x{number:06}": AgentState() for number in range(MAX_AGENTS)}
    assert lab.fleet.agent("one-more") is None
    assert lab.fleet.agent(AGENT) is not None


async def test_statuses_of_impossible_names_leave_nothing_behind(tmp_path: Path, mosquitto: Mosquitto) -> None:
    async with running(tmp_path, mosquitto.port, RecordingStore()) as collector:
        for leaf in ("records", "status", "reply"):
            for name in ("all", "Box", "x" * 40):
                collector._route(name, leaf, b"{}", None)
        assert collector.state.counters["refused.unknown_sender"] == 9
        assert (collector._statuses._buckets, collector.state.agents) == ({}, {})


async def test_jobs_are_written_when_they_appear_change_and_go(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.fleet.take_status(AGENT, encode(status(1, LATENCY, DNS)))
    at_ns = int(lab.time) * 10**9
    assert await lab.compare() == [
        (("latency", "core"), at_ns, ("core", 60.0, 1)),
        (("dns", "portal"), at_ns, ("service", 300.0, 1)),
    ]
    lab.fleet.take_status(AGENT, encode(status(1, LATENCY, DNS)))
    assert await lab.compare() == [], "log the change, not the state"
    lab.time += 60
    slower = Job(probe="latency", target="core", role="core", interface="wlan0", period_s=120.0)
    lab.fleet.take_status(AGENT, encode(status(2, slower)))
    assert await lab.compare() == [
        (("latency", "core"), at_ns + 60 * 10**9, ("core", 120.0, 1)),
        (("dns", "portal"), at_ns + 60 * 10**9, ("service", 300.0, 0)),
    ]


async def test_announced_jobs_are_repeated_before_retention_takes_them(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.fleet.take_status(AGENT, encode(status(1, LATENCY, DNS)))
    await lab.compare()
    lab.time += 86_400
    lab.fleet.take_status(AGENT, encode(status(1, online=False)))
    lab.fleet.repeat_jobs()
    at_ns = int(lab.time) * 10**9
    jobs = [(point.time_ns, point.fields[2]) for point in lab.points if point.series == "jobs"]
    assert jobs == [(at_ns, 1), (at_ns, 1)]


async def test_an_unregistered_agents_jobs_are_written_when_it_is_registered(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.fleet.take_status("box-0009", encode(status(1, LATENCY)))
    assert await lab.compare("box-0009") == []
    lab.sites.write_text(SITES.replace("box-0002", "box-0009"))
    assert lab.register.refresh()
    lab.fleet.register_changed()
    assert len(await lab.compare("box-0009")) == 1


async def test_after_a_restart_the_store_says_what_was_announced(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db")
    await store.ensure()
    lab = Lab(tmp_path, store)
    lab.fleet.take_status(AGENT, encode(status(1, LATENCY, DNS)))
    lab.fleet._changed.clear()
    await lab.fleet._compare(AGENT, time.time_ns())
    await store.write(lab.points)

    again = Lab(tmp_path, store)
    again.fleet.take_status(AGENT, encode(status(2, DNS)))
    assert [(tags, fields[2]) for tags, _, fields in await again.compare()] == [(("latency", "core"), 0)]
    await store.close()


async def test_a_store_that_cannot_be_read_gets_all_jobs_again(tmp_path: Path) -> None:
    class WriteOnly(RecordingStore):
        async def latest(self, *_: Any, **__: Any) -> list[Row]:
            raise StoreMisconfigured("VictoriaMetrics is written to, not read")

    lab = Lab(tmp_path, WriteOnly())
    lab.fleet.take_status(AGENT, encode(status(1, LATENCY)))
    assert len(await lab.compare()) == 1


async def test_a_store_that_is_away_is_asked_again(tmp_path: Path) -> None:
    class Away(RecordingStore):
        async def latest(self, *_: Any, **__: Any) -> list[Row]:
            raise StoreUnavailable("refused")

    lab = Lab(tmp_path, Away())
    lab.fleet.take_status(AGENT, encode(status(1, LATENCY)))
    with pytest.raises(StoreUnavailable):
        await lab.compare()


def test_births_and_wills_are_noted_once(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    for session, online, second in ((1, True, 0), (1, True, 5), (1, False, 9), (2, True, 10)):
        lab.time = 1_795_000_000.0 + second
        lab.fleet.take_status(AGENT, encode(status(session, LATENCY, online=online)))
    lab.fleet.take_status(AGENT, encode(status(1, LATENCY, online=False)))  # of a session that is over
    lab.fleet.take_status("stranger", encode(status(1, LATENCY)))
    told = [(p.tags, p.time_ns // 10**9 - 1_795_000_000, p.fields[:2]) for p in lab.points if p.series == "status"]
    assert told == [((AGENT,), 0, (1, 1)), ((AGENT,), 9, (0, 1)), ((AGENT,), 10, (1, 2))]


async def test_jobs_of_a_silent_agent_are_repeated_too(tmp_path: Path) -> None:
    """After a restart of the collector, and without a birth: else nobody expects anything of it after a month."""
    store = SqliteStore(tmp_path / "store.db")
    await store.ensure()
    lab = Lab(tmp_path, store)
    lab.fleet.take_status(AGENT, encode(status(1, LATENCY, DNS)))
    lab.fleet._changed.clear()
    await lab.fleet._compare(AGENT, time.time_ns())
    await store.write(lab.points)

    again = Lab(tmp_path, store)
    again.fleet.repeat_jobs()
    task = asyncio.create_task(again.fleet.run())
    await until(lambda: len(again.points) == 2)
    task.cancel()
    assert {(p.tags[1], p.time_ns, p.fields[2]) for p in again.points} == {
        ("latency", 1_795_000_000 * 10**9, 1),
        ("dns", 1_795_000_000 * 10**9, 1),
    }
    await store.close()


async def test_through_the_broker(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """A retained birth is found by a collector that starts later; records outlive an old will."""
    store = RecordingStore()
    async with box(mosquitto.port) as agent:
        await agent.tell(status(1, LATENCY))
        async with running(tmp_path, mosquitto.port, store) as collector:
            assert (await agent.answer(None)).last_stored is None
            await until(lambda: store.of("jobs"))
            ((tags, _, fields),) = store.of("jobs")
            assert tags == (AGENT, "latency", "core", "wlan0", "", "")
            assert fields == ("core", 60.0, 1)
            await agent.send(3, batch(3, [record()]))
            await agent.answer(3)
            await agent.tell(status(1, online=False))
            await until(lambda: not collector.state.agents[AGENT].status.online)  # type: ignore[union-attr]
            await agent.send(4, batch(4, [record()]))
            await agent.answer(4)
            assert collector.state.agents[AGENT].status.online  # type: ignore[union-attr]
            await agent.tell(status(2, LATENCY))
            assert (await agent.answer(None)).last_stored == 4
