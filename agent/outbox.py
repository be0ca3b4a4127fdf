"""Keeps every record until the collector has said `stored` or `rejected`. Memory first, then disk.

A record waits in memory, alone or in a batch that was sent. What has no answer within `hold_s` is committed with all
that waits, in one transaction; a record that was acknowledged by then never touches the disk. A committed record then
leaves memory and is read back when its turn comes. A batch, once sent, is never changed: it is settled, split into two
new ones, or put into quarantine.

This side runs on the event loop and owns every decision; :mod:`agent.outbox_file` does the blocking work in one
thread, one call at a time. Without a disk everything goes on in memory, up to :data:`RING_RECORDS`.
"""

import asyncio
import contextlib
import logging
import math
from collections import UserDict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, ParamSpec, Self, TypeVar
from uuid import UUID, uuid4

import msgspec
from msgspec import Struct

from agent.clock import Clock, utc, wait
from agent.config import OutboxLimits
from agent.facts import Facts
from agent.outbox_file import (
    CLASS_SHIFT,
    EXPIRE_ROWS,
    MIB,
    Changes,
    Drop,
    Fault,
    Found,
    Now,
    OutboxFile,
    Report,
    Row,
    oldest_age_s,
)
from agent.timekeeper import UNSYNCED_WAIT_S
from contract import messages
from contract.codec import PayloadError, decode_batch, decode_record, encode
from contract.messages import BatchId
from contract.record import Record
from contract.vocabulary import CLASS_OF, CLASSES

log = logging.getLogger(__name__)

RING_RECORDS: Final = 5_000
"""Records in memory, at most."""
NUMBERS: Final = 1_000
"""Batch numbers are reserved on disk in blocks of this size, so that none is used twice."""
NO_END: Final = 2**62
MAX_RESTING: Final = 1_000
"""Batches that wait for their next sending; with more no new ones are made."""
SLOW_START_S: Final = 10.0
"""A start waits this long for the disk, then goes on without."""
DAY_S: Final = 86_400.0

P = ParamSpec("P")
T = TypeVar("T")
OnFinal = Callable[[Record, str], None]
"""Gets a record with its final times, and `stored`, `rejected`, `quarantined` or `dropped`."""


class Entry(Struct, kw_only=True, eq=False):
    """One record that waits to be sent."""

    id: int
    """Class and order of arrival; also its row on disk."""
    record: Record
    boot: UUID
    boot_s: float
    """Boot time of its slot."""
    synced: bool
    """Whether a time service vouched for the clock when it was measured."""
    kept_s: float
    """Boot time when it was handed over."""
    size_bytes: int
    on_disk: bool = False
    replayed: bool = False
    """Read back from disk."""


class Batch(Struct, kw_only=True, eq=False):
    """A sent batch that has no final answer."""

    id: BatchId
    row: int
    """Its row on disk."""
    ids: list[int]
    """Of its records; empty when it was kept by an earlier run."""
    count: int
    records: list[Record] | None = None
    payload: bytes | None = None
    """What is sent. Both are None while it rests on disk."""
    on_disk: bool = False
    rows: list[int] = []
    """Rows of its records; they go when it is committed itself."""
    replayed: bool = False
    boot: str
    boot_s: float
    wall_s: float
    synced: bool
    kept_s: float
    """Since when its oldest record waits; boot time of this process."""

    # How its sending goes; the publisher's.
    flying: bool = False
    """Sent on this connection and unanswered: it takes one place of the window."""
    due_s: float = -math.inf
    """Boot time of the next sending."""
    sent_s: float = -math.inf
    sends: int = 0
    session: int = 0
    """Connection of the last sending."""
    ignored: int = 0
    """Sendings without an answer while others were answered."""
    cut: int = 0
    """Answering connections that broke while it was in flight."""
    laters: int = 0


class Memo(UserDict[str, Any]):
    """Small state that survives restarts: last labels, anchors, counters. Saved with every commit."""

    def __init__(self) -> None:
        self.dirty: set[str] = set()
        super().__init__()

    def __setitem__(self, name: str, value: Any) -> None:
        if self.data.get(name) != value:
            self.data[name] = value
            self.dirty.add(name)

    def __delitem__(self, name: str) -> None:
        del self.data[name]
        self.dirty.add(name)

    def adopt(self, saved: dict[str, Any]) -> None:
        """Learn what the disk knows; what memory knows is newer."""
        self.dirty |= self.data.keys() - saved.keys()
        self.data = saved | self.data

    def changes(self) -> dict[str, Any]:
        return {name: self.data.get(name) for name in self.dirty}


