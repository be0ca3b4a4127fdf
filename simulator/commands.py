"""`wanggan simulate`: a virtual fleet into a file, a store, or live over MQTT."""

import argparse
import asyncio
import os
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from contract.times import when
from simulator import district, faults, output
from simulator.fleet import Place, run_fleet
from simulator.truth import truth
from simulator.world import World

CORES = os.cpu_count() or 1
_BROKER = re.compile(r"mqtt://(?:[^/:@?#\[\]]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?/?")


def main(argv: list[str]) -> int:
    """0 when everything was written, 1 when it could not be, 2 for a usage or script error."""
    parser = _parser()
    found = parser.parse_args(argv)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    live = found.out.startswith("mqtt://")
    end = found.to or (None if live and found.speed == 1 else now)
    start = found.start or (now if end is None else end - timedelta(days=1 if live else 14))
    if end is not None and end <= start:
        parser.error("--to: must be after --from")
    if found.passwords is not None and not found.passwords.is_dir():
        parser.error(f"--passwords: {found.passwords}: no such folder; it holds a file AGENT.password for each agent")
    start_ms = _ms(start)
    end_ms = _ms(end) if end else _ms(start + timedelta(days=3650))
    known_end = end or start + timedelta(days=14)
    middle = _ms(found.upgrade) // 60_000 if found.upgrade else (start_ms + _ms(known_end)) // 2 // 86_400_000 * 1440
    place = district.build(found.seed, found.venues, found.agents, middle)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        script = faults.load(found.faults, place, start) if found.faults else []
        settings = None if live or found.out.endswith(".jsonl") else output.read_store_settings(Path(found.out))
    except (faults.ScriptError, output.OutputError) as error:
        console.print(f"wanggan simulate: {error}", markup=False)
        return 2
    void = sum(fault.end_minute * 60_000 <= start_ms or fault.start_minute * 60_000 >= end_ms for fault in script)
    if void:
        console.print(f"{void} of {len(script)} faults do nothing: they lie before --from or after --to")
    world = World(place, script)
    try:
        _beside(found, world, start_ms, _ms(known_end))
        if live:
            return asyncio.run(run_fleet(_place(found), world, start_ms, end_ms, found.speed, console))
        _generate(found, settings, world, start_ms, end_ms, console)
    except (OSError, output.OutputError) as error:
        console.print(f"wanggan simulate: {error}", markup=False)
        return 1
    return 0


def _beside(found: argparse.Namespace, world: World, start_ms: int, end_ms: int) -> None:
    """The register and the truth, beside the data."""
    stem = Path("simulated") if "://" in found.out else Path(found.out).with_suffix("")
    register = found.register or stem.with_name(f"{stem.name}.sites.toml")
    register.write_text(district.register(world.district))
    rows = truth(world.district, world.faults, start_ms // 60_000, end_ms // 60_000)
    output.write_lines(found.truth or stem.with_name(f"{stem.name}.truth.jsonl"), rows)


def _generate(
    found: argparse.Namespace, settings: Any, world: World, start_ms: int, end_ms: int, console: Console
) -> None:
    """Into the store of `settings`, or without them into a file."""
    began_s, total = time.monotonic(), 0
    with _progress(console) as progress:
        days = (end_ms - start_ms) / 86_400_000
        task = progress.add_task("simulating", total=round(sum(_per_day(b) for b in world.district.boxes) * days))

        def told(records: int) -> None:
            nonlocal total
            total += records
            rate = total / max(time.monotonic() - began_s, 1e-3)
            progress.update(task, advance=records, description=f"simulating {rate:,.0f} records/s")

        if settings is None:
            output.to_file(Path(found.out), world, start_ms, end_ms, told)
        else:
            output.to_store(settings, world, start_ms, end_ms, told, workers=found.workers)
    took_s = time.monotonic() - began_s
    console.print(f"{total:,} simulated records in {took_s:.1f} s ({total / took_s:,.0f}/s)")


def _per_day(box: district.Box) -> int:
    from simulator.schedule import jobs

    return sum(86_400 // job.period_s for job in jobs(box))


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _place(found: argparse.Namespace) -> Place:
    parts = urlsplit(found.out)
    return Place(str(parts.hostname), parts.port or 1883, found.passwords)


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wanggan simulate",
        description="A virtual district with scripted faults and known truth. The same seed gives the same bytes.",
        allow_abbrev=False,
    )
    add: Callable[..., object] = parser.add_argument
    add("--agents", type=_count, default=52, metavar="N", help="virtual agents (%(default)s)")
    add("--venues", type=_count, default=52, metavar="N", help="of them about a quarter government nodes (%(default)s)")
    add("--from", dest="start", type=when, metavar="T", help="like 2026-11-16T00:00:00+08:00 (two weeks before --to)")
    add("--to", type=when, metavar="T", help="its end is not included (now)")
    add("--faults", type=Path, metavar="FILE", help="fault script (TOML)")
    add("--seed", type=int, default=1, metavar="N", help="(%(default)s)")
    add("--speed", type=_speed, default=1.0, metavar="X", help="live: times real time (%(default)g)")
    add(
        "--out", type=_out, required=True, metavar="OUT", help="FILE.jsonl, a collector's CONFIG, or mqtt://HOST[:PORT]"
    )
    add("--register", type=Path, metavar="FILE", help="where the site register goes (beside the data)")
    add("--truth", type=Path, metavar="FILE", help="where the truth goes (beside the data)")
    add("--upgrade", type=when, metavar="T", help="when a tenth of the venues is renewed (the middle)")
    add("--passwords", type=Path, metavar="DIR", help="live: a file AGENT.password for each agent")
    add("--workers", type=_count, default=os.cpu_count() or 1, metavar="N", help="processes into a store (%(default)s)")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 100000")
    return int(text)


def _out(text: str) -> str:
    if "://" in text:
        broker = _BROKER.fullmatch(text)
        if broker is None or not 0 < int(broker[1] or 1883) < 65536:
            raise argparse.ArgumentTypeError(f"{text!r}: a broker is written mqtt://HOST[:PORT]")
    elif not text.endswith(".jsonl") and not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text!r}: no such configuration; a file for records ends in .jsonl")
    return text


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a speed (like 60)")
    return speed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
