"""Sends what the outbox keeps, over MQTT 5, until the collector has answered.

At most four batches are in flight (`window`); three of them may be old, so that new records always pass. An answer
settles a batch, or says `later`; silence means again. The broker's own acknowledgement (PUBACK) means nothing: a broker
may give one for a message that it lost or that its rules forbid.

The sender chooses, whenever something happened and at least once a second, what goes next: a batch whose answer is
overdue, then new records, then old ones (`_choose`). Everything else here is about one connection's life.
"""

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Awaitable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

import aiomqtt
from msgspec import Struct
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.clock import Clock, wait
from agent.config import Mqtt
from agent.facts import Facts
from agent.outbox import Batch, Entry, OnFinal, Outbox
from agent.outbox_file import Now
from agent.timekeeper import Timekeeper
from contract import topics
from contract.codec import PayloadError, decode_ack, encode
from contract.messages import MAX_BYTES, MAX_RECORDS, Ack, BatchId, Job, Status
from contract.record import Record
from contract.values import Portal

log = logging.getLogger(__name__)

T = TypeVar("T")

WINDOW: Final = 4
OLD_IN_WINDOW: Final = 3
KEEPALIVE_S: Final = 30
PATIENCE: Final = 3
"""Sendings that may stay unanswered while others are answered."""
ENVELOPE_BYTES: Final = 400
"""Room for a batch around its records."""
LABEL_BYTES: Final = 120
"""Room for what a record grows by when it gets its final times and flags."""
LEAST_PACKET_BYTES: Final = 4_000
"""A broker that takes less has a wrong setting: nearly every record would go to quarantine as too large for it."""
PACKET_BYTES: Final = 64
"""Room for an MQTT packet around topic, Correlation Data and payload."""
GOODBYE_S: Final = 0.5
"""How long a connection may take to end when the agent ends."""
CLOSE_S: Final = 1.5
"""How long the disk may take when the agent ends."""
SETTLE_S: Final = 30.0
"""A connection that lived this long was a good one: the next attempt is soon."""

BLAME_S: Final = 5.0
"""A connection that breaks this soon after a sending may have broken because of it."""
HEARING_S: Final = 5.0
"""Suspected batches wait this long for a sign of the collector before they are sent on a new connection."""

PAUSING: Final = frozenset({"rate_limited", "unknown_version", "unknown_agent", "store_limit"})
"""Reasons for `later` that hold for every batch: sending pauses. The others are about one batch."""


class Timing(Struct, kw_only=True, frozen=True):
    """All in seconds; pairs are first and longest, growing by doubling."""

    linger_s: float = 0.7
    """New records wait this long for others to travel with; the first after start does not."""
    silence_s: tuple[float, float] = (30.0, 60.0)
    later_s: tuple[float, float] = (60.0, 3600.0)
    reconnect_s: tuple[float, float] = (1.0, 300.0)
    replay_spread_s: float = 60.0
    """After a connection, old records wait a random part of this."""
    replay_gap_s: float = 0.5
    """Between two old batches."""
    ask_time_s: float = 30.0
    """How often the birth is repeated while the time is not known, for the time in its answer."""


