"""What the virtual fleet costs: to a file, into a store, live.

python -m bench.simulator [--days 14] [--agents 1000] [--seconds 60]
"""

import argparse
import asyncio
import io
import resource
import tempfile
import time
from pathlib import Path

from rich.console import Console

from bench.collector import collector_files
from bench.programs import Broker, Program, free_port, listens, python
from simulator import district, output
from simulator.fleet import Counts, Place, run_fleet
from simulator.world import World
from tests.servers import Influxd

END_MS = 1_795_000_000_000 // 86_400_000 * 86_400_000
DAY_MS = 86_400_000


def to_file(world: World, days: int, folder: Path) -> tuple[int, float, float]:
    """Records, seconds of CPU, seconds."""
    total = 0

    def told(records: int) -> None:
        nonlocal total
        total += records

    wall_s, cpu_s = time.monotonic(), time.process_time()
    output.to_file(folder / "all.jsonl", world, END_MS - days * DAY_MS, END_MS, told)
    (folder / "all.jsonl").unlink()
    return total, time.process_time() - cpu_s, time.monotonic() - wall_s


def to_store(world: World, days: int, folder: Path, table: str) -> tuple[int, float]:
    """Records, seconds; two processes."""
    total = 0

    def told(records: int) -> None:
        nonlocal total
        total += records

    file = folder / "collector.toml"
    file.write_text(f"[store]\nretention_days = 36500\n{table}\n")
    began_s = time.monotonic()
    settings = output.read_store_settings(file)
    output.to_store(settings, world, END_MS - days * DAY_MS, END_MS, told, workers=2)
    return total, time.monotonic() - began_s


async def live(world: World, seconds: float, folder: Path) -> tuple[Counts, float]:
    """What happened, and the share of a core; a real broker and a real collector on SQLite answer."""
    counts, boxes, http_port = Counts(), world.district.boxes, free_port()
    broker = Broker(folder)
    places = {
        box.agent: {"interface": box.interface, "venue": box.venue.slug, "network": box.venue.network} for box in boxes
    }
    config = collector_files(
        folder,
        broker_port=broker.port,
        influx_url=None,
        store_file=folder / "live.db",
        http_port=http_port,
        places=places,
    )
    collector = Program(
        "collector", python("wanggan", "collector", "run", "--config", str(config)), folder, ready=listens(http_port)
    )
    try:
        await broker.start()
        await collector.start()
        start_ms = round(time.time() * 1000)
        place, console = Place("127.0.0.1", broker.port), Console(file=io.StringIO())
        task = asyncio.create_task(run_fleet(place, world, start_ms, start_ms + 10**9, 1.0, console, counts))
        while counts.connected < len(boxes):
            await asyncio.sleep(0.2)
        await asyncio.sleep(5)
        cpu_s, wall_s = time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        share = (time.process_time() - cpu_s) / (time.monotonic() - wall_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return counts, share
    finally:
        await collector.stop()
        await broker.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
    found = parser.parse_args()
    world = World(district.build(1, 52, 52, END_MS // 60_000 - found.days * 720))
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    print("| what | records | seconds | records/s |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        total, cpu_s, took_s = to_file(world, 1, folder)
        print(f"| to a file, one day, one core | {total:,} | {took_s:.1f} ({cpu_s:.1f} CPU) | {total / cpu_s:,.0f} |")
        total, took_s = to_store(world, found.days, folder, f'engine = "sqlite"\npath = "{folder}/wanggan.db"')
        print(f"| into SQLite, {found.days} days | {total:,} | {took_s:.1f} | {total / took_s:,.0f} |")
        (folder / "wanggan.db").unlink()
        influx = Influxd(folder)
        influx.start()
        try:
            table = f'engine = "influx"\nurl = "{influx.url}"\nendpoint = "/write"'
            total, took_s = to_store(world, found.days, folder, table)
            print(f"| into influxd, {found.days} days | {total:,} | {took_s:.1f} | {total / took_s:,.0f} |")
        finally:
            influx.stop()
        world = World(district.build(1, found.agents, found.agents, 0))
        counts, share = asyncio.run(live(world, found.seconds, folder))
        records = f"{counts.made:,} made, {counts.stored:,} stored"
        print(f"| {found.agents} live agents, {found.seconds:.0f} s | {records} | {share:.2f} of a core | |")


if __name__ == "__main__":
    main()
