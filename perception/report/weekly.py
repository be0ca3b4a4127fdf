"""A week's report out of the store, into files."""

import importlib.util
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from perception import calendar as calendars
from perception.config import Format, Language, Profiles, Settings
from perception.report import archive, measures, reading, sections
from perception.report.facts import Setting, gathered
from perception.report.model import Report, Text
from perception.week import Week
from store import register
from store.interface import Store

LIBRARIES: Final[dict[Format, tuple[str, ...]]] = {
    "html": (),
    "pdf": ("typst", "fontTools"),
    "docx": ("typst", "fontTools", "docx"),
    "xlsx": (),
}
"""Of the extra `report`, by format; without it there are pages and spreadsheets."""


class Made(NamedTuple):
    """What came of it."""

    report: Report
    files: list[Path]


def setting(settings: Settings, profiles: Profiles, week: Week) -> Setting:
    """What the report is made under.

    :raises ConfigError: when a file that the settings name cannot be used.
    """
    roll = register.read(settings.sites)
    named = settings.report
    return Setting(
        week=week,
        zone=roll.zone,
        roll=roll,
        calendar=calendars.NO_CALENDAR if settings.calendar_file is None else calendars.load(settings.calendar_file),
        profiles={"wifi": [profiles.wifi[0], profiles.observe[0]], "gov": [profiles.gov[0]]},
        beside={"wifi": [*profiles.wifi[1:], *profiles.observe[1:]], "gov": profiles.gov[1:]},
        measures=[] if named.measures_file is None else measures.load(named.measures_file),
        district=Text(named.district.zh, named.district.en),
        author=Text(named.author.zh, named.author.en),
        baseline=None if named.baseline is None else Week.parse(named.baseline),
    )


async def report(store: Store, settings: Settings, profiles: Profiles, week: Week, now: datetime) -> Report:
    """The report as the data stand; a draft before the freeze.

    :raises ConfigError: when a file that the settings name cannot be used.
    :raises StoreError: when the store cannot be read.
    """
    made = setting(settings, profiles, week)
    stored = await reading.read(store, made)
    named = {"register": settings.sites, "calendar": settings.calendar_file, "measures": settings.report.measures_file}
    files = {name: path.read_bytes() for name, path in named.items() if path is not None}
    found = sections.report(gathered(made, stored), reading.sha256(stored, made, files))
    is_draft = now < found.head.frozen_at
    return msgspec.structs.replace(found, head=msgspec.structs.replace(found.head, draft=is_draft))


def lacking(formats: Sequence[Format]) -> list[Format]:
    """Those of `formats` whose libraries are not installed."""
    return [how for how in formats if any(importlib.util.find_spec(name) is None for name in LIBRARIES[how])]


def advice(formats: Sequence[Format]) -> str:
    """What to install for formats that are lacking."""
    return f"{' and '.join(formats)} need{'s' * (len(formats) == 1)} the report extra: pip install 'wanggan[report]'"


def write(
    report: Report,
    folder: Path,
    languages: Sequence[Language],
    formats: Sequence[Format],
    told: Callable[[str], None] = lambda _: None,
) -> Made:
    """Its files; a report after the freeze is the next revision when a figure has changed. `told` hears of each file.

    :raises ArchiveError: when the week's revisions cannot be read.
    :raises FontError: when a character has no glyph in any font of this machine.
    :raises OSError: when the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if report.head.draft:
        stem, kept = f"{report.head.label}-draft", None
    else:
        known = archive.read(folder, report.head.label)
        report, kept = archive.revised(report, known)
        kept = None if kept is known else kept
        stem = report.head.label + (f"-r{report.head.revision}" if report.head.revision > 1 else "")
    made = [(folder / f"{stem}.{lang}.{how}", render(report, lang, how, told)) for lang in languages for how in formats]
    for path, data in made:
        archive.replace(path, data)
    if kept is not None:
        archive.write(folder, kept)
    return Made(report, [path for path, _ in made])


def render(report: Report, lang: Language, how: Format, told: Callable[[str], None] = lambda _: None) -> bytes:
    """One file's bytes.

    :raises FontError: when a character has no glyph in any font of this machine.
    """
    told(f"{report.head.label} {lang} {how}")
    match how:
        case "html":
            from perception.report import html

            return html.render(report, lang)
        case "pdf":
            from perception.report import pdf

            return pdf.render(report, lang)
        case "docx":
            from perception.report import docx

            return docx.render(report, lang)
        case "xlsx":
            from perception.report import xlsx

            return xlsx.render(report, lang)
