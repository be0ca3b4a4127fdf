"""Before and after an upgrade: the change of the upgraded venue less the change of those that were not upgraded."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Final, Literal, NamedTuple

from perception.statistics.intervals import NOT_KNOWN, Interval, around, mean

MIN_WEEKS: Final = 2
"""Of a baseline; 4 are better."""
WEEKS: Final = 4
DAYS_OF_WEEK: Final = 7
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
    """95 %, Student's t over the days of the week."""
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


def effect(found: Windows | None, upgraded: Days, controls: Sequence[Days], *, higher_is_better: bool = True) -> Effect:
    """One value for each day of the week: the venue's change between the windows' means of that day, less the mean
    change of the controls. The same weekdays, so that busy days are compared with busy days."""
    if found is None:
        return Effect("no_baseline", None, NOT_KNOWN, None, None, 0)
    before, after = _within(upgraded, found.before), _within(upgraded, found.after)
    was, now = (mean(list(days.values())) if days else None for days in (before, after))
    if _weeks(before) < MIN_WEEKS or not after:
        return Effect("no_baseline", None, NOT_KNOWN, was, now, 0)
    change = _by_weekday(before, after)
    others = [_by_weekday(_within(days, found.before), _within(days, found.after)) for days in controls]
    others = [other for other in others if other]
    if others:
        change = {
            weekday: d - mean(theirs)
            for weekday, d in change.items()
            if (theirs := [other[weekday] for other in others if weekday in other])
        }
    days = list(change.values())
    if not days:
        return Effect("no_baseline", None, NOT_KNOWN, was, now, len(others))
    estimate = mean(days)
    interval = around(estimate, days)
    if not others:
        return Effect("no_control", estimate, interval, was, now, 0)
    return Effect(_answer(interval, higher_is_better), estimate, interval, was, now, len(others))


def _answer(interval: Interval, higher_is_better: bool) -> Answer:
    lo, hi = interval
    if lo is None or hi is None or lo <= 0 <= hi:
        return "no_evidence"
    return "better" if (lo > 0) == higher_is_better else "worse"


def _within(days: Days, window: tuple[date, date]) -> dict[date, float]:
    return {day: days[day] for day in sorted(days) if window[0] <= day < window[1]}


def _weeks(days: Days) -> int:
    """Weeks of which at least 4 days are there."""
    count: dict[tuple[int, int], int] = {}
    for day in days:
        year, week, _ = day.isocalendar()
        count[year, week] = count.get((year, week), 0) + 1
    return sum(number >= 4 for number in count.values())


def _by_weekday(before: Days, after: Days) -> dict[int, float]:
    """The change of each day of the week that both have."""
    sides: list[dict[int, list[float]]] = [{}, {}]
    for side, days in zip(sides, (before, after), strict=True):
        for day, x in days.items():
            side.setdefault(day.weekday(), []).append(x)
    first, second = sides
    return {weekday: mean(second[weekday]) - mean(first[weekday]) for weekday in sorted(first.keys() & second.keys())}
