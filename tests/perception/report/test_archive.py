"""Revisions: the first stays, the next says what changed."""

from pathlib import Path

import msgspec
import pytest

from perception.report import archive, weekly
from perception.report.model import Report, figure
from tests.perception.report import sample


def with_input(report: Report, sha256: str, *, ppi: float | None = None) -> Report:
    head = msgspec.structs.replace(report.head, input_sha256=sha256)
    (section,) = report.sections
    if ppi is not None:
        line, *others = section.blocks
        changed = {**line.figures, "ppi": figure("wifi/ppi", "points", ppi, lo=82.1, hi=86.3)}  # type: ignore[union-attr]
        section = msgspec.structs.replace(section, blocks=(msgspec.structs.replace(line, figures=changed), *others))
    return msgspec.structs.replace(report, head=head, sections=(section,))


def test_late_data_make_revision_2_that_lists_old_and_new_and_the_first_stays(tmp_path: Path) -> None:
    first = weekly.write(sample.report(), tmp_path, ["zh"], ["html", "xlsx"])
    printed = {path: path.read_bytes() for path in first.files}
    late = with_input(sample.report(), "ee" * 32, ppi=85.0)
    second = weekly.write(late, tmp_path, ["zh"], ["html"])
    assert [path.name for path in second.files] == ["2026-W47-r2.zh.html"]
    assert second.report.head.revision == 2
    assert [change.key for change in second.report.changes] == ["wifi/ppi"]
    page = second.files[0].read_text()
    assert "修订2：有变化的数值" in page
    assert '<td class="n">84.2 [82.1, 86.3]</td><td class="n">85.0 [82.1, 86.3]</td>' in page
    assert {path: path.read_bytes() for path in first.files} == printed


def test_the_same_data_are_the_same_revision_and_the_same_bytes(tmp_path: Path) -> None:
    late = with_input(sample.report(), "ee" * 32, ppi=85.0)
    for report in (sample.report(), late):
        weekly.write(report, tmp_path, ["zh", "en"], ["html", "pdf"])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for report in (late, sample.report()):
        weekly.write(report, tmp_path, ["zh", "en"], ["html", "pdf"])
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_other_data_that_change_nothing_printed_make_no_revision(tmp_path: Path) -> None:
    weekly.write(sample.report(), tmp_path, ["zh"], ["html"])
    made = weekly.write(with_input(sample.report(), "ee" * 32, ppi=84.2101), tmp_path, ["zh"], ["html"])
    assert made.report.head.revision == 1
    assert made.report.head.input_sha256 == sample.head().input_sha256
    assert made.report.changes == ()


def test_words_that_change_alone_are_a_revision_too(tmp_path: Path) -> None:
    first = weekly.write(sample.report(), tmp_path, ["zh"], ["html"])
    before = first.files[0].read_bytes()
    renamed = with_input(sample.report("曹杨图书馆"), "ee" * 32)
    made = weekly.write(renamed, tmp_path, ["zh"], ["html", "xlsx"])
    assert made.report.head.revision == 2
    assert "没有数值变化，只有文字变化" in made.files[0].read_text()
    assert first.files[0].read_bytes() == before


def test_a_draft_is_no_revision(tmp_path: Path) -> None:
    report = sample.report()
    draft = msgspec.structs.replace(report, head=msgspec.structs.replace(report.head, draft=True))
    made = weekly.write(draft, tmp_path, ["zh"], ["html"])
    assert [path.name for path in tmp_path.iterdir()] == ["2026-W47-draft.zh.html"]
    assert "草稿，未冻结" in made.files[0].read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not the revisions of a report"),
        ('{"v":9,"week":"2026-W47","revisions":[]}', "of version 9"),
        ('{"v":1,"week":"2026-W46","revisions":[]}', "week 2026-W46"),
    ],
)
def test_a_broken_archive_is_an_error_and_is_not_overwritten(tmp_path: Path, text: str, message: str) -> None:
    path = archive.path_of(tmp_path, "2026-W47")
    path.write_text(text)
    with pytest.raises(archive.ArchiveError, match=message):
        weekly.write(sample.report(), tmp_path, ["zh"], ["html"])
    assert path.read_text() == text


def test_figures_that_came_or_went_are_changes() -> None:
    one, other = figure("a", "count", 1.0), figure("b", "count", 2.0)
    found = archive.changes({"a": one}, {"b": other})
    assert [(change.key, change.old, change.new) for change in found] == [("a", one, None), ("b", None, other)]
