"""The report as strings of one language: what the page renderers set. Sheets take the figures themselves."""

import re
from typing import Any, Final

from msgspec import Struct, to_builtins

from perception.report import charts, wording
from perception.report.model import Cell, Chart, Column, Figure, Lang, Line, Report, Section, Table, Text
from perception.report.wording import shown, word

NOTICE: Final = Text("本报告为内部监测，非官方排名。", "This report is internal monitoring, not an official ranking.")
_NAME: Final = re.compile(r"\{(\w+)\}")


class PrintedTable(Struct, frozen=True):
    """A table of strings."""

    title: str
    columns: list[str]
    widths: list[float]
    right: list[bool]
    rows: list[list[str]]
    note: str
    """What is said instead of rows, or of those that are left out."""
    kind: str = "table"


class PrintedLine(Struct, frozen=True):
    """A paragraph."""

    text: str
    kind: str = "line"


class PrintedChart(Struct, frozen=True):
    """A picture."""

    title: str
    svg: str
    kind: str = "chart"


class PrintedSection(Struct, frozen=True):
    """A section."""

    id: str
    heading: str
    blocks: list[PrintedLine | PrintedTable | PrintedChart]


class Printed(Struct, frozen=True):
    """A report."""

    lang: Lang
    label: str
    title: str
    issue: str
    facts: list[tuple[str, str]]
    """Period, author, hashes."""
    sections: list[PrintedSection]
    notice: str

    def data(self) -> Any:
        """As plain dicts and lists."""
        return to_builtins(self)

    def characters(self) -> set[str]:
        """Every character that a page needs."""
        return set(_strings(self.data()))


def _strings(data: Any) -> str:
    if isinstance(data, dict):
        return "".join(_strings(value) for value in data.values())
    if isinstance(data, list | tuple):
        return "".join(map(_strings, data))
    return data if isinstance(data, str) else ""


def printed(report: Report, lang: Lang, *, family: str = "sans-serif", paper: bool = True) -> Printed:
    """`report` in one language; `family` is the font of the charts; `paper` has no room for wide tables."""
    sections = [_section(section, lang, family, paper) for section in report.sections]
    if report.head.revision > 1:
        sections[0].blocks.append(_table(changes(report), lang, paper))
    head = report.head
    return Printed(
        lang=lang,
        label=head.label,
        title=wording.title(head, lang),
        issue=wording.issue(head, lang),
        facts=facts(report, lang),
        sections=sections,
        notice=word(NOTICE, lang),
    )


def facts(report: Report, lang: Lang) -> list[tuple[str, str]]:
    """What the head says about the report."""
    head, zh = report.head, lang == "zh"
    found = [
        ("统计周期" if zh else "Period", wording.period(head, lang)),
        ("编制单位" if zh else "Prepared by", word(head.author, lang)),
        ("数据冻结" if zh else "Data frozen", f"{wording.date(head.frozen_at, lang)} {head.frozen_at:%H:%M}"),
    ]
    for profile in head.profiles:
        found.append(
            (
                "评分方案" if zh else "Scoring profile",
                f"{profile.id} v{profile.version} ({profile.status}), SHA-256 {profile.sha256[:12]}",
            )
        )
    found.append(("输入数据" if zh else "Input data", f"SHA-256 {head.input_sha256}"))
    return found


def changes(report: Report) -> Table:
    """Which figures late data changed, old and new."""

    def cell(figure: Figure | None) -> Cell:
        return Text("无", "none") if figure is None else figure

    rows = tuple((Text.same(one.key), cell(one.old), cell(one.new)) for one in report.changes)
    revision = report.head.revision
    return Table(
        id="changes",
        title=Text(f"修订{revision}：有变化的数值", f"Revision {revision}: changed figures"),
        columns=(
            _column("数值", "Figure", 3.0),
            _column(f"修订{revision - 1}" if revision > 2 else "首版", f"Revision {revision - 1}"),
            _column(f"修订{revision}", f"Revision {revision}"),
        ),
        rows=rows,
        limit=200,
        empty=Text("没有数值变化，只有文字变化。", "No figure has changed, words have."),
    )


def _column(zh: str, en: str, width: float = 1.5) -> Column:
    return Column(Text(zh, en), width, figures=width < 3)


def _section(section: Section, lang: Lang, family: str, paper: bool) -> PrintedSection:
    blocks: list[PrintedLine | PrintedTable | PrintedChart] = []
    for block in section.blocks:
        match block:
            case Line():
                blocks.append(PrintedLine(sentence(block, lang)))
            case Table():
                blocks.append(_table(block, lang, paper))
            case Chart():
                blocks.append(PrintedChart(word(block.title, lang), charts.svg(block, lang, family)))
    return PrintedSection(section.id, wording.heading(section.number, section.title, lang), blocks)


def sentence(line: Line, lang: Lang) -> str:
    """A line with its figures in place. Braces that name no figure stay as they are: names come from people."""
    figures = line.figures
    return _NAME.sub(
        lambda found: shown(figures[found[1]], lang) if found[1] in figures else found[0], word(line.text, lang)
    )


def _table(table: Table, lang: Lang, paper: bool) -> PrintedTable:
    shown_rows = () if table.wide and paper else table.rows[: table.limit]
    left = len(table.rows) - len(shown_rows)
    note = ""
    if not table.rows:
        note = word(table.empty, lang)
    elif not shown_rows:
        zh, en = f"共 {left} 行，纸面放不下，见电子表格。", f"{left} rows, too wide for paper: in the spreadsheet."
        note = zh if lang == "zh" else en
    elif left:
        note = f"其余 {left} 行见电子表格。" if lang == "zh" else f"{left} more rows are in the spreadsheet."
    return PrintedTable(
        title=word(table.title, lang),
        columns=[word(column.title, lang) for column in table.columns],
        widths=[column.width for column in table.columns],
        right=[column.figures for column in table.columns],
        rows=[[_cell(cell, lang) for cell in row] for row in shown_rows],
        note=note,
    )


def _cell(cell: Cell, lang: Lang) -> str:
    return shown(cell, lang) if isinstance(cell, Figure) else word(cell, lang)
