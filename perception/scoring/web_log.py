"""web_log: how waiting for a page feels, 1-5: the logarithmic law between two times. Constants are our own (自定).

The law is known from studies of waiting; G.1030's constants are not public, and this is never called by that name.
"""

import math
from typing import Final

from perception.scoring.primitives import clamp

T5_S: Final = 0.5
"""At or below it: 5."""
T1_S: Final = 10.0
"""At or above it: 1."""


def web_log(total_ms: float | None, *, t5_s: float = T5_S, t1_s: float = T1_S, failed: bool = False) -> float | None:
    """The score of one page, or of the median of many; a failure is 1."""
    if failed:
        return 1.0
    if total_ms is None:
        return None
    if total_ms <= 0:
        return 5.0
    return clamp(5 - 4 * math.log(total_ms / 1000 / t5_s) / math.log(t1_s / t5_s), 1, 5)


def web(total_ms: float | None, success_ratio: float | None, *, t5_s: float = T5_S, t1_s: float = T1_S) -> float | None:
    """The web indicator, 0-100: web_log of the successes' median, times how many succeed. Nothing succeeds: 0."""
    if success_ratio == 0:
        return 0.0
    mos = web_log(total_ms, t5_s=t5_s, t1_s=t1_s)
    return None if mos is None or success_ratio is None else 25 * (mos - 1) * success_ratio
