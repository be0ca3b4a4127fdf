"""CPU that storing a point costs the collector: the line protocol encoder alone, and whole writes into each engine.

    python -m bench.encode

Points are those of the default schedule, six in ten of them latency. Every figure is this process's own CPU time
(threads included), the best of several rounds: on a busy machine trust ratios, not rates. Where influxdb-client is
installed, its Point objects are measured as well, for comparison.
"""

import argparse
import asyncio
import itertools
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.programs import Influx, Program, free_port, listens
from contract.series import SERIES
from store.influx import InfluxStore
from store.interface import Store
from store.line import encode
from store.point import Point
from store.sqlite import SqliteStore

_MIX = ["latency"] * 12 + ["dns"] * 2 + ["web", "wifi_link", "portal", "agent", "agent", "wifi_link"]
_WORDS: dict[str, list[Any]] = {
    "method": ["icmp"], "outcome": ["ok"], "reason": [None], "detail": [None], "flags": ["", "clock_corrected"],
    "clock": ["synced"], "rcode": ["NOERROR"], "name": ["www.gov.example", "图书馆.example"], "transport": ["udp"],
    "family": ["a", "aaaa"], "http_version": ["h2"], "ssid": ["Library-Free", "市民中心 WiFi"], "band": ["5"],
    "bssid": [f"00:11:22:33:44:{n:02x}" for n in range(64)], "state": ["open"], "portal_host": [None],
    "last_exit": ["ok"],
}  # fmt: skip


def points(count: int, start_ns: int) -> list[Point]:
    """Points of 200 agents, one a second and agent."""
    dice = random.Random(count)
    return [_point(dice, place, start_ns) for place in range(count)]


def _point(dice: random.Random, place: int, start_ns: int) -> Point:
    series = SERIES[_MIX[place % len(_MIX)]]
    agent = place % 200
    tags = (f"agent-{agent}", f"venue-{agent % 80}", "wifi", "core", "wlan0", "", "r1" if series.name == "dns" else "")

    def value(name: str, kind: str) -> Any:
        if name in ("loss_up_ratio", "loss_down_ratio", "temperature_c", "noise_dbm"):
            return None
        if kind == "str":
            return dice.choice(_WORDS[name])
        if name in ("ok", "attempted"):
            return 1
        if kind == "float":
            return round(dice.uniform(0.1, 90), 3)
        return (
            dice.randrange(10**8)
            if name in ("bytes", "rss_bytes", "disk_free_bytes")
            else dice.choice((0, 0, 1, 20, 60))
        )

    fields = tuple(value(name, kind) for name, kind in series.fields.items())
    return Point(series.name, tags, start_ns + place * 5_000_000, fields)


def cpu_us(work: Callable[[], object], count: int, rounds: int = 7) -> float:
    """Least CPU of one of `count` things that `work` does, in microseconds."""

    def once() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return min(once() for _ in range(rounds)) / count * 1e6


async def written(store: Store, size: int, fresh: Iterator[int], total: int) -> dict[str, float]:
    """CPU and wall time of a point, in batches of `size`, two in flight; best of three rounds."""
    best_cpu, best_wall = float("inf"), float("inf")
    for _ in range(3):
        start_ns = time.time_ns() - 3_600 * 10**9 + next(fresh) * 10**9
        made = points(total, start_ns)
        batches = iter([made[first : first + size] for first in range(0, total, size)])

        async def write_all(batches: Iterator[list[Point]]) -> None:
            for batch in batches:
                assert await store.write(batch) == []

        cpu, wall = time.process_time(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(2):
                group.create_task(write_all(batches), name=f"write-{number}")
        best_cpu = min(best_cpu, (time.process_time() - cpu) / total * 1e6)
        best_wall = min(best_wall, (time.perf_counter() - wall) / total * 1e6)
    return {"cpu_us": round(best_cpu, 2), "points_per_s": round(1e6 / best_wall)}


def encoder() -> dict[str, float]:
    """CPU of a line: of the mix, of latency alone, and of latency as influxdb-client's Point objects."""
    made = points(5_000, time.time_ns())
    latency = [point for point in made if point.series == "latency"]
    figures = {
        "mix_us": round(cpu_us(lambda: encode(made), len(made)), 2),
        "latency_us": round(cpu_us(lambda: encode(latency), len(latency)), 2),
    }
    try:
        from influxdb_client import Point as Slow  # type: ignore[import-not-found]
    except ImportError:
        return figures

    def slow() -> None:
        for point in latency:
            series = SERIES[point.series]
            line = Slow(point.series).time(point.time_ns)
            for name, tag in zip(series.tags, point.tags, strict=True):
                line.tag(name, tag)
            for name, value in zip(series.fields, point.fields, strict=True):
                line.field(name, value)
            line.to_line_protocol()

    figures["influxdb_client_us"] = round(cpu_us(slow, len(latency), rounds=3), 2)
    return figures


async def measure(folder: Path, sizes: list[int]) -> dict[str, Any]:
    port = free_port()
    victoria = Program(
        "victoria-metrics",
        ["victoria-metrics", f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={folder}/victoria"],
        folder,
        ready=listens(port),
    )
    influxd = Influx(folder)
    stores: dict[str, Store] = {
        "influxd": InfluxStore(influxd.url, endpoint="/write"),
        "victoria-metrics": InfluxStore(f"http://127.0.0.1:{port}", server="victoriametrics"),
        "sqlite": SqliteStore(folder / "store.sqlite"),
    }
    figures: dict[str, Any] = {"encode": encoder()}
    fresh = itertools.count()
    try:
        await influxd.start()
        await victoria.start()
        for name, store in stores.items():
            await store.ensure()
            figures[name] = {size: await written(store, size, fresh, min(20_000, size * 100)) for size in sizes}
    finally:
        for store in stores.values():
            await store.close()
        await influxd.stop()
        await victoria.stop()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1_000, 5_000], help="points of a write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wanggan-encode-") as folder:
        figures = asyncio.run(measure(Path(folder), options.sizes))
    json.dump(figures, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
