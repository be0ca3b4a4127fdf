"""From counted payload to a rate."""

import pytest

from agent import estimate
from agent.estimate import Rate

MBIT_BIN = 12_500
"""Payload of 0.1 s at 1 Mbit/s."""


def steady(mbps: float, seconds: float) -> list[int]:
    return [round(mbps * MBIT_BIN)] * round(seconds * 10)


def test_the_start_is_left_out() -> None:
    slow_start = steady(10, 1) + steady(100, 2)
    found = estimate.rate(slow_start, 3.0, 1.0)
    assert found == Rate(mbps=pytest.approx(100), p10_mbps=pytest.approx(100), measured_s=2.0)
    assert not found.is_short


def test_a_burst_at_the_start_is_left_out_too() -> None:
    """A shaper's bucket is full at first."""
    assert estimate.rate(steady(300, 0.5) + steady(20, 2.5), 3.0, 1.0).mbps == pytest.approx(20)


def test_what_comes_after_the_end_does_not_count() -> None:
    assert estimate.rate(steady(100, 3) + steady(1000, 1), 3.0, 1.0).mbps == pytest.approx(100)


def test_a_bin_that_is_not_over_does_not_count() -> None:
    assert estimate.rate([*steady(100, 2.0), 1], 2.05, 1.0).mbps == pytest.approx(100)


def test_a_silence_counts() -> None:
    assert estimate.rate(steady(100, 2) + [0] * 10, 3.0, 1.0).mbps == pytest.approx(50, rel=0.01)


def test_what_waited_at_the_end_of_the_time_hardly_counts() -> None:
    """A burst that a lost packet held back, on either side of the end."""
    for at in (9, 10, 28, 29):
        bins = steady(20, 3)
        bins[at], bins[at + 1 if at < 29 else at - 1] = 2 * bins[at], 0
        assert estimate.rate(bins, 3.0, 1.0).mbps == pytest.approx(20, rel=0.012), at


def test_a_dip_shows_in_its_own_figure() -> None:
    found = estimate.rate(steady(100, 2.5) + steady(5, 0.5) + steady(100, 2), 5.0, 1.0)
    assert found.p10_mbps == pytest.approx(5)
    assert found.mbps == pytest.approx((3.5 * 100 + 0.5 * 5) / 4, rel=0.03)


def test_a_test_that_was_cut_is_short_and_still_has_a_rate() -> None:
    found = estimate.rate(steady(500, 0.8), 0.8, 1.0)
    assert found.mbps == pytest.approx(500)
    assert found.is_short


def test_less_than_one_bin() -> None:
    assert estimate.rate([1_000_000], 0.04, 1.0).is_short


@pytest.mark.parametrize("bins", [[], [0], [0] * 30])
def test_nothing_has_no_rate(bins: list[int]) -> None:
    assert estimate.rate(bins, 3.0, 1.0) == Rate(mbps=None, p10_mbps=None, measured_s=0.0)


@pytest.mark.parametrize(
    ("wanted_s", "rtt_ms", "discard_s", "duration_s"),
    [(3, 0.5, 1, 3), (3, None, 1, 3), (3, 40, 1, 3), (3, 200, 4, 6), (8, 200, 4, 8), (3, 2000, 40, 15)],
)
def test_a_long_round_trip_takes_longer(
    wanted_s: float, rtt_ms: float | None, discard_s: float, duration_s: float
) -> None:
    assert estimate.discard_s(rtt_ms) == discard_s
    assert estimate.duration_s(wanted_s, rtt_ms, 15.0) == duration_s
