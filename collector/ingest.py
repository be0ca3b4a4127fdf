"""Batches to points to the store, and only then an acknowledgement.

A payload waits as it came until a writer takes it: two writers collect what has arrived (linger), decode, judge, write,
and answer. Whatever happens before the answer, the agent still has its records and sends them again; a repeated write
is the same point. So nothing here has to survive a crash.
"""

import asyncio
import contextlib
import logging
import random
import time
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import Struct

from collector import deadletters
from collector.deadletters import DeadLetters, Letter
from collector.fleet import Fleet, last_stored
from collector.limits import Limits
from collector.points import Judge, Rejected
from collector.state import State
from contract import topics
from contract.codec import Decoded, PayloadError, Refused, decode_batch, encode
from contract.messages import Ack, BatchId
from contract.series import COLLECTOR, TOUCHED
from contract.vocabulary import Later, Rejection
from store.interface import Refusal, Store, StoreError, StoreLimit, StoreMisconfigured, StoreUnavailable
from store.point import Point

log = logging.getLogger(__name__)

MAX_LINES: Final = 5_000
"""Points of one write."""
WRITERS: Final = 2
"""Writes in flight."""
MAX_OWN: Final = 10_000
"""Points of our own that wait for the store."""
MAX_LAGS: Final = 100_000
HOUR_S: Final = 3600
ROLLED_S: Final = 240
"""Perception rolls an hour up five minutes after its end; what comes a minute before is told as late, to be sure."""
_ONCE: Final = b'"started_at"'
"""Stands once in every record: counts records without decoding them."""


class Timing(Struct, kw_only=True, frozen=True):
    """All in seconds."""

    linger_s: float = 0.03
    retry_s: tuple[float, float] = (0.5, 10.0)
    """Store away: first and longest wait, doubling; the real one is a random part of it (full jitter)."""
    longest_retry_after_s: float = 60.0
    """A store that asks for more is asked again after this."""
    misconfigured_s: float = 30.0
    """Between two attempts while a person must act."""
    ping_s: float = 5.0
    """An idle store is asked so often whether it is there."""


class Delivery(Struct, kw_only=True):
    """One message on its way through; `identity` is known once it is decoded, or from its Correlation Data."""

    agent: str
    payload: bytes
    correlation: bytes | None
    at_us: int
    """Wall clock at receipt, microseconds since 1970."""
    at_s: float
    """Monotonic clock at receipt."""
    records: int
    key: tuple[str, bytes]
    """The same for the same batch sent again."""

    # What becomes of it:
    identity: BatchId | None = None
    points: list[Point] = []
    places: list[int] = []
    """Index in the batch of each point's record."""
    stored: int = 0
    rejected: list[tuple[int | None, Rejection]] = []
    later: Later | None = None
    letters: list[Letter] = []


