"""Four formats of one report, each opened again and looked into."""

import io
import re
import zipfile
from collections.abc import Callable
from xml.etree import ElementTree

import docx as word_files
import pytest

from perception.report import docx, fonts, html, pdf, xlsx
from perception.report.model import Lang, Report
from tests.perception.report import sample

RENDERERS: dict[str, Callable[[Report, Lang], bytes]] = {
    "html": html.render,
    "pdf": pdf.render,
    "docx": docx.render,
    "xlsx": xlsx.render,
}
SHEET = {"x": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize("name", RENDERERS)
def test_the_same_report_gives_the_same_bytes(name: str, lang: Lang) -> None:
    assert RENDERERS[name](sample.report(), lang) == RENDERERS[name](sample.report(), lang)


def test_html_stands_alone_and_runs_nothing() -> None:
    page = html.render(sample.report(sample.HOSTILE), "zh").decode()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert re.findall(r"(?:src|href)=\"(?!#)[^\"]*", page) == []
    assert page.count("<svg") == 1
    assert "97.0% (97/100)" in page


def test_pdf_has_pages_of_a4_and_sets_hostile_names_as_text() -> None:
    made = pdf.render(sample.report(sample.HOSTILE, rows=60), "zh")
    assert made.startswith(b"%PDF-")
    sizes = {tuple(map(float, box.split())) for box in re.findall(rb"/MediaBox ?\[([^\]]+)\]", made)}
    assert len(sizes) == 1
    assert sizes.pop() == pytest.approx((0, 0, 595.28, 841.89), abs=0.01)


def test_a_glyph_that_no_font_has_is_an_error_that_names_it() -> None:
    with pytest.raises(fonts.FontError, match=r"U\+E123.*install a font"):
        pdf.render(sample.report("图书馆\ue123"), "zh")


def test_without_a_chinese_font_there_are_no_boxes_but_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "folders", list)
    fonts._faces.cache_clear()
    try:
        with pytest.raises(fonts.FontError, match=r"no Chinese font found.*noto-cjk-sans-otc"):
            pdf.render(sample.report(), "zh", system_fonts=False)
    finally:
        fonts._faces.cache_clear()


def test_docx_has_headings_tables_and_the_faces_of_the_standard() -> None:
    document = word_files.Document(io.BytesIO(docx.render(sample.report(sample.HOSTILE), "zh")))
    headings = [p.text for p in document.paragraphs if p.style is not None and p.style.name == "Heading 1"]
    assert headings == ["三、总体得分"]
    facts, ranking = document.tables
    assert facts.cell(0, 0).text == "统计周期"
    assert [cell.text for cell in ranking.rows[0].cells] == ["场所", "接入成功率", "往返时延"]
    assert [cell.text for cell in ranking.rows[1].cells] == [f"{sample.HOSTILE}0", "95.0% (95/100)", "样本不足"]
    assert len(document.inline_shapes) == 1
    xml = document.styles["Normal"].element.xml
    assert 'w:eastAsia="仿宋_GB2312"' in xml
    assert 'w:eastAsia="方正小标宋简体"' in document.styles["Title"].element.xml


def sheets(made: bytes) -> dict[str, ElementTree.Element]:
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        book = ElementTree.fromstring(archive.read("xl/workbook.xml"))
        names = [sheet.attrib["name"] for sheet in book.findall("x:sheets/x:sheet", SHEET)]
        return {
            name: ElementTree.fromstring(archive.read(f"xl/worksheets/sheet{i}.xml")) for i, name in enumerate(names, 1)
        }


def test_xlsx_has_numbers_as_numbers_frozen_headers_and_no_formula() -> None:
    found = sheets(xlsx.render(sample.report(sample.HOSTILE), "zh"))
    assert list(found) == ["版头", "3 总体得分", "3.1 排名", "3.2 近四周走势", "全部数值"]
    for sheet in found.values():
        assert sheet.find(".//x:f", SHEET) is None
        pane = sheet.find(".//x:pane", SHEET)
        assert pane is not None
        assert (pane.attrib["state"], pane.attrib["ySplit"]) == ("frozen", "1")
        assert sheet.find(".//x:hyperlink", SHEET) is None
    row = found["3.1 排名"].findall(".//x:row", SHEET)[1]
    kinds = {cell.attrib["r"]: (cell.attrib.get("t"), cell.findtext("x:v", namespaces=SHEET)) for cell in row}
    assert kinds["A2"][0] == "s"
    assert kinds["B2"] == (None, "0.95")
    assert (kinds["C2"][1], kinds["D2"][1]) == ("95", "100")