class Publisher:
    """One per agent. :meth:`submit` takes records at any time; :meth:`run` does the rest.

    :param on_final: gets every record that got its final answer in memory, with `stored`, `rejected`, `quarantined` or
        `dropped`. A submitted record is changed in place when it gets its final times.
    """

    def __init__(
        self,
        mqtt: Mqtt,
        *,
        agent: str,
        outbox: Outbox,
        timekeeper: Timekeeper,
        facts: Facts,
        clock: Clock,
        jobs: Sequence[Job] = (),
        config_version: int = 0,
        version: str = "",
        on_final: OnFinal | None = None,
        timing: Timing | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._mqtt = mqtt
        self._agent = agent
        self._outbox = outbox
        self._timekeeper = timekeeper
        self._facts = facts
        self._clock = clock
        self._jobs = list(jobs)
        self._config_version = config_version
        self._version = version
        self._timing = timing or Timing()
        self._chance = chance or random.Random()  # noqa: S311 jitter, no secret

        timekeeper.use(outbox.memo)
        outbox.now = self._now
        if on_final is not None:
            outbox.on_final = on_final

        self._wake = asyncio.Event()
        self._session = 0
        self._connected_s = 0.0
        self._heard = False
        """Whether the collector has answered anything on this connection."""
        self._answered_s = float("-inf")
        self._max_packet = 2**28
        self._asked_s = 0.0
        self._paused_until_s = float("-inf")
        self._pauses = 0
        self._old_from_s = float("-inf")
        """Boot time from which the next old batch may go."""
        self._sent_one = False
        self._portals: dict[str, tuple[str | None, str | None]] = {}
        """Per interface the last state of the portal check, and the last that two equal results agreed on."""

    # -- taking

    def submit(self, record: Record, boot_s: float) -> None:
        """Take a record. Never blocks, never raises.

        :param boot_s: boot time of its slot; its times are provisional until it is sent.
        """
        self._timekeeper.observe()
        self._outbox.keep(
            record,
            boot=self._timekeeper.boot,
            boot_s=boot_s,
            synced=self._timekeeper.synced,
            at_once=self._is_portal_change(record),
        )
        self._wake.set()

    async def idle(self) -> None:
        """Return when everything submitted in this run has its final answer."""
        while self._outbox.own_records > 0:
            self._outbox.settled.clear()
            await self._outbox.settled.wait()

    def _is_portal_change(self, record: Record) -> bool:
        """A portal state that two results in a row agree on, other than the one before."""
        if not isinstance(record.values, Portal):
            return False
        state = record.values.state
        last, agreed = self._portals.get(record.interface, (None, None))
        changed = state == last and state != agreed
        self._portals[record.interface] = state, state if changed else agreed
        if changed:
            log.warning("portal on %s: %s", record.interface, state or "open to this box, which it lets pass")
        return changed

    def _now(self) -> Now:
        wall_s = self._clock.wall() if self._timekeeper.synced else None
        return Now(boot=str(self._timekeeper.boot), boot_s=self._clock.boot(), wall_s=wall_s)

    # -- connections

    async def run(self) -> None:
        """Keep and send until cancelled; then commit what waits and say goodbye."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._timekeeper.run(), name="timekeeper")
                tasks.create_task(self._outbox.run(), name="outbox")
                tasks.create_task(self._stay_connected(), name="publisher")
        finally:
            closing = asyncio.create_task(self._outbox.close(), name="close the outbox")
            await asyncio.wait({closing}, timeout=CLOSE_S)

    async def _stay_connected(self) -> None:
        attempt = 0
        reason = ""
        while True:
            begun_s = self._clock.boot()
            try:
                await self._connection()
            except (aiomqtt.MqttError, OSError, ValueError) as error:  # ValueError: a host name that is none
                if str(error) != reason:
                    log.warning("no connection to %s:%d: %s", self._mqtt.host, self._mqtt.port, error)
                reason = str(error)
            if self._heard or self._clock.boot() - begun_s >= SETTLE_S:
                attempt = 0
            self._heard = False
            low_s, high_s = self._timing.reconnect_s
            ceiling_s = min(high_s, low_s * 2.0 ** min(attempt, 30))
            attempt += 1
            await self._clock.sleep(self._chance.uniform(low_s / 10, ceiling_s))

    async def _connection(self) -> None:
        """One connection from its beginning to its end.

        :raises aiomqtt.MqttError: when it broke, or could not be made.
        """
        self._session = self._next_session()
        client = self._client()
        async with client:
            self._check_room(client)
            self._start(client)
            try:
                await client.subscribe(topics.down(self._agent, "ack"), qos=0)
                await self._publish_status(client, online=True)
                log.info("connected to %s:%d, session %d", self._mqtt.host, self._mqtt.port, self._session)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._receive(client), name="receive answers")
                    tasks.create_task(self._send_forever(client, tasks), name="send batches")
                    tasks.create_task(self._ask_time(client), name="ask the time")
            except BaseExceptionGroup as group:
                broken, bug = group.split(aiomqtt.MqttError)
                raise (_first(broken) if bug is None else bug) from group
            except asyncio.CancelledError:
                client.timeout = GOODBYE_S
                with contextlib.suppress(aiomqtt.MqttError):
                    await self._publish_status(client, online=False)
                raise
            finally:
                self._land()

    def _check_room(self, client: "_Client") -> None:
        """:raises aiomqtt.MqttError: when nothing useful fits through."""
        birth = len(encode(self._status(online=True))) + len(topics.up(self._agent, "status")) + PACKET_BYTES
        if client.max_packet < (least := max(LEAST_PACKET_BYTES, birth)):
            raise aiomqtt.MqttError(
                f"the broker takes packets of at most {client.max_packet} bytes, this agent needs {least}: "
                f"raise its limit (max_packet_size of mosquitto), best to {2 * MAX_BYTES}"
            )

    def _start(self, client: "_Client") -> None:
        now_s = self._clock.boot()
        if self._connected_s:
            self._facts.reconnects += 1
        self._connected_s = self._asked_s = now_s
        self._heard = False
        self._max_packet = client.max_packet
        self._old_from_s = now_s + self._chance.uniform(0, self._timing.replay_spread_s)

    def _land(self) -> None:
        """The connection has ended: what was in flight goes again on the next one, soon."""
        now_s = self._clock.boot()
        for batch in self._flying():
            if batch.session == self._session:
                # The connection broke right after the sending: perhaps because of it. That is counted further only
                # for connections that worked, which is why suspects wait for a sign of that.
                batch.cut = max(1, batch.cut + self._heard) if now_s - batch.sent_s <= BLAME_S else 0
            batch.due_s = float("-inf")
        self._wake.set()

    def _next_session(self) -> int:
        """A number greater than that of any connection before, also after a lost disk."""
        session = max(int(self._clock.wall()), int(self._outbox.memo.get("session", 0)) + 1)
        self._outbox.memo["session"] = session
        return session

    def _client(self) -> "_Client":
        return _Client(
            self._mqtt.host,
            self._mqtt.port,
            logger=_quiet(),
            identifier=self._agent,
            username=self._agent,
            password=_password(self._mqtt),
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=True,
            properties=_properties(PacketTypes.CONNECT, SessionExpiryInterval=0),
            keepalive=KEEPALIVE_S,
            tls_context=tls(self._mqtt),
            will=aiomqtt.Will(topics.up(self._agent, "status"), encode(self._status(online=False)), qos=1, retain=True),
        )

    def _status(self, *, online: bool) -> Status:
        return Status(
            online=online,
            session=self._session,
            version=self._version,
            config_version=self._config_version,
            outbox=self._outbox.id,
            jobs=self._jobs,
        )

    async def _publish_status(self, client: aiomqtt.Client, *, online: bool) -> None:
        self._asked_s = self._clock.boot()
        await client.publish(topics.up(self._agent, "status"), encode(self._status(online=online)), qos=1, retain=True)

    async def _ask_time(self, client: aiomqtt.Client) -> None:
        """The answer to a birth tells the time: ask again while it is not known."""
        while not self._timekeeper.anchored.is_set():
            await wait(self._clock, self._timekeeper.anchored, self._timing.ask_time_s)
            if not self._timekeeper.anchored.is_set():
                await self._publish_status(client, online=True)
        self._wake.set()

    # -- answers

    async def _receive(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            if not isinstance(message.payload, bytes):
                continue
            try:
                ack = decode_ack(message.payload)
            except PayloadError as error:
                log.warning("an answer cannot be understood: %s", error)
                continue
            self._answer(ack, self._clock.boot())

    def _answer(self, ack: Ack, now_s: float) -> None:
        self._heard = True
        if ack.batch is None:
            self._timekeeper.learn(ack.at, self._asked_s, now_s)
            self._wake.set()
            return
        batch = self._outbox.batches.get(BatchId(ack.outbox, ack.batch))
        if batch is None or not batch.sends:
            log.debug("an answer to batch %d, which does not wait for one", ack.batch)
            return
        if batch.sends == 1 and batch.flying:  # else nobody knows which sending this answers
            self._timekeeper.learn(ack.at, batch.sent_s, now_s)
        whole = any(place is None for place, _ in ack.rejected)
        places = {place for place, _ in ack.rejected if place is not None and place < batch.count}
        sound = len(places) == len(ack.rejected) and ack.stored + len(places) == batch.count
        if not (ack.later or whole or sound):
            log.warning("the answer to batch %d tells of %d stored and rejects %s, but it has %d records: ignored",
                        ack.batch, ack.stored, ack.rejected[:5], batch.count)  # fmt: skip
            return
        self._answered_s = now_s
        batch.ignored = batch.cut = 0
        if ack.later:
            self._postpone(batch, ack.later, now_s)
        elif whole and batch.count > 1 and batch.payload is not None:
            log.warning("batch %d was refused as a whole: split", ack.batch)
            self._outbox.split(batch)
        elif whole and batch.count > 1:
            self._outbox.rest(batch, float("-inf"))  # on disk only: sent and refused once more, then split
        else:
            self._settle(batch, ack, whole=whole)
        self._wake.set()

    def _settle(self, batch: Batch, ack: Ack, *, whole: bool) -> None:
        if ack.rejected:
            log.warning("batch %d: rejected %s", batch.id.batch, ack.rejected[:5])
        self._pauses = 0
        self._outbox.settle(batch, {0} if whole else {place for place, _ in ack.rejected if place is not None})

    def _postpone(self, batch: Batch, reason: str, now_s: float) -> None:
        batch.laters += 1
        wait_s = self._growing(self._timing.later_s, batch.laters)
        if reason in PAUSING and now_s >= self._paused_until_s:
            self._pauses += 1
            wait_s = self._growing(self._timing.later_s, self._pauses)
            self._paused_until_s = now_s + wait_s
            log.warning("the collector says later (%s): sending pauses for %.0f s", reason, wait_s)
        self._outbox.rest(batch, max(now_s + wait_s, self._paused_until_s if reason in PAUSING else 0.0))

    def _growing(self, limits_s: tuple[float, float], times: int) -> float:
        """Between the first and the longest, doubling with `times`, with jitter that never shortens the first."""
        first_s, longest_s = limits_s
        high_s = min(longest_s, first_s * 2.0 ** min(times, 30))
        return self._chance.uniform(max(first_s, high_s / 2), high_s)

    # -- sending

    async def _send_forever(self, client: aiomqtt.Client, tasks: asyncio.TaskGroup) -> None:
        while True:
            self._wake.clear()
            batch = await self._choose()
            if batch is None:
                await wait(self._clock, self._wake, min(1.0, self._timing.linger_s or 1.0))
            elif len(batch.payload or b"") > self._max_payload(batch.id):
                self._take_apart(batch, "larger than the broker allows")
            else:
                self._send(client, batch, tasks)

    async def _choose(self) -> Batch | None:
        """What to send now; None when nothing may go."""
        now_s = self._clock.boot()
        return self._overdue(now_s) or self._new(now_s) or await self._old(now_s)

    def _overdue(self, now_s: float) -> Batch | None:
        """A batch in flight whose answer is overdue."""
        for batch in self._flying():
            here = batch.session == self._session
            # A suspect that was tried on this connection has not broken it: it is overdue like any other.
            if batch.due_s > now_s or (batch.cut and not here and not self._may_try(now_s)):
                continue
            if here:
                batch.cut = 0
                batch.ignored += self._answered_s > batch.sent_s
            if batch.ignored >= PATIENCE:
                self._take_apart(batch, "never answered")
            elif batch.cut >= PATIENCE:
                self._take_apart(batch, "breaks the connection")
            else:
                return batch
        return None

    def _may_try(self, now_s: float) -> bool:
        """Whether a batch suspected of breaking connections may be sent: alone among its kind, on a sound one."""
        tried = any(batch.cut and batch.session == self._session for batch in self._flying())
        return not tried and (self._heard or now_s >= self._connected_s + HEARING_S)

    def _new(self, now_s: float) -> Batch | None:
        """A batch of records that are still in memory."""
        waiting = self._outbox.waiting
        if not waiting or self._outbox.crowded or not self._has_place(now_s):
            return None
        full = len(waiting) >= MAX_RECORDS
        if self._sent_one and not full and now_s < waiting[0].kept_s + self._timing.linger_s:
            return None
        entries, _ = self._label(waiting)
        return self._make(entries) if entries else None

    async def _old(self, now_s: float) -> Batch | None:
        """A batch that rests and is due, or one of records that are on disk; paced."""
        old = sum(batch.replayed or batch.sends > 1 for batch in self._flying())
        if now_s < self._old_from_s or old >= OLD_IN_WINDOW or not self._has_place(now_s):
            return None
        resting = [b for b in self._outbox.batches.values() if not b.flying and b.due_s <= now_s]
        if any(b.cut for b in resting) and not self._may_try(now_s):
            resting = [b for b in resting if not b.cut]
        if resting:
            self._old_from_s = now_s + self._timing.replay_gap_s
            oldest = min(resting, key=lambda b: b.due_s)
            return oldest if await self._outbox.load(oldest) else None
        if self._outbox.crowded:
            return None
        boot, anchored = self._timekeeper.boot, self._timekeeper.anchored.is_set()
        found = await self._outbox.unsent(MAX_RECORDS, boot=boot, anchored=anchored)
        self._old_from_s = now_s + self._timing.replay_gap_s * (10 if found == [] else 1)
        if not found:
            return None
        for entry in found:
            entry.record.flags = [*entry.record.flags, "replayed"]
        entries, changed = self._label(found)
        batch = self._make(entries) if entries else None
        if changed:
            # A record that was sent with one time must not be sent with another after a crash.
            await self._outbox.commit(everything=True)
        return batch

    def _has_place(self, now_s: float) -> bool:
        return now_s >= self._paused_until_s and sum(1 for _ in self._flying()) < WINDOW

    def _label(self, entries: Sequence[Entry] | Any) -> tuple[list[Entry], bool]:
        """Those of the first `entries` that can go now in one batch, with their final times; whether any changed."""
        chosen: list[Entry] = []
        changed = False
        room = self._max_payload(None) - ENVELOPE_BYTES
        for entry in entries:
            room -= entry.size_bytes + LABEL_BYTES
            if chosen and (room < 0 or len(chosen) == MAX_RECORDS):
                break
            labelled = self._timekeeper.label(entry.record, entry.boot, entry.boot_s, synced=entry.synced)
            if labelled == "wait":
                room += entry.size_bytes + LABEL_BYTES
                continue
            changed |= labelled == "changed"
            chosen.append(entry)
        return chosen, changed

    def _make(self, entries: list[Entry]) -> Batch:
        self._sent_one = True
        return self._outbox.make_batch(entries, self._config_version)

    def _send(self, client: aiomqtt.Client, batch: Batch, tasks: asyncio.TaskGroup) -> None:
        now_s = self._clock.boot()
        batch.flying = True
        batch.sends += 1
        batch.session = self._session
        batch.sent_s = now_s
        first_s, longest_s = self._timing.silence_s
        silence_s = min(longest_s, first_s * 2.0 ** min(batch.sends - 1, 30))
        batch.due_s = now_s + silence_s * self._chance.uniform(1.0, 1.1)
        tasks.create_task(self._publish(client, batch), name=f"publish batch {batch.id.batch}")

    async def _publish(self, client: aiomqtt.Client, batch: Batch) -> None:
        """Give a batch to the broker. What the broker says of it changes nothing."""
        properties = _properties(PacketTypes.PUBLISH, CorrelationData=batch.id.encode())
        with contextlib.suppress(aiomqtt.MqttError):  # a broken connection shows itself to the receiver
            await client.publish(topics.up(self._agent, "records"), batch.payload, qos=1, properties=properties)

    def _take_apart(self, batch: Batch, why: str) -> None:
        if batch.count == 1:
            self._outbox.quarantine(batch, why)
            return
        log.warning("batch %d of %d records is split: %s", batch.id.batch, batch.count, why)
        for half in self._outbox.split(batch):
            # Part of a suspect is suspect; but one record alone gets every chance.
            if half.count > 1:
                half.ignored = min(batch.ignored, PATIENCE - 1)
                half.cut = min(batch.cut, PATIENCE - 1)

    def _flying(self) -> Iterator[Batch]:
        return iter([batch for batch in self._outbox.batches.values() if batch.flying])

    def _max_payload(self, identity: BatchId | None) -> int:
        """Bytes of a batch that contract and broker allow."""
        around = PACKET_BYTES + len(topics.up(self._agent, "records")) + len((identity or _LONGEST).encode())
        return min(MAX_BYTES, self._max_packet - around)


_LONGEST: Final = BatchId(UUID(int=0), 2**63 - 1)


class _Client(aiomqtt.Client):
    """aiomqtt, which does not tell what the broker allows (its issue 362) and can miss its own cancellation."""

    max_packet: int = 2**28
    """Maximum Packet Size, in bytes."""

    def _on_connect(
        self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Properties | None = None
    ) -> None:
        self.max_packet = getattr(properties, "MaximumPacketSize", self.max_packet)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    async def _wait_for(self, fut: Awaitable[T], timeout: float | None) -> T:  # noqa: ASYNC109 aiomqtt's own signature
        """`asyncio.wait_for` of Python 3.11 swallows a cancellation that comes together with the result."""
        try:
            async with asyncio.timeout(self.timeout if timeout is None else timeout):
                return await fut
        except TimeoutError:
            raise aiomqtt.MqttError("Operation timed out") from None


def _first(error: BaseException | None) -> aiomqtt.MqttError:
    """The first error of a group, which has no others than connection errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return aiomqtt.MqttError(str(error))


def _quiet() -> logging.Logger:
    """paho logs every lost connection as an error; we log what changed."""
    logger = logging.getLogger(f"{__name__}.paho")
    logger.setLevel(logging.CRITICAL)
    return logger


def _properties(packet: int, **values: Any) -> Properties:
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def tls(mqtt: Mqtt) -> ssl.SSLContext | None:
    """Verified TLS 1.2 or later, with our own certificate where there is one.

    :raises OSError: when a file cannot be read or is no PEM.
    """
    if not mqtt.tls:
        return None
    context = ssl.create_default_context(cafile=mqtt.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if mqtt.cert_file is not None:
        context.load_cert_chain(mqtt.cert_file, mqtt.key_file)
    return context


def _password(mqtt: Mqtt) -> str | None:
    """:raises OSError: when the file cannot be read."""
    if mqtt.password_file is None:
        return None
    return Path(mqtt.password_file).read_text().partition("\n")[0].rstrip("\r")
