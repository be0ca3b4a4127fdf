"""A real web side for tests: its register, a store that can be told to fail, a server that stops and starts again."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from collector.state import AgentState, State
from collector.web import serve
from collector.web.recent import FRESH_S
from contract.messages import Job, Status
from contract.series import RAW_SERIES, FieldValue
from store.interface import Block, Row, StoreUnavailable
from store.point import Point
from store.sqlite import SqliteStore


@dataclass(frozen=True)
class Names:
    zh: str
    en: str


@dataclass(frozen=True)
class Venue:
    slug: str
    name: Names
    type: str


@dataclass(frozen=True)
class Site:
    agent: str
    interface: str
    venue: str
    network: str


@dataclass
class Register:
    """A site register of plain lists."""

    venues: list[Venue] = field(default_factory=list)
    assigned: list[Site] = field(default_factory=list)

    def venue(self, slug: str) -> Venue | None:
        return next((venue for venue in self.venues if venue.slug == slug), None)

    def sites(self, at: datetime) -> Iterable[Site]:
        return self.assigned


@dataclass(frozen=True)
class Login:
    user: str
    password_file: Path


@dataclass(frozen=True)
class Settings:
    port: int
    listen: str = "127.0.0.1"
    simulated: bool = False
    login: Login | None = None
    reports_folder: Path | None = None


class TroubledStore:
    """A real SQLite store that fails while `broken` says why, or hangs; and counts its queries."""

    def __init__(self, path: Path) -> None:
        self._store = SqliteStore(path)
        self.broken: str | None = None
        self.hangs = False
        self.queries = 0

    async def _ask(self) -> None:
        self.queries += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.broken is not None:
            raise StoreUnavailable(self.broken)

    async def ensure(self) -> None:
        await self._store.ensure()

    async def close(self) -> None:
        await self._store.close()

    async def write(self, points: Sequence[Point]) -> None:
        refused = await self._store.write(points)
        assert refused == []

    async def rows(
        self, series: str, start_ns: int, end_ns: int, *, where: Mapping[str, str] | None = None
    ) -> AsyncIterator[Row]:
        await self._ask()
        async for row in self._store.rows(series, start_ns, end_ns, where=where):
            yield row

    async def columns(
        self, series: str, fields: Sequence[str], start_ns: int, end_ns: int, *, where: Mapping[str, str] | None = None
    ) -> AsyncIterator[Block]:
        """What is read once a minute is not counted."""
        if self.hangs:
            await asyncio.Event().wait()
        if self.broken is not None:
            raise StoreUnavailable(self.broken)
        async for block in self._store.columns(series, fields, start_ns, end_ns, where=where):
            yield block

    async def latest(
        self, series: str, by: Sequence[str], *, since_ns: int, where: Mapping[str, str] | None = None
    ) -> list[Row]:
        await self._ask()
        return await self._store.latest(series, by, since_ns=since_ns, where=where)


@contextlib.asynccontextmanager
async def open_store(path: Path) -> AsyncIterator[TroubledStore]:
    """A store in the file `path`, made ready."""
    store = TroubledStore(path)
    await store.ensure()
    try:
        yield store
    finally:
        await store.close()


def point(
    probe: str,
    agent: str,
    venue: str,
    *,
    at: datetime,
    target: str = "-",
    network: str = "wifi",
    interface: str = "wlan0",
    provider: str = "",
    resolver: str = "",
    outcome: str = "ok",
    reason: str | None = None,
    detail: str | None = None,
    **values: FieldValue,
) -> Point:
    """A stored record of `probe`."""
    series = RAW_SERIES[probe]
    unknown = values.keys() - series.fields.keys()
    assert not unknown, unknown
    fields = values | {
        "ok": int(outcome == "ok"),
        "attempted": int(outcome in ("ok", "failed")),
        "outcome": outcome,
        "reason": reason,
        "detail": detail,
        "clock": "synced",
        "duration_s": 1.0,
    }
    tags = (agent, venue, network, target, interface, provider, resolver)
    time_ns = int(at.timestamp() * 1e9)
    return Point(probe, tags, time_ns, tuple(fields.get(name) for name in series.fields))


def job(probe: str, target: str = "-", period_s: float = 60.0, **more: str | None) -> Job:
    """An announced job on wlan0."""
    return Job(probe=probe, target=target, period_s=period_s, **{"interface": "wlan0"} | more)  # type: ignore[arg-type]


def birth(*jobs: Job, online: bool = True) -> Status:
    return Status(online=online, session=1, version="0.1.0", config_version=1, outbox=UUID(int=1), jobs=list(jobs))


def now() -> datetime:
    return datetime.now(UTC)


def ago(seconds: float) -> datetime:
    return now() - timedelta(seconds=seconds)


def connected() -> State:
    """A collector whose links stand."""
    state = State(started_at=ago(7200))
    state.broker.change(True, ago(7200))
    state.store.change(True, ago(7200))
    return state


def heard(*jobs: Job) -> AgentState:
    """A registered agent, heard this second."""
    return AgentState(status=birth(*jobs), status_at=ago(3600), last_batch_at=now(), registered=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Website:
    """The web side on a free port."""

    store: TroubledStore
    state: State = field(default_factory=connected)
    register: Register = field(default_factory=Register)
    settings: Settings = field(default_factory=lambda: Settings(free_port()))
    fresh_s: float = FRESH_S
    _task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    async def start(self) -> None:
        """Return when it answers."""
        self._task = asyncio.create_task(
            serve(self.settings, self.state, self.store, self.register, fresh_s=self.fresh_s),  # type: ignore[arg-type]
            name="test: web",
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not self._task.done():
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.settings.port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
        if self._task.done():
            dead, self._task = self._task, None
            dead.result()
        raise TimeoutError("the web side does not answer")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
