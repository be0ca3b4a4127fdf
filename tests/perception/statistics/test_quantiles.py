"""Quantiles with failures, floors, busy and idle."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception.sketch import Sketch
from perception.statistics.busy import busy_idle, combine
from perception.statistics.floors import FLOORS, is_enough
from perception.statistics.intervals import order_stat_ci
from perception.statistics.quantiles import eighty_eighty, quantile

TEN = [12, 15, 18, 22, 30, 45, 50, 60, 80, 120]


@pytest.mark.parametrize(
    ("q", "expected"), [(0.05, 13.35), (0.1, 14.7), (0.2, 17.4), (0.5, 37.5), (0.9, 84), (0.95, 102)]
)
def test_linear(q: float, expected: float) -> None:
    assert quantile(TEN, q) == (pytest.approx(expected), False, "linear")


def test_with_a_failure() -> None:
    assert quantile(TEN, 0.9, failed=1) == (120, False, "nearest_rank")
    assert quantile(TEN, 0.95, failed=1) == (None, True, "nearest_rank")
    assert quantile(TEN, 0.95, failed=1).or_infinity == math.inf
    assert quantile([], 0.0, failed=1).timeout
    assert quantile(TEN, 0.0, failed=1).value == 12


def test_a_failure_that_counts_as_zero() -> None:
    assert np.mean([40, 50, 60, 0]) == 37.5
    assert quantile([40, 50, 60, 0], 0.5).value == 45


def test_nothing_has_none() -> None:
    assert quantile([], 0.5) == (None, False, "linear")
    assert quantile([], 0.5).or_infinity is None


@pytest.mark.parametrize("q", [-0.01, 1.01, math.nan])
def test_a_quantile_outside_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match=r"^q: "):
        quantile(TEN, q)


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=300), st.integers(0, 3), st.sampled_from([0.05, 0.5, 0.95]))
def test_a_sketch_answers_as_the_samples_do(values: list[float], failed: int, q: float) -> None:
    assert Sketch.of(values, failed).quantile(q) == pytest.approx(
        quantile(values, q, failed).or_infinity, rel=0.0100001
    )


def test_eighty_eighty() -> None:
    rate, units = eighty_eighty({"a": [10, 20, 30, 40, 50], "b": [60, 70, 80, 90, 100]})
    assert rate == pytest.approx(28)
    assert units == {"a": pytest.approx(18), "b": pytest.approx(68)}
    assert eighty_eighty({"a": []}) == (None, {"a": None})


@pytest.mark.parametrize(("q", "floor"), [(0.9, 36), (0.95, 72), (0.99, 368)])
def test_from_its_floor_on_a_percentile_is_bounded(q: float, floor: int) -> None:
    assert order_stat_ci(floor, q).hi_rank is not None
    assert order_stat_ci(floor - 1, q).hi_rank is None
    assert FLOORS[q] == floor


def test_floors() -> None:
    assert is_enough(30, 0.5)
    assert not is_enough(29, 0.5)
    assert is_enough(72, 0.05)
    assert not is_enough(71, 0.05)
    with pytest.raises(ValueError, match=r"no floor for 0\.75"):
        is_enough(1000, 0.75)


def test_busy_and_idle() -> None:
    assert combine(16, 24, 0.5) == (20, 16, 24, pytest.approx(2 / 3))
    assert combine(16, 24, 4 / 24).value == pytest.approx(22.6667, abs=1e-4)
    assert busy_idle([10, 30, 0], [50], 0.5).value == pytest.approx((40 / 3 + 50) / 2)
    assert combine(None, 24, 0.5).value is None
    assert combine(None, 24, 0).value == 24
    assert combine(1, 0, 0.5).ratio is None
