"""What only the embedded engine promises: its file, its locks, its retention."""

import asyncio
import shutil
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from contract.series import SERIES
from store.interface import StoreMisconfigured, StoreUnavailable
from store.sqlite import SqliteStore
from tests.store.points import SECOND, T0, collected, point

DAY = 86_400


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "store.sqlite"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, busy_timeout_s=0.2)
    await store.ensure()
    yield store
    await store.close()


async def sent(store: SqliteStore) -> list[object]:
    return [row.fields["sent"] for row in await collected(store.rows("latency", 0, 2**63 - 1))]


async def test_the_file_is_safe_against_power_cuts(store: SqliteStore, path: Path) -> None:
    async def pragma(name: str) -> object:
        return await store._writer.run(lambda connection: connection.execute(f"PRAGMA {name}").fetchone()[0])

    assert await pragma("journal_mode") == "wal"
    assert await pragma("synchronous") == 2, "FULL"
    with closing(sqlite3.connect(path)) as connection:
        sql = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'latency'").fetchone()[0]
    keys = ", ".join(f'"{name}"' for name in ("time", *SERIES["latency"].tags))
    assert sql.endswith(f"PRIMARY KEY ({keys})) WITHOUT ROWID")


async def test_two_stores_share_a_file(store: SqliteStore, path: Path) -> None:
    other = SqliteStore(path)
    await other.ensure()
    await asyncio.gather(
        *(one.write([point(second, sent=second)]) for second in range(0, 40, 2) for one in (store, other))
    )
    assert await sent(store) == await sent(other) == list(range(0, 40, 2))
    await other.close()


async def test_a_read_does_not_wait_for_a_write(store: SqliteStore, path: Path) -> None:
    await store.write([point(1, sent=1)])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await sent(store) == [1]
        with pytest.raises(StoreUnavailable, match="locked"):
            await store.write([point(2, sent=2)])
        with pytest.raises(StoreUnavailable, match="locked"):
            await store.ping()
    await store.ping()
    assert await store.write([point(2, sent=2)]) == []


async def test_a_write_is_all_or_nothing(store: SqliteStore) -> None:
    await store._writer.run(
        lambda connection: connection.execute(
            "CREATE TEMP TRIGGER stop BEFORE INSERT ON main.web BEGIN SELECT RAISE(ABORT, 'stop'); END"
        )
    )
    with pytest.raises(StoreMisconfigured, match="stop"):
        await store.write([point(1, sent=1), point(1, "web", status=200)])
    assert await sent(store) == []


async def test_work_is_done_in_two_named_threads(store: SqliteStore) -> None:
    await store.latest("latency", [], since_ns=0)
    names = {thread.name for thread in threading.enumerate()}
    assert {"store-sqlite-write_0", "store-sqlite-read_0"} <= names


async def test_new_columns_are_added_and_old_rows_stay(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        keys = [f"\"{name}\" TEXT NOT NULL DEFAULT ''" for name in SERIES["latency"].tags]
        names = ", ".join(["time", *SERIES["latency"].tags])
        connection.execute(
            f'CREATE TABLE latency (time INTEGER NOT NULL, {", ".join(keys)}, "sent" INTEGER, '
            f"PRIMARY KEY ({names})) WITHOUT ROWID"
        )
        connection.execute("INSERT INTO latency (time, agent, sent) VALUES (?, 'a-1', 7)", (T0,))
        connection.commit()
    store = SqliteStore(path)
    await store.ensure()
    await store.write([point(1, sent=8, rtt_p50_ms=1.0)])
    old, new = await collected(store.rows("latency", T0, T0 + 9 * SECOND))
    assert (old.fields["sent"], old.fields["rtt_p50_ms"]) == (7, None)
    assert (new.fields["sent"], new.fields["rtt_p50_ms"]) == (8, 1.0)
    await store.close()


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("CREATE TABLE latency (time INTEGER PRIMARY KEY, sent INTEGER)", "table latency has another key"),
        (
            "CREATE TABLE jobs (time, agent, probe, target, interface, provider, resolver, role REAL, "
            "PRIMARY KEY (time, agent, probe, target, interface, provider, resolver))",
            "column jobs.role is REAL, this version needs TEXT",
        ),
    ],
)
async def test_a_file_that_disagrees_is_left_alone(path: Path, sql: str, words: str) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(sql)
    store = SqliteStore(path)
    with pytest.raises(StoreMisconfigured, match=words):
        await store.ensure()
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        assert len(connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()) == 1


