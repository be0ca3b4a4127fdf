"""The site register from a spreadsheet: the same from XLSX and CSV, in both languages; mistakes by row and column."""

import csv
import time
from datetime import date
from pathlib import Path

import openpyxl
import pytest

from collector.enrolment import sheet
from store import register
from store.tables import ConfigError
from wanggan import fleet

HEADINGS = ["探针", "interface", "开始", "结束", "venue", "网络", "中文名", "name_en", "类型", "开放时间", "AP",
            "下行承诺", "可用率承诺", "controls", "责任单位"]  # fmt: skip
ROWS: list[list[object]] = [
    ["box-0007", "wlan0", date(2026, 3, 1), date(2026, 10, 1), "lib-east", "无线", "东区图书馆", "East Library",
     "library", "mon-fri 09:00-21:00；sat 10:00-12:00, 14:00-17:00", None, None, None, None, "区文旅局"],
    ["box-0007", "wlan0", date(2026, 10, 1), None, "lib-central", "wifi", '中心"图书馆"', None, "library", None,
     "00-00-5E-00-53-01, 00:00:5e:00:53:02", 50, "99.5%", "lib-east", None],
    [None] * 15,
    ["node-01", "eth0", "2026-03-01T08:00:00+08:00", None, "node.01", "政务外网", "一号节点", "Node 1", "node",
     None, None, 12.5, None, None, None],
    ["box-0008", "wlan0", date(2026, 3, 1), None, "lib-east", "wifi"] + [None] * 9,
]  # fmt: skip


def xlsx(path: Path, *rows: list[object]) -> Path:
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


def text(path: Path, *rows: list[object], encoding: str = "utf-8-sig") -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows([["" if cell is None else cell for cell in row] for row in rows])
    return path


def test_every_form_gives_the_same_register_and_it_can_be_read(tmp_path: Path) -> None:
    found = [
        sheet.as_toml(sheet.read(path))
        for path in (
            xlsx(tmp_path / "a.xlsx", HEADINGS, *ROWS),  # type: ignore[arg-type]
            text(tmp_path / "a.csv", HEADINGS, *ROWS),  # type: ignore[arg-type]
            text(tmp_path / "b.csv", HEADINGS, *ROWS, encoding="gb18030"),  # type: ignore[arg-type]
        )
    ]
    assert found[0] == found[1] == found[2]
    (tmp_path / "sites.toml").write_text(found[0])
    roll = register.read(tmp_path / "sites.toml")
    assert roll.agents == {"box-0007", "box-0008", "node-01"}
    east = roll.venues["lib-east"]
    assert (east.name.zh, east.unit) == ("东区图书馆", "区文旅局")
    assert east.open["fri"] == ["09:00-21:00"]
    assert east.open["sat"] == ["10:00-12:00", "14:00-17:00"]
    assert "sun" not in east.open
    central = roll.venues["lib-central"]
    assert (central.name.zh, central.name.en, central.controls) == ('中心"图书馆"', '中心"图书馆"', ["lib-east"])
    assert [span.venue for span in roll.spans["box-0007", "wlan0"]] == ["lib-central", "lib-east"]
    assert roll.spans["node-01", "eth0"][0].network == "gov"
    sites = sheet.read(tmp_path / "a.xlsx").sites
    assert sites[1].aps == ["00:00:5e:00:53:01", "00:00:5e:00:53:02"]
    assert (sites[1].contract.down_mbps, sites[1].contract.availability_ratio) == (50.0, 0.995)


MISTAKES: list[tuple[int, int, object, str]] = [
    (0, 0, "Box 7", "row 2, column agent: String should match pattern"),
    (0, 0, "all", "row 2, column agent: 'all' is the broadcast topic"),
    (0, 1, None, "row 2, column interface: missing"),
    (0, 2, "soon", "row 2, column from: 'soon' is no time"),
    (1, 5, "5g", "row 3, column network: Input should be 'wifi' or 'gov'"),
    (1, 11, "fast", "row 3, column down_mbps: 'fast' is no number"),
    (1, 12, "120%", "row 3, column availability_ratio: Input should be less than or equal to 1"),
    (1, 11, "inf", "row 3, column down_mbps: Input should be a finite number"),
    (1, 11, "nan", "row 3, column down_mbps: Input should be"),
    (1, 11, "-inf", "row 3, column down_mbps: Input should be"),
    (1, 10, "00:11", "row 3, column aps: String should match pattern"),
    (0, 9, "always", "row 2, column open: 'always': write mon-fri 09:00-21:00"),
    (0, 9, "mon 9-21", "row 2, column open.mon: String should match pattern"),
    (0, 9, "mon 09:00-25:00", "row 2, column open.mon: String should match pattern"),
    (3, 6, None, "node-01"),
    (4, 6, "西区图书馆", "row 6, column name_zh: not what an earlier row says of lib-east"),
    (1, 13, "nowhere", "row 3, column controls: no such venue 'nowhere'; add"),
    (1, 2, date(2026, 9, 1), "row 3: overlaps row 2"),
    (0, 3, date(2026, 1, 1), "row 2, column to: not after from"),
]


