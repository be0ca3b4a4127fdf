import asyncio
import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from agent.config import OutboxLimits
from agent.facts import Facts
from agent.outbox import NUMBERS, RING_RECORDS, Batch, Entry, Outbox
from agent.outbox_file import MIB, Now
from contract.codec import decode_batch
from contract.messages import BatchId
from contract.values import VALUES
from contract.vocabulary import CLASS_OF, CLASSES
from tests.agent.durable import START, numbers, record, until
from tests.fakes import FakeClock

BOOT = UUID(int=7)
ROOT = os.geteuid() == 0


class Kept:
    """An outbox and what the tests do with it, again and again."""

    def __init__(self, outbox: Outbox, clock: FakeClock, folder: Path) -> None:
        self.outbox, self.clock, self.folder = outbox, clock, folder

    @property
    def facts(self) -> Facts:
        return self.outbox._facts

    def keep(self, *which: int, probe: str = "latency", **more: Any) -> None:
        for number in which:
            self.outbox.keep(record(number, probe), boot=BOOT, boot_s=self.clock.boot(), synced=True, **more)

    def batch(self, count: int = 100) -> Batch:
        """A batch in flight of the first waiting records."""
        batch = self.outbox.make_batch(list(self.outbox.waiting)[:count], 1)
        batch.flying, batch.sends = True, 1
        return batch

    async def pass_s(self, seconds: float) -> None:
        """Let time pass and commit when it is due."""
        await self.clock.advance(seconds)
        if self.outbox._due_s() <= self.clock.boot():
            await self.outbox.commit()
        self.outbox._let_go()

    async def on_disk(self) -> list[int]:
        """Numbers of the unsent records on disk that are not in memory too."""
        entries = await self.unsent(100_000)
        return sorted(numbers([entry.record for entry in entries]))

    async def unsent(self, limit: int) -> list[Entry]:
        entries = await self.outbox.unsent(limit, boot=BOOT, anchored=True)
        assert entries is not None
        return entries

    def rows(self) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.folder / "outbox.db")) as db:
            return db.execute("SELECT number, content FROM kept ORDER BY id").fetchall()

    def memo(self, name: str) -> Any:
        with contextlib.closing(sqlite3.connect(self.folder / "outbox.db")) as db:
            found = db.execute("SELECT value FROM memo WHERE name = ?", (name,)).fetchone()
        return None if found is None else json.loads(found[0])


async def start(folder: Path, clock: FakeClock | None = None, **limits: Any) -> Kept:
    clock = clock or FakeClock()
    settings = {name: limits.pop(name) for name in ("min_free_bytes", "retry_s") if name in limits}
    outbox = await Outbox.open(
        folder, agent="a01", limits=OutboxLimits(**limits), clock=clock, facts=Facts(), **settings
    )
    outbox.now = lambda: Now(boot=str(BOOT), boot_s=clock.boot(), wall_s=clock.wall())
    return Kept(outbox, clock, folder)


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    kept = await start(tmp_path / "state")
    yield kept
    await kept.outbox.close()


async def crash(kept: Kept, **limits: Any) -> Kept:
    """As after kill -9: a new outbox on a copy of the files as they are now."""
    folder = kept.folder.with_name(kept.folder.name + "x")
    shutil.copytree(kept.folder, folder)
    return await start(folder, kept.clock, **limits)


# -- memory first


async def test_what_is_kept_is_for_its_owner_alone(kept: Kept) -> None:
    kept.keep(1)
    await kept.pass_s(11)
    modes = {file.name: file.stat().st_mode & 0o777 for file in kept.folder.glob("outbox.db*")}
    assert {"outbox.db", "outbox.db-wal"} <= modes.keys()
    assert set(modes.values()) == {0o600}


async def test_what_is_acknowledged_in_time_never_touches_the_disk(kept: Kept) -> None:
    with contextlib.closing(sqlite3.connect(kept.folder / "outbox.db")) as db:
        db.execute("CREATE TABLE seen (id)")
        db.execute("CREATE TRIGGER see AFTER INSERT ON kept BEGIN INSERT INTO seen VALUES (new.id); END")
        db.commit()
    running = asyncio.create_task(kept.outbox.run())
    for minute in range(60):
        kept.keep(minute)
        kept.outbox.memo["label/x"] = minute
        await kept.clock.advance(0.5)
        batch = kept.batch()
        await kept.clock.advance(9.0)
        kept.outbox.settle(batch, set())
        await kept.clock.advance(50.5)
        await asyncio.sleep(0.002)
    await until(lambda: (kept.memo("label/x") or 0) > 40, what="small state is saved every ten minutes")
    running.cancel()
    with contextlib.closing(sqlite3.connect(kept.folder / "outbox.db")) as db:
        assert db.execute("SELECT count(*) FROM seen").fetchone() == (0,)


