"""The virtual district live: each agent its own MQTT client with an outbox in memory, in real time or faster.

What an agent sent is kept until the collector says `stored` or `rejected`; `later` waits a minute, silence 30 s. At
most four batches are in flight. An agent that a fault takes off the network keeps its records and sends them later;
past `Limits.keep` records it loses some, and its `agent` records tell of them (:mod:`simulator.outbox`).
"""

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

from mqttium import MQTTError, MQTTProtocolVersion
from mqttium.api import AsyncClient, PublishMessage
from mqttium.types import Message, Properties
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from contract import topics
from contract.codec import PayloadError, decode_ack, encode
from contract.messages import MAX_RECORDS, Batch, BatchId, Job, Status
from contract.record import Record
from contract.values import Agent
from contract.vocabulary import Flag
from simulator.outbox import KEEP, Outbox
from simulator.virtual import VirtualAgent
from simulator.world import World

IN_FLIGHT: Final = 4
LATER_S: Final = 60.0
OLD_S: Final = 10.0
"""A record that waited longer is `replayed`."""
REST_S: Final = 90.0
"""What the last answers get at the end."""
TICK_S: Final = 5.0
HOUR_MS: Final = 3_600_000
AHEAD_MS: Final = 40 * 60_000
"""So much earlier than its slot a test may start: 5 % of half a day."""
BEHIND_MS: Final = 900_000
"""Of simulated time. Who is so far behind it makes up a past: its full outbox waits instead of losing records."""
SAY_S: Final = 60.0
"""The same trouble is told at most so often."""
CONNECTS_PER_S: Final = 200
VERSION: Final = "simulated"


class Place(Struct, frozen=True):
    """Where the broker is, and the folder of ``AGENT.password`` files where it asks for one."""

    host: str
    port: int
    passwords: Path | None = None


class Limits(Struct, frozen=True):
    """What an agent keeps to."""

    keep: int = KEEP
    """Records that it holds, at most."""
    silence_s: float = 30.0
    """A batch without an answer is sent again."""
    pause_s: float = 60.0
    """Between two attempts to connect, at most."""


class Counts(Struct):
    """Of the whole fleet, in records; `connected` in agents."""

    made: int = 0
    stored: int = 0
    rejected: int = 0
    dropped: int = 0
    """By full outboxes."""
    later: int = 0
    again: int = 0
    """Batches that were sent more than once."""
    connected: int = 0

    @property
    def waiting(self) -> int:
        return self.made - self.stored - self.rejected - self.dropped


class _Sent(Struct):
    payload: bytes
    records: int
    since_s: float
    """When its oldest record came."""
    again_s: float
    """When to send it again, if nothing was heard."""


class Pace:
    """Simulated time: `speed` times as fast as real time, and never ahead of the clock."""

    def __init__(self, start_ms: int, speed: float) -> None:
        self._start_ms, self._speed, self._began_s = start_ms, speed, time.monotonic()

    def wait_s(self, at_ms: float) -> float:
        """Until `at_ms` has come; negative when it is past."""
        pace_s = self._began_s + (at_ms - self._start_ms) / 1000 / self._speed - time.monotonic()
        return max(pace_s, at_ms / 1000 - time.time())

    def behind_ms(self, at_ms: float) -> float:
        """How far `at_ms` is past, in simulated time."""
        return -self.wait_s(at_ms) * 1000 * self._speed


class Trouble:
    """Says that agents cannot connect: at once, then at most once a minute, and when all can again."""

    def __init__(self, place: Place, agents: int, counts: Counts, console: Console) -> None:
        self._place, self._agents, self._counts, self._console = place, agents, counts, console
        self._failing: set[str] = set()
        self._told, self._told_s = False, -SAY_S

    def failed(self, agent: str, error: Exception) -> None:
        self._failing.add(agent)
        if time.monotonic() >= self._told_s + SAY_S:
            self._told, self._told_s = True, time.monotonic()
            why = str(error.__cause__ or error) or type(error).__name__
            self._say(f"cannot connect ({why}), trying again; {self._counts.waiting:,} records wait")

    def over(self, agent: str) -> None:
        """It is connected, or has no wish to be."""
        self._failing.discard(agent)
        if self._told and not self._failing:
            self._told = False
            self._say("nobody fails to connect any more")

    def _say(self, what: str) -> None:
        host, port, counts = self._place.host, self._place.port, self._counts
        dropped = f", {counts.dropped:,} records lost to full outboxes" if counts.dropped else ""
        self._console.print(
            f"{host}:{port}: {what}; {counts.connected} of {self._agents} agents are connected{dropped}", markup=False
        )


