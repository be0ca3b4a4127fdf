"""`wanggan perception run|rollup|score`."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from contract.times import when
from perception.config import Profiles, Settings, load, read_profile
from store.interface import StoreError, StoreMisconfigured
from store.tables import ConfigError

SUCCESS: Final = 0
FAILED: Final = 1
USAGE: Final = 2


def main(argv: Sequence[str]) -> int:
    """Run one command; 0 success, 1 a failed read or write, 2 usage or configuration error."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        settings = load(arguments.config)
        code: int = arguments.run(settings, arguments)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return USAGE
    except StoreMisconfigured as error:
        print(f"{arguments.config}: store: {error}", file=sys.stderr)
        return USAGE
    except StoreError as error:
        print(f"store: {error}", file=sys.stderr)
        return FAILED
    return code


def _run(settings: Settings, arguments: argparse.Namespace) -> int:
    """Everything that falls due, until SIGTERM."""
    from perception.service import run

    asyncio.run(run(settings, _profiles(settings, arguments)))
    return SUCCESS


def _rollup(settings: Settings, arguments: argparse.Namespace) -> int:
    """Every hour of a window again."""
    from perception.work import kept, rollup

    start, end = _window(arguments)
    console = _console()
    begin = kept(settings, start, datetime.now(UTC))
    if begin > start:
        console.print(f"raw points are kept since {begin:%Y-%m-%d %H:%M} UTC; hours before it stay as they are")
        start = begin.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        if end <= start:
            return SUCCESS
    with _progress(console, "rolling up") as told:
        hours, rows = asyncio.run(rollup(settings, _profiles(settings, arguments), start, end, told))
    console.print(f"{hours:,} hours rolled up, {rows:,} rows")
    return SUCCESS


def _score(settings: Settings, arguments: argparse.Namespace) -> int:
    """Every score of a window again; under another profile it makes a series beside the old one."""
    from perception.work import score

    start, end = _window(arguments)
    profiles = _profiles(settings, arguments)
    only = [read_profile(name, Path.cwd()) for name in arguments.profile or ()]
    console = _console()
    with _progress(console, "scoring") as told:
        written = asyncio.run(score(settings, profiles, start, end, told, only=only))
    console.print(f"{written:,} scores")
    return SUCCESS


def _profiles(settings: Settings, arguments: argparse.Namespace) -> Profiles:
    return Profiles(settings.profiles, arguments.config.parent.absolute())


def _console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def _window(arguments: argparse.Namespace) -> tuple[datetime, datetime]:
    """Whole hours; the last two weeks unless told."""
    end = arguments.end or datetime.now(UTC)
    start = arguments.start or end - timedelta(days=14)
    start = start.replace(minute=0, second=0, microsecond=0)
    if end <= start:
        raise ConfigError("--to: must be after --from")
    return start, end


@contextmanager
def _progress(console: Console, text: str) -> Iterator[Callable[[int, int], None]]:
    """A bar where a person looks on; gives what moves it."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(text, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wanggan perception",
        description="Turns what was measured into hours, scores and verdicts.",
        allow_abbrev=False,
    )
    parser.add_argument("--verbose", action="store_true", help="tell more on standard error")
    words = parser.add_subparsers(required=True, metavar="COMMAND")
    run = words.add_parser("run", help="roll up, score and report as it falls due, until SIGTERM", allow_abbrev=False)
    run.add_argument("--config", type=Path, required=True, metavar="FILE")
    run.set_defaults(run=_run)
    rollup = words.add_parser("rollup", help="roll up the hours of a window again", allow_abbrev=False)
    rollup.set_defaults(run=_rollup)
    score = words.add_parser(
        "score", help="score and judge the hours, days and weeks of a window again", allow_abbrev=False
    )
    score.set_defaults(run=_score)
    score.add_argument(
        "--profile", action="append", metavar="P", help="under this one instead: a name, or a file (.yaml)"
    )
    for word in (rollup, score):
        word.add_argument("--config", type=Path, required=True, metavar="FILE")
        word.add_argument("--from", dest="start", type=when, metavar="T", help="two weeks before --to")
        word.add_argument("--to", dest="end", type=when, metavar="T", help="its end is not included (now)")
    return parser
