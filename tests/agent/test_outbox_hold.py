"""No record waits in memory longer than `hold_s`, however the ones before it went."""

import asyncio
import sqlite3
from datetime import UTC, datetime
from uuid import uuid4

from agent.facts import Facts
from agent.outbox import Outbox
from contract.record import RECORDS
from tests.fakes import FakeClock


async def test_a_record_behind_committed_ones_is_committed_in_its_own_time(tmp_path):
    clock = FakeClock()
    outbox = await Outbox.open(tmp_path, agent="agent-1", clock=clock, facts=Facts())
    running = asyncio.create_task(outbox.run())

    def keep() -> None:
        now = datetime.fromtimestamp(clock.wall(), UTC)
        record = RECORDS["dns"](
            target="site", interface="lo", slot=now, started_at=now, duration_s=0.1, outcome="failed", reason="timeout"
        )
        outbox.keep(record, boot=uuid4(), boot_s=clock.boot(), synced=True)

    async def on_disk() -> int:
        await asyncio.sleep(0.2)  # the file's thread is a real one
        with sqlite3.connect(f"file:{tmp_path / 'outbox.db'}?mode=ro", uri=True) as database:
            return database.execute("SELECT count(*) FROM kept").fetchone()[0]

    await clock.advance(1)
    keep()
    await clock.advance(5)
    keep()
    await clock.advance(5.5)
    assert await on_disk() == 2
    keep()
    await clock.advance(10.5)
    assert await on_disk() == 3
    running.cancel()
    await outbox.close()
