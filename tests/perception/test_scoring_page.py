"""docs/scoring.md says what the profiles say, and its examples give what it says they give."""

import json
import re
from pathlib import Path

import pytest

from perception import profiles
from perception.score import FORMULAS, score
from perception.scoring.profile import Indicator
from perception.statistics.change import LEAST
from perception.statistics.floors import FLOORS

ROOT = Path(__file__).parent.parent.parent
PAGES = {path.name: path.read_text() for path in (ROOT / "docs").glob("scoring*.md")}
WIFI, OBSERVE, GOV = (profiles.named(name) for name in ("wifi-public-2026", "wifi-observe-2026", "gov-node-2026"))


def number(x: float | None) -> str:
    return "–" if x is None else f"{x:g}"


def ends(row: Indicator | None) -> str:
    return "–" if row is None or row.bad is None else f"{number(row.bad)} → {number(row.good)}"


def mark(row: Indicator | None) -> str:
    return "–" if row is None or row.pass_ is None else f"{'≥' if row.pass_.op == '>=' else '≤'} {row.pass_.v:g}"


WORDS = {"scoring.md": ("busy", "days"), "scoring.zh-CN.md": ("忙时", "天")}


def least(row: Indicator | None, page: str) -> str:
    if row is None:
        return "–"
    busy, days = WORDS[page]
    more = [f"{row.min_busy} {busy}"] if row.min_busy else []
    more += [f"{row.min_days} {days}"] if row.min_days else []
    return f"{row.min_n}" + (f" ({', '.join(more)})" if more else "")


def both(name: str, wifi: Indicator | None, gov: Indicator | None, page: str) -> str:
    either = wifi or gov
    assert either is not None
    weights = f"{number(wifi.w if wifi else None)} / {number(gov.w if gov else None)}"
    cells = [f"`{name}`", either.dim, weights, either.fn, ends(wifi), ends(gov), f"{mark(wifi)} / {mark(gov)}"]
    return f"| {' | '.join([*cells, f'{least(wifi, page)} / {least(gov, page)}'])} |"


def rows(page: str) -> list[str]:
    names = dict.fromkeys([*(row.id for row in WIFI.indicators), *(row.id for row in GOV.indicators)])
    return [both(name, WIFI.indicator(name), GOV.indicator(name), page) for name in names]


def test_both_languages_have_the_page() -> None:
    assert set(PAGES) == {"scoring.md", "scoring.zh-CN.md"}
    skeletons = [re.findall(r"^(?:#+ |```)", text, re.MULTILINE) for text in PAGES.values()]
    assert skeletons[0] == skeletons[1]


@pytest.mark.parametrize("page", PAGES)
def test_every_indicator_stands_there_as_in_the_profiles(page: str) -> None:
    found = re.findall(r"^\| `[a-z0-9_]+` \| (?:coverage|quality|service) \|.*$", PAGES[page], re.MULTILINE)
    assert found == rows(page)


@pytest.mark.parametrize("page", PAGES)
def test_every_formula_is_explained(page: str) -> None:
    for formula in FORMULAS:
        assert f"`{formula}`" in PAGES[page], formula


@pytest.mark.parametrize("page", PAGES)
def test_its_examples_are_true(page: str) -> None:
    told = re.findall(r"^echo '(.*)' \| wanggan score (\w+) --json\n(\{.*\})$", PAGES[page], re.MULTILINE)
    assert len(told) >= 4
    for given, formula, answer in told:
        found = score(formula, given.encode())
        for name, expected in json.loads(answer).items():
            assert found[name] == (pytest.approx(expected, abs=1e-4) if isinstance(expected, float) else expected), (
                given
            )


@pytest.mark.parametrize("page", PAGES)
def test_floors_and_least_changes_stand_there(page: str) -> None:
    for q, n in FLOORS.items():
        assert re.search(rf"p{q * 100:g}[^|\n]*\b{n}\b", PAGES[page]), (q, n)
    assert LEAST == {"score": 2.0, "rate": 0.10, "time": 5.0, "ratio": 0.01}
