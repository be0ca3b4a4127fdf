"""One run's laboratory: a broker, a store, a collector and agents, each a process of its own that may be killed."""

import asyncio
import itertools
import json
import random
import re
import shutil
import sqlite3
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import msgspec

from bench import readback
from bench.collector import collector_files
from bench.programs import Broker, Influx, Program, free_port, listens, python
from bench.source import Source, identity
from bench.truth import Account, Gauges, Id, Verdict, judge
from contract.series import RAW

Engine = Literal["influx", "sqlite"]
Plant = Literal["none", "ack_before_write", "delete_on_puback", "arrival_as_slot"]
"""Bugs that the harness must find; only its own entry points know them."""


class Size(NamedTuple):
    """How big a run is."""

    agents: int
    processes: int
    """Which the agents share."""
    rate: float
    """Records a second of all agents."""
    kills: int
    """Of each kind."""
    speed: float
    """How many times faster than real the agents' waits pass."""

    @property
    def hold_s(self) -> float:
        """Real seconds that a record may wait in an agent's memory."""
        return 10.0 / self.speed


class Fleet(msgspec.Struct, kw_only=True, frozen=True):
    """What one process of agents is told, as JSON on its disk."""

    agents: dict[str, int]
    """Its agents, with their places among the gauges."""
    folder: str
    broker_port: int
    start: datetime
    period_ms: int
    speed: float
    sample_s: float = 0.01
    """Age of a gauge, at most."""
    plant: Plant = "none"
    odd: dict[str, dict[int, str]] = {}
    """Agent: number: probe of the records that a scenario makes special."""


@dataclass
class Kill:
    """One SIGKILL, as it is logged."""

    at_s: float
    """Seconds since the start of the run."""
    kind: str
    victim: str
    in_flight: int
    """Batches that were sent and not answered at that moment, by the agents' gauges."""
    down_s: float
    unanswered: int = 0
    """Records without a final answer at that moment, counted afterwards from the agents' journals."""


@dataclass
class Outcome:
    """What one scenario found."""

    scenario: str
    engine: Engine
    verdict: Verdict
    kills: list[Kill] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """What the scenario itself expected and did not see."""
    notes: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def bad(self) -> bool:
        return bool(self.verdict.faults or self.complaints)

    def kills_by_kind(self) -> Counter[str]:
        return Counter(kill.kind for kill in self.kills)


class Group(Program):
    """One process of agents."""

    def __init__(self, name: str, members: dict[str, int], folder: Path) -> None:
        self.members = members
        file = folder / f"{name}.json"
        super().__init__(name, python("bench.agents", str(file)), folder, ready=(folder / f"{name}.up").exists)
        self._up = folder / f"{name}.up"

    async def start(self, timeout_s: float = 30.0) -> None:
        self._up.unlink(missing_ok=True)
        await super().start(timeout_s)


