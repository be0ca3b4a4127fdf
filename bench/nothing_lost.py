"""The proof that nothing is lost: kill every part at random, many times, then compare the store with the truth.

    python -m bench.nothing_lost             # a short run of every scenario on both stores
    python -m bench.nothing_lost --full      # the figures of the design: 20 agents, 50 records/s, 20 kills of each kind
    python -m bench.nothing_lost --plant arrival_as_slot --scenario kills       # must exit 1

Exit 1 on any loss. Everything runs on the loopback, in processes that die with this one.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from bench.lab import Engine, Lab, Outcome, Plant, Size
from bench.scenarios import SCENARIOS
from bench.truth import Verdict

SHORT = Size(agents=6, processes=3, rate=30.0, kills=2, speed=10.0)
FULL = Size(agents=20, processes=20, rate=50.0, kills=20, speed=1.0)


async def run(scenario: str, engine: Engine, size: Size, seed: int, plant: Plant, folder: Path) -> Outcome:
    """One scenario in a laboratory of its own."""
    began = time.monotonic()
    async with Lab(folder, engine=engine, size=size, seed=seed, plant=plant) as lab:
        try:
            outcome = await SCENARIOS[scenario].play(lab)
        except Exception as error:  # a broken run proves nothing: it counts as a loss, and the others go on
            traceback.print_exc()
            outcome = Outcome(scenario, engine, Verdict(), complaints=[f"the run broke: {error!r}"])
    outcome.seconds = time.monotonic() - began
    return outcome


async def run_all(
    wanted: Sequence[tuple[str, Engine]], size: Size, seed: int, plant: Plant, folder: Path, jobs: int
) -> list[Outcome]:
    """All scenarios, `jobs` at a time."""
    places = asyncio.Semaphore(jobs)

    async def one(scenario: str, engine: Engine) -> Outcome:
        async with places:
            own = folder / f"{scenario}-{engine}"
            own.mkdir(parents=True)
            outcome = await run(scenario, engine, size, seed, plant, own)
            print(table([outcome]).splitlines()[1], file=sys.stderr, flush=True)
            return outcome

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(*each), name="-".join(each)) for each in wanted]
    return [task.result() for task in tasks]


def table(outcomes: list[Outcome]) -> str:
    """For people."""
    head = ("scenario", "store", "sent", "points", "acked", "on disk", "lost", "oldest", "kills", "s", "verdict")
    rows = [head]
    for outcome in outcomes:
        verdict = outcome.verdict
        faults = [*(f"{count} {kind}" for kind, count in verdict.faults.items()), *outcome.complaints]
        rows.append(
            (
                outcome.scenario,
                outcome.engine,
                str(verdict.submitted),
                str(verdict.points),
                str(verdict.acknowledged),
                str(verdict.committed),
                str(verdict.lost_uncommitted),
                f"{verdict.oldest_lost_s:.1f} s",
                " ".join(f"{kind} {count}" for kind, count in outcome.kills_by_kind().items()) or "-",
                f"{outcome.seconds:.0f}",
                "; ".join(faults) or "nothing lost",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    size = FULL if arguments.full else SHORT
    given = {name: value for name in Size._fields if (value := getattr(arguments, name)) is not None}
    size = size._replace(**given)
    engines: tuple[Engine, ...] = get_args(Engine) if arguments.store == "both" else (arguments.store,)
    wanted = [
        (name, engine)
        for name in arguments.scenario or SCENARIOS
        for engine in engines
        if engine in SCENARIOS[name].engines
    ]
    with tempfile.TemporaryDirectory(prefix="nothing-lost-", dir="/var/tmp") as scratch:
        outcomes = asyncio.run(
            run_all(wanted, size, arguments.seed, arguments.plant, arguments.keep or Path(scratch), arguments.jobs)
        )
    print(table(outcomes))
    for outcome in outcomes:
        for kind, examples in outcome.verdict.examples.items():
            print(f"{outcome.scenario} on {outcome.engine}: {kind}: {'; '.join(examples)}", file=sys.stderr)
    if arguments.json:
        report: dict[str, Any] = {
            "size": size._asdict(),
            "seed": arguments.seed,
            "plant": arguments.plant,
            "outcomes": [asdict(outcome) | {"lost_anything": outcome.bad} for outcome in outcomes],
        }
        arguments.json.write_text(json.dumps(report, indent=1, ensure_ascii=False, default=str) + "\n")
    return 1 if any(outcome.bad for outcome in outcomes) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.nothing_lost", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="the figures of the design, in real time (about 40 min)")
    parser.add_argument("--store", choices=[*get_args(Engine), "both"], default="both")
    parser.add_argument("--scenario", action="append", choices=sorted(SCENARIOS), help="may be given again")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of every choice")
    parser.add_argument("--plant", choices=get_args(Plant), default="none", help="a bug that must be found")
    parser.add_argument("--agents", type=int)
    parser.add_argument("--processes", type=int, help="that the agents share; a kill ends all agents of one")
    parser.add_argument("--rate", type=float, help="records a second of all agents")
    parser.add_argument("--kills", type=int, help="of each kind")
    parser.add_argument("--speed", type=float, help="how many times faster the agents' waits pass")
    parser.add_argument("--jobs", type=int, default=1, help="scenarios at a time")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave logs and files there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
