"""`wanggan simulate`: files, a store, and the district's register."""

import asyncio
import hashlib
import io
import json
import sqlite3
from pathlib import Path

import pytest
from rich.console import Console

from contract.codec import decode_record
from simulator import district
from simulator.commands import main
from simulator.faults import Fault
from simulator.fleet import Counts, Place, run_fleet
from simulator.world import World
from store import register
from store.sqlite import SqliteStore
from tests.collector import lab
from tests.simulator.places import HOUR_MS

WINDOW = ["--from", "2026-11-18T00:00:00Z", "--to", "2026-11-18T02:00:00Z"]


def simulate(*arguments: str) -> int:
    return main([*WINDOW, "--agents", "8", "--venues", "8", *arguments])


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    sums = []
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        assert simulate("--seed", seed, "--out", str(tmp_path / f"{name}.jsonl")) == 0
        files = [tmp_path / f"{name}{end}" for end in (".jsonl", ".truth.jsonl", ".sites.toml")]
        sums.append(tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files))
    assert sums[0] == sums[1]
    assert sums[0][0] != sums[2][0]
    for line in (tmp_path / "a.jsonl").read_bytes().splitlines():
        decode_record(line)


def test_the_store_holds_what_the_file_holds(tmp_path: Path) -> None:
    assert simulate("--out", str(tmp_path / "all.jsonl")) == 0
    (tmp_path / "collector.toml").write_text(
        '[store]\nengine = "sqlite"\npath = "wanggan.db"\nretention_days = 36500\n'
    )
    assert simulate("--workers", "2", "--out", str(tmp_path / "collector.toml")) == 0
    roll = register.read(tmp_path / "collector.sites.toml")
    with sqlite3.connect(tmp_path / "wanggan.db") as database:
        counted = 0
        for (series,) in [*database.execute("SELECT DISTINCT probe FROM jobs").fetchall(), ("wifi_event",)]:
            counted += database.execute(f"SELECT count(*) FROM {series}").fetchone()[0]
            for agent, interface, venue, network, time in database.execute(
                f"SELECT agent, interface, venue, network, time FROM {series} LIMIT 200"
            ):
                span = roll.find(agent, interface, time // 1000)
                assert span is not None
                assert (span.venue, span.network) == (venue, network)
    assert counted == len((tmp_path / "all.jsonl").read_bytes().splitlines())


def test_the_default_district_is_a_registers_worth(tmp_path: Path) -> None:
    place = district.build(1, 52, 52, 0)
    (tmp_path / "sites.toml").write_text(district.register(place))
    roll = register.read(tmp_path / "sites.toml")
    assert len(roll.venues) == 52
    assert sum(venue.type == "node" for venue in roll.venues.values()) == 12
    assert all("仿真" in venue.name.zh and "simulated" in venue.name.en for venue in roll.venues.values())
    assert len({venue.name.zh for venue in roll.venues.values()}) == 52


def test_mistakes_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "faults.toml"
    script.write_text('[[faults]]\nkind = "nothing"\n')
    assert simulate("--faults", str(script), "--out", str(tmp_path / "x.jsonl")) == 2
    assert "faults[0].venue: missing" in capsys.readouterr().err
    assert not (tmp_path / "x.jsonl").exists()
    assert simulate("--out", str(tmp_path / "none.toml")) == 1
    with pytest.raises(SystemExit):
        simulate("--speed", "0", "--out", "x.jsonl")


@pytest.mark.timeout(200)
async def test_a_live_fleet_is_stored_once_by_a_real_collector(tmp_path: Path) -> None:
    broker = lab.Mosquitto(tmp_path, "max_queued_messages 10000")
    broker.start()
    try:
        now_ms = round(lab.now().timestamp() * 1000) // 60_000 * 60_000
        place = district.build(3, 20, 20, 0)
        away = Fault("agent_offline", place.boxes[4].venue.slug, now_ms // 60_000 - 22, now_ms // 60_000 - 12, 1.0)
        world = World(place, [away])
        store = SqliteStore(tmp_path / "store.db")
        counts, said = Counts(), io.StringIO()
        async with lab.running(
            tmp_path, broker.port, store, limits="messages_per_s = 1000.0\nburst = 10000"
        ) as collector:
            (tmp_path / "sites.toml").write_text(district.register(place))
            await lab.until(lambda: collector.register.knows("sim-0001"))
            start_ms = now_ms - HOUR_MS // 2
            fleet = run_fleet(
                Place("127.0.0.1", broker.port), world, start_ms, now_ms - 60_000, 400, Console(file=said), counts
            )
            async with asyncio.timeout(150):  # what is not answered in time is sent again, up to a minute later
                assert await fleet == 0, said.getvalue()
            counted = 0
            with sqlite3.connect(tmp_path / "store.db") as database:
                for (series,) in [*database.execute("SELECT DISTINCT probe FROM jobs").fetchall(), ("wifi_event",)]:
                    counted += database.execute(f"SELECT count(*) FROM {series}").fetchone()[0]
                late = database.execute("SELECT DISTINCT agent FROM latency WHERE flags LIKE '%replayed%'").fetchall()
                announced = database.execute("SELECT count(DISTINCT agent) FROM jobs").fetchone()[0]
        assert counts.made == counts.stored == counted > 3000
        assert announced == 20
        assert late == [(place.boxes[4].agent,)]
        assert json.dumps(counts.rejected) == "0"
    finally:
        broker.stop()
