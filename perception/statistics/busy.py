"""Busy and idle hours: two means that make one rate, whatever share of the tests fell into either."""

from collections.abc import Sequence
from typing import NamedTuple

from perception.statistics.intervals import mean


class BusyIdle(NamedTuple):
    """A rate in busy and in idle hours."""

    value: float | None
    """w*busy + (1-w)*idle; None when one of them is."""
    busy: float | None
    idle: float | None
    ratio: float | None
    """忙闲比: busy over idle; None when idle is 0."""


def combine(busy: float | None, idle: float | None, w_busy: float) -> BusyIdle:
    """From the two means. A weight of 0 or 1 needs only one of them."""
    parts = [(weight, x) for weight, x in ((w_busy, busy), (1 - w_busy, idle)) if weight > 0]
    known = [(weight, x) for weight, x in parts if x is not None]
    value = sum(weight * x for weight, x in known) if len(known) == len(parts) else None
    ratio = None if busy is None or idle is None or idle == 0 else busy / idle
    return BusyIdle(value, busy, idle, ratio)


def busy_idle(busy: Sequence[float], idle: Sequence[float], w_busy: float) -> BusyIdle:
    """From the tests; a failed one is in as the value it counts for (0 Mbit/s)."""
    return combine(mean(busy) if busy else None, mean(idle) if idle else None, w_busy)
