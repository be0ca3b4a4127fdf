"""`wanggan up --demo`: a district on the page, and never taken for a real one."""

import signal
import sqlite3
import urllib.request
from pathlib import Path

from tests.wanggan.running import get, running, until


def test_the_demo_is_full_alive_and_marked_as_simulated(tmp_path: Path) -> None:
    reports = tmp_path / "state/demo/reports"
    reports.mkdir(parents=True)
    (reports / "2020-W01.en.html").write_text("of an earlier demonstration")
    with running(tmp_path / "state", "--demo", greeted=False) as up:
        until(lambda: up.said("Live page") or up.process.poll() is not None, 180, "the start")
        assert up.said("SIMULATED"), "\n".join(up.lines)
        overview = until(lambda: _full(get(up.url + "api/overview")), 30, "the picture")
        assert overview["simulated"] is True
        assert "2020-W01.en.html" not in overview["reports"]
        assert len(overview["venues"]) == 52
        assert all("仿真" in venue["name"]["zh"] for venue in overview["venues"])
        assert {venue["level"] for venue in overview["venues"]} >= {"bad", "ok"}
        assert get(up.url + "api/agents")["simulated"] is True
        for language, words in (("zh", "仿真数据"), ("en", "Simulated data")):
            with urllib.request.urlopen(f"{up.url}?lang={language}", timeout=20) as answer:
                page = answer.read().decode()
            assert 'id="simulated"' in page
            assert words in page
        # It goes on: live records are stored on top of the last 48 hours.
        until(lambda: get(up.url + "api/overview")["records"]["stored"] > 20, 40, "live records")
    with sqlite3.connect(tmp_path / "state/demo/wanggan.db") as database:
        hours = database.execute("SELECT (max(time) - min(time)) / 3600e9 FROM latency").fetchone()[0]
        assert hours > 47
        assert database.execute("SELECT count(DISTINCT agent) FROM latency").fetchone()[0] == 52


def _full(overview: dict) -> dict | None:
    jobs = [job for venue in overview["venues"] for site in venue["sites"] for job in site["jobs"]]
    online = overview["agents"]["online"]
    return overview if len(jobs) > 600 and online > 40 else None


def test_a_stop_while_the_past_is_computed_is_a_clean_one(tmp_path: Path) -> None:
    with running(tmp_path / "state", "--demo", greeted=False) as up:
        until(lambda: up.said("Live page") or up.process.poll() is not None, 180, "the start")
        # Its helpers are what could hold something of ours open.
        until(lambda: up.child("multiprocessing.spawn"), 30, "the past")
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(10) == 0
    assert up.lines[-1] == "stopping"


def test_a_simulation_that_fails_ends_it_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "state/demo/truth.jsonl").mkdir(parents=True)
    with running(tmp_path / "state", "--demo", greeted=False) as up:
        assert up.process.wait(60) == 1
        until(lambda: up.said("the simulation failed: wanggan simulate: [Errno 21] Is a directory"), 5, "the reason")
