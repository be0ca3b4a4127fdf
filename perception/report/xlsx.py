"""XLSX: a sheet for each table, figures as numbers beside what they were made of, no text taken as a formula."""

import io
from collections.abc import Iterator, Sequence
from typing import Any, Final

import xlsxwriter

from perception.report import wording
from perception.report.model import Cell, Chart, Column, Figure, Lang, Line, Report, Section, Table, Text, Unit
from perception.report.printed import NOTICE, changes, facts, sentence
from perception.report.wording import word

FORMATS: Final[dict[Unit, str]] = {
    "points": "0.0",
    "ratio": "0.0%",
    "ratio2": "0.00%",
    "pp": "0.0%",
    "ms": "0.0",
    "s": "0.0",
    "mbps": "0.0",
    "count": "0",
    "rank": "0",
    "weeks": "0",
    "hours": "0",
    "factor": "0.00",
    "db": "0.0",
    "plain": "General",
}
PARTS: Final = {
    "numerator": ("分子", "numerator"),
    "denominator": ("分母", "denominator"),
    "lo": ("下限", "low"),
    "hi": ("上限", "high"),
    "n": ("样本", "n"),
}
"""What stands in columns of its own beside a figure."""
ALL: Final = ("全部数值", "All figures")


def render(report: Report, lang: Lang) -> bytes:
    """The workbook; the same bytes for the same report."""
    buffer = io.BytesIO()
    options = {
        "in_memory": True,
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
        "nan_inf_to_errors": False,
    }
    book = _Book(xlsxwriter.Workbook(buffer, options), lang)
    title = f"{wording.title(report.head, lang)} {report.head.label}"
    book.book.set_properties({"title": title, "created": report.head.frozen_at.replace(tzinfo=None)})
    _cover(book, report, title)
    for section in report.sections:
        _section(book, section)
    _figures(book, report)
    book.book.close()
    return buffer.getvalue()


class _Book:
    """A workbook, its formats and the names of its sheets."""

    def __init__(self, book: Any, lang: Lang) -> None:
        self.book, self.lang = book, lang
        self.zh = lang == "zh"
        self.bold = book.add_format({"bold": True, "bg_color": "#F0F0F0", "border": 1, "text_wrap": True})
        self.plain = book.add_format({"text_wrap": True, "valign": "top"})
        self.numbers = {unit: book.add_format({"num_format": how}) for unit, how in FORMATS.items()}

    def sheet(self, name: str, header: Sequence[str], widths: Sequence[float]) -> Any:
        """A new sheet whose header stays in sight."""
        for sign in "[]:*?/\\":
            name = name.replace(sign, "")
        made = self.book.add_worksheet(name[:31])
        for column, (title, width) in enumerate(zip(header, widths, strict=True)):
            made.write_string(0, column, title, self.bold)
            made.set_column(column, column, width)
        made.freeze_panes(1, 0)
        return made

    def figure(self, sheet: Any, row: int, column: int, figure: Figure) -> None:
        """A number, or the words for one that is not known."""
        if figure.value is None:
            sheet.write_string(row, column, word(wording.MISSING[figure.state], self.lang))
        else:
            sheet.write_number(row, column, figure.value, self.numbers[figure.unit])


def _cover(book: _Book, report: Report, title: str) -> None:
    header = ("版头", title) if book.zh else ("Head", title)
    sheet = book.sheet(header[0], header, (18, 110))
    rows = [(("期号", "Issue")[not book.zh], wording.issue(report.head, book.lang)), *facts(report, book.lang)]
    rows.append((("声明", "Notice")[not book.zh], word(NOTICE, book.lang)))
    for row, (name, value) in enumerate(rows, 1):
        sheet.write_string(row, 0, name)
        sheet.write_string(row, 1, value, book.plain)
    if report.head.revision > 1:
        _table(book, ("修订", "Changes")[not book.zh], changes(report))


def _section(book: _Book, section: Section) -> None:
    lines = [block for block in section.blocks if isinstance(block, Line)]
    tables = [block for block in section.blocks if isinstance(block, Table)]
    name = f"{section.number} {word(section.title, book.lang)}"
    if lines:
        sheet = book.sheet(name, (word(section.title, book.lang),), (120,))
        for row, line in enumerate(lines, 1):
            sheet.write_string(row, 0, sentence(line, book.lang), book.plain)
    for place, table in enumerate([*tables, *map(_as_table, _charts(section))]):
        alone = not lines and place == 0
        _table(book, name if alone else f"{section.number}.{place + 1} {word(table.title, book.lang)}", table)


def _charts(section: Section) -> Iterator[Chart]:
    return (block for block in section.blocks if isinstance(block, Chart))


def _as_table(chart: Chart) -> Table:
    columns = (Column(Text("曲线", "Curve"), figures=False), *(Column(Text.same(label)) for label in chart.labels))
    rows: tuple[tuple[Cell, ...], ...] = tuple((curve.name, *curve.points) for curve in chart.curves)
    return Table(id=chart.id, title=chart.title, columns=columns, rows=rows)


def _table(book: _Book, name: str, table: Table) -> None:
    parts = [_parts(row[place] for row in table.rows) for place in range(len(table.columns))]
    header: list[str] = []
    widths: list[float] = []
    for column, beside in zip(table.columns, parts, strict=True):
        title = word(column.title, book.lang)
        header += [title, *(f"{title} {PARTS[part][not book.zh]}" for part in beside)]
        widths += [12.0 if column.figures else 14 * column.width + 8, *(10.0 for _ in beside)]
    sheet = book.sheet(name, header, widths)
    if not table.rows:
        sheet.write_string(1, 0, word(table.empty, book.lang))
    for row, cells in enumerate(table.rows, 1):
        place = 0
        for cell, beside in zip(cells, parts, strict=True):
            if isinstance(cell, Figure):
                book.figure(sheet, row, place, cell)
                for offset, part in enumerate(beside, 1):
                    value = getattr(cell, part)
                    if value is not None:
                        sheet.write_number(row, place + offset, value)
            else:
                sheet.write_string(row, place, word(cell, book.lang))
            place += 1 + len(beside)
    if table.rows:
        sheet.autofilter(0, 0, len(table.rows), len(header) - 1)


def _parts(cells: Iterator[Cell]) -> list[str]:
    figures = [cell for cell in cells if isinstance(cell, Figure)]
    return [part for part in PARTS if any(getattr(figure, part) is not None for figure in figures)]


def _figures(book: _Book, report: Report) -> None:
    """Every figure of the report once, by its key: what a check computes again."""
    header = ("key", "value", "unit", "state", "numerator", "denominator", "lo", "hi", "n", "trend")
    sheet = book.sheet(ALL[not book.zh], header, (60, 16, 9, 9, 12, 12, 12, 12, 9, 9))
    for row, figure in enumerate(report.figures().values(), 1):
        sheet.write_string(row, 0, figure.key)
        values = (figure.value, None, None, figure.numerator, figure.denominator, figure.lo, figure.hi, figure.n)
        for column, value in enumerate(values, 1):
            if value is not None:
                sheet.write_number(row, column, value)
        sheet.write_string(row, 2, figure.unit)
        sheet.write_string(row, 3, figure.state)
        if figure.trend is not None:
            sheet.write_string(row, 9, figure.trend)