class Outbox:
    """Open one with :meth:`open`. Everything but the ``async`` methods returns at once and never raises for the disk.

    `waiting` and `batches` are the publisher's to read; it changes them through the methods only.
    """

    def __init__(
        self,
        file: OutboxFile,
        agent: str,
        limits: OutboxLimits,
        clock: Clock,
        facts: Facts,
        *,
        retry_s: float,
        save_s: float,
    ) -> None:
        self.waiting: deque[Entry] = deque()
        self.batches: dict[BatchId, Batch] = {}
        self.memo = Memo()
        self.on_final: OnFinal = lambda record, outcome: None
        self.settled = asyncio.Event()
        """Set whenever records got a final answer."""
        self.own_records = 0
        """Records of this run without a final answer."""
        self.now: Callable[[], Now] = lambda: Now(boot="", boot_s=clock.boot(), wall_s=None)
        """The time, for the age of what waits; whoever knows it says so here."""

        self._file = file
        self._agent = agent
        self._limits = limits
        self._clock = clock
        self._facts = facts
        self._retry_s = retry_s
        self._save_s = save_s

        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        self._lock = asyncio.Lock()
        """One use of the file at a time, its consequences included."""
        self._wake = asyncio.Event()
        self._closing = self._closed = False

        self._records = 0
        self._order = 0
        self._first_order = 1
        self._outbox, self._number, self._numbers_end = uuid4(), 1, NO_END
        self._file_outbox: UUID | None = None
        self._reserved = 1
        """End of the numbers that the file knows as used."""
        self._open = False
        self._file_rows = 0
        self._oldest: list[Row] = []
        self._drops: dict[int, Drop] = {}
        self._drops_logged_s = -math.inf

        self._delete: set[int] = set()
        self._delete_since_s = math.inf
        self._quarantine: list[tuple[str, bytes]] = []
        self._at_once = False
        self._retry_at_s = -math.inf
        self._save_at_s = self._expire_at_s = clock.boot() + save_s
        self._truncate_at_s = math.inf

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        agent: str,
        limits: OutboxLimits | None = None,
        clock: Clock,
        facts: Facts,
        retry_s: float = 30.0,
        save_s: float = 600.0,
        min_free_bytes: int = 20 * MIB,
    ) -> Self:
        """The outbox in `folder`. Never fails: without a usable disk it starts in memory, `degraded`.

        :param retry_s: how often a failed disk is tried again.
        :param save_s: small state is saved with every commit, at least this often.
        :param min_free_bytes: with less free space nothing is inserted.
        """
        limits = limits or OutboxLimits()
        file = OutboxFile(folder, max_bytes=limits.max_mib * MIB, class_of=CLASS_OF, min_free_bytes=min_free_bytes)
        outbox = cls(file, agent, limits, clock, facts, retry_s=retry_s, save_s=save_s)
        opening = asyncio.create_task(outbox.commit(), name="outbox open")
        await asyncio.wait({opening}, timeout=SLOW_START_S)
        facts.degraded |= not opening.done()
        return outbox

    @property
    def id(self) -> UUID:
        """The identity under which batches are numbered now."""
        return self._outbox

    @property
    def crowded(self) -> bool:
        """So many batches have no answer that no new ones must be made."""
        return len(self.batches) >= MAX_RESTING or self._in_memory() - len(self.waiting) >= RING_RECORDS // 2

    # -- what happens to a record

    def keep(self, record: Record, *, boot: UUID, boot_s: float, synced: bool, at_once: bool = False) -> None:
        """Take a record; it is this outbox's until it is final.

        :param at_once: commit now, do not wait for an acknowledgement.
        """
        try:
            size_bytes = len(encode(record))
        except (TypeError, ValueError) as error:  # a lone surrogate, a value of no wire type
            log.error("a record of %s cannot be written as JSON: %s", record.probe, error)
            self._count_quarantined("not JSON", repr(record).encode("utf-8", "replace")[: messages.MAX_BYTES], 1)
            return
        while self.waiting and self._in_memory() >= RING_RECORDS:
            self._make_place()
        entry = Entry(
            id=self._next_id(CLASS_OF[record.probe]),
            record=record,
            boot=boot,
            boot_s=boot_s,
            synced=synced,
            kept_s=self._clock.boot(),
            size_bytes=size_bytes,
        )
        # The first that is not on disk sets the time of the next commit.
        first = not self.waiting or self.waiting[-1].on_disk
        self.waiting.append(entry)
        self._records += 1
        self.own_records += 1
        if at_once:
            self._at_once = True
        if at_once or first:
            self._wake.set()
        self._tell()

    def make_batch(self, entries: list[Entry], config_version: int) -> Batch:
        """A batch of `entries`, whose times are final. From now on they are part of it."""
        first = entries[0]
        if not first.replayed:
            taken = {entry.id for entry in entries}
            self.waiting = deque(entry for entry in self.waiting if entry.id not in taken)
        batch = self._compose([entry.record for entry in entries], [entry.id for entry in entries], first.boot,
                              config_version)  # fmt: skip
        batch.rows = [entry.id for entry in entries if entry.on_disk]
        batch.replayed = first.replayed
        batch.boot_s = first.boot_s
        batch.kept_s = min(entry.kept_s for entry in entries)
        self._wake.set()
        return batch

    def settle(self, batch: Batch, rejected: set[int]) -> None:
        """The final answer to `batch`; `rejected` are places, all other records are stored."""
        for place, record in enumerate(batch.records or ()):
            self.on_final(record, "rejected" if place in rejected else "stored")
        self._remove(batch)
        self._forget(batch.ids, batch.count)

    def split(self, batch: Batch) -> list[Batch]:
        """Replace a loaded batch of at least two records by two batches that were never sent."""
        assert batch.records is not None
        assert batch.payload is not None
        whole = msgspec.json.decode(batch.payload, type=_Envelope)
        middle = batch.count // 2
        halves: list[Batch] = []
        for part in (slice(None, middle), slice(middle, None)):
            half = self._compose(batch.records[part], batch.ids[part], whole.boot, whole.config_version)
            half.rows = [*batch.rows, *([batch.row] if batch.on_disk else [])]
            half.replayed, half.boot_s, half.kept_s = batch.replayed, batch.boot_s, batch.kept_s
            halves.append(half)
        del self.batches[batch.id]
        # Both halves go to disk in the transaction that removes the whole.
        self._at_once |= bool(halves[0].rows)
        self._wake.set()
        return halves

    def quarantine(self, batch: Batch, why: str) -> None:
        """Put a loaded batch aside: it is kept for people to look at, and never sent again."""
        log.error("batch %d goes to quarantine: %s", batch.id.batch, why)
        for record in batch.records or ():
            self.on_final(record, "quarantined")
        self._remove(batch)
        self._forget(batch.ids, batch.count)
        self._count_quarantined(why, batch.payload or b"", batch.count)

    def rest(self, batch: Batch, due_s: float) -> None:
        """`batch` is not in flight any more and is sent again from `due_s` on."""
        batch.flying = False
        batch.due_s = due_s
        self._unload(batch)

    # -- reading back

    async def load(self, batch: Batch) -> bool:
        """Bring the content of a resting batch into memory; False when it is gone or the disk is busy."""
        if batch.payload is not None:
            return True
        if self._lock.locked() or not self._open:
            return False
        async with self._lock:
            try:
                content = await self._in_thread(self._file.content, batch.row)
                if content is None:
                    raise PayloadError("bad_field", "no such row")
                batch.records, batch.payload = decode_batch(content).batch.records, content
            except Fault as error:
                await self._fail(error)
            except PayloadError as error:
                log.error("batch %d cannot be read back: %s", batch.id.batch, error)
                self._remove(batch)
                self._forget(batch.ids, batch.count)
                self._count_quarantined(str(error), content or b"", batch.count)
        return batch.payload is not None

    async def unsent(self, limit: int, *, boot: UUID, anchored: bool) -> list[Entry] | None:
        """Records that were committed before they could be sent, the rarest class first; None: the disk is busy.

        :param anchored: whether the time of this boot is known; if not, its unsynchronised records are left out.
        """
        if self._lock.locked():
            return None
        if not self._open or self._file_rows == 0:
            return []
        async with self._lock:
            try:
                rows = await self._in_thread(
                    self._file.unsent,
                    limit,
                    taken=self._rows_in_memory() | self._delete,
                    boot=str(boot),
                    anchored=anchored,
                    waited_from_s=self._clock.boot() - UNSYNCED_WAIT_S,
                )
            except Fault as error:
                await self._fail(error)
                return []
        return [entry for row in rows if (entry := self._to_entry(row)) is not None]

    def _to_entry(self, row: Row) -> Entry | None:
        try:
            record, boot = decode_record(row.content), UUID(row.boot)
        except ValueError as error:  # a PayloadError is one
            log.error("a record cannot be read back: %s", error)
            self._schedule_delete([row.id])
            self._forget([row.id], 1)
            self._count_quarantined(str(error), row.content, 1)
            return None
        return Entry(
            id=row.id,
            record=record,
            boot=boot,
            boot_s=row.boot_s,
            synced=row.synced,
            kept_s=self._clock.boot(),
            size_bytes=len(row.content),
            on_disk=True,
            replayed=True,
        )

    # -- committing

    async def run(self) -> None:
        """Commit what is due, when it is due, until cancelled."""
        while True:
            self._wake.clear()
            self._let_go()
            left_s = self._due_s() - self._clock.boot()
            if left_s <= 0:
                await self.commit()
            elif self._truncate_at_s <= self._clock.boot():
                await self._truncate()
            else:
                longest_s = self._limits.hold_s if self.waiting else 60.0
                await wait(self._clock, self._wake, min(left_s, longest_s))

    async def close(self) -> None:
        """Commit what waits and give the file back; to be called once, after everything else has ended."""
        self._closing = True
        for _ in range(3):  # what came in during a commit needs another
            await self.commit(everything=True)
            if not self.waiting and all(batch.on_disk for batch in self.batches.values()):
                break
        self._closed = True
        async with self._lock:
            await self._in_thread(self._file.close)
        self._thread.shutdown(wait=False)

    async def commit(self, *, everything: bool = False) -> None:
        """One transaction now. What was begun is finished, even when the caller is cancelled.

        :param everything: write all that waits, whether it is due or not.
        """
        task = asyncio.create_task(self._commit(everything), name="outbox commit")
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            raise

    def _due_s(self) -> float:
        """Boot time of the next commit."""
        if not self._open or self._facts.degraded:
            return self._retry_at_s
        return -math.inf if self._at_once or self._numbers_low() else min(
            self._hold_due_s(), self._delete_since_s + self._limits.hold_s, self._save_at_s, self._expire_at_s
        )  # fmt: skip

    def _hold_due_s(self) -> float:
        """When something in memory has waited long enough."""
        since_s = [batch.kept_s for batch in self.batches.values() if not batch.on_disk]
        since_s += [next((entry.kept_s for entry in self.waiting if not entry.on_disk), math.inf)]
        return min(since_s) + self._limits.hold_s

    def _numbers_low(self) -> bool:
        return self._outbox != self._file_outbox or self._numbers_end - self._number < NUMBERS // 2

    async def _commit(self, everything: bool) -> None:
        async with self._lock:
            if self._closed:
                return
            try:
                if not self._open:
                    self._adopt(await self._in_thread(self._file.open))
                snapshot = self._snapshot(everything)
                try:
                    report = await self._in_thread(self._file.commit, snapshot.changes)
                except Fault:
                    self._undo(snapshot)
                    raise
            except Fault as error:
                await self._fail(error)
            else:
                self._apply(snapshot, report)
            self._tell()

    def _snapshot(self, everything: bool) -> "_Snapshot":
        now_s = self._clock.boot()
        memo = self.memo.changes()
        if self._numbers_low():
            memo["numbers"] = self._reserved + NUMBERS
        if self._facts.outbox_quarantined:
            memo["quarantined"] = self._facts.outbox_quarantined
        entries: list[Entry] = []
        batches: list[Batch] = []
        leaving: list[Entry] = []
        # Saving small state online writes no record; with rows on disk the labels must not run ahead of them.
        if everything or self._at_once or self._file_rows or self._hold_due_s() <= now_s:
            batches = [batch for batch in self.batches.values() if not batch.on_disk]
            entries = [entry for entry in self.waiting if not entry.on_disk]
            while self.waiting and (self._closing or self._is_old(self.waiting[0])):
                leaving.append(self.waiting.popleft())
        rows = [self._to_row(entry) for entry in entries] + [_batch_row(batch) for batch in batches]
        _mark(entries, batches, on_disk=True)
        older_than = None
        if now_s >= self._expire_at_s:
            older_than = (self.now(), self._limits.max_days * DAY_S)
        snapshot = _Snapshot(
            changes=Changes(
                insert=rows,
                delete=self._delete,
                memo=memo,
                quarantine=self._quarantine,
                protect=self._rows_in_memory(),
                dropped={kind: msgspec.structs.replace(drop) for kind, drop in self._drops.items()},
                older_than=older_than,
            ),
            entries=entries,
            batches=batches,
            leaving=leaving,
        )
        self.memo.dirty, self._delete, self._quarantine, self._at_once = set(), set(), [], False
        self._delete_since_s = math.inf
        return snapshot

    def _undo(self, snapshot: "_Snapshot") -> None:
        """Nothing of `snapshot` was written."""
        self._keep_waiting(snapshot)
        self._schedule_delete(snapshot.changes.delete)
        self.memo.dirty |= snapshot.changes.memo.keys() & self.memo.keys()
        self._quarantine = (snapshot.changes.quarantine + self._quarantine)[-100:]

    def _keep_waiting(self, snapshot: "_Snapshot") -> None:
        _mark(snapshot.entries, snapshot.batches, on_disk=False)
        absent = {entry.id for entry in snapshot.entries}
        for batch in self.batches.values():  # some may be made of these entries meanwhile
            batch.rows = [i for i in batch.rows if i not in absent]
        self.waiting.extendleft(reversed(snapshot.leaving))

    def _apply(self, snapshot: "_Snapshot", report: Report) -> None:
        now_s = self._clock.boot()
        if report.inserted:
            for batch in snapshot.batches:
                batch.rows = []
                self._unload(batch)
        else:
            self._keep_waiting(snapshot)
        if (end := snapshot.changes.memo.get("numbers")) is not None:
            self._take_numbers(end)
        self._note_evicted(report.evicted)
        if snapshot.changes.older_than is not None:
            self._expire_at_s = now_s + (1.0 if len(report.evicted) >= EXPIRE_ROWS else 3600.0)
        self._file_rows, self._oldest = report.rows, report.oldest
        self._facts.disk_free_bytes = report.free_bytes
        self._save_at_s, self._truncate_at_s = now_s + self._save_s, now_s + 60.0
        self._set_degraded(None if report.inserted else "the disk is too full for more records")

    async def _fail(self, error: Exception) -> None:
        replaced = isinstance(error, FileNotFoundError) and self._open
        self._open = False
        self._set_degraded(f"{type(error).__name__}: {error}")
        if replaced:
            self._retry_at_s = -math.inf
        self._wake.set()
        with contextlib.suppress(*Fault):
            await self._in_thread(self._file.close)

    def _set_degraded(self, why: str | None) -> None:
        if why is not None:
            self._retry_at_s = self._clock.boot() + self._retry_s
        if (why is not None) != self._facts.degraded:
            if why is None:
                log.warning("the outbox is on disk again")
            else:
                log.error("the outbox goes on in memory: %s", why)
        self._facts.degraded = why is not None

    def _adopt(self, found: Found) -> None:
        """Go on with what was found in a newly opened file."""
        self._open = True
        self._facts.disk_free_bytes = found.free_bytes
        self._file_rows = found.rows
        if found.outbox == self._file_outbox:
            return
        if self._file_outbox is not None:
            log.error("the outbox's file was replaced: %d records on disk are lost", self._records - self._in_memory())
        for batch in [batch for batch in self.batches.values() if batch.payload is None]:
            self._remove(batch)
        saved = found.memo
        self._file_outbox, self._reserved = found.outbox, saved.pop("numbers", 1)
        if self._numbers_end != NO_END:
            self._outbox, self._number, self._numbers_end = uuid4(), 1, NO_END
        self._delete, self._delete_since_s = set(), math.inf
        self._number_again(found.last_order)
        for row in found.batches:
            self._add_kept_batch(row)
        self._records = self._in_memory() + found.records
        self.own_records = len(self.waiting) + sum(len(batch.ids) for batch in self.batches.values())
        for kind in range(len(CLASSES)):
            if (drop := saved.pop(f"dropped/{kind}", None)) is not None:
                self._drops.setdefault(kind, Drop()).add(drop)
        self._facts.outbox_quarantined += saved.pop("quarantined", 0)
        self.memo.adopt({name: value for name, value in saved.items() if name not in {"outbox", "replaced"}})
        self.settled.set()

    def _number_again(self, last_order: int) -> None:
        """Ids behind those of the file for what is in memory; none of it is in the file."""
        self._order, self._first_order = last_order, last_order + 1
        for entry in self.waiting:
            entry.id, entry.on_disk = self._next_id(entry.id >> CLASS_SHIFT), False
        for batch in self.batches.values():
            batch.ids = [self._next_id(i >> CLASS_SHIFT) for i in batch.ids]
            batch.row, batch.rows, batch.on_disk = self._next_id(batch.row >> CLASS_SHIFT), [], False

    def _add_kept_batch(self, row: Row) -> None:
        assert row.outbox is not None
        assert row.number is not None
        batch = Batch(
            id=BatchId(UUID(row.outbox), row.number),
            row=row.id,
            ids=[],
            count=row.records,
            on_disk=True,
            replayed=True,
            boot=row.boot,
            boot_s=row.boot_s,
            wall_s=row.wall_s,
            synced=row.synced,
            kept_s=self._clock.boot(),
        )
        self.batches[batch.id] = batch

    async def _truncate(self) -> None:
        self._truncate_at_s = math.inf
        async with self._lock:
            if not self._open:
                return
            try:
                await self._in_thread(self._file.truncate_wal)
            except Fault as error:
                await self._fail(error)

    async def _in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(*args, **kwargs))

    # -- identities and numbers

    def _next_id(self, kind: int) -> int:
        self._order += 1
        return kind << CLASS_SHIFT | self._order

    def _take_numbers(self, end: int) -> None:
        """The numbers before `end` are reserved on disk now."""
        assert self._file_outbox is not None
        if self._outbox != self._file_outbox:
            self._outbox, self._number = self._file_outbox, self._reserved
        self._reserved = self._numbers_end = end

    def _next_batch_id(self) -> BatchId:
        if self._number >= self._numbers_end:
            # No disk to reserve numbers on: another identity, whose numbers nobody else can have used.
            self._outbox, self._number, self._numbers_end = uuid4(), 1, NO_END
        self._number += 1
        return BatchId(self._outbox, self._number - 1)

    def _compose(self, records: list[Record], ids: list[int], boot: UUID, config_version: int) -> Batch:
        """A new batch with the next number; the caller completes what it knows of its age."""
        identity = self._next_batch_id()
        payload = encode(
            messages.Batch(
                agent=self._agent,
                outbox=identity.outbox,
                batch=identity.batch,
                boot=boot,
                sent_at=utc(self._clock.wall()),
                config_version=config_version,
                records=records,
            )
        )
        batch = Batch(
            id=identity,
            row=self._next_id(max(CLASS_OF[record.probe] for record in records)),
            ids=ids,
            count=len(records),
            records=records,
            payload=payload,
            boot=str(boot),
            boot_s=self._clock.boot(),
            wall_s=records[0].slot.timestamp(),
            synced=records[0].clock != "none",
            kept_s=self._clock.boot(),
        )
        self.batches[identity] = batch
        return batch

    # -- counting

    def _remove(self, batch: Batch) -> None:
        self.batches.pop(batch.id, None)
        self._schedule_delete([*batch.rows, *([batch.row] if batch.on_disk else [])])

    def _forget(self, ids: Iterable[int], count: int) -> None:
        """`count` records are final; `ids` are those of this run or unknown."""
        self._records -= count
        self.own_records -= sum(i % 2**CLASS_SHIFT >= self._first_order for i in ids)
        self.settled.set()
        self._tell()

    def _schedule_delete(self, ids: Iterable[int]) -> None:
        self._delete.update(ids)
        if self._delete:
            self._delete_since_s = min(self._delete_since_s, self._clock.boot())
            self._wake.set()

    def _count_quarantined(self, why: str, content: bytes, count: int) -> None:
        self._quarantine = [*self._quarantine, (why, content)][-100:]
        self._facts.outbox_quarantined += count
        self._at_once = True
        self._wake.set()

    def _make_place(self) -> None:
        """Memory is full: let go of what is on disk too, else lose the oldest of the lowest class."""
        victim = next((e for e in self.waiting if e.on_disk), None) or min(self.waiting, key=lambda e: e.id)
        self.waiting.remove(victim)
        if not victim.on_disk:
            slot = victim.record.slot.isoformat()
            self._count_dropped(victim.id >> CLASS_SHIFT, Drop(count=1, first_slot=slot, last_slot=slot))
            self.on_final(victim.record, "dropped")
            self._forget([victim.id], 1)

    def _note_evicted(self, evicted: dict[int, dict[int, Drop]]) -> None:
        by_row = {batch.row: batch for batch in self.batches.values()} if evicted else {}
        totals: dict[int, Drop] = {}
        for row, drops in evicted.items():
            batch = by_row.get(row)
            if batch is not None:
                del self.batches[batch.id]
            self._forget([row] if batch is None else batch.ids, sum(drop.count for drop in drops.values()))
            for kind, drop in drops.items():
                totals.setdefault(kind, Drop()).add(drop)
        for kind, drop in totals.items():
            self._count_dropped(kind, drop)

    def _count_dropped(self, kind: int, drop: Drop) -> None:
        self._drops.setdefault(kind, Drop()).add(drop)
        now_s = self._clock.boot()
        if now_s >= self._drops_logged_s + 3600.0:
            self._drops_logged_s = now_s
            counts = ", ".join(f"{total.count} {CLASSES[k]}" for k, total in sorted(self._drops.items()))
            log.warning("the outbox is full and drops records; so far %s", counts)

    def _let_go(self) -> None:
        """Records that are on disk leave memory after their time."""
        while self.waiting and self.waiting[0].on_disk and self._is_old(self.waiting[0]):
            self.waiting.popleft()

    def _is_old(self, entry: Entry) -> bool:
        return entry.kept_s + self._limits.hold_s <= self._clock.boot()

    def _unload(self, batch: Batch) -> None:
        if batch.on_disk and not batch.flying and batch.due_s > self._clock.boot():
            batch.records = batch.payload = None

    def _in_memory(self) -> int:
        return len(self.waiting) + sum(batch.count for batch in self.batches.values() if batch.payload is not None)

    def _rows_in_memory(self) -> set[int]:
        """Rows of what is in memory too: in flight, or about to be."""
        rows = {entry.id for entry in self.waiting if entry.on_disk}
        for batch in self.batches.values():
            rows.update(batch.rows)
            if batch.payload is not None:
                rows.add(batch.row)
        return rows

    def _tell(self) -> None:
        facts = self._facts
        facts.outbox_records = self._records
        now = self.now()
        ages = [oldest_age_s(self._oldest, now) if self._file_rows else None]
        ages += [now.boot_s - self.waiting[0].kept_s] if self.waiting else []
        ages += [now.boot_s - batch.kept_s for batch in self.batches.values()]
        facts.outbox_oldest_s = max((age for age in ages if age is not None), default=None)
        for kind, name in enumerate(CLASSES):
            setattr(facts, f"outbox_dropped_{name}", self._drops.get(kind, Drop()).count)

    def _to_row(self, entry: Entry) -> Row:
        return Row(
            id=entry.id,
            boot=str(entry.boot),
            boot_s=entry.boot_s,
            wall_s=entry.record.slot.timestamp(),
            synced=entry.synced,
            content=encode(entry.record),
        )


class _Snapshot(Struct, kw_only=True):
    """What one commit is about."""

    changes: Changes
    entries: list[Entry]
    """Inserted."""
    batches: list[Batch]
    """Inserted."""
    leaving: list[Entry]
    """Old enough to leave memory when the commit has succeeded."""


class _Envelope(Struct):
    """What the halves of a batch take over from it."""

    boot: UUID
    config_version: int


def _mark(entries: Iterable[Entry], batches: Iterable[Batch], *, on_disk: bool) -> None:
    for entry in entries:
        entry.on_disk = on_disk
    for batch in batches:
        batch.on_disk = on_disk


def _batch_row(batch: Batch) -> Row:
    assert batch.payload is not None
    return Row(
        id=batch.row,
        outbox=str(batch.id.outbox),
        number=batch.id.batch,
        boot=batch.boot,
        boot_s=batch.boot_s,
        wall_s=batch.wall_s,
        synced=batch.synced,
        records=batch.count,
        content=batch.payload,
        replaces=batch.rows,
    )
