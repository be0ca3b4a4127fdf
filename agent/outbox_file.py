"""The outbox's file: SQLite in WAL mode with synchronous=FULL. Blocking; one thread alone uses it.

A row is a record that was never sent, or a sent batch, kept with its number and content and never changed. Row ids put
the eviction class above the order of arrival, so that the rows of a class lie side by side, oldest first, and dropping
the oldest of the lowest class frees whole pages.
"""

import contextlib
import fcntl
import json
import logging
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec
from msgspec import Struct

from contract.fields import Count

log = logging.getLogger(__name__)

MIB: Final = 2**20
MIN_FREE_BYTES: Final = 20 * MIB
"""With less free space nothing is inserted: the disk is not ours alone."""
BALLAST_BYTES: Final = MIB
"""Released when the disk is full, so that deleting still works."""
TRUNCATE_BYTES: Final = MIB
"""A write-ahead log shorter than this is left as it is."""
FREE_SHARE: Final = 0.1
"""Of the space that is free at start, the outbox takes at most this (or what it has already taken)."""
MAX_QUARANTINED: Final = 100
EXPIRE_ROWS: Final = 1_000
"""One transaction drops about this many rows for their age, no more; the event loop has to account for them."""
KEPT_BAD: Final = 2

CLASS_SHIFT: Final = 48
CLASSES: Final = 4
"""Eviction classes."""
SCHEMA_VERSION: Final = 1
SCHEMA: Final = """
CREATE TABLE memo (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE kept (
    id INTEGER PRIMARY KEY,     -- class << 48 | order of arrival
    outbox TEXT, number INTEGER,    -- identity of a sent batch; null: one record that was not sent
    boot TEXT NOT NULL, boot_s REAL NOT NULL, wall_s REAL NOT NULL, synced INTEGER NOT NULL, -- when it was measured
    records INTEGER NOT NULL,
    content BLOB NOT NULL       -- a Record or a Batch as JSON
);
CREATE TABLE quarantine (id INTEGER PRIMARY KEY, why TEXT NOT NULL, content BLOB NOT NULL);
"""

_BAD: Final = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
"""What SQLite says of a file that is no outbox. Anything else is the disk's fault, and the file may be sound."""

Fault = (sqlite3.Error, OSError)
"""What the methods raise when the disk or the file fails."""


class Row(Struct, kw_only=True):
    """One row of `kept`."""

    id: int
    outbox: str | None = None
    number: int | None = None
    boot: str
    boot_s: float
    wall_s: float
    synced: bool
    records: int = 1
    content: bytes
    replaces: list[int] = []
    """Rows of the records that a batch is made of; they go when it is inserted."""


class Now(Struct, kw_only=True):
    """The time, as far as it is known."""

    boot: str
    boot_s: float
    wall_s: float | None
    """None when nobody vouches for it."""


class Changes(Struct, kw_only=True):
    """What one transaction writes."""

    insert: list[Row] = []
    delete: set[int] = set()
    memo: dict[str, Any] = {}
    """Value null forgets the name."""
    quarantine: list[tuple[str, bytes]] = []
    """(why, content)."""
    protect: set[int] = set()
    """Rows that must not be dropped: in flight, or still in memory."""
    dropped: "Drops"
    """Counters before this transaction."""
    older_than: tuple[Now, float] | None = None
    """Drop what is older than this many seconds."""


class Drop(Struct, kw_only=True):
    """Records of one class that were lost to the caps; slots as they were known, in ISO form."""

    count: int = 0
    first_slot: str | None = None
    last_slot: str | None = None

    def add(self, other: "Drop") -> None:
        self.count += other.count
        slots = [s for s in (self.first_slot, self.last_slot, other.first_slot, other.last_slot) if s is not None]
        self.first_slot, self.last_slot = min(slots, default=None), max(slots, default=None)


Drops = dict[int, Drop]
"""By eviction class."""

_MEMO: Final[dict[str, Any]] = {
    "outbox": UUID,
    "numbers": Count,
    "quarantined": Count,
    "replaced": Count,
    "session": Count,
    "label": int,
    "anchor": tuple[float, float, float],
    "dropped": Drop,
}
"""Types of what the memo holds, by its name before the slash."""


def _memo_value(name: str, value: str) -> Any:
    """:raises ValueError: when it is not what that name stands for."""
    return msgspec.json.decode(value, type=_MEMO.get(name.partition("/")[0], Any))


class Report(Struct, kw_only=True):
    """What a transaction did."""

    inserted: bool
    """False: the disk is too full for more rows; everything else was written."""
    evicted: dict[int, Drops] = {}
    """Rows that were dropped, with what was lost."""
    rows: int
    free_bytes: int
    oldest: list[Row] = []
    """The oldest row of each class."""


