"""Tiers, and ranks with their intervals."""

import hashlib

import numpy as np
import pytest

from perception.statistics.ranking import Ranked, by_pass_ratio, rank_intervals, seed, tiers

FIVE = [
    Ranked("d", 83, 80, 87), Ranked("a", 91, 88, 93), Ranked("e", 70, 64, 75), Ranked("c", 84, 81, 86.5),
    Ranked("b", 89, 86, 92),
]  # fmt: skip


def test_tiers() -> None:
    assert tiers(FIVE) == [["a", "b"], ["c", "d"], ["e"]]
    assert tiers([]) == []


def test_ties_are_by_name() -> None:
    assert tiers([Ranked("z", 80, 70, 90), Ranked("a", 80, 70, 90)]) == [["a", "z"]]


def test_the_tier_s_leader_decides_not_its_last() -> None:
    chain = [Ranked("a", 90, 85, 95), Ranked("b", 86, 80, 92), Ranked("c", 82, 76, 84)]
    assert tiers(chain) == [["a", "b"], ["c"]]


def test_pass_ratios_are_ranked_by_their_lower_bound() -> None:
    assert by_pass_ratio({"few": (5, 5), "many": (480, 500), "none": (0, 0), "also": (480, 500)}) == [
        "also", "many", "few", "none",
    ]  # fmt: skip


def test_the_seed_is_as_written() -> None:
    said = hashlib.sha256(b"lib|2026-W47|abc").digest()
    assert seed("lib", "2026-W47", "abc") == int.from_bytes(said[:8], "big")


def test_rank_intervals_are_as_wide_as_days_differ() -> None:
    days = {
        "best": [95.0, 96, 95, 97, 96, 95, 96], "second": [80.0, 90, 70, 85, 75, 88, 79],
        "third": [81.0, 89, 72, 84, 74, 87, 78], "last": [20.0, 21, 20, 22, 21, 20, 21], "silent": [],
    }  # fmt: skip
    found = rank_intervals(days, "2026-W47", "sha")
    assert found["best"] == (1, 1)
    assert found["last"] == (4, 4)
    assert found["second"] == found["third"] == (2, 3)
    assert "silent" not in found
    assert rank_intervals(days, "2026-W47", "sha") == found
    assert rank_intervals({}, "2026-W47", "sha") == {}


def test_equal_venues_share_the_better_rank() -> None:
    assert rank_intervals({"a": [80.0] * 7, "b": [80.0] * 7, "c": [70.0] * 7}, "2026-W47", "x") == {
        "a": (1, 1), "b": (1, 1), "c": (3, 3),
    }  # fmt: skip


def test_a_venue_s_draws_are_its_own() -> None:
    """Written out, so that anyone can repeat it."""
    days = {"a": [80.0, 82, 84, 86, 88, 90, 92], "b": [85.0, 85, 85, 85, 85, 87, 85]}
    drawn = {}
    for venue, scores in days.items():
        random = np.random.Generator(np.random.PCG64(seed(venue, "2026-W47", "sha")))
        drawn[venue] = np.array([[scores[i] for i in row] for row in random.integers(0, 7, (2000, 7))]).mean(axis=1)
    ranks = 1 + (drawn["b"] > drawn["a"] + 1e-9)
    expected = tuple(np.quantile(ranks, (0.05, 0.95)))
    assert rank_intervals(days, "2026-W47", "sha")["a"] == pytest.approx(expected)
