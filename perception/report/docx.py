"""DOCX that people go on editing: real headings, real tables, page numbers. Names the faces of GB/T 9704; a word
processor that lacks one takes its own."""

import io
import zipfile
from typing import Any, Final
from xml.sax.saxutils import escape

import docx
from docx.enum.text import WD_ALIGN_PARAGRAPH
from docx.oxml import OxmlElement, parse_xml
from docx.oxml.ns import nsdecls, qn
from docx.shared import Mm, Pt, RGBColor

from perception.report import fonts
from perception.report.model import Lang, Report
from perception.report.pdf import picture
from perception.report.printed import Printed, PrintedTable, printed

BODY: Final = "仿宋_GB2312"
TITLE: Final = "方正小标宋简体"
HEADINGS: Final = ("黑体", "楷体_GB2312")
LATIN: Final = "Times New Roman"
WIDTH_TWIPS: Final = 8845
"""156 mm."""
_ZIP_DATE: Final = (2000, 1, 1, 0, 0, 0)


def render(report: Report, lang: Lang) -> bytes:
    """The document; the same bytes for the same report.

    :raises FontError: when a character of a chart has no glyph in any font here.
    """
    families = fonts.chosen(printed(report, lang).characters())
    page = printed(report, lang, family=families["heading"])
    document = docx.Document()
    _prepare(document, report, page)
    title = document.add_paragraph(style="Title")
    title.add_run(page.title)
    issue = document.add_paragraph(page.issue)
    issue.alignment = WD_ALIGN_PARAGRAPH.CENTER
    issue.paragraph_format.first_line_indent = Pt(0)
    facts = PrintedTable("", ["", ""], [1.0, 4.0], [False, False], [list(fact) for fact in page.facts], "")
    _table(document, facts, header=False)
    for section in page.sections:
        document.add_heading(section.heading, level=1)
        for block in section.blocks:
            match block.kind:
                case "line":
                    document.add_paragraph(block.text)  # type: ignore[union-attr]
                case "chart":
                    png = picture(block.svg, report.head.frozen_at)  # type: ignore[union-attr]
                    shown = document.add_paragraph()
                    shown.paragraph_format.first_line_indent = Pt(0)
                    shown.paragraph_format.line_spacing = 1.0
                    shown.add_run().add_picture(io.BytesIO(png), width=Mm(150))
                    document.add_paragraph(block.title, style="Caption")  # type: ignore[union-attr]
                case _:
                    _table(document, block)  # type: ignore[arg-type]
    document.add_paragraph(page.notice)
    buffer = io.BytesIO()
    document.save(buffer)
    return fixed(buffer.getvalue())


