"""The independent check: from raw records of a small simulated district to every number of its report."""

import json
import sqlite3
from pathlib import Path

import pytest

from bench import recompute
from perception import commands as perception
from perception.report import commands as report
from simulator import commands as simulator

ROOT = Path(__file__).parent.parent.parent
PROFILES = sorted(map(str, (ROOT / "perception" / "profiles").glob("*.yaml")))
FAULTS = """
[[faults]]
kind = "uplink_saturated"
venue = "sim-changshou-hall"
start = 2026-11-20T09:00:00+08:00
length = "9h"
strength = 0.9
[[faults]]
kind = "power_cut"
venue = "*"
start = 2026-11-21T02:00:00+08:00
length = "3h"
strength = 1.0
"""


def made(folder: Path, venues: int, start: str) -> Path:
    """A report of 2026-W47 out of a simulated district; its archive."""
    config = folder / "perception.toml"
    config.write_text('register = "perception.sites.toml"\n[store]\nengine = "sqlite"\npath = "wanggan.db"\n')
    (folder / "faults.toml").write_text(FAULTS)
    window = ["--from", f"{start}T00:00:00+08:00", "--to", "2026-11-23T00:00:00+08:00"]
    how = ["--agents", str(venues), "--venues", str(venues), "--faults", str(folder / "faults.toml"), "--workers", "1"]
    assert simulator.main([*how, *window, "--upgrade", "2026-11-14T12:00:00+08:00", "--out", str(config)]) == 0
    assert perception.main(["rollup", "--config", str(config), *window]) == 0
    assert perception.main(["score", "--config", str(config), *window]) == 0
    told = ["weekly", "--config", str(config), "--week", "2026-W47", "--format", "html", "--out", str(folder)]
    assert report.main(told) == 0
    return folder / "2026-W47.json"


def checked(archive: Path) -> tuple[list[str], int]:
    folder = archive.parent
    return recompute.check(folder / "wanggan.db", folder / "perception.sites.toml", archive, PROFILES)


def test_it_shares_nothing_with_perception_and_is_short() -> None:
    text = Path(recompute.__file__).read_text()
    assert "import perception" not in text
    assert "from perception" not in text
    assert len(text.splitlines()) <= 250


@pytest.mark.timeout(300)
def test_every_printed_number_follows_from_the_raw_records(tmp_path: Path) -> None:
    archive = made(tmp_path, 2, "2026-11-18")
    wrong, compared = checked(archive)
    assert wrong == []
    assert compared > 200

    # It can fail: a figure that is off by 2 %, one more that nobody can recompute, and a record that is gone.
    printed = json.loads(archive.read_text())
    figures = printed["revisions"][-1]["figures"]
    figures["wifi/sim-changshou-hall/ppi"]["value"] *= 1.02
    figures["wifi/invented"] = {"key": "wifi/invented", "unit": "count", "value": 1.0}
    archive.write_text(json.dumps(printed))
    with sqlite3.connect(tmp_path / "wanggan.db") as database:
        database.execute("DELETE FROM dns WHERE time IN (SELECT max(time) FROM dns)")
    wrong, _ = checked(archive)
    assert {line.split(":")[0] for line in wrong} >= {
        "wifi/sim-changshou-hall/ppi",
        "wifi/invented",
        "quality/wifi/dns/n",
    }


@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_weeks_of_eight_venues(tmp_path: Path) -> None:
    wrong, compared = checked(made(tmp_path, 8, "2026-11-09"))
    assert wrong == []
    assert compared > 600