async def test_everything_that_waits_is_committed_after_ten_seconds_in_one_transaction(kept: Kept) -> None:
    kept.keep(1)
    await kept.pass_s(4)
    kept.keep(2, 3)
    batch = kept.batch(1)
    await kept.pass_s(5.9)
    assert kept.rows() == []
    commits = 0
    commit = kept.outbox._file.commit

    def count(changes: Any) -> Any:
        nonlocal commits
        commits += 1
        return commit(changes)

    kept.outbox._file.commit = count  # type: ignore[method-assign]
    await kept.pass_s(0.2)
    assert commits == 1
    assert [number for number, _ in kept.rows()] == [None, None, batch.id.batch]
    # The young ones are still in memory, and are sent from there.
    assert numbers([entry.record for entry in kept.outbox.waiting]) == [2, 3]
    assert await kept.on_disk() == []
    await kept.pass_s(6)
    assert not kept.outbox.waiting
    assert await kept.on_disk() == [2, 3]


async def test_urgent_records_and_the_end_commit_at_once(tmp_path: Path) -> None:
    kept = await start(tmp_path / "state")
    kept.keep(1)
    kept.keep(2, probe="portal", at_once=True)
    await kept.pass_s(0)
    assert len(kept.rows()) == 2
    assert len(kept.outbox.waiting) == 2
    kept.keep(3)
    await kept.outbox.close()
    assert len(kept.rows()) == 3
    again = await start(tmp_path / "state")
    assert await again.on_disk() == [1, 2, 3]
    assert again.facts.outbox_records == 3
    await again.outbox.close()


async def test_an_acknowledged_batch_leaves_the_disk_with_the_next_commit(kept: Kept) -> None:
    kept.keep(1, 2, 3)
    await kept.pass_s(10)
    kept.keep(4)
    entries = await kept.unsent(100)
    batch = kept.outbox.make_batch(entries, 1)
    kept.outbox.settle(batch, {1})
    assert len(kept.rows()) == 3
    assert await kept.on_disk() == []
    await kept.pass_s(10)
    assert numbers_in(kept.rows()) == [4]
    assert kept.facts.outbox_records == 1


@pytest.mark.parametrize("long", [True, False])
async def test_a_long_write_ahead_log_is_truncated_when_idle(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, long: bool
) -> None:
    """A short one is not: to begin it anew costs more writes than it gives back."""
    monkeypatch.setattr("agent.outbox_file.TRUNCATE_BYTES", 20_000 if long else 10**6)
    running = asyncio.create_task(kept.outbox.run())
    kept.keep(*range(50), at_once=True)
    wal = kept.folder / "outbox.db-wal"
    await until(lambda: wal.stat().st_size > 20_000)
    for _ in range(100):
        await kept.clock.advance(30)
        await asyncio.sleep(0.01)
        if wal.stat().st_size == 0:
            break
    assert (wal.stat().st_size == 0) is long
    running.cancel()


# -- batches


async def test_a_sent_batch_that_spills_keeps_number_and_content(kept: Kept) -> None:
    kept.keep(1, 2)
    batch = kept.batch()
    payload = batch.payload
    await kept.pass_s(10)
    again = await crash(kept)
    found = again.outbox.batches[batch.id]
    assert found.payload is None
    assert await again.outbox.load(found)
    assert found.payload == payload
    assert await again.on_disk() == []
    again.outbox.settle(found, set())
    await again.pass_s(10)
    assert again.rows() == []
    await again.outbox.close()


async def test_the_rows_of_a_replayed_batch_become_that_batch(kept: Kept) -> None:
    kept.keep(1, 2, 3)
    await kept.pass_s(10)
    batch = kept.outbox.make_batch(await kept.unsent(2), 1)
    await kept.pass_s(10)
    assert sorted(number or 0 for number, _ in kept.rows()) == [0, batch.id.batch]
    assert kept.facts.outbox_records == 3


