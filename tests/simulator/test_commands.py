"""`wanggan simulate`: files, a store, and the district's register."""

import asyncio
import hashlib
import io
import json
import sqlite3
import tomllib
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

from contract.codec import decode_record
from simulator import district
from simulator.commands import main
from simulator.faults import Fault
from simulator.fleet import Counts, Limits, LiveAgent, Place, Trouble, run_fleet
from simulator.virtual import VirtualAgent
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
    agents = set()
    for line in (tmp_path / "a.jsonl").read_bytes().splitlines():
        decode_record(line)
        agents.add(json.loads(line)["agent"])
    assert agents == {site["agent"] for site in tomllib.loads((tmp_path / "a.sites.toml").read_text())["sites"]}


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
    with pytest.raises(SystemExit):
        simulate("--speed", "0", "--out", "x.jsonl")
    with pytest.raises(SystemExit):
        simulate("--passwords", str(tmp_path / "none"), "--out", "mqtt://broker")
    assert "none: no such folder; it holds a file AGENT.password for each agent" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "fix"),
    [
        ("none.toml", "'none.toml': no such configuration; a file for records ends in .jsonl"),
        ("mqtts://broker", "a broker is written mqtt://HOST[:PORT]"),
        ("mqtt://", "a broker is written mqtt://HOST[:PORT]"),
        ("mqtt://broker:0", "a broker is written mqtt://HOST[:PORT]"),
        ("mqtt://broker:99999", "a broker is written mqtt://HOST[:PORT]"),
        ("mqtt://user@broker", "a broker is written mqtt://HOST[:PORT]"),
    ],
)
def test_a_wrong_out_is_told_before_anything_is_written(
    out: str, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        simulate("--out", out)
    assert ended.value.code == 2
    assert fix in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_without_a_store_is_told_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "collector.toml").write_text("[web]\n")
    assert simulate("--out", str(tmp_path / "collector.toml")) == 2
    assert "store: missing; add a [store] table" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["collector.toml"]


def test_faults_outside_the_window_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "faults.toml"
    fault = '[[faults]]\nkind = "dns_slow"\nvenue = "sim-changshou-library"\nlength = "1h"\n'
    script.write_text(f'{fault}start = "+1h"\n{fault}start = "+2h"\n{fault}start = 2025-11-18T00:00:00Z\n')
    assert simulate("--faults", str(script), "--out", str(tmp_path / "x.jsonl")) == 0
    assert "2 of 3 faults do nothing: they lie before --from or after --to" in capsys.readouterr().err


async def test_a_test_that_starts_long_after_its_slot_holds_nobody_up() -> None:
    world = World(district.build(3, 2, 2, 0))
    start_ms, end_ms = 1_790_000_000_000, 1_790_000_000_000 + 26 * HOUR_MS
    place, counts = Place("127.0.0.1", 1), Counts()
    trouble = Trouble(place, 2, counts, Console(file=io.StringIO()))
    for box in world.district.boxes:
        agent = VirtualAgent(world, box)
        live = list(LiveAgent(place, agent, world, counts, trouble, Limits())._records(start_ms, end_ms))
        over_ms = [done_ms for done_ms, _ in live]
        assert over_ms == sorted(over_ms)
        assert max(r.started_at - r.slot for _, r in live) > timedelta(minutes=10)
        assert Counter(r.slot for _, r in live) == Counter(r.slot for r in agent.records(start_ms, end_ms))


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