@pytest.mark.parametrize(("row", "column", "cell", "words"), MISTAKES, ids=[words for *_, words in MISTAKES])
def test_a_mistake_is_told_by_row_and_column(row: int, column: int, cell: object, words: str, tmp_path: Path) -> None:
    rows = [list(one) for one in ROWS]
    rows[row][column] = cell
    if words == "node-01":  # a name in one language stands for both; without any it is missing
        rows[row][7] = None
        words = "row 5, column name_zh: Field required"
    with pytest.raises(sheet.RowErrors) as caught:
        sheet.read(text(tmp_path / "a.csv", HEADINGS, *rows))  # type: ignore[arg-type]
    assert words in str(caught.value)


def test_a_stray_cell_costs_nothing_and_a_site_below_a_gap_is_told(tmp_path: Path) -> None:
    """A cell in the last column costs a sheet 20,000 rows of 16,384 cells each: 16 s, were they looked at."""
    whole = xlsx(tmp_path / "a.xlsx", HEADINGS, *ROWS)  # type: ignore[arg-type]
    expected = sheet.read(whole)
    book = openpyxl.load_workbook(whole)
    assert book.active is not None
    book.active["XFD20000"] = "stray"
    book.save(tmp_path / "stray.xlsx")
    started = time.process_time()
    assert sheet.read(tmp_path / "stray.xlsx") == expected
    assert time.process_time() - started < 2
    for number, words in ((507, None), (508, "row 508: below 501 empty rows, at most 500 are allowed: delete")):
        book.active["A507"] = book.active["A508"] = None
        for column, cell in enumerate(["box-0009", "eth0", date(2026, 3, 1), None, "lib-east", "gov"], 1):
            book.active.cell(507, column).value = None
            book.active.cell(number, column).value = cell
        book.save(tmp_path / "gap.xlsx")
        if words is None:
            assert len(sheet.read(tmp_path / "gap.xlsx").sites) == len(expected.sites) + 1
        else:
            with pytest.raises(ConfigError, match=words):
                sheet.read(tmp_path / "gap.xlsx")


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    rows = [list(one) for one in ROWS]
    rows[0][2] = rows[1][5] = rows[3][11] = "x"
    with pytest.raises(sheet.RowErrors) as caught:
        sheet.read(xlsx(tmp_path / "a.xlsx", HEADINGS, *rows))  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.csv", b"agent,interface\n", "missing heading: from, venue, network"),
        ("a.csv", b"agent,interface,from,venue,network,colour\n", "unknown heading: 'colour'"),
        ("a.csv", b"agent,agent,interface,from,venue,network\n", "heading stands twice: agent"),
        ("a.csv", b"agent,interface,from,venue,network\n", "no sites"),
        ("a.csv", b"", "no sites"),
        ("a.csv", b"\xff\xff\xff", "neither UTF-8 nor GB18030"),
        ("a.csv", b'agent,interface,from,venue,network\n"box', "no CSV"),
        ("a.xlsx", b"agent,interface", "no XLSX"),
        ("a.csv", b"x" * (sheet.MAX_BYTES + 1), "larger than 10 MiB"),
    ],
)
def test_what_is_no_register(name: str, data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=words):
        sheet.read(tmp_path / name)
    with pytest.raises(ConfigError, match="No such file"):
        sheet.read(tmp_path / "missing.csv")


def test_the_command_overwrites_only_when_told_and_writes_nothing_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = str(xlsx(tmp_path / "a.xlsx", HEADINGS, *ROWS))  # type: ignore[arg-type]
    out = tmp_path / "sites.toml"
    assert fleet.main(["import", good, "--out", str(out)]) == 0
    written = out.read_text()
    assert fleet.main(["import", good, "--out", str(out)]) == 2
    assert "--replace" in capsys.readouterr().err
    bad = str(text(tmp_path / "bad.csv", HEADINGS, ["box"] * 15))  # type: ignore[arg-type]
    assert fleet.main(["import", bad, "--out", str(out), "--replace"]) == 2
    assert "row 2" in capsys.readouterr().err
    assert out.read_text() == written
    assert fleet.main(["import", good, "--out", str(out), "--replace"]) == 0
