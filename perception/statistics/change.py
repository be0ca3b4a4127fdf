"""Week on week: how much a venue's value changed, and whether one may say so.

Hours of the week are paired by (venue, probe, target, hour of week); their differences give the estimate, the days'
means of them the interval and the p value, Holm's step-down the correction over venues.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np

from perception.statistics.intervals import NOT_KNOWN, Interval, around, mean, p_value

HOURS_OF_DAY: Final = 24
ALPHA: Final = 0.05

Kind = Literal["score", "rate", "time", "ratio"]
Word = Literal["up", "down", "flat"]

LEAST: Final[dict[Kind, float]] = {"score": 2.0, "rate": 0.10, "time": 5.0, "ratio": 0.01}
"""The least change that matters (自定): points, share of last week's rate, ms, ratio (1 个百分点)."""


class Change(NamedTuple):
    """This week minus last week."""

    estimate: float | None
    """Hodges-Lehmann of all pairs; None without any."""
    interval: Interval
    """95 %, around the mean of the days' means."""
    p: float | None
    """Two-sided, uncorrected; None under 4 days."""
    pairs: int
    days: int


def hodges_lehmann(differences: Sequence[float]) -> float | None:
    """The median of all means of two, each with itself included; None of nothing."""
    d = np.asarray(differences, np.float64)
    if d.size == 0:
        return None
    first, second = np.triu_indices(d.size)
    return float(np.median((d[first] + d[second]) / 2))


def pairs(this: Mapping[int, float], last: Mapping[int, float]) -> dict[int, float]:
    """Differences by hour of the week (0-167, Monday 00:00 is 0) of one series; hours that one week lacks are out."""
    return {hour: this[hour] - last[hour] for hour in sorted(this.keys() & last.keys())}


def change(series: Sequence[Mapping[int, float]]) -> Change:
    """From the paired differences of a venue's series, each by hour of the week."""
    differences = [d for one in series for d in one.values()]
    by_day: dict[int, list[float]] = {}
    for one in series:
        for hour, d in one.items():
            by_day.setdefault(hour // HOURS_OF_DAY, []).append(d)
    days = [mean(by_day[day]) for day in sorted(by_day)]
    if not days:
        return Change(None, NOT_KNOWN, None, 0, 0)
    return Change(hodges_lehmann(differences), around(mean(days), days), p_value(days), len(differences), len(days))


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Holm's adjusted p values, by venue; None stays None and counts for nothing."""
    known = sorted((p, name) for name, p in p_values.items() if p is not None)
    adjusted: dict[str, float | None] = dict.fromkeys(p_values)
    highest = 0.0
    for place, (p, name) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - place)))
        adjusted[name] = highest
    return adjusted


def word(found: Change, adjusted_p: float | None, kind: Kind, last: float | None = None) -> Word:
    """`up` or `down` only when it is significant (显著): the interval excludes 0, the corrected p is below 0.05, and
    the change is large enough to matter; else `flat` (持平). A rate is judged against `last` week's."""
    lo, hi = found.interval
    if found.estimate is None or lo is None or hi is None or adjusted_p is None:
        return "flat"
    least = LEAST[kind] if kind != "rate" else math.inf if last is None else LEAST[kind] * abs(last)
    size = abs(found.estimate)
    if lo <= 0 <= hi or adjusted_p >= ALPHA or size == 0 or size < least * (1 - 1e-9):
        return "flat"
    return "up" if found.estimate > 0 else "down"
