"""The coverage benchmark itself: it passes with honest intervals, and a planted narrow one is found."""

import pytest

from bench import statistics
from perception.statistics import intervals
from perception.statistics.intervals import Interval


@pytest.mark.parametrize("kind", statistics.KINDS)
def test_intervals_hold_what_they_say(kind: str) -> None:
    assert 0.92 <= statistics.coverage(statistics.KINDS[kind], 400, seed=3) <= 0.98


def test_an_interval_that_is_too_narrow_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "Z", 1.5)
    assert statistics.coverage(statistics.ratio, 2000, seed=3) < statistics.LOW


def test_an_unbounded_end_bounds_nothing() -> None:
    assert statistics.holds(Interval(None, 1), -1e9)
    assert statistics.holds(Interval(0, None), 1e9)
    assert not statistics.holds(Interval(0, 1), 2)


def test_a_week_of_sketches_is_within_one_percent() -> None:
    assert 0 < statistics.sketch_error(5, seed=3) <= statistics.SKETCH_RATIO
