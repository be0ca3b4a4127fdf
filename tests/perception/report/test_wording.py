"""How figures are written."""

import math

import pytest

from perception.report import wording
from perception.report.model import Figure, Report, Unit, figure, ratio
from perception.report.printed import printed, sentence
from tests.perception.report import sample


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("points", 82.8517, "82.9"),
        ("points", -0.04, "0.0"),
        ("ratio", 0.97, "97.0%"),
        ("ratio2", 0.994048, "99.40%"),
        ("ms", 7.24, "7.2 ms"),
        ("ms", 9.96, "10 ms"),
        ("ms", 123.4, "123 ms"),
        ("mbps", 45.02, "45.0 Mbps"),
        ("s", 1.449, "1.4 s"),
        ("count", 12.0, "12"),
        ("factor", 0.8, "0.80"),
        ("hours", 3.0, "3 小时"),
        ("pp", 0.012, "1.2个百分点"),
    ],
)
def test_digits_and_units(unit: Unit, value: float, text: str) -> None:
    assert wording.shown(figure("x", unit, value), "zh") == text


def test_what_is_not_known_is_a_word_never_0_or_blank() -> None:
    said = {
        wording.shown(figure("x", "ms", math.inf), "zh"): wording.shown(figure("x", "ms", math.inf), "en"),
        wording.shown(figure("x", "ms", None, missing="few"), "zh"): "",
        wording.shown(figure("x", "points", None, missing="unrated"), "zh"): "",
        wording.shown(figure("x", "points", None), "zh"): "",
    }
    assert list(said) == ["超时", "样本不足", "不评", "未测得"]
    assert said["超时"] == "timed out"


def test_a_value_that_contradicts_its_state_is_refused() -> None:
    with pytest.raises(ValueError, match="x: None is not known"):
        Figure(key="x", unit="ms")
    with pytest.raises(ValueError, match=r"x: 3\.0 is not few"):
        Figure(key="x", unit="ms", value=3.0, state="few")


def test_a_ratio_shows_numerator_and_denominator_and_of_nothing_it_is_not_measured() -> None:
    assert wording.shown(ratio("x", 97, 100), "zh") == "97.0% (97/100)"
    assert wording.shown(ratio("x", 0, 0), "zh") == "未测得"


def test_only_a_significant_change_is_called_one() -> None:
    assert wording.shown(figure("x", "points", 2.3, trend="up"), "zh") == "提升 2.3"
    assert wording.shown(figure("x", "points", -2.3, trend="down"), "zh") == "下降 2.3"
    assert wording.shown(figure("x", "points", -2.3, trend="flat"), "zh") == "持平 -2.3"
    assert wording.shown(figure("x", "points", 0.01, trend="flat"), "zh") == "持平 0.0"
    assert wording.shown(figure("x", "points", 0.4, trend="flat"), "en") == "flat +0.4"


def test_an_interval_follows_its_value() -> None:
    assert wording.shown(figure("x", "points", 84.21, lo=82.1, hi=86.3), "zh") == "84.2 [82.1, 86.3]"


def test_every_section_number_has_a_chinese_one() -> None:
    title = sample.report().sections[0].title
    assert [wording.heading(n, title, "zh")[: 1 + n // 11] for n in (1, 10, 11, 12)] == ["一", "十", "十一", "十二"]


def test_names_with_braces_are_no_figures() -> None:
    (line, *_) = sample.report("{ppi}").sections[0].blocks
    assert "{" not in sentence(line, "zh")  # type: ignore[arg-type]
    page = printed(sample.report("{ppi}{x}"), "zh")
    assert page.sections[0].blocks[2].rows[0][0] == "{ppi}{x}0"  # type: ignore[union-attr]


def test_one_key_has_one_figure() -> None:
    report = sample.report()
    twice = Report(head=report.head, sections=(*report.sections, *report.sections))
    assert set(twice.figures()) == set(report.figures())
    other = sample.report(rows=4).sections
    changed = Report(head=report.head, sections=(report.sections[0], other[0]))
    assert len(changed.figures()) == len(report.figures()) + 2
