"""`wanggan report weekly`."""

import argparse
import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast, get_args

from rich.console import Console

from perception.config import Format, Language, Profiles, Settings, load
from perception.report import archive, weekly
from perception.report.fonts import FontError
from perception.report.model import Report
from perception.week import Week
from perception.work import opened
from store import register
from store.interface import StoreError, StoreMisconfigured
from store.tables import ConfigError

SUCCESS: Final = 0
FAILED: Final = 1
USAGE: Final = 2


def main(argv: Sequence[str]) -> int:
    """Run one command; 0 success, 1 a failed read or write, 2 usage or configuration error."""
    arguments = _parser().parse_args(argv)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        return _weekly(load(arguments.config), arguments, console)
    except ConfigError as error:
        console.print(str(error), markup=False)
        return USAGE
    except StoreMisconfigured as error:
        console.print(f"{arguments.config}: store: {error}", markup=False)
        return USAGE
    except (StoreError, OSError, archive.ArchiveError, FontError) as error:
        console.print(f"wanggan report: {error}", markup=False)
        return FAILED


def _weekly(settings: Settings, arguments: argparse.Namespace, console: Console) -> int:
    now = datetime.now(UTC)
    profiles = Profiles(settings.profiles, arguments.config.parent.absolute())
    zone = register.read(settings.sites).zone
    week = arguments.week or Week.of(now.astimezone(zone).date()).shifted(-1)
    if week.start_ns(zone) > now.timestamp() * 1e9:
        raise ConfigError(f"--week: {week} has not begun yet")
    folder = arguments.out or settings.report.folder
    formats = arguments.format or settings.report.formats
    if lacking := weekly.lacking(formats):
        raise ConfigError(f"{weekly.advice(lacking)}, or --format html")
    languages = [arguments.lang] if arguments.lang else settings.report.languages
    with console.status("reading the week") as status:

        async def read() -> Report:
            async with opened(settings) as store:
                return await weekly.report(store, settings, profiles, week, now)

        report = asyncio.run(read())
        made = weekly.write(report, folder, languages, formats, status.update)
    head = made.report.head
    if arguments.json:
        told = {
            "week": head.label,
            "revision": head.revision,
            "draft": head.draft,
            "changed_figures": len(made.report.changes),
            "input_sha256": head.input_sha256,
            "profiles": {f"{one.id}.v{one.version}": one.sha256 for one in head.profiles},
            "files": [str(path) for path in made.files],
        }
        print(json.dumps(told, ensure_ascii=False))
        return SUCCESS
    for path in made.files:
        print(path)
    state = "draft: the week is frozen on Monday at 06:00" if head.draft else f"revision {head.revision}"
    console.print(f"{head.label}, {state}; input SHA-256 {head.input_sha256}", markup=False)
    for one in head.profiles:
        console.print(f"profile {one.id} v{one.version}, SHA-256 {one.sha256}", markup=False)
    return SUCCESS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wanggan report", description="The weekly perception report.", allow_abbrev=False
    )
    words = parser.add_subparsers(required=True, metavar="COMMAND")
    word = words.add_parser("weekly", help="make the report of a week", allow_abbrev=False)
    word.add_argument("--config", type=Path, required=True, metavar="FILE", help="perception's configuration")
    word.add_argument("--week", type=_week, metavar="WEEK", help="like 2026-W47 (the last whole one)")
    word.add_argument("--lang", choices=get_args(Language), help="language (those of the configuration)")
    word.add_argument("--format", type=_formats, metavar="LIST", help="of html,pdf,docx,xlsx (all)")
    word.add_argument("--out", type=Path, metavar="DIR", help="folder (that of the configuration)")
    word.add_argument("--json", action="store_true", help="one JSON document on standard output")
    return parser


def _week(text: str) -> Week:
    try:
        return Week.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _formats(text: str) -> list[Format]:
    found = list(dict.fromkeys(text.split(",")))
    for name in found:
        if name not in get_args(Format):
            raise argparse.ArgumentTypeError(f"{name!r} is no format; of {','.join(get_args(Format))}")
    return cast("list[Format]", found)