class Found(Struct, kw_only=True):
    """What was in the file when it was opened."""

    outbox: UUID
    memo: dict[str, Any]
    batches: list[Row]
    """Sent batches without their content."""
    records: int
    rows: int
    last_order: int
    free_bytes: int


class _Identity(Struct):
    """Of a kept batch."""

    outbox: UUID
    batch: Count


class _Slotted(Struct):
    """All that the drop counters want of a record."""

    probe: str
    slot: str


class _SlottedBatch(Struct):
    records: list[_Slotted]


class OutboxFile:
    """:param class_of: eviction class of a probe.

    All methods block. They raise one of :data:`Fault` when the disk fails; close it then, and open it again later.
    """

    def __init__(
        self, folder: Path, *, max_bytes: int, class_of: dict[str, int], min_free_bytes: int = MIN_FREE_BYTES
    ) -> None:
        self._folder = folder
        self._path = folder / "outbox.db"
        self._ballast = folder / "ballast"
        self._max_bytes = max_bytes
        self._cap_bytes: int | None = None
        self._class_of = class_of
        self._min_free_bytes = min_free_bytes
        self._db: sqlite3.Connection | None = None
        self._lock: int | None = None
        """Descriptor of the folder, which is locked while it is open."""
        self._inode: tuple[int, int] | None = None
        self._rows = 0
        self._set_aside_count = 0

    # -- opening

    def open(self) -> Found:
        """Open or make the file; one that is no sound outbox is renamed `.bad` and replaced.

        :raises BlockingIOError: while another process uses the folder.
        """
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        try:
            return self._open_with_ballast()
        except sqlite3.DatabaseError as error:
            if _code(error) not in _BAD and not self._path.is_dir():
                raise
            log.error("the outbox's file is bad (%s): renamed .bad, a new one is made", error)
            self._disconnect()
            self._set_aside()
            return self._open_with_ballast()

    def _open_with_ballast(self) -> Found:
        try:
            return self._open()
        except sqlite3.OperationalError as error:
            if not self._is_full(error):
                raise
            self._disconnect()
            self._release_ballast()
            return self._open()

    def _open(self) -> Found:
        try:
            return self._read_all()
        except (ValueError, TypeError, KeyError) as error:
            # SQLite knows nothing of what its rows say.
            raise _corrupt(f"{type(error).__name__}: {error}") from error

    def _read_all(self) -> Found:
        free_bytes = self.free_bytes()
        # SQLite gives its log the mode of the file. An unreadable folder shows in the next line.
        with contextlib.suppress(OSError):
            self._path.touch(mode=0o600)
        db = self._db = sqlite3.connect(self._path, timeout=5.0, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if (answer := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise _corrupt(str(answer))
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            raise _corrupt(f"schema version {version}")
        with self._transaction():
            if version == 0:
                for statement in SCHEMA.split(";\n"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                self._write_memo({"outbox": str(uuid4())})
            memo = {name: _memo_value(name, value) for name, value in db.execute("SELECT name, value FROM memo")}
            outbox = memo["outbox"]
            if self._set_aside_count:
                memo["replaced"] = memo.get("replaced", 0) + self._set_aside_count
                self._write_memo({"replaced": memo["replaced"]})
        self._set_aside_count = 0
        if self._cap_bytes is None:
            # A disk that others have filled is no reason to drop what was kept before.
            self._cap_bytes = min(self._max_bytes, max(int(free_bytes * FREE_SHARE), self.used_bytes()))
        self._inode = self._identity()
        self._rows, records, _ = db.execute("SELECT count(*), total(records), max(id) FROM kept").fetchone()
        self._make_ballast()
        batches = list(self._select("number IS NOT NULL ORDER BY id", content="x''"))
        for row in batches:
            msgspec.convert({"outbox": row.outbox, "batch": row.number}, _Identity)
        return Found(
            outbox=outbox,
            memo=memo,
            batches=batches,
            records=int(records),
            rows=self._rows,
            last_order=max((row.id % 2**CLASS_SHIFT for row in self._newest()), default=0),
            free_bytes=self.free_bytes(),
        )

    def close(self) -> None:
        """Give file and folder back; raises nothing."""
        self._disconnect()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        """Two processes would give the same row to different records."""
        self._lock = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"another process uses {self._folder}; every agent needs a `state` of its own"
            ) from None

    def _disconnect(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _set_aside(self) -> None:
        for suffix in ("", "-wal"):
            names = [self._folder / f"{self._path.name}.bad{n or ''}{suffix}" for n in range(KEPT_BAD)]
            for older, newer in zip(reversed(names), list(reversed(names))[1:], strict=False):
                if newer.exists():
                    newer.replace(older)
            current = self._path.with_name(self._path.name + suffix)
            if current.exists():
                current.replace(names[0])
        self._path.with_name(self._path.name + "-shm").unlink(missing_ok=True)
        self._set_aside_count += 1

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    # -- writing

    def commit(self, changes: Changes) -> Report:
        """Write `changes` in one transaction, then drop what is over the caps."""
        if self._identity() != self._inode:
            raise FileNotFoundError(f"{self._path} was replaced or removed")
        insert = not changes.insert or self.free_bytes() >= self._min_free_bytes
        try:
            report = self._write(changes, insert=insert)
        except sqlite3.OperationalError as error:
            if not self._is_full(error):
                raise
            self._release_ballast()
            report = self._write(changes, insert=False)
        if report.inserted:
            self._make_ballast()
        return report

    def _write(self, changes: Changes, *, insert: bool) -> Report:
        db = self._connection
        evicted: dict[int, Drops] = {}
        rows = self._rows
        with self._transaction():
            rows -= self._delete(changes.delete)
            if insert:
                for row in changes.insert:
                    rows -= self._delete(row.replaces)
                    db.execute(
                        "INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        (row.id, row.outbox, row.number, row.boot, row.boot_s, row.wall_s, row.synced, row.records,
                         row.content),
                    )  # fmt: skip
                    rows += 1
            if changes.older_than is not None:
                evicted |= self._expire(*changes.older_than, changes.protect)
            evicted |= self._shrink(changes.protect)
            for why, content in changes.quarantine:
                db.execute("INSERT INTO quarantine (why, content) VALUES (?, ?)", (why, content))
            db.execute("DELETE FROM quarantine WHERE id <= (SELECT max(id) FROM quarantine) - ?", (MAX_QUARANTINED,))
            # Labels of rows that stay unsent must not be on disk before them: they would be moved on at a new start.
            memo = {n: v for n, v in changes.memo.items() if insert or not n.startswith("label/")}
            self._write_memo(memo | _drop_memo(changes.dropped, evicted.values()))
        self._rows = rows - len(evicted)
        return Report(
            inserted=insert,
            evicted=evicted,
            rows=self._rows,
            free_bytes=self.free_bytes(),
            oldest=list(self._oldest()),
        )

    def _shrink(self, protect: Collection[int]) -> dict[int, Drops]:
        """Drop the oldest rows of the lowest class until the used pages are within the cap."""
        evicted: dict[int, Drops] = {}
        assert self._cap_bytes is not None
        while self.used_bytes() > self._cap_bytes:
            rows = list(self._select("id NOT IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT 16", _ids(protect)))
            if not rows:
                break
            evicted |= self._evict(rows)
        return evicted

    def _expire(self, now: Now, max_age_s: float, protect: Collection[int]) -> dict[int, Drops]:
        evicted: dict[int, Drops] = {}
        while len(evicted) < EXPIRE_ROWS and (
            rows := [row for row in self._oldest(protect, limit=64) if _age_s(row, now) > max_age_s]
        ):
            evicted |= self._evict(rows)
        return evicted

    def _evict(self, rows: Iterable[Row]) -> dict[int, Drops]:
        evicted = {row.id: self._drops(row) for row in rows}
        self._delete(evicted)
        return evicted

    def _drops(self, row: Row) -> Drops:
        drops: Drops = {}
        try:
            if row.number is None:
                records = [msgspec.json.decode(row.content, type=_Slotted)]
            else:
                records = msgspec.json.decode(row.content, type=_SlottedBatch).records
            for record in records:
                drop = Drop(count=1, first_slot=record.slot, last_slot=record.slot)
                drops.setdefault(self._class_of[record.probe], Drop()).add(drop)
        except (ValueError, KeyError):  # spoiled, or of a probe that only a newer version knows
            return {min(max(row.id >> CLASS_SHIFT, 0), CLASSES - 1): Drop(count=row.records)}
        return drops

    def _delete(self, ids: Collection[int]) -> int:
        return sum(self._connection.execute("DELETE FROM kept WHERE id = ?", (i,)).rowcount for i in ids)

    def _write_memo(self, memo: dict[str, Any]) -> None:
        for name, value in memo.items():
            if value is None:
                self._connection.execute("DELETE FROM memo WHERE name = ?", (name,))
            else:
                self._connection.execute("INSERT OR REPLACE INTO memo VALUES (?, ?)", (name, json.dumps(value)))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        db = self._connection
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise

    # -- reading

    def unsent(
        self, limit: int, *, taken: Collection[int], boot: str, anchored: bool, waited_from_s: float
    ) -> list[Row]:
        """Records that may be sent, the rarest class first, oldest first; not those that wait for the clock.

        :param taken: rows that are part of a batch already.
        :param anchored: whether the time of this boot is known.
        :param waited_from_s: boot time; who waits since before has waited for it long enough.
        """
        rows: list[Row] = []
        for kind in reversed(range(CLASSES)):
            rows += self._select(
                "id BETWEEN ? AND ? AND number IS NULL AND (synced OR ? OR boot <> ? OR boot_s < ?)"
                " AND id NOT IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?",
                kind << CLASS_SHIFT, ((kind + 1) << CLASS_SHIFT) - 1,
                anchored, boot, waited_from_s, _ids(taken), limit - len(rows),
            )  # fmt: skip
        return rows

    def content(self, row: int) -> bytes | None:
        """Content of a row; None when it was dropped."""
        found = self._connection.execute("SELECT content FROM kept WHERE id = ?", (row,)).fetchone()
        return None if found is None else bytes(found[0])

    def truncate_wal(self) -> None:
        """Give the write-ahead log's space back when it is worth it; for idle times.

        A log that starts anew costs about 60 kB of writes (the shared-memory index is made again): with a save every
        10 min that is 10 MB a day, and appending to a short log 2 MB.
        """
        wal = self._path.with_name(self._path.name + "-wal")
        if wal.stat().st_size >= TRUNCATE_BYTES:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def used_bytes(self) -> int:
        """Pages in use, whatever the size of the file."""
        db = self._connection
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        (free,) = db.execute("PRAGMA freelist_count").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
        return int((pages - free) * size)

    def free_bytes(self) -> int:
        """Space that this process may still use on the file's disk."""
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    def _oldest(self, skip: Collection[int] = (), limit: int = 1) -> Iterator[Row]:
        for kind in range(CLASSES):
            yield from self._select(
                "id BETWEEN ? AND ? AND id NOT IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?",
                kind << CLASS_SHIFT, ((kind + 1) << CLASS_SHIFT) - 1, _ids(skip), limit,
            )  # fmt: skip

    def _newest(self) -> Iterator[Row]:
        for kind in range(CLASSES):
            yield from self._select(
                "id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1",
                kind << CLASS_SHIFT, ((kind + 1) << CLASS_SHIFT) - 1, content="x''",
            )  # fmt: skip

    def _select(self, where: str, *parameters: Any, content: str = "content") -> Iterator[Row]:
        columns = f"id, outbox, number, boot, boot_s, wall_s, synced, records, {content}"
        rows = self._connection.execute(f"SELECT {columns} FROM kept WHERE {where}", parameters)  # noqa: S608 our own text
        for row_id, outbox, number, boot, boot_s, wall_s, synced, records, blob in rows.fetchall():
            yield Row(
                id=row_id, outbox=outbox, number=number, boot=boot, boot_s=boot_s, wall_s=wall_s,
                synced=bool(synced), records=records, content=blob if isinstance(blob, bytes) else str(blob).encode(),
            )  # fmt: skip

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise sqlite3.OperationalError("the outbox's file is not open")
        return self._db

    # -- ballast

    def _make_ballast(self) -> None:
        if self._ballast.exists() or self.free_bytes() < self._min_free_bytes + BALLAST_BYTES:
            return
        with contextlib.suppress(OSError), self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, BALLAST_BYTES)

    def _is_full(self, error: sqlite3.Error) -> bool:
        """A full disk also shows as an I/O error, where SQLite makes its shared memory file."""
        code = _code(error)
        return code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and self.free_bytes() < BALLAST_BYTES)

    def _release_ballast(self) -> None:
        if self._ballast.exists():
            log.warning("the disk is full: the outbox releases its ballast of %d bytes", BALLAST_BYTES)
            self._ballast.unlink()


def _age_s(row: Row, now: Now) -> float:
    """Age of a row; 0 when nobody knows it."""
    if row.boot == now.boot:
        return now.boot_s - row.boot_s
    return now.wall_s - row.wall_s if row.synced and now.wall_s is not None else 0.0


def oldest_age_s(rows: Iterable[Row], now: Now) -> float | None:
    """Age of the oldest of `rows`; None when there is none."""
    return max((_age_s(row, now) for row in rows), default=None)


def _drop_memo(before: Drops, evicted: Iterable[Drops]) -> dict[str, Any]:
    totals = {kind: Drop(count=d.count, first_slot=d.first_slot, last_slot=d.last_slot) for kind, d in before.items()}
    for drops in evicted:
        for kind, drop in drops.items():
            totals.setdefault(kind, Drop()).add(drop)
    return {f"dropped/{kind}": msgspec.to_builtins(drop) for kind, drop in totals.items()}


def _ids(ids: Collection[int]) -> str:
    return json.dumps(list(ids))


def _code(error: sqlite3.Error) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _corrupt(message: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(message)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
