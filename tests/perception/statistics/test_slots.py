"""Slot states and what they add up to."""

import pytest

from perception import profiles
from perception.statistics.slots import Slots, gate

GATES = profiles.named("wifi-public-2026").gates


def test_shares_of_a_week() -> None:
    week = Slots(expected=1000, ok=800, failed=50, invalid=20, skipped=80, planned=60, suppressed=40)
    assert (week.attempted, week.records, week.missing) == (850, 950, 50)
    assert week.completeness == pytest.approx(0.95)
    assert week.validity == pytest.approx(850 / 940)
    assert week.success_ratio == pytest.approx(800 / 850)


def test_skips_that_were_not_planned_lower_validity() -> None:
    assert Slots(expected=100, ok=50, skipped=50).validity == 0.5
    assert Slots(expected=100, ok=50, skipped=50, planned=50).validity == 1


def test_nothing_expected_is_unknown() -> None:
    nothing = Slots()
    assert (nothing.completeness, nothing.validity, nothing.success_ratio) == (None, None, None)
    assert Slots(expected=10, planned=10, skipped=10).validity is None
    assert Slots(expected=10).completeness == 0


def test_no_share_is_above_one() -> None:
    assert Slots(expected=10, ok=11).completeness == 1
    assert Slots(expected=10, ok=11).missing == 0


def test_a_venue_that_was_paused_a_lot_is_starred() -> None:
    assert not Slots(expected=100, suppressed=5).is_starred
    assert Slots(expected=100, suppressed=6).is_starred


def test_slots_add() -> None:
    assert Slots.total([Slots(1, 1), Slots(2, 0, 1, 1)]) == Slots(3, 1, 1, 1)
    assert Slots.total([]) == Slots()


@pytest.mark.parametrize(
    ("validity", "state"),
    [(None, "no_rank"), (0.69, "no_rank"), (0.7, "flag"), (0.89, "flag"), (0.9, "publish"), (1.0, "publish")],
)
def test_gates(validity: float | None, state: str) -> None:
    assert gate(validity, GATES) == state


def test_availability_of_a_week() -> None:
    assert Slots(expected=2016, ok=2004, failed=12).success_ratio == pytest.approx(0.994048, abs=1e-6)
