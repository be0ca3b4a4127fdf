"""What a weekly report costs: seconds and memory for a district of 52 and of 1,000 agents, all four formats.

A small simulated district is rolled up and scored for two weeks, its hours are copied under new names until there are
enough agents; a minute of `fleet` for each agent beside them. `--district DIR` takes the one of an earlier run.
"""

import argparse
import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from contract.series import FLEET, INCIDENT, JOBS, ROLLUPS, SCORE, VERDICT
from simulator import district
from store.sqlite import SqliteStore

SMALL = 8
WEEK = "2026-W47"
WINDOW = ("2026-11-09T00:00:00+08:00", "2026-11-23T00:00:00+08:00")
CONFIG = 'register = "perception.sites.toml"\n[store]\nengine = "sqlite"\npath = "wanggan.db"\n'
COPIED = [*(series.key for series in ROLLUPS.values()), SCORE.key, VERDICT.key, INCIDENT.key, JOBS.key]


def small(folder: Path) -> None:
    """The district that is copied."""
    (folder / "perception.toml").write_text(CONFIG)
    window = ["--from", WINDOW[0], "--to", WINDOW[1]]
    wanggan = [sys.executable, "-m", "wanggan"]
    size = ["--agents", str(SMALL), "--venues", str(SMALL)]
    commands = (
        ["simulate", *size, *window, "--out", "perception.toml"],
        ["perception", "rollup", "--config", "perception.toml", *window],
        ["perception", "score", "--config", "perception.toml", *window],
    )
    for command in commands:
        subprocess.run([*wanggan, *command], cwd=folder, check=True)


def large(source: Path, folder: Path, agents: int) -> None:
    """A store of `agents` agents, and its register."""
    (folder / "perception.toml").write_text(CONFIG)
    place = district.build(1, SMALL, SMALL, 0)
    text = district.register(place)
    copies = -(-agents // SMALL)
    parts = [text.split("\n", 1)[0], *(_renamed(text, place, copy) for copy in range(copies))]
    (folder / "perception.sites.toml").write_text("\n".join(parts))
    path = folder / "wanggan.db"
    asyncio.run(_ensure(path))
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("ATTACH ? AS source", (str(source / "wanggan.db"),))
        database.execute("CREATE TEMP TABLE copy AS WITH RECURSIVE n(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM n "
                         "WHERE k + 1 < ?) SELECT k FROM n", (copies,))  # fmt: skip
        for table in COPIED:
            columns = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
            values = [f"\"{name}\" || '-' || k" if name in ("agent", "venue") else f'"{name}"' for name in columns]
            listed = ", ".join(f'"{name}"' for name in columns)
            database.execute(f'INSERT INTO main."{table}" ({listed}) SELECT {", ".join(values)} '
                             f'FROM source."{table}", copy ORDER BY time')  # fmt: skip
        start, end = database.execute("SELECT max(time) - 604800000000000, max(time) FROM source.latency").fetchone()
        _minutes(database, place, copies, start, end)


def _renamed(text: str, place: district.District, copy: int) -> str:
    body = text.split("\n", 1)[1]
    for name in (*(venue.slug for venue in place.venues), *(box.agent for box in place.boxes)):
        body = body.replace(f'"{name}"', f'"{name}-{copy}"').replace(f"[venues.{name}", f"[venues.{name}-{copy}")
    return body


def _minutes(database: sqlite3.Connection, place: district.District, copies: int, start: int, end: int) -> None:
    boxes = [(box.agent, box.venue.slug, box.venue.network) for box in place.boxes]
    database.execute("CREATE TEMP TABLE box (agent, venue, network)")
    database.executemany("INSERT INTO box VALUES (?, ?, ?)", boxes)
    database.execute(
        f"INSERT INTO {FLEET.key} (time, agent, venue, network, online, silent_s, completeness) "
        "WITH RECURSIVE m(t) AS (SELECT ? UNION ALL SELECT t + 60000000000 FROM m WHERE t < ?) "
        "SELECT t, agent || '-' || k, venue || '-' || k, network, 1, 5.0, 1.0 FROM m, copy, box ORDER BY t",
        (start // 60_000_000_000 * 60_000_000_000, end),
    )


async def _ensure(path: Path) -> None:
    store = SqliteStore(path)
    await store.ensure()
    await store.close()


def measure(folder: Path) -> dict[str, float]:
    """One run of the command: wall and CPU seconds, peak memory."""
    command = [sys.executable, "-m", "wanggan", "report", "weekly", "--config", "perception.toml", "--week", WEEK]
    began = time.monotonic()
    process = subprocess.Popen([*command, "--out", "reports"], cwd=folder, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    took_s = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the report failed with {process.returncode}")
    return {"s": round(took_s, 1), "cpu_s": round(used.ru_utime + used.ru_stime, 1), "mb": round(used.ru_maxrss / 1000)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, nargs="*", default=[52, 1000])
    parser.add_argument("--district", type=Path, help="folder of the small district; made when it is missing")
    found = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        source = found.district or Path(temporary) / "small"
        if not (source / "wanggan.db").exists():
            source.mkdir(parents=True, exist_ok=True)
            small(source)
        for agents in found.agents:
            folder = Path(temporary) / str(agents)
            folder.mkdir()
            large(source.absolute(), folder, agents)
            print(json.dumps({"agents": agents, "store_mb": (folder / "wanggan.db").stat().st_size // 10**6}
                             | measure(folder)))  # fmt: skip
            (folder / "wanggan.db").unlink()


if __name__ == "__main__":
    main()
