# ruff: noqa: S608 - identifiers come from contract.series through store.names, values are bound
"""The embedded engine: one SQLite file, for one box and for small sites. Several processes may use it side by side."""

import asyncio
import functools
import logging
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from contract.series import HOURS, RAW, SERIES, FieldType, Series
from store import names
from store.interface import Aggregation, Block, Bucket, Refusal, Row, StoreError, StoreMisconfigured, StoreUnavailable
from store.names import quoted
from store.point import MAX_TIME_NS, MIN_TIME_NS, Point, flaw, row_type

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_Batch = dict[str, list[tuple[Any, ...]]]
"""Rows to insert, by series."""

_COLUMN: Final[dict[FieldType, str]] = {"float": "REAL", "int": "INTEGER", "str": "TEXT"}
_PERCENT: Final = {"p50": 50, "p95": 95}
_FUNCTION: Final = {"count": "count", "sum": "total", "mean": "avg", "min": "min", "max": "max"}
"""total(), because sum() fails where integers overflow."""

_DAY_NS: Final = 86_400 * 10**9

_FETCHED: Final = 1_000
"""Rows that a streamed read holds in memory."""
_BLOCK: Final = 8_000
"""Rows of a block: larger ones are no faster."""

_PRUNED: Final = 500
"""Rows of a series that one step of retention deletes: some milliseconds."""

_PRUNE_S: Final = 60.0
"""Between looks for old rows; 1 s while some are left."""

