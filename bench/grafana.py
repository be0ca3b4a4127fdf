"""How long the district wall waits: each of its queries, on influxd 1.x with a month of the default district's rollups,
scores, verdicts and incidents.

    python -m bench.grafana

An hour of the district (52 agents) goes through the real writers; its rows then stand in every hour of the month, those
of a day in every day. What a query costs depends on rows and series, not on what they say. A time is what a client
sees: the request, the query, and the answer read as JSON; beside it the CPU that the server spent, which does not
depend on who else is busy.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from contract.series import HOURS, INCIDENT, SCORE, SERIES
from perception.rollups.roll import HOUR_NS
from simulator import district
from store.point import Point
from store.sqlite import SqliteStore
from tests.grafana.district import START_NS, Grafana, Story, compute, fault, measured, store_at, write
from tests.grafana.places import Asked, panel_queries, variable_queries
from tests.servers import Influxd

DAY_NS: Final = 24 * HOUR_NS
HOUR: Final = 6
"""After the story's start: 14:00 local."""
TARGET_MS: Final = 300.0


async def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.grafana", description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=30, help="how often each query is asked (%(default)s)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        server = Influxd(Path(folder))
        server.start()
        try:
            rows = await _fill(server.url, Path(folder), options.days)
            found = {f"{days} days": _ask(server, options.rounds, days) for days in (7, options.days)}
        finally:
            server.stop()
    report = {"rows": rows, "days": options.days, "rounds": options.rounds, "ranges": found}
    if options.json:
        print(json.dumps(report))
    else:
        _print(report)
    worst = max(times["p95_ms"] for each in found.values() for times in each.values())
    return 0 if worst <= TARGET_MS else 1


async def _fill(url: str, folder: Path, days: int) -> int:
    """Rows written to the hours' database."""
    place = district.build(1, 52, 52, 0)
    boxes = place.boxes
    story = Story(place, tuple(fault("weak_signal", box, HOUR, HOUR + 1) for box in boxes[::5]), ((HOUR, HOUR + 1),))
    quick = SqliteStore(folder / "hour.sqlite", retention_days=None, hours_retention_days=None)
    await quick.ensure()
    await compute(quick, folder, story, measured(story))
    hours = [series.key for series in SERIES.values() if series.database == HOURS]
    start_ns = START_NS + HOUR * HOUR_NS
    template = [
        Point(key, tuple(row.tags.values()), row.time_ns, tuple(row.fields.values()))
        for key in hours
        async for row in quick.rows(key, START_NS - 8 * DAY_NS, story.end_ns)
        if key in (SCORE.key, INCIDENT.key) or row.time_ns == start_ns
    ]
    await quick.close()
    influx = store_at(url, "bench")
    await influx.ensure()
    written = 0
    for hour in range(24 * days):
        points = []
        for point in template:
            period = point.tags[-1] if point.series == SCORE.key else "day" if point.series == INCIDENT.key else "hour"
            if hour % {"hour": 1, "day": 24, "week": 168}[period] == 0:
                points.append(point._replace(time_ns=point.time_ns - hour * HOUR_NS))
        await write(influx, points)
        written += len(points)
        if sys.stderr.isatty():
            print(f"\r{hour + 1} of {24 * days} hours, {written:,} rows", end="", file=sys.stderr)
    await influx.close()
    return written


def _interval(one: Asked, hours: float) -> Asked:
    """With Grafana's step for the range: never finer than the panel's least, then the next round number."""
    step_h = max(1.0, hours / one.max_points if one.max_points else 0.0)
    round_h = next(h for limit, h in ((1.5, 1), (2.5, 2), (4.5, 3), (9, 6), (24, 12)) if step_h < limit)
    return one._replace(interval=f"{round_h}h")


def _cpu_ms(pid: int) -> float:
    """Of a process and its threads since its start."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _ask(server: Influxd, rounds: int, days: int) -> dict[str, dict[str, float]]:
    grafana = Grafana(server.url, "bench")
    chosen = {"network": "wifi", "profile": ".*"}
    now_ns = START_NS + (HOUR + 1) * HOUR_NS
    found = {}
    asked = [one for one in panel_queries() + variable_queries() if one.board == "district"]
    for one in (_interval(one, 24.0 * days) for one in asked):
        times = []
        rows = 0
        cpu_ms = _cpu_ms(server.pid)
        for _ in range(rounds):
            began = time.perf_counter()
            rows = len(grafana.ask(one, chosen, now_ns, 24.0 * days).rows)
            times.append(1000 * (time.perf_counter() - began))
        assert rows, one.where
        times.sort()
        p95 = times[-(-len(times) * 95 // 100) - 1]
        cpu_ms = (_cpu_ms(server.pid) - cpu_ms) / rounds
        found[one.where] = {"rows": rows, "p50_ms": statistics.median(times), "p95_ms": p95, "cpu_ms": cpu_ms}
    return found


def _print(report: dict[str, Any]) -> None:
    print(f"{report['rows']:,} rows of {report['days']} days; each query {report['rounds']} times")
    for span, found in report["ranges"].items():
        print(f"\nrange of {span}")
        for where, times in found.items():
            took = f"p50 {times['p50_ms']:6.1f}  p95 {times['p95_ms']:6.1f}  server's CPU {times['cpu_ms']:6.1f} ms"
            print(f"  {where:50} {times['rows']:6.0f} rows  {took}")


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