async def test_a_resting_batch_is_only_on_disk(kept: Kept) -> None:
    kept.keep(1)
    batch = kept.batch()
    await kept.pass_s(10)
    assert batch.payload is not None
    kept.outbox.rest(batch, kept.clock.boot() + 60)
    assert batch.payload is None
    assert await kept.outbox.load(batch)
    assert numbers(batch.records or []) == [1]


async def test_numbers_come_in_reserved_blocks_and_are_never_used_twice(kept: Kept) -> None:
    used: Counter[BatchId] = Counter()
    for n in range(5):
        for _ in range(NUMBERS // 3):
            kept.keep(n)
            batch = kept.batch()
            used[batch.id] += 1
            kept.outbox.settle(batch, set())
            await kept.pass_s(0)
        kept = await crash(kept)
        assert kept.outbox.id == next(iter(used)).outbox
    assert max(used.values()) == 1
    assert len(used) == 5 * (NUMBERS // 3)
    assert max(identity.batch for identity in used) < 10 * NUMBERS


async def test_halves_replace_the_whole_in_one_transaction(kept: Kept) -> None:
    kept.keep(1, 2, 3)
    whole = kept.batch()
    await kept.pass_s(10)
    halves = kept.outbox.split(whole)
    assert [half.count for half in halves] == [1, 2]
    assert whole.id not in kept.outbox.batches
    assert list((await crash(kept)).outbox.batches) == [whole.id]
    await kept.pass_s(0)
    shutil.rmtree(kept.folder.with_name(kept.folder.name + "x"))
    again = await crash(kept)
    assert set(again.outbox.batches) == {half.id for half in halves}
    assert numbers_in(again.rows()) == [1, 2, 3]
    assert again.facts.outbox_records == 3


async def test_quarantine_is_counted_kept_small_and_final(kept: Kept) -> None:
    outcomes: list[str] = []
    kept.outbox.on_final = lambda item, outcome: outcomes.append(outcome)
    for n in range(120):
        kept.keep(n)
        kept.outbox.quarantine(kept.batch(), "never answered")
        await kept.pass_s(0)
    assert outcomes == ["quarantined"] * 120
    assert kept.facts.outbox_quarantined == 120
    assert kept.outbox.own_records == 0
    with contextlib.closing(sqlite3.connect(kept.folder / "outbox.db")) as db:
        assert db.execute("SELECT count(*), min(why) FROM quarantine").fetchone() == (100, "never answered")
    again = await crash(kept)
    assert again.facts.outbox_quarantined == 120
    assert not again.outbox.batches


async def test_a_record_that_is_no_json_is_counted_and_does_no_harm(kept: Kept) -> None:
    kept.outbox.keep(record(1, detail="\ud800"), boot=BOOT, boot_s=0.0, synced=True)
    assert (kept.facts.outbox_quarantined, kept.facts.outbox_records) == (1, 0)


# -- caps


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Kept]:
    kept = await start(tmp_path / "state", max_mib=1)
    yield kept
    await kept.outbox.close()


async def fill(kept: Kept, first: int, count: int, *probes: str) -> dict[int, str]:
    """Offline: `count` records that are committed by the ten seconds; which class each one has."""
    classes = {}
    for n in range(first, first + count):
        probe = probes[n % len(probes)]
        kept.keep(n, probe=probe)
        classes[n] = CLASSES[CLASS_OF[probe]]
        if n % 20 == 19:
            await kept.pass_s(10)
    await kept.pass_s(10)
    return classes


async def test_a_full_outbox_drops_the_lowest_class_oldest_first_and_accounts_for_every_record(small: Kept) -> None:
    classes = await fill(small, 0, 3000, "agent", "latency", "throughput", "portal")
    assert small.outbox._file.used_bytes.__self__ is small.outbox._file
    used = await small.outbox._in_thread(small.outbox._file.used_bytes)
    assert MIB * 0.9 < used <= MIB
    left = set(await small.on_disk())
    missing = [n for n in classes if n not in left]
    assert missing
    counted = Counter(classes[n] for n in missing)
    assert {name: getattr(small.facts, f"outbox_dropped_{name}") for name in CLASSES} == {
        name: counted[name] for name in CLASSES
    }
    assert counted["context"] == 750 - len([n for n in left if classes[n] == "context"])
    assert not [n for n in left if classes[n] == "context"]  # gone before a light one went
    light = [n for n in classes if classes[n] == "light"]
    gone = [n for n in light if n not in left]
    assert gone == light[: len(gone)]
    assert counted["heavy"] == counted["rare"] == 0 or len(gone) == len(light)
    assert small.facts.outbox_records == len(left)
    # First and last slot, on disk, and known again after a crash.
    dropped = small.memo("dropped/1")
    assert dropped["count"] == counted["light"]
    assert dropped["first_slot"] == (START + timedelta(seconds=gone[0])).isoformat().replace("+00:00", "Z")
    again = await crash(small, max_mib=1)
    assert again.facts.outbox_dropped_context == counted["context"]


async def test_outcome_does_not_matter_and_what_is_in_flight_stays(small: Kept) -> None:
    for n in range(50):
        small.keep(n, probe="agent")
    flying = small.batch()
    await small.pass_s(10)
    await fill(small, 100, 2500, "latency")
    assert flying.id in small.outbox.batches
    assert flying.id.batch in [number for number, _ in small.rows()]
    assert small.facts.outbox_dropped_context == 0
    # Resting, it is the lowest class, and the first to go.
    small.outbox.rest(flying, small.clock.boot() + 1e6)
    await fill(small, 3000, 100, "latency")
    assert small.facts.outbox_dropped_context == 50
    assert flying.id not in small.outbox.batches


async def test_old_records_are_dropped_after_their_days(tmp_path: Path) -> None:
    kept = await start(tmp_path / "state", max_days=1)
    await fill(kept, 0, 20, "latency")
    batch = kept.outbox.make_batch((await kept.unsent(5)), 1)
    kept.outbox.rest(batch, kept.clock.boot() + 1e6)
    await kept.pass_s(10)
    for _ in range(23):
        await kept.pass_s(3600)
    assert kept.facts.outbox_records == 20
    for _ in range(2):
        await kept.pass_s(3600)
    assert kept.facts.outbox_records == 0
    assert kept.facts.outbox_dropped_light == 20
    assert kept.rows() == []


async def test_age_is_not_judged_by_a_clock_that_nobody_vouches_for(tmp_path: Path) -> None:
    kept = await start(tmp_path / "state", max_days=1)
    await fill(kept, 0, 20, "latency")
    again = await crash(kept, max_days=1)
    again.outbox.now = lambda: Now(boot="another", boot_s=again.clock.boot(), wall_s=None)
    again.clock.step_wall(1e9)
    await again.pass_s(7200)
    await again.pass_s(7200)
    assert again.facts.outbox_records == 20
    again.outbox.now = lambda: Now(boot="another", boot_s=again.clock.boot(), wall_s=again.clock.wall())
    await again.pass_s(7200)
    assert again.facts.outbox_records == 0


async def test_without_a_disk_memory_holds_five_thousand_and_drops_by_class(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    kept = await start(blocked / "state")
    assert kept.facts.degraded
    kept.keep(*range(3000), probe="agent")
    kept.keep(*range(3000, 5500), probe="latency")
    assert len(kept.outbox.waiting) == RING_RECORDS == kept.facts.outbox_records
    assert kept.facts.outbox_dropped_context == 500
    assert min(numbers([entry.record for entry in kept.outbox.waiting])) == 500
    batch = kept.batch()
    kept.outbox.settle(batch, set())
    assert kept.facts.outbox_records == RING_RECORDS - 100
    # The disk comes: everything is committed, the counts too.
    blocked.unlink()
    await kept.pass_s(30)
    assert not kept.facts.degraded
    assert len(kept.rows()) == RING_RECORDS - 100
    assert kept.memo("dropped/0")["count"] == 500
    await kept.outbox.close()


# -- faults of the disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    if not ROOT:
        pytest.skip("mounting needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_disk(folder: Path, leave: int = 0) -> Path:
    filler = folder / "filler"
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - leave)
    return filler


async def test_a_full_disk_goes_on_in_memory_and_comes_back(disk: Path) -> None:
    kept = await start(disk / "state", max_mib=2)
    await fill(kept, 0, 100, "latency")
    filler = fill_disk(disk)
    kept.keep(*range(100, 200))
    batch = kept.batch(10)
    await kept.pass_s(10)
    assert kept.facts.degraded
    assert kept.facts.outbox_records == 200
    # Sending goes on, from memory and from disk.
    kept.outbox.settle(batch, set())
    old = kept.outbox.make_batch(await kept.unsent(50), 1)
    kept.outbox.settle(old, set())
    await kept.pass_s(30)
    assert kept.facts.degraded
    # What was acknowledged could be deleted all the same: the ballast made room.
    assert len(kept.rows()) == 50
    filler.unlink()
    await kept.pass_s(30)
    assert not kept.facts.degraded
    assert sorted(await kept.on_disk()) == sorted(set(range(50, 100)) | set(range(110, 200)))
    assert (disk / "state" / "ballast").stat().st_size == MIB
    await kept.outbox.close()


async def test_a_full_disk_still_evicts(disk: Path) -> None:
    kept = await start(disk / "state", max_mib=1, max_days=1)
    await fill(kept, 0, 500, "latency")
    with contextlib.closing(sqlite3.connect(disk / "state" / "outbox.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    fill_disk(disk)
    await kept.pass_s(86_400 + 600)
    assert not (disk / "state" / "ballast").exists()
    assert kept.facts.outbox_dropped_light == 500
    assert kept.rows() == []
    await kept.outbox.close()


async def test_nothing_is_inserted_below_twenty_mib_free(disk: Path) -> None:
    kept = await start(disk / "state")
    filler = fill_disk(disk, leave=19 * MIB)
    kept.keep(1)
    await kept.pass_s(10)
    assert kept.facts.degraded
    assert kept.rows() == []
    filler.unlink()
    await kept.pass_s(30)
    assert not kept.facts.degraded
    assert numbers_in(kept.rows()) == [1]
    await kept.outbox.close()


async def test_at_most_a_tenth_of_the_free_space_is_taken(disk: Path) -> None:
    kept = await start(disk / "state")
    await fill(kept, 0, 6000, "latency")
    used = await kept.outbox._in_thread(kept.outbox._file.used_bytes)
    assert 2.8 * MIB < used <= 3.2 * MIB
    assert kept.facts.outbox_dropped_light == 6000 - kept.facts.outbox_records > 0
    await kept.outbox.close()


async def test_a_start_on_a_full_disk_uses_the_ballast(disk: Path) -> None:
    kept = await start(disk / "state")
    await fill(kept, 0, 20, "latency")
    await kept.outbox.close()
    fill_disk(disk)
    again = await start(disk / "state")
    assert again.facts.outbox_records == 20
    assert await again.on_disk() == list(range(20))
    await again.outbox.close()


async def test_a_read_only_disk(disk: Path) -> None:
    kept = await start(disk / "state")
    await fill(kept, 0, 20, "latency")
    # Only the kernel itself can take a disk that is written to; we have to let go first.
    await kept.outbox._in_thread(kept.outbox._file.close)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    kept.keep(20, 21)
    await kept.pass_s(10)
    assert kept.facts.degraded
    started = await start(disk / "state")
    assert started.facts.degraded
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    await kept.pass_s(31)
    assert not kept.facts.degraded
    assert await kept.on_disk() == list(range(22))
    await kept.outbox.close()
    await started.outbox.close()


async def test_an_io_error_in_the_middle_loses_nothing(kept: Kept) -> None:
    await fill(kept, 0, 20, "latency")
    commit = kept.outbox._file.commit

    def fail(changes: Any) -> Any:
        raise sqlite3.OperationalError("disk I/O error")

    kept.outbox._file.commit = fail  # type: ignore[method-assign]
    kept.keep(20, 21, 22)
    batch = kept.batch(1)
    await kept.pass_s(10)
    assert kept.facts.degraded
    assert numbers([entry.record for entry in kept.outbox.waiting]) == [21, 22]
    kept.outbox._file.commit = commit  # type: ignore[method-assign]
    await kept.pass_s(29)
    assert kept.facts.degraded
    await kept.pass_s(1)
    assert not kept.facts.degraded
    assert await kept.on_disk() == [*range(20), 21, 22]
    assert batch.id.batch in [number for number, _ in kept.rows()]


async def test_a_disk_that_came_late_gets_what_waited_and_keeps_what_it_had(tmp_path: Path) -> None:
    kept = await start(tmp_path / "state")
    await fill(kept, 0, 40, "latency", "portal")
    uuid = kept.outbox.id
    await kept.outbox.close()
    (tmp_path / "state").rename(tmp_path / "away")
    (tmp_path / "state").write_text("in the way")
    late = await start(tmp_path / "state", kept.clock)
    assert late.facts.degraded
    late.keep(*range(40, 60))
    batch = late.batch(5)
    assert batch.id.outbox not in (uuid, None)
    (tmp_path / "state").unlink()
    (tmp_path / "away").rename(tmp_path / "state")
    await late.pass_s(30)
    assert not late.facts.degraded
    assert late.facts.outbox_records == 60
    assert late.outbox.own_records == 20
    assert await late.on_disk() == [*range(40), *range(45, 60)]
    assert late.outbox.id == uuid
    late.outbox.settle(batch, set())
    late.keep(99)
    assert late.batch().id.outbox == uuid
    await late.outbox.close()


@pytest.mark.parametrize("damage", ["garbage", "cut", "page", "schema", "newer", "folder"])
async def test_a_bad_database_is_set_aside_and_replaced(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "state" / "outbox.db"
    seen = set()
    for n in range(3):
        kept = await start(tmp_path / "state")
        assert not kept.facts.degraded
        seen.add(kept.outbox.id)
        await fill(kept, 0, 200, "latency")
        await kept.outbox.close()
        spoil(path, damage)
        started = time.monotonic()
        again = await start(tmp_path / "state")
        assert time.monotonic() - started < 5
        assert not again.facts.degraded
        assert again.facts.outbox_records == 0
        seen.add(again.outbox.id)
        assert again.memo("replaced") == 1
        bad = sorted(p.name for p in path.parent.glob("outbox.db.bad*"))
        assert bad == ["outbox.db.bad", "outbox.db.bad1"][: n + 1]
        again.keep(1)
        await again.pass_s(10)
        assert len(again.rows()) == 1
        await again.outbox.close()
        path.unlink()
    assert len(seen) == 6


SPOILT = {
    "no identity": "DELETE FROM memo WHERE name = 'outbox'",
    "another identity": "UPDATE memo SET value = '7' WHERE name = 'outbox'",
    "no JSON": "UPDATE memo SET value = '{' WHERE name = 'numbers'",
    "no number": "UPDATE memo SET value = '\"x\"' WHERE name = 'numbers'",
    "no session": "INSERT OR REPLACE INTO memo VALUES ('session', '\"x\"')",
    "no anchor": "INSERT INTO memo VALUES ('anchor/x', '[]')",
    "no batch": "UPDATE kept SET outbox = 'x'",
}


@pytest.mark.parametrize("statement", SPOILT.values(), ids=SPOILT)
async def test_a_sound_database_with_unsound_rows_is_set_aside_too(statement: str, tmp_path: Path) -> None:
    kept = await start(tmp_path / "state")
    kept.keep(1, 2)
    kept.batch()
    await kept.pass_s(10)
    await kept.outbox.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "outbox.db")) as db, db:
        db.execute(statement)
    again = await start(tmp_path / "state")
    assert not again.facts.degraded
    assert again.memo("replaced") == 1
    assert (tmp_path / "state" / "outbox.db.bad").exists()
    again.keep(3)
    await again.pass_s(10)
    assert len(again.rows()) == 1
    await again.outbox.close()


@pytest.mark.parametrize(
    "change",
    ["content = x'00ff'", "content = 'text'", "content = replace(content, 'latency', 'quantum')", "boot = 'x'"],
)
async def test_a_spoilt_record_costs_its_neighbours_nothing(change: str, tmp_path: Path) -> None:
    kept = await start(tmp_path / "state")
    kept.keep(1, 2, 3)
    await kept.pass_s(10)
    await kept.outbox.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "outbox.db")) as db, db:
        db.execute(f"UPDATE kept SET {change} WHERE id = (SELECT min(id) FROM kept)")
    again = await start(tmp_path / "state", kept.clock)
    # What it is about can also not be told when it is too old.
    old = await crash(again)
    await old.pass_s(15 * 86_400)
    assert old.rows() == []
    assert old.facts.outbox_dropped_light == 3
    await old.outbox.close()

    assert sorted(numbers([entry.record for entry in await again.unsent(10)])) == [2, 3]
    assert (again.facts.outbox_quarantined, again.facts.outbox_records) == (1, 2)
    await again.outbox.close()


async def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    kept = await start(tmp_path / "state")
    other = await start(tmp_path / "state")
    assert other.facts.degraded
    kept.keep(1, 2)
    other.keep(3, 4)
    await kept.pass_s(10)
    await other.pass_s(30)
    assert len(kept.rows()) == 2
    assert other.facts.outbox_records == 2  # in memory, until the other one has gone
    await kept.outbox.close()
    await other.pass_s(30)
    assert not other.facts.degraded
    assert len(other.rows()) == 4
    await other.outbox.close()


def spoil(path: Path, damage: str) -> None:
    match damage:
        case "garbage":
            path.write_bytes(os.urandom(20_000))
        case "cut":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "page":
            data = bytearray(path.read_bytes())
            for page in range(3, len(data) // 4096):
                data[page * 4096 : page * 4096 + 64] = os.urandom(64)
            path.write_bytes(data)
        case "schema":
            path.unlink()
            with contextlib.closing(sqlite3.connect(path)) as db:
                db.executescript("CREATE TABLE memo (x); PRAGMA user_version = 1")
        case "newer":
            with contextlib.closing(sqlite3.connect(path)) as db:
                db.execute("PRAGMA user_version = 99")
        case "folder":
            path.unlink()
            path.mkdir()


@pytest.mark.parametrize("with_file", ["removed", "empty", "another"])
async def test_a_file_that_is_replaced_under_a_running_outbox(with_file: str, tmp_path: Path) -> None:
    kept = await start(tmp_path / "state")
    await fill(kept, 0, 20, "latency")
    uuid = kept.outbox.id
    kept.keep(20, 21, 22)
    batch = kept.batch(1)
    for path in (tmp_path / "state").glob("outbox.db*"):
        path.unlink()
    if with_file == "empty":
        (tmp_path / "state" / "outbox.db").touch()
    elif with_file == "another":
        other = await start(tmp_path / "other")
        await fill(other, 500, 5, "latency")
        other.keep(600)
        theirs = other.batch()
        await other.outbox.close()
        (tmp_path / "other" / "outbox.db").rename(tmp_path / "state" / "outbox.db")
    await kept.pass_s(10)
    await kept.pass_s(0)
    assert not kept.facts.degraded
    assert kept.outbox.id != uuid
    # What memory still had is in the new file; the batch keeps its old identity.
    others = list(range(500, 505)) if with_file == "another" else []
    assert await kept.on_disk() == [21, 22, *others]
    assert batch.id.outbox == uuid
    assert batch.id in kept.outbox.batches
    assert (with_file == "another") == any(identity != batch.id for identity in kept.outbox.batches)
    if with_file == "another":
        assert theirs.id in kept.outbox.batches
    assert kept.facts.outbox_records == 3 + len(others) + (with_file == "another")
    kept.keep(30)
    assert kept.batch().id.outbox == kept.outbox.id
    await kept.outbox.close()


# -- chance and violence


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_nothing_committed_and_unsettled_is_lost(seed: int, tmp_path: Path) -> None:
    """Random operations and crashes against a model: what is on disk, and what has a final answer."""
    dice = random.Random(seed)
    kept = await start(tmp_path / "s")
    total, memory, disk, final = 0, set[int](), set[int](), set[int]()
    numbers_used: Counter[BatchId] = Counter()

    def made(batch: Batch) -> None:
        numbers_used[batch.id] += 1

    for _ in range(250):
        batches = [batch for batch in kept.outbox.batches.values() if batch.payload is not None]
        match dice.choice(["keep", "keep", "batch", "replay", "settle", "later", "split", "time", "load", "crash"]):
            case "keep":
                probe = dice.choice(list(VALUES))
                for _ in range(dice.randrange(1, 6)):
                    kept.keep(total, probe=probe)
                    memory.add(total)
                    total += 1
            case "batch" if kept.outbox.waiting:
                made(kept.batch(dice.randrange(1, 10)))
            case "replay":
                entries = await kept.unsent(dice.randrange(1, 10))
                if entries:
                    made(kept.outbox.make_batch(entries, 1))
            case "settle" if batches:
                batch = dice.choice(batches)
                final |= set(numbers(batch.records or []))
                kept.outbox.settle(batch, set())
            case "later" if batches:
                kept.outbox.rest(dice.choice(batches), kept.clock.boot() + dice.choice([0, 100]))
            case "split" if any(batch.count > 1 for batch in batches):
                for half in kept.outbox.split(dice.choice([batch for batch in batches if batch.count > 1])):
                    made(half)
            case "load" if kept.outbox.batches:
                await kept.outbox.load(dice.choice(list(kept.outbox.batches.values())))
            case "time":
                before = kept.outbox._due_s()
                await kept.pass_s(dice.choice([0.1, 3.0, 10.0, 700.0]))
                if before <= kept.clock.boot() and kept.outbox._hold_due_s() == float("inf"):
                    disk |= memory
                    memory.clear()
            case "crash" if dice.random() < 0.3:
                kept = await crash(kept)
                memory.clear()
                await check(kept, disk - final, final)
    await kept.outbox.commit(everything=True)
    await check(await crash(kept), (disk | memory) - final, final)
    assert max(numbers_used.values()) == 1


async def check(kept: Kept, expected: set[int], final: set[int]) -> None:
    """All that is expected is there; what is there twice, or besides, has its final answer already."""
    there = Counter(await kept.on_disk())
    for batch in list(kept.outbox.batches.values()):
        assert await kept.outbox.load(batch)
        there.update(numbers(batch.records or []))
    assert kept.facts.outbox_records == sum(there.values())
    assert expected <= set(there)
    assert max(there.values(), default=1) == 1
    for batch in kept.outbox.batches.values():
        kept.outbox.rest(batch, kept.clock.boot() + 100)


WRITER = """
import asyncio, os, sys
from pathlib import Path
from agent.clock import SystemClock
from agent.config import OutboxLimits
from agent.facts import Facts
from agent.outbox import Outbox
from tests.agent.durable import record
from uuid import UUID

async def main(folder, first):
    clock = SystemClock()
    outbox = await Outbox.open(folder, agent="a01", limits=OutboxLimits(hold_s=0.15), clock=clock, facts=Facts())
    commit = outbox._file.commit
    def tell(changes):
        report = commit(changes)
        for row in changes.insert:
            import json
            content = json.loads(row.content)
            for r in content.get("records", [content]):
                os.write(1, b"C %d\\n" % r["duration_s"])
        return report
    outbox._file.commit = tell
    running = asyncio.create_task(outbox.run())
    os.write(1, b"ready\\n")
    n = first
    while True:
        os.write(1, b"K %d\\n" % n)
        outbox.keep(record(n), boot=UUID(int=7), boot_s=clock.boot(), synced=True)
        n += 1
        if n % 3 == 0:
            batch = outbox.make_batch(list(outbox.waiting), 1) if outbox.waiting else None
            if batch:
                os.write(1, b"B %s %d\\n" % (str(batch.id.outbox).encode(), batch.id.batch))
                if n % 2:
                    for r in batch.records:
                        os.write(1, b"F %d\\n" % r.duration_s)
                    outbox.settle(batch, set())
        await asyncio.sleep(0.01)

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


async def test_kill_nine_at_twenty_random_moments(tmp_path: Path) -> None:
    (tmp_path / "writer.py").write_text(WRITER)
    await asyncio.gather(*(kill_again_and_again(tmp_path, seed, kills=10) for seed in range(2)))


async def kill_again_and_again(folder: Path, seed: int, kills: int) -> None:
    dice = random.Random(seed)
    state = folder / f"state{seed}"
    said: dict[str, list[str]] = {"K": [], "C": [], "F": [], "B": []}
    for _ in range(kills):
        before = {kind: len(lines) for kind, lines in said.items()}
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(folder / "writer.py"), str(state), str(len(said["K"])),
            stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )  # fmt: skip
        assert process.stdout is not None
        async with asyncio.timeout(30):
            assert await process.stdout.readline() == b"ready\n"
        await asyncio.sleep(dice.uniform(0.05, 0.5))
        process.kill()
        for line in (await process.stdout.read()).decode().splitlines():
            kind, _, rest = line.partition(" ")
            said[kind].append(rest)
        await process.wait()
        kept, committed, final = (set(map(int, said[kind][before[kind] :])) for kind in "KCF")
        assert len(kept - committed - final) <= 100
    assert max(Counter(said["B"]).values()) == 1
    assert len({identity.split()[0] for identity in said["B"]}) == 1
    outbox = await start(state)
    there = Counter(await outbox.on_disk())
    for batch in list(outbox.outbox.batches.values()):
        assert await outbox.outbox.load(batch)
        there.update(numbers(batch.records or []))
    kept, committed, final = (set(map(int, said[kind])) for kind in "KCF")
    assert committed - final <= set(there)
    assert max(there.values()) == 1
    assert len(committed) > 20
    assert kept - committed - final  # the kills did hit records that were not committed yet
    await outbox.outbox.close()


def numbers_in(rows: list[tuple[Any, ...]]) -> list[int]:
    found: list[int] = []
    for number, content in rows:
        if number is None:
            found.append(int(json.loads(content)["duration_s"]))
        else:
            found += numbers(decode_batch(content).batch.records)
    return sorted(found)
