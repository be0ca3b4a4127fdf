"""How many tests a percentile needs before it may be printed.

Below these counts the 95 % interval of the percentile has no bound on its far side (:func:`order_stat_ci`). What an
indicator of the index needs stands in its profile (`min_n`, `min_busy`, `min_days`).
"""

from typing import Final

FLOORS: Final = {0.5: 30, 0.9: 36, 0.95: 72, 0.99: 368}
"""Least count by percentile. p50's is our own choice (自定): bounded from 6 on, but far too wide."""


def is_enough(n: int, q: float) -> bool:
    """Whether the percentile `q` of `n` tests may be printed, else 样本不足. p5 needs what p95 does.

    :raises ValueError: for a percentile without a floor.
    """
    floor = FLOORS.get(max(q, round(1 - q, 6)))
    if floor is None:
        raise ValueError(f"q: no floor for {q!r}; one of {', '.join(map(str, FLOORS))}")
    return n >= floor
