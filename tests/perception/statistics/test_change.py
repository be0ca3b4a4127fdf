"""Week on week, and before and after an upgrade."""

from datetime import date, timedelta

import pytest

from perception.statistics.change import Change, change, hodges_lehmann, holm, pairs, word
from perception.statistics.intervals import Interval
from perception.statistics.upgrade import effect, windows

MONDAY = date(2026, 9, 7)


def test_hodges_lehmann() -> None:
    assert hodges_lehmann([1.2, -0.4, 2.1, 0.8, 1.5, 0.3, -0.1]) == pytest.approx(0.775)
    assert hodges_lehmann([3]) == 3
    assert hodges_lehmann([]) is None


def test_hours_that_one_week_lacks_are_no_pair() -> None:
    assert pairs({0: 5.0, 1: 7.0}, {1: 4.0, 2: 9.0}) == {1: 3.0}


def week(day: dict[int, float]) -> dict[int, float]:
    return {24 * number + hour: x for number, x in day.items() for hour in (9, 10, 11)}


def test_a_week_that_is_better_every_day() -> None:
    found = change([week({0: 3.0, 1: 3.5, 2: 2.5, 3: 3.0, 4: 3.2, 5: 2.8, 6: 3.0})])
    assert (found.pairs, found.days) == (21, 7)
    assert found.estimate == pytest.approx(3, abs=0.1)
    assert found.p is not None
    assert found.p < 1e-4
    assert word(found, found.p, "score") == "up"
    assert word(found, 0.06, "score") == "flat"


def test_noise_is_flat() -> None:
    found = change([week({0: 3.0, 1: -3.5, 2: 2.5, 3: -3.0, 4: 3.2, 5: -2.8, 6: 1.0})])
    assert word(found, found.p, "score") == "flat"


def test_days_weigh_the_same_however_many_hours_they_have() -> None:
    one_day = dict.fromkeys(range(24), 10.0)
    found = change([one_day | {24: 0.0, 48: 0.0, 72: 0.0}])
    assert sum(filter(None, found.interval)) / 2 == pytest.approx(2.5)


def test_few_days_have_no_interval_and_are_flat() -> None:
    found = change([week({0: 9.0, 1: 9.1, 2: 9.2})])
    assert (found.interval, found.p) == ((None, None), None)
    assert word(found, found.p, "score") == "flat"
    assert change([]) == (None, (None, None), None, 0, 0)


def changed(by: float) -> Change:
    return Change(by, Interval(by - 0.001, by + 0.001), 0.001, 100, 7)


@pytest.mark.parametrize(
    ("by", "kind", "last", "said"),
    [
        (2.0, "score", None, "up"), (1.9, "score", None, "flat"), (-2.0, "score", None, "down"),
        (5.0, "rate", 50.0, "up"), (4.9, "rate", 50.0, "flat"), (-5.0, "rate", 50.0, "down"), (9, "rate", None, "flat"),
        (-5.0, "time", None, "down"), (-4.9, "time", None, "flat"), (0.01, "ratio", None, "up"),
        (0.009, "ratio", None, "flat"),
    ],
)  # fmt: skip
def test_a_change_must_matter(by: float, kind: str, last: float | None, said: str) -> None:
    assert word(changed(by), 0.01, kind, last) == said  # type: ignore[arg-type]


def test_holm() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": None, "e": 0.9})
    assert found == {
        "a": pytest.approx(0.04), "b": pytest.approx(0.09), "c": pytest.approx(0.09), "d": None, "e": pytest.approx(0.9)
    }  # fmt: skip
    assert holm({}) == {}


# Upgrade


def days(first: date, count: int, level: float, wobble: float = 0.0) -> dict[date, float]:
    all_days = [first + timedelta(n) for n in range(count)]
    weekend = [2.0 if day.weekday() > 4 else 0.0 for day in all_days]
    return {day: level + wobble * ((n * 5) % 7 - 3) + weekend[n] for n, day in enumerate(all_days)}


def test_the_cut_over_week_is_in_neither_window() -> None:
    found = windows(date(2026, 9, 30), date(2026, 10, 25))
    assert found is not None
    assert found.before == (date(2026, 8, 31), date(2026, 9, 28))
    assert found.after == (date(2026, 10, 5), date(2026, 10, 26))
    assert windows(date(2026, 9, 30), date(2026, 10, 10)) is None


