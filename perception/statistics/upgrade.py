"""Before and after an upgrade: the change of the upgraded venue less the change of those that were not upgraded."""

import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Final, Literal, NamedTuple

from perception.statistics.intervals import HIGH, MIN_DAYS, NOT_KNOWN, Interval, mean, t_quantile

MIN_WEEKS: Final = 2
"""Of a baseline; 4 are better."""
WEEKS: Final = 4
DAYS_OF_WEEK: Final = 7
LEAST_POINTS: Final = 1.0
"""A smaller change of a score is none, however certain (自定)."""
ONE_DAY: Final = timedelta(days=1)

Days = Mapping[date, float]
"""A venue's value by local day."""
Answer = Literal["better", "no_evidence", "worse", "no_control", "no_baseline"]
"""有改善, 无证据, 变差, 无对照 (no causal wording), and a baseline or an after that is too short."""


class Windows(NamedTuple):
    """Whole weeks before and after the week of the upgrade, which is in neither. First day, and the day after."""

    before: tuple[date, date]
    after: tuple[date, date]


class Effect(NamedTuple):
    """Of an upgrade."""

    answer: Answer
    estimate: float | None
    """Difference in differences; without a control the plain difference."""
    interval: Interval
    """95 %, Student's t over weeks."""
    before: float | None
    """Mean of the upgraded venue."""
    after: float | None
    controls: int


def windows(upgraded: date, last_day: date, weeks: int = WEEKS) -> Windows | None:
    """At most `weeks` whole weeks on either side, up to `last_day`; None before the first whole week has passed."""
    cut_over = upgraded - upgraded.weekday() * ONE_DAY
    first = cut_over + DAYS_OF_WEEK * ONE_DAY
    whole = ((last_day - first).days + 1) // DAYS_OF_WEEK
    if whole < 1:
        return None
    length = weeks * DAYS_OF_WEEK * ONE_DAY
    return Windows((cut_over - length, cut_over), (first, first + min(whole, weeks) * DAYS_OF_WEEK * ONE_DAY))


def effect(
    found: Windows | None,
    upgraded: Days,
    controls: Sequence[Days],
    *,
    least: float = LEAST_POINTS,
    higher_is_better: bool = True,
) -> Effect:
    """The venue's change between the windows less the mean change of its controls.

    Each day of the venue is seen against its controls' (as changes from their own level before); the means of whole
    weeks are the sample. Weeks, not days: a venue drifts by whole weeks, and days that share a week's drift would make
    an interval that claims an effect where there is none. Student's t with the pooled variance of both windows' weeks.
    Better or worse is only what excludes 0 and is at least `least`, in the unit of the values.
    """
    if found is None:
        return Effect("no_baseline", None, NOT_KNOWN, None, None, sum(bool(days) for days in controls))
    sides = [_within(upgraded, window) for window in found]
    was, now = (mean(list(days.values())) if days else None for days in sides)
    others = [changes for days in controls if (changes := _changes(days, found))]
    if others:
        sides = [_against(days, others) for days in sides]
    before, after = (_weeks(days) for days in sides)
    if len(before) < MIN_WEEKS or not after:
        return Effect("no_baseline", None, NOT_KNOWN, was, now, len(others))
    estimate = mean(after) - mean(before)
    half = t_quantile(HIGH, len(before) + len(after) - 2) * _error(before, after)
    interval = Interval(estimate - half, estimate + half)
    if not others:
        return Effect("no_control", estimate, interval, was, now, 0)
    answer = _answer(interval, higher_is_better) if abs(estimate) >= least else "no_evidence"
    return Effect(answer, estimate, interval, was, now, len(others))


def _answer(interval: Interval, higher_is_better: bool) -> Answer:
    lo, hi = interval
    if lo is None or hi is None or lo <= 0 <= hi:
        return "no_evidence"
    return "better" if (lo > 0) == higher_is_better else "worse"


def _within(days: Days, window: tuple[date, date]) -> dict[date, float]:
    return {day: days[day] for day in sorted(days) if window[0] <= day < window[1]}


def _changes(control: Days, found: Windows) -> dict[date, float]:
    """A control's days as changes from its mean before; empty when it has no day on one side: its level would count."""
    before, after = (_within(control, window) for window in found)
    if not before or not after:
        return {}
    level = mean(list(before.values()))
    return {day: x - level for day, x in (before | after).items()}


def _against(days: Days, others: Sequence[Days]) -> dict[date, float]:
    """Days less the mean of the controls that have them; days that none has are out."""
    known = {day: [other[day] for other in others if day in other] for day in days}
    return {day: days[day] - mean(theirs) for day, theirs in known.items() if theirs}


def _weeks(days: Days) -> list[float]:
    """Means of the weeks that have enough days."""
    weeks: dict[tuple[int, int], list[float]] = {}
    for day in sorted(days):
        year, number, _ = day.isocalendar()
        weeks.setdefault((year, number), []).append(days[day])
    return [mean(week) for _, week in sorted(weeks.items()) if len(week) >= MIN_DAYS]


def _error(before: Sequence[float], after: Sequence[float]) -> float:
    """Standard error of the difference of two means, from the variance that both samples have in common."""
    squares = sum(math.fsum((x - mean(side)) ** 2 for x in side) for side in (before, after))
    return math.sqrt(squares / (len(before) + len(after) - 2) * (1 / len(before) + 1 / len(after)))