async def test_a_full_disk_passes(store: SqliteStore) -> None:
    await store.write([point(1, sent=1)])

    async def pages(limit: str) -> int:
        sql = f"PRAGMA max_page_count = {limit}"
        return int(await store._writer.run(lambda connection: connection.execute(sql).fetchone()[0]))

    # SQLite's own word for ENOSPC, without a file system to fill.
    await pages("1")
    many = [point(second, detail="x" * 190) for second in range(10, 500)]
    with pytest.raises(StoreUnavailable, match="full"):
        await store.write(many)
    assert await sent(store) == [1]
    await pages("1000000")
    assert await store.write(many) == []
    assert len(await sent(store)) == 491


@pytest.mark.parametrize("content", [b"this is no database " * 500, b"SQLite format 3\0" + b"\xff" * 8_000])
async def test_a_damaged_file_says_what_to_do_and_recovers_when_it_is_done(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    store = SqliteStore(path)
    for asked in (store.ensure(), store.ping(), store.write([point(1, sent=1)])):
        with pytest.raises(StoreMisconfigured, match=r"is damaged .* move it and its -wal and -shm files away"):
            await asked
    assert path.read_bytes() == content
    shutil.move(path, path.with_suffix(".damaged"))
    assert await store.write([point(1, sent=1)]) == []
    assert await sent(store) == [1]
    await store.close()


async def test_damage_while_it_runs(store: SqliteStore, path: Path) -> None:
    await store.write([point(second, sent=second, detail="x" * 190) for second in range(2_000)])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    for asked in (sent(store), store.write([point(1, sent=1)])):
        with pytest.raises(StoreMisconfigured, match="is damaged"):
            await asked


async def test_a_file_moved_away_while_it_runs_is_made_anew(store: SqliteStore, path: Path) -> None:
    await store.write([point(1, sent=1)])
    assert await sent(store) == [1]
    for name in path.parent.iterdir():
        name.rename(name.with_name("moved-" + name.name))
    assert await store.write([point(2, sent=2)]) == [], "and not into the file that is gone"
    assert await sent(store) == [2]


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = SqliteStore(tmp_path / "file" / "store.sqlite")
    with pytest.raises(StoreMisconfigured, match=r"store\.sqlite"):
        await store.ensure()
    await store.close()


async def test_a_folder_in_place_of_the_file(path: Path) -> None:
    path.mkdir(parents=True)
    store = SqliteStore(path)
    with pytest.raises(StoreMisconfigured, match="may this user write to it"):
        await store.ensure()
    await store.close()


async def test_a_name_with_odd_characters(tmp_path: Path) -> None:
    path = tmp_path / "a b?mode=ro#%41 图.sqlite"
    store = SqliteStore(path)
    await store.write([point(1, sent=1)])
    assert path.exists()
    assert await sent(store) == [1]
    await store.close()


async def test_reading_before_anything_was_written(path: Path) -> None:
    store = SqliteStore(path)
    with pytest.raises(StoreMisconfigured, match="is the folder there"):
        await store.latest("latency", [], since_ns=0)
    assert not path.exists()
    await store.close()
    await store.close()


async def pruned(store: SqliteStore) -> None:
    """Return after the step of retention that a write has queued."""
    await store.ping()


async def test_retention_deletes_in_small_steps_and_nothing_younger(path: Path) -> None:
    now = T0
    store = SqliteStore(path, retention_days=30, now_ns=lambda: now)
    old = [point(-31 * DAY + second, sent=second) for second in range(1_200)]
    young = [point(-30 * DAY + second, sent=second) for second in range(3)]
    await store.write(old + young)
    left: list[int] = []
    while len(left) < 4:
        await pruned(store)
        left.append(len(await sent(store)))
        store._prune_at = 0
        await store.write([point(0, sent=0)])
    assert left == [1_203 - 501, 1_204 - 1_002, 4, 4]
    await store.close()


async def test_retention_looks_once_a_minute_when_there_is_nothing_old(path: Path) -> None:
    store = SqliteStore(path, retention_days=30, now_ns=lambda: T0)
    await store.write([point(1, sent=1)])
    await pruned(store)
    assert store._prune_at > time.monotonic() + 30
    await store.write([point(-31 * DAY, sent=2)])
    await pruned(store)
    assert await sent(store) == [2, 1]
    await store.close()


async def test_without_retention_everything_stays(path: Path) -> None:
    store = SqliteStore(path, retention_days=None)
    await store.write([point(-10_000 * DAY, sent=1)])
    await pruned(store)
    assert await sent(store) == [1]
    await store.close()


async def test_a_failed_step_of_retention_is_told_and_costs_nothing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteStore(path, retention_days=30, now_ns=lambda: T0)
    await store.ensure()
    await store._writer.run(
        lambda connection: connection.execute(
            "CREATE TEMP TRIGGER stop BEFORE DELETE ON main.latency BEGIN SELECT RAISE(ABORT, 'stop'); END"
        )
    )
    assert await store.write([point(-31 * DAY, sent=1)]) == []
    await pruned(store)
    assert await sent(store) == [1]
    assert "old rows were not deleted" in caplog.text
    await store.close()
