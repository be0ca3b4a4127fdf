"""What the virtual fleet costs: to a file, into a store, live.

python -m bench.simulator [--days 14] [--agents 1000] [--seconds 60]
"""

import argparse
import asyncio
import contextlib
import io
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from bench.programs import free_port
from simulator import district, output
from simulator.fleet import Counts, Place, run_fleet
from simulator.world import World
from tests.servers import Influxd
from wanggan.broker import find_mosquitto
from wanggan.plan import collector_configuration

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


@contextlib.contextmanager
def answering(world: World, folder: Path) -> Iterator[int]:
    """A real broker and a real collector on SQLite; the broker's port."""
    port = free_port()
    (folder / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
    register, password = folder / "sites.toml", folder / "collector.password"
    register.write_text(district.register(world.district))
    password.write_text("not asked for\n")
    password.chmod(0o600)
    told = collector_configuration(port, free_port(), str(folder), str(password), str(register), simulated=True)
    file = folder / "live.toml"
    file.write_text(told)
    with contextlib.ExitStack() as stack:
        for command in (
            [find_mosquitto() or "mosquitto", "-c", str(folder / "mosquitto.conf")],
            [sys.executable, "-m", "wanggan", "collector", "run", "--config", str(file)],
        ):
            program = stack.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            stack.callback(program.terminate)
            time.sleep(2)
        yield port


def live(world: World, seconds: float, port: int) -> tuple[Counts, float]:
    """What happened, and the share of a core."""
    counts = Counts()
    agents = len(world.district.boxes)

    async def run() -> float:
        start_ms = round(time.time() * 1000)
        task = asyncio.create_task(
            run_fleet(
                Place("127.0.0.1", port), world, start_ms, start_ms + 10**9, 1.0, Console(file=io.StringIO()), counts
            )
        )
        while counts.connected < agents:
            await asyncio.sleep(0.2)
        await asyncio.sleep(5)
        cpu_s, wall_s = time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        share = (time.process_time() - cpu_s) / (time.monotonic() - wall_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return share

    return counts, asyncio.run(run())


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
        with answering(world, folder) as port:
            counts, share = live(world, found.seconds, port)
        records = f"{counts.made:,} made, {counts.stored:,} stored"
        print(f"| {found.agents} live agents, {found.seconds:.0f} s | {records} | {share:.2f} of a core | |")


if __name__ == "__main__":
    main()
