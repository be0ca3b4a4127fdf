"""The agents as their births and wills show them, and the jobs that they announce."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from collector.state import AgentState, State
from contract import topics
from contract.codec import PayloadError, decode_status, encode
from contract.fields import AgentId
from contract.messages import Ack, BatchId, Job, Status
from contract.series import JOBS, STATUS, FieldValue
from store.interface import Store, StoreError, StoreUnavailable
from store.point import Point
from store.register import Register

log = logging.getLogger(__name__)

MAX_AGENTS: Final = 20_000
"""More are not looked at, but for registered ones: where anybody may connect, anybody may call himself an agent."""
RETRY_S: Final = 5.0

Publish = Callable[[str, bytes], bool]
_Identity = tuple[str, str, str, str, str]
"""Probe, target, interface, provider, resolver: an announced job among its agent's."""


class Fleet:
    """Keeps :attr:`State.agents`, answers births, writes the series `jobs` and `status`."""

    def __init__(
        self,
        state: State,
        register: Register,
        store: Store,
        *,
        publish: Publish,
        note: Callable[[list[Point]], None],
        wall: Callable[[], float],
    ) -> None:
        """:param note: takes points of our own, to be written with the next batch."""
        self._state = state
        self._register = register
        self._store = store
        self._publish = publish
        self._note = note
        self._wall = wall
        self._announced: dict[str, dict[_Identity, Job]] = {}
        """Of each agent, what the `jobs` series says."""
        self._changed: dict[str, int] = {}
        """Agents whose jobs are to be compared, and the time (ns) of what they announced."""
        self._repeating: dict[str, int] = {}
        """Agents whose jobs are to be read back and noted again, with the time (ns)."""
        self._wake = asyncio.Event()

    def agent(self, name: str) -> AgentState | None:
        """What is known of an agent; None when that is no legal id, or there are too many."""
        known = self._state.agents.get(name)
        if known is None:
            full = len(self._state.agents) >= MAX_AGENTS
            if not _is_agent_id(name) or (full and not self._register.knows(name)):
                return None
            known = self._state.agents[name] = AgentState(registered=self._register.knows(name))
            if not known.registered:
                log.info("agent %s waits for registration", name)
        return known

    def take_status(self, name: str, payload: bytes) -> None:
        """A birth or a will, retained or new. A will of another session than the last birth's is ignored."""
        agent = self.agent(name)
        if agent is None or not payload:  # an empty payload clears the retained one
            return
        try:
            status = decode_status(payload)
        except PayloadError as error:
            self._state.counters[f"refused.{error.refusal}"] += 1
            log.warning("agent %s: status refused: %s", name, error)
            return
        born = agent.status
        if not status.online and born is not None and born.session != status.session:
            log.info("agent %s: will of session %d ignored, %d lives", name, status.session, born.session)
            return
        if born is None or born.online != status.online:
            log.info("agent %s: %s", name, "online" if status.online else "offline")
        if agent.registered and (born is None or (born.online, born.session) != (status.online, status.session)):
            self._note([_presence(name, status, int(self._wall() * 1e6) * 1000)])
        agent.status = status
        agent.status_at = datetime.fromtimestamp(self._wall(), UTC)
        if status.online:
            self._answer_birth(name, agent, status)
            self._compare_later(name)

    def register_changed(self) -> None:
        """Look again who is registered."""
        for name, agent in self._state.agents.items():
            knows = self._register.knows(name)
            if knows and not agent.registered:
                log.info("agent %s is registered", name)
                if agent.status is not None:
                    self._note([_presence(name, agent.status, int(self._wall() * 1e6) * 1000)])
            agent.registered = knows
            self._compare_later(name)

    def repeat_jobs(self) -> None:
        """Note every job again, also of registered agents that are silent: what is written once only, retention takes
        away after a month, and then nobody expects anything of them."""
        at_ns = int(self._wall() * 1e6) * 1000
        for name in self._register.roll.agents:
            jobs = self._announced.get(name)
            if jobs is None:
                self._repeating[name] = at_ns
                self._wake.set()
            else:
                self._note([_point(name, job, at_ns, announced=True) for job in jobs.values()])

    async def run(self) -> None:
        """Write announced jobs that are new, changed or gone, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._each(self._changed, self._compare)
                await self._each(self._repeating, self._repeat)
            except StoreUnavailable:
                self._wake.set()
                await asyncio.sleep(RETRY_S)

    async def _each(self, due: dict[str, int], do: Callable[[str, int], Awaitable[None]]) -> None:
        """:raises StoreUnavailable: when it is away; what was not done is still due."""
        for name in list(due):
            at_ns = due.pop(name)
            try:
                await do(name, at_ns)
            except StoreUnavailable:
                due.setdefault(name, at_ns)
                raise

    async def _repeat(self, name: str, at_ns: int) -> None:
        jobs = await self._stored_jobs(name)
        self._note([_point(name, job, at_ns, announced=True) for job in jobs.values()])

    def _answer_birth(self, name: str, agent: AgentState, status: Status) -> None:
        last = agent.last_stored
        answer = Ack(
            outbox=status.outbox,
            batch=None,
            at=datetime.fromtimestamp(self._wall(), UTC),
            last_stored=last.batch if last is not None and last.outbox == status.outbox else None,
        )
        self._publish(topics.down(name, "ack"), encode(answer))

    def _compare_later(self, name: str) -> None:
        self._changed[name] = int(self._wall() * 1e6) * 1000
        self._wake.set()

    async def _compare(self, name: str, at_ns: int) -> None:
        agent = self._state.agents[name]
        # An unregistered agent gets no stored series: anybody could fill the store with names.
        if agent.status is None or not agent.status.online or not agent.registered:
            return
        before = self._announced.get(name)
        if before is None:
            before = await self._stored_jobs(name)
        now = {_identity(job): job for job in agent.status.jobs}
        points = [_point(name, job, at_ns, announced=True) for key, job in now.items() if before.get(key) != job]
        points += [_point(name, job, at_ns, announced=False) for key, job in before.items() if key not in now]
        self._announced[name] = now
        if points:
            self._note(points)

    async def _stored_jobs(self, name: str) -> dict[_Identity, Job]:
        """What the series says already; nothing where the store cannot be read, then all jobs are written again."""
        try:
            rows = await self._store.latest(JOBS.name, JOBS.tags, since_ns=0, where={"agent": name})
        except StoreUnavailable:
            raise
        except StoreError as error:
            log.debug("agent %s: jobs cannot be read back: %s", name, error)
            return {}
        jobs = [_job(row.tags, row.fields) for row in rows if row.fields.get("announced")]
        return {_identity(job): job for job in jobs}


def _is_agent_id(name: str) -> bool:
    try:
        msgspec.convert(name, AgentId)
    except msgspec.ValidationError:
        return False
    return True


def last_stored(known: BatchId | None, new: BatchId) -> BatchId:
    """The newer of two batches of one outbox; the new one where the outbox is another."""
    return known if known is not None and known.outbox == new.outbox and known.batch > new.batch else new


def _identity(job: Job) -> _Identity:
    return job.probe, job.target, job.interface, job.provider or "", job.resolver or ""


def _point(agent: str, job: Job, time_ns: int, *, announced: bool) -> Point:
    return Point(JOBS.name, (agent, *_identity(job)), time_ns, (job.role, job.period_s, int(announced)))


def _presence(agent: str, status: Status, time_ns: int) -> Point:
    fields = (int(status.online), status.session, status.version, str(status.outbox), status.config_version)
    return Point(STATUS.name, (agent,), time_ns, fields)


def _job(tags: dict[str, str], fields: dict[str, FieldValue]) -> Job:
    return msgspec.convert(
        {name: tags[name] or None for name in ("provider", "resolver")}
        | {name: tags[name] for name in ("probe", "target", "interface")}
        | {"role": fields.get("role"), "period_s": fields.get("period_s")},
        Job,
    )