def fixed(archive: bytes) -> bytes:
    """The same zip archive without the time at which it was made."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            entry = zipfile.ZipInfo(name, _ZIP_DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(entry, old.read(name))
    return made.getvalue()


def _prepare(document: Any, report: Report, page: Printed) -> None:
    section = document.sections[0]
    section.page_width, section.page_height = Mm(210), Mm(297)
    section.top_margin, section.bottom_margin = Mm(37), Mm(35)
    section.left_margin, section.right_margin = Mm(28), Mm(26)
    _font(document.styles["Normal"], BODY, 16)
    normal = document.styles["Normal"].paragraph_format
    normal.line_spacing, normal.space_after, normal.space_before = Pt(29), Pt(0), Pt(0)
    if page.lang == "zh":
        normal.first_line_indent = Pt(32)
    _font(document.styles["Title"], TITLE, 22)
    document.styles["Title"].paragraph_format.alignment = WD_ALIGN_PARAGRAPH.CENTER
    _font(document.styles["Caption"], BODY, 12)
    document.styles["Caption"].paragraph_format.alignment = WD_ALIGN_PARAGRAPH.CENTER
    for level, family in enumerate(HEADINGS, 1):
        _font(document.styles[f"Heading {level}"], family, 16 if level == 1 else 14)
    for style in ("Title", "Caption", "Heading 1", "Heading 2"):
        document.styles[style].paragraph_format.first_line_indent = Pt(0)
    _page_number(section)
    about = document.core_properties
    about.title, about.author = f"{page.title} {page.label}", page.facts[1][1]
    about.created = about.modified = report.head.frozen_at.replace(tzinfo=None)
    about.last_modified_by, about.revision, about.comments = "", report.head.revision, page.notice


def _font(style: Any, family: str, size: float) -> None:
    style.font.name, style.font.size = LATIN, Pt(size)
    style.font.bold, style.font.italic = False, False
    style.font.color.rgb = RGBColor(0, 0, 0)
    properties = style.element.get_or_add_rPr()
    named = properties.find(qn("w:rFonts"))
    if named is None:
        named = OxmlElement("w:rFonts")
        properties.insert(0, named)
    for theme in [name for name in named.attrib if name.endswith("Theme")]:
        del named.attrib[theme]
    for script, face in (("ascii", LATIN), ("hAnsi", LATIN), ("eastAsia", family)):
        named.set(qn(f"w:{script}"), face)
    for border in style.element.findall(f"{qn('w:pPr')}/{qn('w:pBdr')}"):
        border.getparent().remove(border)


def _page_number(section: Any) -> None:
    paragraph = section.footer.paragraphs[0]
    paragraph.alignment = WD_ALIGN_PARAGRAPH.CENTER
    paragraph.paragraph_format.first_line_indent = Pt(0)
    field = f'<w:fldSimple {nsdecls("w")} w:instr="PAGE"><w:r><w:t>1</w:t></w:r></w:fldSimple>'
    paragraph.add_run("— ")
    paragraph._p.append(parse_xml(field))
    paragraph.add_run(" —")


def _table(document: Any, table: PrintedTable, *, header: bool = True) -> None:
    if table.title:
        document.add_heading(table.title, level=2)
    if table.rows:
        # As text: one object a cell is too slow for a district of a thousand venues.
        size = 21 if len(table.columns) <= 6 else 17 if len(table.columns) <= 9 else 15
        whole = sum(table.widths)
        widths = [round(WIDTH_TWIPS * width / whole) for width in table.widths]
        grid = "".join(f'<w:gridCol w:w="{width}"/>' for width in widths)
        rows = _row(table.columns, widths, [True] * len(widths), size, header=True) if header else ""
        rows += "".join(_row(row, widths, table.right, size) for row in table.rows)
        borders = "".join(
            f'<w:{side} w:val="single" w:sz="4" w:space="0" w:color="000000"/>'
            for side in ("top", "left", "bottom", "right", "insideH", "insideV")
        )
        xml = (
            f'<w:tbl {nsdecls("w")}><w:tblPr><w:tblW w:w="{WIDTH_TWIPS}" w:type="dxa"/>'
            f'<w:tblBorders>{borders}</w:tblBorders><w:tblLayout w:type="fixed"/></w:tblPr>'
            f"<w:tblGrid>{grid}</w:tblGrid>{rows}</w:tbl>"
        )
        document.element.body.insert_element_before(parse_xml(xml), "w:sectPr")
    if table.note:
        document.add_paragraph(table.note)


def _row(cells: list[str], widths: list[int], right: list[bool], size: int, *, header: bool = False) -> str:
    made = "".join(
        f'<w:tc><w:tcPr><w:tcW w:w="{width}" w:type="dxa"/></w:tcPr><w:p><w:pPr>'
        '<w:spacing w:before="0" w:after="0" w:line="240" w:lineRule="auto"/><w:ind w:firstLine="0"/>'
        f'<w:jc w:val="{"center" if header else "right" if to_right else "left"}"/></w:pPr><w:r><w:rPr>'
        f'<w:sz w:val="{size}"/><w:szCs w:val="{size}"/></w:rPr><w:t xml:space="preserve">{escape(_clean(cell))}</w:t>'
        "</w:r></w:p></w:tc>"
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    )
    properties = "<w:cantSplit/>" + ("<w:tblHeader/>" if header else "")
    return f"<w:tr><w:trPr>{properties}</w:trPr>{made}</w:tr>"


def _clean(text: str) -> str:
    """Without what XML cannot hold."""
    return "".join(character for character in text if character.isprintable() or character == " ")