class LiveAgent:
    """One virtual agent and its connection."""

    def __init__(
        self, place: Place, agent: VirtualAgent, world: World, counts: Counts, trouble: Trouble, limits: Limits
    ) -> None:
        self._place, self._agent, self._limits = place, agent, limits
        self._counts, self._trouble = counts, trouble
        self.name = agent.box.agent
        self._faults = world.faults_at(agent.box.venue.slug)
        self._outbox, self._boot = uuid4(), uuid4()
        self._waiting = Outbox()
        self._sent: dict[int, _Sent] = {}
        self._next = 1
        self._session = 0
        self._client: AsyncClient | None = None
        self._heard = asyncio.Event()

    @property
    def empty(self) -> bool:
        return not self._waiting and not self._sent

    async def run(self, pace: Pace, start_ms: int, end_ms: int) -> None:
        """Until everything of the window is made, and answered as far as it will be."""
        keeper = asyncio.create_task(self._keep(pace), name=f"{self.name} connection")
        try:
            for done_ms, record in self._records(start_ms, end_ms):
                while (wait_s := pace.wait_s(done_ms)) > 0:
                    await asyncio.sleep(min(wait_s, TICK_S))
                    self._flush()
                while self._full and pace.behind_ms(done_ms) > BEHIND_MS:
                    await self._hear()
                self._take(record)
                if len(self._waiting) >= MAX_RECORDS:
                    self._flush()
                    while len(self._waiting) >= 20 * MAX_RECORDS and self._client is not None:
                        await self._hear()  # an outbox is not for ever
                elif pace.wait_s(done_ms) > -0.2:
                    self._flush()
            deadline_s = time.monotonic() + REST_S
            while not self.empty and time.monotonic() < deadline_s:
                self._flush()
                await self._hear()
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    @property
    def _held(self) -> int:
        return len(self._waiting) + sum(sent.records for sent in self._sent.values())

    @property
    def _full(self) -> bool:
        return len(self._waiting) > 0 and self._held >= self._limits.keep

    def _take(self, record: Record) -> None:
        """A new record; without a place for it another one goes."""
        now_s = time.monotonic()
        if isinstance(record.values, Agent):
            self._tell(record.values, now_s)
        while self._full:
            self._waiting.drop()
            self._counts.dropped += 1
        self._waiting.keep(record, now_s)
        self._counts.made += 1

    def _tell(self, health: Agent, now_s: float) -> None:
        """What the outbox is like, as an agent's health has it."""
        oldest = self._waiting.oldest
        since_s = [sent.since_s for sent in self._sent.values()] + ([oldest.since_s] if oldest else [])
        health.outbox_records = self._held
        health.outbox_oldest_s = now_s - min(since_s) if since_s else None
        dropped = self._waiting.dropped
        health.outbox_dropped = sum(dropped)
        (
            health.outbox_dropped_context,
            health.outbox_dropped_light,
            health.outbox_dropped_heavy,
            health.outbox_dropped_rare,
        ) = dropped

    async def _hear(self) -> None:
        self._heard.clear()
        try:
            async with asyncio.timeout(1):
                await self._heard.wait()
        except TimeoutError:
            pass
        self._flush()

    def _records(self, start_ms: int, end_ms: int) -> Iterator[tuple[float, Record]]:
        """With the time when it is over, in its order: a test may start long after its slot, and the others do not wait
        for it. What is not over when the window ends is not sent."""
        later: list[tuple[float, int, Record]] = []
        numbers = itertools.count()
        while start_ms < end_ms:
            stop_ms = min(end_ms, (start_ms // HOUR_MS + 1) * HOUR_MS)
            for record in self._agent.records(start_ms, stop_ms):
                done_ms = record.started_at.timestamp() * 1000 + record.duration_s * 1000
                heapq.heappush(later, (done_ms, next(numbers), record))
            yield from _over(later, stop_ms - AHEAD_MS)
            start_ms = stop_ms
        yield from _over(later, max(end_ms, time.time() * 1000))

    def _away_until_ms(self, pace: Pace) -> float | None:
        """The end of a fault that keeps it off the broker now."""
        for fault in self._faults:
            if fault.kind in ("agent_offline", "power_cut") and pace.wait_s(fault.start_minute * 60_000) <= 0:
                end_ms = fault.end_minute * 60_000
                if pace.wait_s(end_ms) > 0:
                    return end_ms
        return None

    async def _keep(self, pace: Pace) -> None:
        """Connect, again and again; not while a fault says that it is away."""
        wait_s = 1.0
        while True:
            end_ms = self._away_until_ms(pace)
            if end_ms is not None:
                self._trouble.over(self.name)
                await asyncio.sleep(min(max(pace.wait_s(end_ms), 0.05), TICK_S))
            elif await self._connected(pace):
                wait_s = 1.0
            else:
                await asyncio.sleep(random.uniform(0, wait_s))  # noqa: S311 jitter, no secret
                wait_s = min(2 * wait_s, self._limits.pause_s)

    async def _connected(self, pace: Pace) -> bool:
        """Live through one connection; False when there was none."""
        lost = asyncio.Event()
        self._session += 1
        client = AsyncClient(
            self.name,
            protocol=MQTTProtocolVersion.MQTTv5,
            clean_start=True,
            keepalive=30,
            username=self.name,
            password=self._password(),
            message_delivery="callback",
            will=PublishMessage(topics.up(self.name, "status"), encode(self._status(online=False)), qos=1, retain=True),
        )
        client.on_message = self._received
        client.on_disconnect = lambda _: lost.set()
        try:
            async with asyncio.timeout(30):
                await client.connect(self._place.host, self._place.port)
                await client.subscribe([(topics.down(self.name, "ack"), 0)])
                client.publish_nowait(
                    topics.up(self.name, "status"), encode(self._status(online=True)), qos=1, retain=True
                )
            self._client = client
            self._counts.connected += 1
            self._trouble.over(self.name)
            for sent in self._sent.values():
                sent.again_s = 0.0
            self._flush()
            while not lost.is_set() and self._away_until_ms(pace) is None:
                try:
                    async with asyncio.timeout(TICK_S):
                        await lost.wait()
                except TimeoutError:
                    self._flush()
            return True
        except (MQTTError, OSError, TimeoutError) as error:
            self._trouble.failed(self.name, error)
            return False
        finally:
            if self._client is not None:
                self._client = None
                self._counts.connected -= 1
            try:
                async with asyncio.timeout(0.5):
                    await client.disconnect()
            except (MQTTError, OSError, TimeoutError):
                pass

    def _password(self) -> str | None:
        if self._place.passwords is None:
            return None
        return (self._place.passwords / f"{self.name}.password").read_text().split("\n")[0]

    def _status(self, *, online: bool) -> Status:
        jobs: dict[tuple[object, ...], Job] = {}
        for job in self._agent.jobs:
            told = job.announced(self._agent.box)
            # Of two modes in one series the more frequent; it comes first in the schedule.
            jobs.setdefault((told.probe, told.target, told.provider, told.resolver), told)
        return Status(
            online=online,
            session=self._session,
            version=VERSION,
            config_version=1,
            outbox=self._outbox,
            jobs=list(jobs.values()),
        )

    def _flush(self) -> None:
        """Send what may be sent: what was not answered in time, then what waits."""
        client, now_s = self._client, time.monotonic()
        if client is None:
            return
        try:
            for number, sent in list(self._sent.items()):
                if now_s >= sent.again_s:
                    self._counts.again += 1
                    self._publish(client, number, sent, now_s)
            while self._waiting and len(self._sent) < IN_FLIGHT:
                number = self._next
                self._next += 1
                sent = self._batch(number, now_s)
                self._sent[number] = sent
                self._publish(client, number, sent, now_s)
        except MQTTError:
            return

    def _batch(self, number: int, now_s: float) -> _Sent:
        records: list[Record] = []
        oldest_s = now_s
        while self._waiting and len(records) < MAX_RECORDS - 10:
            _, since_s, record = self._waiting.take()
            oldest_s = min(oldest_s, since_s)
            if now_s - since_s > OLD_S and "replayed" not in record.flags:
                late: Flag = "replayed"
                record.flags = [*record.flags, late]
            records.append(record)
        batch = Batch(
            agent=self.name,
            outbox=self._outbox,
            batch=number,
            boot=self._boot,
            sent_at=datetime.now(UTC),
            config_version=1,
            records=records,
        )
        payload = encode(batch)
        return _Sent(payload, len(records), oldest_s, 0.0)

    def _publish(self, client: AsyncClient, number: int, sent: _Sent, now_s: float) -> None:
        sent.again_s = now_s + self._limits.silence_s
        client.publish_nowait(
            topics.up(self.name, "records"),
            sent.payload,
            qos=1,
            properties=Properties({"correlation_data": BatchId(self._outbox, number).encode()}),
        )

    def _received(self, message: Message) -> None:
        try:
            ack = decode_ack(message.payload)
        except PayloadError:
            return
        if ack.outbox != self._outbox or ack.batch is None or (sent := self._sent.get(ack.batch)) is None:
            return
        if ack.later is not None:
            self._counts.later += sent.records
            sent.again_s = time.monotonic() + LATER_S
            return
        del self._sent[ack.batch]
        self._counts.stored += sent.records - len(ack.rejected)
        self._counts.rejected += len(ack.rejected)
        self._heard.set()
        self._flush()


def _over(later: list[tuple[float, int, Record]], until_ms: float) -> Iterator[tuple[float, Record]]:
    """Take from a heap what is over by then."""
    while later and later[0][0] <= until_ms:
        done_ms, _, record = heapq.heappop(later)
        yield done_ms, record


async def run_fleet(
    place: Place,
    world: World,
    start_ms: int,
    end_ms: int,
    speed: float,
    console: Console,
    counts: Counts | None = None,
    limits: Limits | None = None,
) -> int:
    """Every agent of the district until the window is over; 0 when every record was answered, 1 when not or lost."""
    counts, limits = counts or Counts(), limits or Limits()
    boxes = world.district.boxes
    trouble = Trouble(place, len(boxes), counts, console)
    agents = [LiveAgent(place, VirtualAgent(world, box), world, counts, trouble, limits) for box in boxes]
    pace = Pace(start_ms, speed)
    show = asyncio.create_task(_show(counts, len(agents), console), name="progress")
    try:
        async with asyncio.TaskGroup() as group:
            for agent in agents:
                group.create_task(agent.run(pace, start_ms, end_ms), name=agent.name)
                await asyncio.sleep(1 / CONNECTS_PER_S)
    finally:
        show.cancel()
    console.print(
        f"{counts.made:,} simulated records: {counts.stored:,} stored, {counts.rejected:,} rejected, "
        f"{counts.dropped:,} lost to full outboxes, {counts.waiting:,} not answered; {counts.again} batches sent again"
    )
    return 1 if counts.waiting or counts.dropped else 0


async def _show(counts: Counts, agents: int, console: Console) -> None:
    with Progress(
        TextColumn("{task.description}"), BarColumn(), console=console, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("starting", total=agents)
        last = 0
        while True:
            await asyncio.sleep(1)
            said = f"{counts.made - last:,} records/s, {counts.stored:,} stored, {counts.waiting:,} waiting"
            progress.update(task, description=f"{counts.connected}/{agents} agents, {said}", completed=counts.connected)
            last = counts.made
