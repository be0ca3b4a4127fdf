"""The live fleet where the broker is away: what an agent keeps, what it loses and tells, what is said."""

import asyncio
import io
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from contract.vocabulary import CLASS_OF, CLASSES
from simulator import district
from simulator.fleet import Counts, Limits, Place, run_fleet
from simulator.outbox import Outbox
from simulator.virtual import VirtualAgent
from simulator.world import World
from store.sqlite import SqliteStore
from tests.collector import lab
from tests.simulator.places import records


def test_a_full_outbox_loses_the_oldest_of_the_lowest_class() -> None:
    outbox = Outbox()
    made = records()[:200]
    for record in made:
        outbox.keep(record, 0.0)
    for _ in range(150):
        outbox.drop()
    rest = [outbox.take().record for _ in range(len(outbox))]
    by_class = sorted(made, key=lambda record: CLASS_OF[record.probe])  # stable: within a class in order of arrival
    assert rest == [record for record in made if record in by_class[150:]]
    assert sum(outbox.dropped) == 150
    assert outbox.dropped[0] == sum(CLASS_OF[record.probe] == 0 for record in made)
    assert outbox.dropped[3] == 0


@pytest.mark.timeout(240)
async def test_what_a_full_outbox_loses_is_told_and_nothing_else_is_lost(tmp_path: Path) -> None:
    broker = lab.Mosquitto(tmp_path, "max_queued_messages 10000")
    broker.start()
    try:
        now = lab.now()
        end_ms = round(now.timestamp() * 1000) // 60_000 * 60_000 - 600_000
        start_ms = end_ms - 90 * 60_000
        world = World(district.build(3, 4, 4, 0))
        counts, said = Counts(), io.StringIO()
        async with lab.running(tmp_path, broker.port, SqliteStore(tmp_path / "store.db")) as collector:
            (tmp_path / "sites.toml").write_text(district.register(world.district))
            await lab.until(lambda: collector.register.knows("sim-0001"))
            place, console = Place("127.0.0.1", broker.port), Console(file=said, soft_wrap=True)
            limits = Limits(keep=100, silence_s=2.0, pause_s=1.0)
            fleet = asyncio.create_task(run_fleet(place, world, start_ms, end_ms, 120, console, counts, limits))
            await lab.until(lambda: counts.stored > 20)
            broker.stop()
            await lab.until(lambda: counts.dropped > 160, 60)
            broker.start()
            async with asyncio.timeout(150):
                assert await fleet == 1, said.getvalue()
        with sqlite3.connect(tmp_path / "store.db") as database:
            stored = {p: database.execute(f"SELECT count(*) FROM {p}").fetchone()[0] for p in CLASS_OF}
            sums = ", ".join(f"max(outbox_dropped_{name})" for name in CLASSES)
            told = database.execute(f"SELECT max(outbox_dropped), {sums} FROM agent GROUP BY agent").fetchall()
    finally:
        broker.stop()
    assert counts.made == counts.stored + counts.dropped
    assert counts.stored == sum(stored.values())
    assert f"{counts.dropped:,} lost to full outboxes, 0 not answered" in said.getvalue()
    told_all, *told_by_class = (sum(column) for column in zip(*told, strict=True))
    assert told_all == sum(told_by_class) == counts.dropped
    made = Counter(
        record.probe
        for box in world.district.boxes
        for record in VirtualAgent(world, box).records(start_ms, end_ms)
        if record.started_at < now  # the others are not over when the window ends
    )
    for kind, name in enumerate(CLASSES):
        if name != "heavy":  # may start 36 min late, in the middle of this test
            assert told_by_class[kind] == sum(made[p] - stored[p] for p in CLASS_OF if CLASS_OF[p] == kind), name


async def test_nobody_there_is_said_once_and_so_is_the_end_of_it(tmp_path: Path) -> None:
    broker = lab.Mosquitto(tmp_path)
    now_ms = round(lab.now().timestamp() * 1000)
    world, counts, said = World(district.build(3, 3, 3, 0)), Counts(), io.StringIO()
    place = Place("127.0.0.1", broker.port)
    fleet = asyncio.create_task(
        run_fleet(place, world, now_ms, now_ms + 3_600_000, 1.0, Console(file=said, soft_wrap=True), counts)
    )
    try:
        await lab.until(lambda: "cannot connect" in said.getvalue())
        await asyncio.sleep(2)  # all have failed, some more than once
        assert said.getvalue().startswith(f"127.0.0.1:{broker.port}: cannot connect (")
        assert "0 of 3 agents are connected" in said.getvalue()
        broker.start()
        await lab.until(lambda: "nobody fails to connect any more; 3 of 3 agents" in said.getvalue())
        assert said.getvalue().count("\n") == 2, said.getvalue()
    finally:
        fleet.cancel()
        await asyncio.gather(fleet, return_exceptions=True)
        broker.stop()
