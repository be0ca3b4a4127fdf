"""Revisions of a week's report. The first stays; late data after the freeze make the next, which says what changed.

Beside the reports stands one JSON file a week, ``2026-W47.json``: of each revision the hash of its input and every
figure. A revision is new only when something of it would be printed otherwise.
"""

import hashlib
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from perception.report.model import Change, Figure, Report
from perception.report.printed import printed
from perception.report.wording import shown

VERSION: Final = 1


class Revision(Struct, frozen=True):
    """What was printed."""

    revision: int
    input_sha256: str
    figures: dict[str, Figure]
    words_sha256: str
    """Of all that its sections say: a cause or a state may change where no figure does."""


class Archive(Struct, frozen=True):
    """All revisions of a week, the first one first."""

    v: int
    week: str
    revisions: tuple[Revision, ...]


class ArchiveError(Exception):
    """An archive that cannot be used: which, and what to do."""


def path_of(folder: Path, label: str) -> Path:
    """Where a week's revisions stand."""
    return folder / f"{label}.json"


def read(folder: Path, label: str) -> Archive:
    """Empty where there is none.

    :raises ArchiveError: when it is damaged or of another version.
    """
    path = path_of(folder, label)
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Archive)
    except FileNotFoundError:
        return Archive(VERSION, label, ())
    except (OSError, msgspec.DecodeError) as error:
        raise ArchiveError(
            f"{path}: not the revisions of a report ({error}); restore it from a backup: what was printed stands in it"
        ) from None
    if found.v != VERSION or found.week != label:
        raise ArchiveError(f"{path}: of version {found.v} and week {found.week}; this one reads {VERSION} and {label}")
    return found


def revised(report: Report, archive: Archive) -> tuple[Report, Archive]:
    """The report as the revision that it is, and the archive with it.

    The same input is the same revision again, unless another version of the program words it otherwise; so is another
    input of which nothing is printed otherwise, under the hash of the first. No revision is ever written over.
    """
    figures, words = report.figures(), _words(report)
    for place, old in enumerate(archive.revisions):
        is_meant = old.input_sha256 == report.head.input_sha256 or old is archive.revisions[-1]
        if is_meant and old.words_sha256 == words and not changes(old.figures, figures):
            return _as(report, old, archive.revisions[place - 1] if place else None, figures), archive
    before = archive.revisions[-1] if archive.revisions else None
    made = Revision(len(archive.revisions) + 1, report.head.input_sha256, figures, words)
    return (
        _as(report, made, before, figures),
        msgspec.structs.replace(archive, revisions=(*archive.revisions, made)),
    )


def _words(report: Report) -> str:
    """The hash of what the sections say."""
    page = printed(msgspec.structs.replace(report, changes=()), "zh")
    return hashlib.sha256(msgspec.json.encode([(one.heading, one.blocks) for one in page.sections])).hexdigest()


def _as(report: Report, revision: Revision, before: Revision | None, figures: dict[str, Figure]) -> Report:
    return msgspec.structs.replace(
        report,
        head=msgspec.structs.replace(
            report.head, revision=revision.revision, input_sha256=revision.input_sha256, draft=False
        ),
        changes=() if before is None else changes(before.figures, figures),
    )


def changes(old: dict[str, Figure], new: dict[str, Figure]) -> tuple[Change, ...]:
    """Figures that are printed otherwise, by key."""
    found = []
    for key in sorted({*old, *new}):
        was, now = old.get(key), new.get(key)
        if was is None or now is None or (was != now and shown(was, "zh") != shown(now, "zh")):
            found.append(Change(key, was, now))
    return tuple(found)


def write(folder: Path, archive: Archive) -> None:
    """:raises OSError: when the folder cannot be written."""
    replace(path_of(folder, archive.week), msgspec.json.encode(archive))


def replace(path: Path, data: bytes) -> None:
    """A file that appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(data)
    temporary.replace(path)