_PASSING: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class SqliteStore:
    """Stored data in the file `path`, made with its folder when missing.

    Rows older than `retention_days`, and what is computed from them older than `hours_retention_days` (None: kept for
    ever), are deleted in small steps after writes. Another process that holds the write lock is waited for up to
    `busy_timeout_s`.
    """

    durable = True
    ack_hold_s = 0.0

    def __init__(
        self,
        path: Path,
        *,
        retention_days: int | None = 30,
        hours_retention_days: int | None = 1100,
        busy_timeout_s: float = 5.0,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        # Two connections, each in a thread of its own: in WAL a read never waits for a write.
        self._writer = _Connection("store-sqlite-write", path, busy_timeout_s, _prepare)
        self._reader = _Connection("store-sqlite-read", path, busy_timeout_s, _read_only, mode="rw")
        self._retention_days = {RAW: retention_days, HOURS: hours_retention_days}
        self._now_ns = now_ns
        self._prune_at = -math.inf

    async def ensure(self) -> None:
        await self._writer.run(_prepare)

    async def ping(self) -> None:
        await self._writer.run(_take_lock)

    async def write(self, points: Sequence[Point]) -> list[Refusal]:
        batch, refusals = _checked(points)
        if batch:
            await self._writer.run(functools.partial(_insert, batch))
            self._prune_soon()
        return refusals

    async def rows(
        self, series: str, start_ns: int, end_ns: int, *, where: Mapping[str, str] | None = None
    ) -> AsyncIterator[Row]:
        table = _table(series)
        condition, values = _condition(table.series, start_ns, end_ns, where)
        async for found in self._fetched(f"{table.select} WHERE {condition} ORDER BY time", values, _FETCHED):
            for row in found:
                yield table.row(row)

    async def columns(
        self,
        series: str,
        fields: Sequence[str],
        start_ns: int,
        end_ns: int,
        *,
        where: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Block]:
        table = _table(series).series
        condition, values = _condition(table, start_ns, end_ns, where)
        wanted = ", ".join(map(quoted, ("time", *table.tags, *names.fields(table, fields))))
        sql = f"SELECT {wanted} FROM {quoted(series)} WHERE {condition} ORDER BY time"
        async for found in self._fetched(sql, values, _BLOCK):
            time_ns, *columns = zip(*found, strict=True)
            tags, measured = columns[: len(table.tags)], columns[len(table.tags) :]
            yield Block(time_ns, tuple(tags), dict(zip(fields, measured, strict=True)))

    async def _fetched(self, sql: str, values: dict[str, Any], size: int) -> AsyncIterator[list[tuple[Any, ...]]]:
        """The rows of a query, some at a time."""
        cursor = await self._reader.run(lambda connection: connection.execute(sql, values))
        try:
            while found := await self._reader.run(lambda _: cursor.fetchmany(size)):
                yield found
        finally:
            with suppress(RuntimeError):  # closed meanwhile, and the cursor with it
                self._reader.submit(lambda _: cursor.close())

    async def latest(
        self, series: str, by: Sequence[str], *, since_ns: int, where: Mapping[str, str] | None = None
    ) -> list[Row]:
        table = _table(series)
        condition, values = _condition(table.series, since_ns, MAX_TIME_NS + 1, where)
        groups = ", ".join(names.tag(table.series, tag) for tag in by)
        # The window function, not SQLite's bare columns beside max(): one row of each group, whole.
        newest = f"row_number() OVER ({f'PARTITION BY {groups} ' if groups else ''}ORDER BY time DESC)"
        sql = (
            f"SELECT {table.columns} FROM (SELECT *, {newest} AS place FROM {quoted(series)} WHERE {condition}) "
            f"WHERE place = 1{f' ORDER BY {groups}' if groups else ''}"
        )
        found = await self._reader.run(lambda connection: connection.execute(sql, values).fetchall())
        return [table.row(row) for row in found]

    async def aggregate(
        self,
        series: str,
        field: str,
        how: Aggregation,
        *,
        by: Sequence[str],
        start_ns: int,
        end_ns: int,
        every_ns: int | None = None,
        where: Mapping[str, str] | None = None,
        only_ok: bool = True,
    ) -> list[Bucket]:
        table = SERIES[series]
        value = names.number(table, field)
        condition, values = _condition(table, start_ns, end_ns, where)
        condition += f" AND {value} IS NOT NULL"
        if only_ok and table.database == RAW and "ok" in table.fields:
            condition += ' AND "ok" = 1'
        bucket = ":start" if every_ns is None else "time - (time % :every + :every) % :every"
        keys = ", ".join(["bucket", *(names.tag(table, tag) for tag in by)])
        source = f"(SELECT *, {bucket} AS bucket FROM {quoted(series)} WHERE {condition})"
        if how in _PERCENT:
            group = f"PARTITION BY {keys}"
            counted = f"row_number() OVER ({group} ORDER BY {value}) AS place, count(*) OVER ({group}) AS n"
            # Nearest rank, ceil(n * percent / 100), in integers.
            rank = f"(n * {_PERCENT[how]} + 99) / 100"
            sql = (
                f"SELECT {keys}, {value} FROM (SELECT *, {counted} FROM {source}) WHERE place = {rank} ORDER BY {keys}"
            )
        else:
            sql = f"SELECT {keys}, {_FUNCTION[how]}({value}) FROM {source} GROUP BY {keys} ORDER BY {keys}"
        values = values | {"every": every_ns}
        found = await self._reader.run(lambda connection: connection.execute(sql, values).fetchall())
        return [Bucket(row[0], dict(zip(by, row[1:-1], strict=True)), float(row[-1])) for row in found]

    async def close(self) -> None:
        await self._reader.close()
        await self._writer.close()

    def _prune_soon(self) -> None:
        kept_days = {database: days for database, days in self._retention_days.items() if days is not None}
        if not kept_days or time.monotonic() < self._prune_at:
            return
        self._prune_at = math.inf
        now_ns = self._now_ns()
        before_ns = {database: now_ns - days * _DAY_NS for database, days in kept_days.items()}
        self._writer.submit(functools.partial(self._prune, before_ns))

    def _prune(self, before_ns: dict[str, int], connection: sqlite3.Connection) -> None:
        """One step of retention, in the writer's thread, between two writes."""
        deleted = 0
        try:
            for key, series in SERIES.items():
                if series.database in before_ns:
                    deleted += _delete_oldest(connection, key, before_ns[series.database])
        except sqlite3.Error as error:
            log.warning("old rows were not deleted, next try in %.0f s: %s", _PRUNE_S, error)
        self._prune_at = time.monotonic() + (1.0 if deleted else _PRUNE_S)


class _Connection:
    """A connection in a thread of its own. A file that was moved away or replaced is noticed before each job."""

    def __init__(
        self,
        name: str,
        path: Path,
        busy_timeout_s: float,
        prepare: Callable[[sqlite3.Connection], None],
        mode: str = "rwc",
    ) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._path = path.absolute()
        self._uri = f"{self._path.as_uri()}?mode={mode}"
        self._busy_timeout_s = busy_timeout_s
        self._prepare = prepare
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._closed = False

    async def run(self, job: Callable[[sqlite3.Connection], _T]) -> _T:
        """:raises StoreError: when SQLite or the file system fails."""
        return await asyncio.wrap_future(self.submit(job))

    def submit(self, job: Callable[[sqlite3.Connection], _T]) -> "Future[_T]":
        return self._executor.submit(self._do, job)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            closing = self._executor.submit(self._disconnect)
            self._executor.shutdown(wait=False)
            await asyncio.wrap_future(closing)

    def _do(self, job: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            return job(self._connect())
        except sqlite3.Error as error:
            raise _store_error(self._path, error) from error
        except OSError as error:
            raise StoreMisconfigured(f"{self._path}: {error.strerror}") from error

    def _connect(self) -> sqlite3.Connection:
        if self._connection is not None and self._inode == _inode(self._path):
            return self._connection
        self._disconnect()
        if "mode=rwc" in self._uri:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self._uri, uri=True, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._inode = connection, _inode(self._path)
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Table:
    """What is prepared once for a series: its statements and its quick check."""

    def __init__(self, series: Series) -> None:
        self.series = series
        keys = ", ".join(map(quoted, ("time", *series.tags)))
        fields = [quoted(name) for name in series.fields]
        self.columns = ", ".join([keys, *fields])
        self.select = f"SELECT {self.columns} FROM {quoted(series.key)}"
        self.create = (
            f"CREATE TABLE IF NOT EXISTS {quoted(series.key)} ("
            + ", ".join(f"{quoted(name)} {kind}" for name, kind in _definitions(series).items())
            + f", PRIMARY KEY ({keys})) WITHOUT ROWID"
        )
        merge = ", ".join(f"{name} = coalesce(excluded.{name}, {name})" for name in fields)
        self.insert = (
            f"INSERT INTO {quoted(series.key)} ({self.columns}) "
            f"VALUES ({', '.join('?' * (1 + len(series.tags) + len(fields)))}) "
            f"ON CONFLICT ({keys}) DO UPDATE SET {merge}"
        )
        self._row_type = row_type(series.key)
        texts = [place for place, kind in enumerate(series.fields.values()) if kind == "str"]
        self._texts: Callable[[Sequence[Any]], tuple[Any, ...]] = lambda fields: tuple(fields[place] for place in texts)
        if len(texts) > 1:
            self._texts = itemgetter(*texts)

    def surely_sound(self, point: Point) -> bool:
        """A quick look without a reason: a point that fails it is looked at by :func:`store.point.flaw`."""
        _, tags, time_ns, fields = point
        try:
            msgspec.convert(fields, self._row_type)
            text = " ".join(filter(None, self._texts(fields))) + "".join(tags)
        except (ValueError, TypeError):
            return False
        return (
            text.isprintable()
            and "\\" not in text
            and type(time_ns) is int
            and MIN_TIME_NS <= time_ns <= MAX_TIME_NS
            and len(tags) == len(self.series.tags)
        )

    def row(self, values: Sequence[Any]) -> Row:
        first = 1 + len(self.series.tags)
        tags = dict(zip(self.series.tags, values[1:first], strict=True))
        return Row(values[0], tags, dict(zip(self.series.fields, values[first:], strict=True)))


@functools.cache
def _table(series: str) -> _Table:
    """:raises KeyError: when there is no such series."""
    return _Table(SERIES[series])


def _definitions(series: Series) -> dict[str, str]:
    """Column definitions. Absent tags are '', because a null key would never equal another."""
    tags = dict.fromkeys(series.tags, "TEXT NOT NULL DEFAULT ''")
    return {"time": "INTEGER NOT NULL"} | tags | {name: _COLUMN[kind] for name, kind in series.fields.items()}


def _checked(points: Sequence[Point]) -> tuple[_Batch, list[Refusal]]:
    batch: _Batch = {}
    refusals: list[Refusal] = []
    for place, point in enumerate(points):
        table = _table(point.series)
        if not table.surely_sound(point):
            words = flaw(point)
            if words is not None:
                refusals.append(Refusal(place, words))
                continue
        if point.fields.count(None) != len(point.fields):
            batch.setdefault(point.series, []).append((point.time_ns, *point.tags, *point.fields))
    return batch, refusals


def _prepare(connection: sqlite3.Connection) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreMisconfigured("the file system cannot hold a database in WAL mode: choose a local disk")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {64 * 2**20}")
    with _transaction(connection):
        for series in SERIES.values():
            connection.execute(_table(series.key).create)
            _add_columns(connection, series)


def _add_columns(connection: sqlite3.Connection, series: Series) -> None:
    """New fields of a newer version. Tags and types never change: a file that disagrees is not ours to alter."""
    found = {row[1]: row for row in connection.execute(f"PRAGMA table_info({quoted(series.key)})")}
    if {name for name, row in found.items() if row[5]} != {"time", *series.tags}:
        raise StoreMisconfigured(f"table {series.name} has another key than this version's: use another file")
    for name, kind in series.fields.items():
        if name not in found:
            connection.execute(f"ALTER TABLE {quoted(series.key)} ADD COLUMN {quoted(name)} {_COLUMN[kind]}")
        elif found[name][2] != _COLUMN[kind]:
            raise StoreMisconfigured(
                f"column {series.name}.{name} is {found[name][2]}, this version needs {_COLUMN[kind]}: use another file"
            )


def _read_only(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA query_only = ON")


def _take_lock(connection: sqlite3.Connection) -> None:
    with _transaction(connection):
        pass


def _insert(batch: _Batch, connection: sqlite3.Connection) -> None:
    with _transaction(connection):
        for series, rows in batch.items():
            connection.executemany(_table(series).insert, rows)


def _delete_oldest(connection: sqlite3.Connection, series: str, before_ns: int) -> int:
    """Delete the oldest rows, some hundred of them, when they are older than `before_ns`; how many it was."""
    name = quoted(series)
    sql = (
        f"DELETE FROM {name} WHERE time < :before AND "
        f"time <= coalesce((SELECT time FROM {name} ORDER BY time LIMIT 1 OFFSET {_PRUNED}), :before)"
    )
    return connection.execute(sql, {"before": before_ns}).rowcount


def _condition(
    series: Series, start_ns: int, end_ns: int, where: Mapping[str, str] | None
) -> tuple[str, dict[str, Any]]:
    terms, values = ["time >= :start", "time < :end"], {"start": start_ns, "end": end_ns}
    bound: dict[str, Any] = dict(values)
    for place, (name, value) in enumerate((where or {}).items()):
        terms.append(f"{names.tag(series, name)} = :tag{place}")
        bound[f"tag{place}"] = value
    return " AND ".join(terms), bound


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _store_error(path: Path, error: sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _PASSING:
        return StoreUnavailable(f"{path}: {error}")
    if code in _DAMAGED:
        return StoreMisconfigured(
            f"{path} is damaged ({error}): move it and its -wal and -shm files away, then a new one is made; "
            "the sqlite3 shell's .recover saves what can be read"
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return StoreMisconfigured(f"{path}: {error}: is the folder there, and may this user write to it?")
    return StoreMisconfigured(f"{path}: {error}")