UPGRADE = windows(MONDAY, MONDAY + timedelta(weeks=5, days=-1))
FIRST, AFTER = MONDAY - timedelta(weeks=4), MONDAY + timedelta(weeks=1)


def venue(before: float, after: float, wobble: float = 0.3) -> dict[date, float]:
    drift = [0.2, -0.3, 0.1, 0.0, -0.1, 0.3, -0.2, 0.1]
    found = days(FIRST, 28, before, wobble) | days(AFTER, 28, after, -wobble)
    return {day: x + wobble * drift[n // 7] for n, (day, x) in enumerate(sorted(found.items()))}


def test_an_improvement_beyond_the_controls() -> None:
    found = effect(UPGRADE, venue(70, 80), [venue(72, 73), venue(71, 72)])
    assert found.answer == "better"
    assert found.estimate == pytest.approx(9, abs=0.01)
    assert found.controls == 2
    assert effect(UPGRADE, venue(70, 80), [venue(72, 73)], higher_is_better=False).answer == "worse"


def test_what_the_controls_did_as_well_is_no_evidence() -> None:
    assert effect(UPGRADE, venue(70, 80, 0.3), [venue(70, 80, 0.5)]).answer == "no_evidence"


def test_without_a_control_nothing_is_claimed() -> None:
    found = effect(UPGRADE, venue(70, 80), [])
    assert (found.answer, found.estimate) == ("no_control", pytest.approx(10, abs=0.1))
    assert effect(UPGRADE, venue(70, 80), [{}]).answer == "no_control"


def test_a_baseline_of_one_week_is_none() -> None:
    short = days(MONDAY - timedelta(weeks=1), 7, 70) | days(AFTER, 28, 80)
    assert effect(UPGRADE, short, [venue(70, 70)]).answer == "no_baseline"
    assert effect(UPGRADE, days(FIRST, 28, 70), [venue(70, 70)]).answer == "no_baseline"
    assert effect(None, venue(70, 80), [venue(70, 70)]).answer == "no_baseline"


def test_a_week_with_three_days_is_none() -> None:
    short = {day: x for day, x in venue(70, 80).items() if day.weekday() in (0, 1, 2) or day < MONDAY}
    assert effect(UPGRADE, short, [venue(70, 70)]).answer == "no_baseline"


def test_a_change_too_small_to_matter_is_no_evidence() -> None:
    small = venue(70, 70.9, 0.01)
    found = effect(UPGRADE, small, [venue(70, 70, 0.01)])
    assert found.answer == "no_evidence"
    assert found.interval.lo is not None
    assert found.interval.lo > 0
    assert effect(UPGRADE, small, [venue(70, 70, 0.01)], least=0.5).answer == "better"


def test_a_control_that_is_silent_for_a_while_brings_no_level_in() -> None:
    """Two controls at different levels; one misses half of its days after the upgrade."""
    high, low = venue(90, 90), venue(50, 50)
    gaps = {day: x for day, x in high.items() if day < AFTER or day.day % 2}
    found = effect(UPGRADE, venue(70, 80, 0.5), [gaps, low])
    assert found.answer == "better"
    assert found.estimate == pytest.approx(10, abs=0.2)


def test_a_control_without_a_day_on_one_side_is_none() -> None:
    before = {day: x for day, x in venue(70, 70).items() if day < MONDAY}
    assert effect(UPGRADE, venue(70, 80), [before]).answer == "no_control"


def test_a_drift_by_whole_weeks_is_no_effect() -> None:
    """Seven equal weekdays of each week would make it look certain."""
    drift = [0.0, 3.0, -2.0, 1.0, 2.0, 4.0, 0.5, 3.0]
    wavering = days(FIRST, 28, 70) | days(AFTER, 28, 70)
    wavering = {day: x + drift[n // 7] for n, (day, x) in enumerate(sorted(wavering.items()))}
    found = effect(UPGRADE, wavering, [venue(70, 70, 0.01)])
    assert found.answer == "no_evidence"
    assert found.estimate == pytest.approx(1.9, abs=0.1)
