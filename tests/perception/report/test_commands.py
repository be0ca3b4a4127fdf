"""`wanggan report weekly`: a store in, files out, and every way to fail."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from perception.report.commands import main

CONFIG = """
[store]
engine = "sqlite"
path = "wanggan.db"
[report]
district = { zh = "某某区", en = "Some District" }
author = { zh = "区大数据中心", en = "Data Centre" }
measures_file = "measures.toml"
"""
SITES = """
[venues.library]
name = { zh = "NAME", en = "Library" }
type = "library"
[[sites]]
agent = "box-01"
interface = "wlan0"
from = 2020-01-01
venue = "library"
network = "wifi"
"""
MEASURES = '[[measures]]\nvenue = "library"\naction = "更换接入点"\nowner = "区图书馆"\ndue = 2026-11-20\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "sites.toml").write_text(SITES.replace("NAME", "图书馆"))
    (tmp_path / "measures.toml").write_text(MEASURES)
    path = tmp_path / "perception.toml"
    path.write_text(CONFIG)
    return path


def weekly(config: Path, *more: str) -> int:
    return main(["weekly", "--config", str(config), "--week", "2026-W46", *more])


def test_a_silent_venue_is_in_the_report_of_a_store_without_data(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert weekly(config, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told | {"files": [], "profiles": {}, "input_sha256": ""} == {
        "week": "2026-W46", "revision": 1, "draft": False, "changed_figures": 0,
        "files": [], "profiles": {}, "input_sha256": "",
    }  # fmt: skip
    files = [Path(name) for name in told["files"]]
    assert [file.name for file in files] == [f"2026-W46.zh.{how}" for how in ("html", "pdf", "docx", "xlsx")]
    page = files[0].read_text()
    assert told["input_sha256"] in page
    assert '<td>图书馆</td><td class="n">不评</td>' in page
    assert "逾期" not in page  # due after the week
    assert weekly(config, "--format", "html") == 0
    assert files[0].read_text() == page


def test_the_input_s_hash_knows_every_file(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def sha() -> str:
        assert weekly(config, "--format", "html", "--json", "--out", str(config.parent / "other")) == 0
        (config.parent / "other" / "2026-W46.json").unlink()
        return str(json.loads(capsys.readouterr().out)["input_sha256"])

    first = sha()
    assert sha() == first
    (config.parent / "measures.toml").write_text(MEASURES + "# a comment\n")
    second = sha()
    (config.parent / "sites.toml").write_text(SITES.replace("NAME", "老图书馆"))
    assert len({first, second, sha()}) == 3


def test_a_character_without_a_glyph_ends_it_and_nothing_is_written(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (config.parent / "sites.toml").write_text(SITES.replace("NAME", "图书馆\ue001"))
    assert weekly(config) == 1
    assert "U+E001" in capsys.readouterr().err
    assert list((config.parent / "reports").iterdir()) == []


def test_without_the_report_extra_pages_are_made_and_a_pdf_is_refused_in_one_line(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("typst", "fontTools", "docx"):
        monkeypatch.setitem(sys.modules, name, None)
    assert weekly(config, "--format", "pdf,html") == 2
    assert capsys.readouterr().err == ("pdf needs the report extra: pip install 'wanggan[report]', or --format html\n")
    assert weekly(config) == 2
    assert capsys.readouterr().err.startswith("pdf and docx need the report extra")
    assert not (config.parent / "reports").exists()
    assert weekly(config, "--format", "html,xlsx") == 0


def test_the_command_is_there_without_the_report_extra() -> None:
    blocked = "import sys; sys.modules |= dict.fromkeys(('typst', 'fontTools', 'docx'))"
    ask = f"{blocked}; from wanggan.main import main; main(['report', 'weekly', '--help'])"
    asked = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, timeout=60, check=False)
    assert (asked.returncode, asked.stderr) == (0, "")


def test_a_broken_archive_ends_it(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "reports").mkdir()
    (config.parent / "reports" / "2026-W46.json").write_text("?")
    assert weekly(config, "--format", "html") == 1
    assert "restore it from a backup" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("measures.toml", MEASURES + "until = 1\n", "measures[0].until: unknown key"),
        ("measures.toml", MEASURES + MEASURES, "measures[1]: stands twice; remove one"),
        ("measures.toml", "[[measures]]\naction = 'x'\nowner = 'y'\n", "measures[0].due: missing; add due"),
        ("perception.toml", CONFIG + "baseline = '2026-W54'\n", "the year 2026 has no week 54"),
        ("perception.toml", CONFIG + "distrikt = 1\n", "report.distrikt: unknown key; did you mean district?"),
        ("sites.toml", "venues = 1", "sites.toml: venues"),
    ],
)
def test_a_mistake_in_a_file_is_named(
    config: Path, capsys: pytest.CaptureFixture[str], file: str, text: str, message: str
) -> None:
    (config.parent / file).write_text(text)
    assert weekly(config) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("more", [["--week", "2026-W54"], ["--week", "W46"], ["--format", "odt"], ["--lang", "fr"]])
def test_a_wrong_argument_is_a_usage_error(config: Path, more: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["weekly", "--config", str(config), *more])
    assert ended.value.code == 2


def test_a_week_that_has_not_begun_is_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weekly", "--config", str(config), "--week", "2199-W01"]) == 2
    assert "2199-W01 has not begun yet" in capsys.readouterr().err