class Ingest:
    """One per collector. :meth:`take` at any time, never blocks; :meth:`run` does the rest."""

    def __init__(
        self,
        *,
        name: str,
        state: State,
        store: Store,
        judge: Judge,
        fleet: Fleet,
        limits: Limits,
        dead_letters: DeadLetters,
        publish: Callable[[str, bytes], bool],
        queue_bytes: int,
        timing: Timing | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._state = state
        self._store = store
        self._judge = judge
        self._fleet = fleet
        self._limits = limits
        self._dead_letters = dead_letters
        self._publish = publish
        self._max_queue_bytes = queue_bytes
        self._timing = timing or Timing()
        self._wall = wall

        self._queue: deque[Delivery] = deque()
        self._queued_records = 0
        self._arrived = asyncio.Event()
        self._collecting = asyncio.Lock()
        self._pending: set[tuple[str, bytes]] = set()
        """Batches that wait to be answered: a second copy is not kept."""
        self._own: list[Point] = []
        self._own_arrived = asyncio.Event()
        self._held: asyncio.Queue[tuple[float, int, list[Delivery]]] = asyncio.Queue()
        self._outages = 0
        self._ensured = False
        self._writing = 0
        self._wrote_s = float("-inf")
        self._lags_ms: list[float] = []
        self._counted: dict[str, int] = {}
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="dead-letters")

    # -- taking

    def take(self, agent: str, payload: bytes, correlation: bytes | None) -> None:
        """A message from `agent`'s records topic."""
        counters = self._state.counters
        if self._fleet.agent(agent) is None:
            counters["refused.unknown_sender"] += 1
            return
        records = payload.count(_ONCE) or 1
        counters["received"] += records
        key = (agent, correlation or payload)
        if key in self._pending:
            counters["repeated"] += records
            return
        delivery = Delivery(
            agent=agent,
            payload=payload,
            correlation=correlation,
            at_us=int(self._wall() * 1e6),
            at_s=time.monotonic(),
            records=records,
            key=key,
        )
        if not self._limits.allow(agent):
            delivery.identity = _identity(correlation)
            delivery.later = "rate_limited"
            self._count(delivery)
            self._answer([delivery])
        elif self._state.queue_bytes + len(payload) > self._max_queue_bytes:
            # The agent has them still, and sends them again.
            counters["dropped"] += records
        else:
            self._pending.add(key)
            self._queue.append(delivery)
            self._queued_records += records
            self._state.queue_bytes += len(payload)
            self._arrived.set()

    def note(self, points: list[Point]) -> None:
        """Points of our own, written by themselves; the oldest go when too many wait."""
        self._own += points
        del self._own[:-MAX_OWN]
        self._own_arrived.set()

    # -- running

    async def run(self) -> None:
        """Write and answer until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(WRITERS):
                    group.create_task(self._write_on(), name=f"writer {number}")
                group.create_task(self._write_own(), name="own points")
                group.create_task(self._release_held(), name="held acknowledgements")
                group.create_task(self._watch_store(), name="store watch")
        finally:
            self._disk.shutdown(wait=True)

    async def _write_on(self) -> None:
        while True:
            async with self._collecting:
                await self._arrived.wait()
                if self._queued_records < MAX_LINES:
                    await asyncio.sleep(self._timing.linger_s)
                group = self._collect()
                if not self._queue:
                    self._arrived.clear()
            size = sum(len(delivery.payload) for delivery in group)
            group = [delivery for delivery in group if self._opened(delivery)]
            try:
                await self._settle(group)
            except StoreLimit as error:
                self._refuse_for_limit(group, error)
            except Exception:
                # Not answered: their agents send them again, apart in the end, and quarantine what cannot be stored.
                log.exception("%d batches could not be written", len(group))
                self._forget(group)
            finally:
                self._state.queue_bytes -= size

    def _collect(self) -> list[Delivery]:
        group: list[Delivery] = []
        records = 0
        while self._queue and (not group or records + self._queue[0].records <= MAX_LINES):
            delivery = self._queue.popleft()
            records += delivery.records
            group.append(delivery)
        self._queued_records -= records
        return group

    async def _write_own(self) -> None:
        while True:
            await self._own_arrived.wait()
            self._own_arrived.clear()
            own, self._own = self._own, []
            try:
                for refusal in await self._write(own):
                    log.error("the store refuses a point of our own: %s", refusal.message)
            except StoreError as error:
                log.error("%d points of our own are lost: %s", len(own), error)

    async def _settle(self, group: list[Delivery]) -> None:
        """Write what was opened, and answer.

        :raises StoreLimit: when the store says so; nothing is answered then.
        """
        points: list[Point] = []
        first: list[int] = []
        for delivery in group:
            first.append(len(points))
            points += delivery.points
        if points:
            for refusal in await self._write(points + self._touched(points)):
                if refusal.place >= len(points):
                    log.error("the store refuses a point of our own: %s", refusal.message)
                    continue
                number = bisect_right(first, refusal.place) - 1
                self._refuse(group[number], refusal.place - first[number], refusal)
            if self._state.alarm("store_limit", None):
                log.info("store: takes points again")
        outages = self._outages
        for delivery in group:
            self._close(delivery)
        if not await self._keep_letters(group):
            return
        if points and self._store.ack_hold_s > 0:
            self._held.put_nowait((time.monotonic() + self._store.ack_hold_s, outages, group))
        else:
            self._answer(group)

    def _touched(self, points: list[Point]) -> list[Point]:
        """Which agents' hours, rolled up before, get records now: stored with them, so that none is forgotten."""
        now_s = self._wall()
        rolled_ns = int((now_s - ROLLED_S) // HOUR_S) * HOUR_S * 10**9
        late = Counter(
            (point.tags[0], point.time_ns // (HOUR_S * 10**9)) for point in points if point.time_ns < rolled_ns
        )
        return [
            Point(TOUCHED.name, (agent,), hour * HOUR_S * 10**9, (records, now_s))
            for (agent, hour), records in late.items()
        ]

    def _opened(self, delivery: Delivery) -> bool:
        """Whether it was opened. One that breaks our own code goes unanswered, and takes no other with it."""
        try:
            self._open(delivery)
        except Exception:
            log.exception("a batch of %s could not be opened", delivery.agent)
            self._state.counters["refused.internal"] += 1
            self._forget([delivery])
            return False
        return True

    def _open(self, delivery: Delivery) -> None:
        """Decode and judge; what is refused stays in the delivery."""
        try:
            decoded = self._decode(delivery)
        except PayloadError as error:
            self._state.counters[f"refused.{error.refusal}"] += 1
            self._refuse_whole(delivery, error)
            return
        batch = decoded.batch
        self._state.counters["received"] += len(decoded.places) - delivery.records
        delivery.records = len(decoded.places)
        agent = self._state.agents[delivery.agent]
        agent.clock_offset_ms = batch.sent_at.timestamp() * 1000 - delivery.at_us / 1000
        if agent.status is not None and not agent.status.online:
            # A record is a sign of life: the will was an old connection's.
            agent.status = msgspec.structs.replace(agent.status, online=True)
        verdict = self._judge.judge(delivery.agent, decoded.places, int(self._wall() * 1e6))
        delivery.points, delivery.places = verdict.points, verdict.indices
        if verdict.later:
            delivery.later = verdict.later[0][1]
            for _, reason in verdict.later:
                self._state.counters[f"later.{reason}"] += 1
        for rejected in verdict.rejected:
            self._reject(delivery, rejected, decoded)

    def _decode(self, delivery: Delivery) -> Decoded:
        """:raises PayloadError: also when it is somebody else's."""
        delivery.identity = _identity(delivery.correlation)
        decoded = decode_batch(delivery.payload)
        batch = decoded.batch
        identity = BatchId(batch.outbox, batch.batch)
        if batch.agent != delivery.agent:
            raise PayloadError("bad_field", f"$.agent: {batch.agent!r} sent on the topic of {delivery.agent!r}")
        if delivery.identity is None:
            delivery.identity = identity
        elif delivery.identity != identity:
            raise PayloadError("bad_field", "$.batch: not the batch that the Correlation Data names")
        return decoded

    def _refuse_whole(self, delivery: Delivery, error: PayloadError) -> None:
        if error.refusal == "unknown_version":
            delivery.later = "unknown_version"
            self._state.counters["later.unknown_version"] += delivery.records
            return
        delivery.rejected = [(None, "invalid")]
        delivery.letters = [self._letter(delivery, None, "invalid", error.refusal, str(error), delivery.payload)]

    def _reject(self, delivery: Delivery, rejected: Rejected, decoded: Decoded) -> None:
        self._state.counters[f"refused.{rejected.refusal}"] += 1
        place = decoded.places[rejected.place]
        raw = place.raw if isinstance(place, Refused) else encode(place)
        self._add_rejection(delivery, rejected.place, rejected.reason, rejected.refusal, rejected.words, raw)

    def _refuse(self, delivery: Delivery, place: int, refusal: Refusal) -> None:
        """The store will never take this point."""
        self._state.counters["refused.store"] += 1
        index = delivery.places[place]
        raw = encode(decode_batch(delivery.payload).places[index])
        self._add_rejection(delivery, index, "invalid", "store", refusal.message, raw)
        delivery.stored -= 1

    def _add_rejection(
        self, delivery: Delivery, index: int, reason: Rejection, refusal: str, words: str, raw: bytes
    ) -> None:
        letter = self._letter(delivery, index, reason, refusal, words, raw)
        delivery.rejected = [*delivery.rejected, (index, reason)]
        delivery.letters = [*delivery.letters, letter]

    def _letter(
        self, delivery: Delivery, index: int | None, reason: Rejection, refusal: str, words: str, raw: bytes
    ) -> Letter:
        identity = delivery.identity
        return deadletters.letter(
            at=datetime.fromtimestamp(delivery.at_us / 1e6, UTC),
            agent=delivery.agent,
            outbox=str(identity.outbox) if identity else None,
            batch=identity.batch if identity else None,
            index=index,
            reason=reason,
            refusal=refusal,
            words=words,
            payload=raw,
        )

    def _close(self, delivery: Delivery) -> None:
        """Everything is decided: count it. With `later` nothing is final, so nothing is rejected."""
        delivery.stored += len(delivery.points)
        delivery.points, delivery.places, delivery.payload = [], [], b""
        if delivery.later is not None:
            delivery.rejected, delivery.letters = [], []
        self._count(delivery)

    def _count(self, delivery: Delivery) -> None:
        counters = self._state.counters
        counters["stored"] += delivery.stored
        if delivery.later is not None:
            counters["later"] += delivery.records - delivery.stored
            if delivery.later in ("rate_limited", "store_limit"):
                counters[f"later.{delivery.later}"] += delivery.records - delivery.stored
        for index, reason in delivery.rejected:
            count = delivery.records if index is None else 1
            counters["rejected"] += count
            counters[f"rejected.{reason}"] += count

    # -- the store

    async def _write(self, points: list[Point]) -> list[Refusal]:
        """Write until it is done.

        :raises StoreLimit: when the store says so.
        """
        wait_s, longest_s = self._timing.retry_s
        self._writing += 1
        try:
            while True:
                try:
                    await self._ensure()
                    refusals = await self._store.write(points)
                except StoreUnavailable as error:
                    self._store_is_away(str(error))
                    if error.retry_after_s is not None:
                        delay_s = min(error.retry_after_s, self._timing.longest_retry_after_s)
                    else:
                        delay_s = random.uniform(0, wait_s)  # noqa: S311 jitter, no secret
                    wait_s = min(2 * wait_s, longest_s)
                except StoreMisconfigured as error:
                    self._store_is_away(str(error))
                    self._ensured = False
                    delay_s = self._timing.misconfigured_s
                else:
                    self._store_is_there()
                    self._wrote_s = time.monotonic()
                    return refusals
                await asyncio.sleep(delay_s)
        finally:
            self._writing -= 1

    async def _ensure(self) -> None:
        if not self._ensured:
            await self._store.ensure()
            self._ensured = True

    async def _watch_store(self) -> None:
        """Ask a store that nobody writes to whether it is there."""
        while True:
            if not self._writing and time.monotonic() - self._wrote_s >= self._timing.ping_s:
                try:
                    await self._ensure()
                    await self._store.ping()
                except StoreLimit:
                    self._store_is_there()
                except StoreError as error:
                    self._store_is_away(str(error))
                else:
                    self._store_is_there()
            await asyncio.sleep(self._timing.ping_s)

    def _store_is_away(self, reason: str) -> None:
        self._outages += 1
        if self._state.store.change(False, self._now(), reason):
            log.error("store: %s", reason)

    def _store_is_there(self) -> None:
        if self._state.store.change(True, self._now()):
            log.info("store: writing")

    def _refuse_for_limit(self, group: list[Delivery], error: StoreLimit) -> None:
        """Nothing of the group counts as stored; what would have been waits at the agents."""
        self._store_is_there()
        if self._state.alarm("store_limit", str(error)):
            log.error("store: its limit is reached: %s", error)
        for delivery in group:
            if delivery.points:
                delivery.later = "store_limit"
                delivery.points, delivery.places, delivery.stored = [], [], 0
            self._close(delivery)
        answerable = [delivery for delivery in group if not delivery.letters]
        self._forget([delivery for delivery in group if delivery.letters])
        self._answer(answerable)

    # -- answers

    async def _keep_letters(self, group: list[Delivery]) -> bool:
        """Dead letters are on disk before their answer goes out; False when the disk did not take them."""
        letters = [letter for delivery in group for letter in delivery.letters]
        if not letters:
            return True
        try:
            kept = await asyncio.get_running_loop().run_in_executor(self._disk, self._dead_letters.keep, letters)
        except OSError as error:
            if self._state.alarm("dead_letters", f"dead letters cannot be kept: {error}"):
                log.error("dead letters cannot be kept, nothing is rejected: %s", error)
            self._forget([delivery for delivery in group if delivery.letters])
            self._answer([delivery for delivery in group if not delivery.letters])
            return False
        self._state.alarm("dead_letters", None)
        self._state.counters["dead_letters"] += kept
        return True

    async def _release_held(self) -> None:
        """Answer what a store has that is not durable at once, when it surely is."""
        while True:
            due_s, outages, group = await self._held.get()
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            if outages == self._outages:
                self._answer(group)
            else:
                # It went away in between, perhaps without these: let them come again.
                self._forget(group)

    def _answer(self, group: Iterable[Delivery]) -> None:
        now_s = time.monotonic()
        at = self._now()
        for delivery in group:
            self._pending.discard(delivery.key)
            identity = delivery.identity
            if identity is None:
                self._state.counters["unanswerable"] += 1
                continue
            ack = Ack(
                outbox=identity.outbox,
                batch=identity.batch,
                at=at,
                stored=delivery.stored,
                rejected=delivery.rejected,
                later=delivery.later,
            )
            self._publish(topics.down(delivery.agent, "ack"), encode(ack))
            agent = self._state.agents[delivery.agent]
            agent.last_batch_at = at
            if delivery.later is None:
                agent.last_stored = last_stored(agent.last_stored, identity)
                if len(self._lags_ms) < MAX_LAGS:
                    self._lags_ms.append((now_s - delivery.at_s) * 1000)

    def _forget(self, group: Iterable[Delivery]) -> None:
        """No answer: it comes again."""
        for delivery in group:
            self._pending.discard(delivery.key)

    # -- our own minute

    def minute(self) -> None:
        """Note the `collector` point: counts since the last one, and state at its end."""
        counters = self._state.counters
        names = ("received", "stored", "rejected", "later", "dead_letters", "dropped")
        counts = [counters[name] - self._counted.get(name, 0) for name in names]
        self._counted = {name: counters[name] for name in names}
        lags, self._lags_ms = sorted(self._lags_ms), []
        state = self._state
        fields = (
            *counts,
            state.queue_bytes,
            lags[max(0, -(-len(lags) * 95 // 100) - 1)] if lags else None,
            int(state.broker.up),
            int(state.store.up),
        )
        time_ns = int(self._wall() // 60) * 60 * 10**9
        self.note([Point(COLLECTOR.name, (self._name,), time_ns, fields)])

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), UTC)


def _identity(correlation: bytes | None) -> BatchId | None:
    if correlation is not None:
        with contextlib.suppress(msgspec.MsgspecError, ValueError):
            return BatchId.decode(correlation)
    return None