class Lab:
    """Nothing runs before :meth:`start`; everything has ended after the `async with`."""

    def __init__(self, folder: Path, *, engine: Engine, size: Size, seed: int, plant: Plant = "none") -> None:
        self.folder = folder
        self.engine: Engine = engine
        self.size = size
        self.plant: Plant = plant
        self.chance = random.Random(f"{seed}/{engine}")
        self.agents = {f"agent-{place:03d}": place for place in range(size.agents)}
        self.places = {
            agent: {"interface": "wlan0", "venue": f"hall-{place % 7}", "network": ("wifi", "gov")[place % 2]}
            for agent, place in self.agents.items()
        }
        self.odd: dict[str, dict[int, str]] = {}
        self.accounts: dict[str, Account] = {agent: Account() for agent in self.agents}
        self.kills: list[Kill] = []
        self.broker = Broker(folder)
        self.influx = Influx(folder) if engine == "influx" else None
        self.store_file = folder / "store.db"
        self.http_port = free_port()
        config = collector_files(
            folder,
            broker_port=self.broker.port,
            influx_url=self.influx.url if self.influx else None,
            store_file=self.store_file,
            http_port=self.http_port,
            places=self.places,
        )
        command = ["wanggan", "collector"] if plant == "none" else ["bench.planted", plant]
        self.collector = Program(
            "collector", python(*command, "run", "--config", str(config)), folder, ready=listens(self.http_port)
        )
        shares = [
            dict(list(self.agents.items())[first :: size.processes])
            for first in range(min(size.processes, size.agents))
        ]
        self.groups = [Group(f"agents-{number}", share, folder) for number, share in enumerate(shares)]
        self.gauges = Gauges(folder / "gauges", agents=size.agents)
        self.start_time = datetime.fromtimestamp(int(time.time()), UTC)
        self._feed = folder / "feed"
        self._restarts: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for restart in self._restarts:
            restart.cancel()
        for program in self.programs():
            program.kill()

    def programs(self) -> list[Program]:
        return [*self.groups, self.collector, self.broker, *([self.influx] if self.influx else [])]

    # -- running

    async def start(self, *, without: Iterable[Program] = ()) -> None:
        """Start everything but `without`; the agents begin to feed."""
        left_out = set(without)
        servers = [program for program in (self.broker, self.influx) if program and program not in left_out]
        await asyncio.gather(*(server.start() for server in servers))
        if self.collector not in left_out:
            await self.collector.start()
        await self.start_agents([group for group in self.groups if group not in left_out])

    async def start_agents(self, groups: Sequence[Group]) -> None:
        """Let them feed from now on."""
        self._feed.touch()
        for group in groups:
            fleet = Fleet(
                agents=group.members,
                folder=str(self.folder),
                broker_port=self.broker.port,
                start=self.start_time,
                period_ms=self.period_ms,
                speed=self.size.speed,
                sample_s=max(0.01, 0.002 * self.size.agents),
                plant=self.plant,
                odd={agent: self.odd[agent] for agent in group.members if agent in self.odd},
            )
            (self.folder / f"{group.name}.json").write_bytes(msgspec.json.encode(fleet))
            await group.start()

    def number_in(self, seconds: float) -> int:
        """Number of the first record whose slot comes in so many seconds or later, and that has values."""
        number = int((time.time() + seconds - self.start_time.timestamp()) * 1000 / self.period_ms)
        source = Source("agent-000", self.start_time, self.period_ms)
        return next(n for n in itertools.count(number) if source.record(n).values is not None)

    @property
    def period_ms(self) -> int:
        return round(1000 * self.size.agents / self.size.rate)

    def sources(self) -> dict[str, Source]:
        return {agent: Source(agent, self.start_time, self.period_ms, self.odd.get(agent, {})) for agent in self.agents}

    def group_of(self, agent: str) -> Group:
        return next(group for group in self.groups if agent in group.members)

    def in_flight(self, groups: Iterable[Group] | None = None) -> int:
        """Batches sent and not answered, of the agents that run now."""
        return self.gauges.in_flight(
            place for group in groups or self.groups if group.up for place in group.members.values()
        )

    def waiting(self, agents: Iterable[str] | None = None) -> int:
        """Records that the agents hold now."""
        return self.gauges.waiting(self.agents[agent] for agent in agents or self.agents)

    # -- killing

    async def kill(self, program: Program, kind: str, down_s: float) -> None:
        """SIGKILL `program` at an instant with at least one batch in flight; it is started again after `down_s`.

        :raises RuntimeError: when no batch was in flight for two minutes.
        """
        groups = [program] if isinstance(program, Group) else None
        deadline = time.monotonic() + 120
        while not self.in_flight(groups):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{program.name}: no batch in flight for two minutes")
            await asyncio.sleep(0.002)
        if kind == "database" and program is self.collector:
            await self._until_commit()
        self.crash(program, kind, down_s)

    def crash(self, program: Program, kind: str, down_s: float) -> None:
        """SIGKILL `program` now."""
        in_flight = self.in_flight([program] if isinstance(program, Group) else None)
        program.kill()
        self.kills.append(Kill(time.time() - self.start_time.timestamp(), kind, program.name, in_flight, down_s))
        if isinstance(program, Group):
            for agent in program.members:
                self.accounts[agent].kills.append(time.time())
                self.accounts[agent].committed |= self.on_disk(agent)
        self._restarts.append(asyncio.create_task(self._restart(program, down_s), name=f"restart {program.name}"))

    async def _restart(self, program: Program, down_s: float) -> None:
        await asyncio.sleep(down_s)
        await program.start()

    async def _until_commit(self) -> None:
        """Return in the instant in which the embedded store's log has grown: before its commit has returned."""
        log = self.store_file.with_name(self.store_file.name + "-wal")
        before = _stamp(log)
        deadline = time.monotonic() + 20
        while (_stamp(log) == before or not self.in_flight()) and time.monotonic() < deadline:
            await asyncio.sleep(0.0002)

    def on_disk(self, agent: str) -> set[int]:
        """Numbers of the records that a stopped agent's outbox file holds."""
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for name in ("outbox.db", "outbox.db-wal"):
            file = self.folder / agent / name
            if file.exists():
                shutil.copy(file, copy / name)
        if not (copy / "outbox.db").exists():
            return set()
        with closing(sqlite3.connect(copy / "outbox.db")) as database:
            try:
                rows = database.execute("SELECT content FROM kept UNION ALL SELECT content FROM quarantine").fetchall()
            except sqlite3.OperationalError:  # killed before its tables were made
                return set()
        records = [record for (content,) in rows for record in _records(json.loads(content))]
        return {found[1] for record in records if (found := identity(record["detail"]))}

    def outbox_uuid(self, agent: str) -> str | None:
        """Identity of the outbox that a stopped agent left on its disk, or of its copy."""
        with closing(sqlite3.connect(f"file:{self.folder / agent / 'outbox.db'}?mode=ro", uri=True)) as database:
            (value,) = database.execute("SELECT value FROM memo WHERE name = 'outbox'").fetchone()
        return str(json.loads(value))

    def facts(self, agent: str) -> dict[str, Any]:
        """What an agent knew of itself a moment ago."""
        found: dict[str, Any] = json.loads((self.folder / f"{agent}.facts").read_bytes())
        return found

    def dead_letters(self) -> list[str]:
        """Lines of what the collector has put aside."""
        files = [file for file in (self.folder / "state").rglob("*") if file.is_file()]
        return [line for file in files for line in file.read_text().splitlines()]

    def answered_later(self) -> set[str]:
        """Reasons for `later` that the running collector has given."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/metrics", timeout=10) as answer:
            lines = re.findall(r'wanggan_records_later_total\{reason="(\w+)"\} (\d+)', answer.read().decode())
        return {reason for reason, count in lines if int(count)}

    async def spoil(self, series: str, name: str) -> None:
        """Give a field another type in the database, so that it refuses every line with the right one."""
        assert self.influx is not None
        line = f'{series},agent={readback.SPOILER} {name}="text" {time.time_ns()}'
        while True:
            try:
                urllib.request.urlopen(f"{self.influx.url}/write?db={RAW}", line.encode(), timeout=10).close()
            except urllib.error.HTTPError as error:
                if error.code != 404:
                    raise
            else:
                return
            await asyncio.sleep(0.2)  # the collector has not made the database yet

    # -- the end

    async def finish(
        self, scenario: str, *, drain_s: float, keeps: Sequence[Id] = (), may_reject: Sequence[Id] = ()
    ) -> Outcome:
        """Stop feeding, let everything drain, stop the agents, compare.

        `keeps` are records that the agents may have put into quarantine, `may_reject` those that the
        scenario wants refused.
        """
        self._feed.unlink()
        await asyncio.gather(*self._restarts)
        began = time.monotonic()
        complaints = []
        quiet = 0
        while quiet < 5:
            quiet = quiet + 1 if not self.waiting() and not self.in_flight() else 0
            if time.monotonic() - began > drain_s:
                complaints.append(f"not drained after {drain_s:.0f} s: {self.waiting()} records wait")
                break
            await asyncio.sleep(0.2)
        drained_s = time.monotonic() - began
        await asyncio.gather(*(group.stop() for group in self.groups))
        for agent, account in self.accounts.items():
            account.committed |= self.on_disk(agent)
            told = Account.read(self.folder / f"{agent}.journal")
            account.submitted, account.stored, account.rejected = told.submitted, told.stored, told.rejected
            account.removed |= {number for kept, number in keeps if kept == agent}
        await self.collector.stop()
        if self.influx:
            points = await asyncio.to_thread(readback.from_influx, self.influx.url)
        else:
            points = await asyncio.to_thread(readback.from_sqlite, self.store_file)
        for kill in self.kills:
            at = kill.at_s + self.start_time.timestamp()
            kill.unanswered = sum(account.unanswered(at) for account in self.accounts.values())
        verdict = judge(
            self.sources(), self.accounts, points, self.places, hold_s=self.size.hold_s, may_reject=may_reject
        )
        return Outcome(scenario, self.engine, verdict, self.kills, complaints, {"drained_s": round(drained_s, 1)})


def _stamp(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except FileNotFoundError:
        return (0, 0)
    return found.st_size, found.st_mtime_ns


def _records(content: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = content.get("records", [content])
    return found
