"""95 % intervals: of a ratio, of a quantile, of a mean over days."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from scipy.special import bdtr, bdtrik, stdtr, stdtrit

Z: Final = 1.959963984540054
"""Of the normal distribution, for 95 %."""
LOW: Final = 0.025
HIGH: Final = 0.975
MIN_DAYS: Final = 4
"""Fewer days say too little about how days differ."""


class Interval(NamedTuple):
    """From and to; None: unbounded, or not known."""

    lo: float | None
    hi: float | None

    def within(self, least: float, most: float) -> "Interval":
        """No wider than what the value can be."""
        return Interval(*(None if end is None else min(max(end, least), most) for end in self))


NOT_KNOWN: Final = Interval(None, None)


def wilson(k: int, n: int) -> Interval:
    """Wilson's score interval of the ratio k/n; not known for n = 0.

    :raises ValueError: unless 0 <= k <= n.
    """
    if not 0 <= k <= n:
        raise ValueError(f"k: {k} of {n} is no share; k is within 0 and n")
    if n == 0:
        return NOT_KNOWN
    p, square = k / n, Z * Z / n
    middle = (p + square / 2) / (1 + square)
    half = Z * math.sqrt(p * (1 - p) / n + square / (4 * n)) / (1 + square)
    # At the ends the formula gives 0 and 1, but for rounding.
    return Interval(0.0 if k == 0 else middle - half, 1.0 if k == n else middle + half)


class RankInterval(NamedTuple):
    """Between which order statistics a quantile lies. Ranks count from 1; None: unbounded."""

    lo_rank: int | None
    hi_rank: int | None
    coverage: float
    """The probability that it holds the quantile: at least 0.95 where both ranks are bounded."""

    def among(self, values: Sequence[float], failed: int = 0) -> Interval:
        """The interval in values; +infinity where the order statistic is a failure."""
        ranked = [*sorted(values), *[math.inf] * failed]
        return Interval(*(None if rank is None else ranked[rank - 1] for rank in (self.lo_rank, self.hi_rank)))


@lru_cache(maxsize=4096)
def order_stat_ci(n: int, q: float) -> RankInterval:
    """The ranks of n samples between which the quantile `q` lies in 95 %, without any assumption on the distribution.

    :raises ValueError: for a negative `n` or a `q` that is not between 0 and 1.
    """
    if n < 0:
        raise ValueError(f"n: {n} samples; n is at least 0")
    if not 0 < q < 1:
        raise ValueError(f"q: a quantile's interval is asked between 0 and 1, not at {q!r}")
    if n == 0:
        return RankInterval(None, None, 1.0)
    lo, hi = _binomial_quantile(LOW, n, q), _binomial_quantile(HIGH, n, q) + 1
    coverage = float(bdtr(hi - 1, n, q)) - (float(bdtr(lo - 1, n, q)) if lo else 0.0)
    return RankInterval(lo if lo >= 1 else None, hi if hi <= n else None, coverage)


def _binomial_quantile(p: float, n: int, q: float) -> int:
    """The least k with P(B <= k) >= p, of n tries at q. From scipy.special: scipy.stats takes a second to import."""
    k = math.ceil(bdtrik(p, n, q))
    return k - 1 if k > 0 and bdtr(k - 1, n, q) >= p else k


def mean(values: Sequence[float]) -> float:
    """Of at least one value."""
    return math.fsum(values) / len(values)


def standard_error(values: Sequence[float]) -> float:
    """Of the mean, from at least two values."""
    middle = mean(values)
    return math.sqrt(math.fsum((x - middle) ** 2 for x in values) / (len(values) - 1) / len(values))


def around(value: float | None, days: Sequence[float]) -> Interval:
    """参考区间: Student's t over the day values, around the week's own value. Not known under 4 days."""
    if value is None or len(days) < MIN_DAYS:
        return NOT_KNOWN
    half = t_quantile(HIGH, len(days) - 1) * standard_error(days)
    return Interval(value - half, value + half)


def p_value(values: Sequence[float]) -> float | None:
    """Two-sided, of the mean being 0 (Student's t). None under 4 values; 1 for all zeros, 0 for equal others."""
    if len(values) < MIN_DAYS:
        return None
    error = standard_error(values)
    if error == 0:
        return float(mean(values) == 0)
    return 2 * float(stdtr(len(values) - 1, -abs(mean(values)) / error))


@lru_cache(maxsize=64)
def t_quantile(p: float, df: int) -> float:
    """Of Student's t distribution."""
    return float(stdtrit(df, p))
