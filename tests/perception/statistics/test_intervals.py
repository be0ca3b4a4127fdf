"""Intervals: vectors, ends, and what is not known."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binom, sem, t, ttest_1samp

from perception.statistics.intervals import around, order_stat_ci, p_value, wilson


@pytest.mark.parametrize(
    ("k", "n", "lo", "hi"),
    [(19, 20, 0.763869, 0.991119), (50, 50, 0.928652, 1), (0, 10, 0, 0.277533), (95, 100, 0.888250, 0.978456),
     (3, 5, 0.230724, 0.882379)],
)  # fmt: skip
def test_wilson(k: int, n: int, lo: float, hi: float) -> None:
    assert wilson(k, n) == (pytest.approx(lo, abs=1e-6), pytest.approx(hi, abs=1e-6))


def test_wilson_of_nothing_and_of_nonsense() -> None:
    assert wilson(0, 0) == (None, None)
    for k, n in ((2, 1), (-1, 3)):
        with pytest.raises(ValueError, match=r"^k: "):
            wilson(k, n)


@pytest.mark.parametrize(
    ("n", "q", "ranks", "coverage"),
    [(84, 0.5, (33, 52), 0.96247), (84, 0.05, (1, 9), 0.96204), (30, 0.5, (10, 21), 0.95723)],
)
def test_order_statistics(n: int, q: float, ranks: tuple[int, int], coverage: float) -> None:
    assert order_stat_ci(n, q) == (*ranks, pytest.approx(coverage, abs=1e-5))


@given(st.integers(1, 5000), st.floats(0.001, 0.999))
def test_order_statistics_are_binomial_quantiles(n: int, q: float) -> None:
    found = order_stat_ci(n, q)
    lo, hi = int(binom.ppf(0.025, n, q)), int(binom.ppf(0.975, n, q)) + 1
    assert (found.lo_rank, found.hi_rank) == (lo or None, hi if hi <= n else None)
    assert found.coverage == pytest.approx(binom.cdf(hi - 1, n, q) - binom.cdf(lo - 1, n, q), abs=1e-9)


@given(st.lists(st.floats(-100, 100), min_size=4, max_size=9))
def test_student_is_scipy_s(days: list[float]) -> None:
    assume(max(days) - min(days) > 1e-6)
    lo, hi = around(sum(days) / len(days), days)
    assert (lo, hi) == pytest.approx(t.interval(0.95, len(days) - 1, sum(days) / len(days), sem(days)), abs=1e-6)
    assert p_value(days) == pytest.approx(ttest_1samp(days, 0).pvalue, abs=1e-9)


def test_order_statistics_without_bounds() -> None:
    assert order_stat_ci(10, 0.95)[:2] == (8, None)
    assert order_stat_ci(10, 0.05)[:2] == (None, 3)
    assert order_stat_ci(0, 0.5)[:2] == (None, None)
    with pytest.raises(ValueError, match=r"^n: "):
        order_stat_ci(-1, 0.5)
    with pytest.raises(ValueError, match=r"^q: "):
        order_stat_ci(10, 1)


def test_order_statistics_in_values_and_failures() -> None:
    ranks = order_stat_ci(30, 0.5)
    assert ranks.among(list(range(30, 0, -1))) == (10, 21)
    assert ranks.among(list(range(1, 21)), failed=10) == (10, math.inf)
    assert order_stat_ci(5, 0.5).among([1, 2, 3, 4, 5]) == (1, 5) or order_stat_ci(5, 0.5).lo_rank is None


def test_student_over_days() -> None:
    days = [80.0, 82, 81, 79, 83, 80, 82]
    lo, hi = around(81.2, days)
    half = 2.446911851 * math.sqrt(sum((x - 81) ** 2 for x in days) / 6 / 7)
    assert (lo, hi) == (pytest.approx(81.2 - half), pytest.approx(81.2 + half))
    assert around(81, days[:3]) == (None, None)
    assert around(99.9, days).within(0, 100) == (pytest.approx(99.9 - (hi - 81.2)), 100)
    assert around(None, days).within(0, 100) == (None, None)
    assert around(None, days) == (None, None)


def test_p_values() -> None:
    assert p_value([1.0, 2, 3]) is None
    assert p_value([0.0] * 5) == 1
    assert p_value([1.0] * 5) == 0
    # t = 3 / (1.581139 / sqrt(5)) = 4.242641 with 4 degrees of freedom
    assert p_value([1.0, 2, 3, 4, 5]) == pytest.approx(0.013236, abs=1e-5)
