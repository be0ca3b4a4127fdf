"""What hours cost: one day of a virtual fleet rolled up on one core, and then scored. Is the growth linear?

python -m bench.rollup [--agents 100 300 1000] [--score]
"""

import argparse
import asyncio
import multiprocessing
import resource
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from bench.simulator import DAY_MS, END_MS
from perception.config import Profiles, load
from perception.work import rollup, score
from simulator import district, output
from simulator.world import World

START = datetime.fromtimestamp((END_MS - DAY_MS) / 1000, UTC)
END = datetime.fromtimestamp(END_MS / 1000, UTC)
STORE = '[store]\nengine = "sqlite"\npath = "day.db"\nretention_days = 36500\n'


class Cost(NamedTuple):
    """Of one run in a process of its own."""

    cpu_s: float
    wall_s: float
    peak_mb: float
    """Resident, at most."""


def fill(folder: Path, agents: int) -> int:
    """A day of a district with as many venues as agents, up to a thousand; its records."""
    world = World(district.build(1, min(agents, 1000), agents, 0))
    (folder / "sites.toml").write_text(district.register(world.district))
    (folder / "day.toml").write_text(STORE)
    total = 0

    def told(records: int) -> None:
        nonlocal total
        total += records

    settings = output.read_store_settings(folder / "day.toml")
    output.to_store(settings, world, END_MS - DAY_MS, END_MS, told, workers=2)
    return total


def run(file: Path, scoring: bool, answer: "multiprocessing.Queue[Cost]") -> None:
    settings = load(file)
    profiles = Profiles(settings.profiles, file.parent)
    work = score if scoring else rollup
    cpu_s, wall_s = time.process_time(), time.monotonic()
    asyncio.run(work(settings, profiles, START, END, lambda done, total: None))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    answer.put(Cost(time.process_time() - cpu_s, time.monotonic() - wall_s, peak_mb))


def measured(file: Path, *, scoring: bool) -> Cost:
    fresh = multiprocessing.get_context("spawn")
    answer: multiprocessing.Queue[Cost] = fresh.Queue()
    process = fresh.Process(target=run, args=(file, scoring, answer))
    process.start()
    cost = answer.get()
    process.join()
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--score", action="store_true", help="also score the day and its week")
    found = parser.parse_args()
    for agents in found.agents:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            records = fill(folder, agents)
            for scoring in (False, True) if found.score else (False,):
                cost = measured(folder / "day.toml", scoring=scoring)
                print(
                    f"{agents:5} agents, {records:9,} records: {'scored' if scoring else 'rolled up'} in "
                    f"{cost.cpu_s:6.1f} s of CPU ({cost.wall_s:.1f} s), {1e6 * cost.cpu_s / records:.2f} us a record, "
                    f"at most {cost.peak_mb:.0f} MB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
