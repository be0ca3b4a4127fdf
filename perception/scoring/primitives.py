"""The two curves that turn a measured value into points, 0-100. Our own choice (自定)."""

import math


def clamp(x: float, low: float, high: float) -> float:
    """`x`, kept within `low` and `high`."""
    return min(max(x, low), high)


def lin(x: float | None, bad: float, good: float) -> float | None:
    """Straight from 0 at `bad` to 100 at `good`, whichever of them is larger; ±infinity is an end."""
    return None if x is None else 100 * clamp((x - bad) / (good - bad), 0, 1)


def log(x: float | None, bad: float, good: float) -> float | None:
    """The same on a logarithmic scale: each doubling is worth the same. 0 for `x` <= 0; both ends are above 0."""
    if x is None:
        return None
    return 0.0 if x <= 0 else 100 * clamp(math.log(x / bad) / math.log(good / bad), 0, 1)
