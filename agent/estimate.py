"""From counted payload to a rate. Pure: no I/O, no clock.

A rate is bytes over time behind a discarded start, never a percentile or a trimmed mean of slices: those read up to
74 % high with bursty senders. Both ends of the time are blurred: what waited behind a lost packet is delivered at once,
and a sharp end would count that as rate or miss it (at 20 Mbit/s a standard deviation of 2.2 % instead of 0.7 %).
"""

import itertools
import math
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from agent.train import percentile
from contract.throughput import BIN_S

DISCARD_S: Final = 1.0
DISCARD_RTTS: Final = 20
LEFT_S: Final = 2.0
"""What should be left behind the discarded start."""
SHORT_S: Final = 1.5
"""With less left the test is flagged `short_test`."""
BLUR_BINS: Final = 3
"""Each end of the time is the mean of 7 moments, 0.6 s wide in all."""
SLICE_BINS: Final = 5
"""500 ms: what the dip indicator looks at."""


class Rate(Struct, kw_only=True, frozen=True):
    """What one direction carried."""

    mbps: float | None
    """None when nothing was left to measure."""
    p10_mbps: float | None
    """The 10th percentile of 500 ms slices; None with fewer than two of them."""
    measured_s: float
    """The time that `mbps` rests on."""

    @property
    def is_short(self) -> bool:
        return self.measured_s < SHORT_S


def discard_s(idle_rtt_ms: float | None) -> float:
    """How much of the start is left out: long enough for every connection to find its pace."""
    return max(DISCARD_S, DISCARD_RTTS * (idle_rtt_ms or 0.0) / 1000)


def duration_s(wanted_s: float, idle_rtt_ms: float | None, at_most_s: float) -> float:
    """Of a test in which :data:`LEFT_S` are left behind the start."""
    return min(at_most_s, max(wanted_s, discard_s(idle_rtt_ms) + LEFT_S))


def rate(bins: Sequence[int], ended_s: float, discard: float) -> Rate:
    """The rate behind the first `discard` seconds; of all there is, when that leaves nothing.

    :param bins: payload bytes of each :data:`BIN_S` from the first payload byte on.
    :param ended_s: when the test ended, from the first payload byte on: at its duration, its cap or its last byte.
    """
    last = min(len(bins), math.floor(ended_s / BIN_S + 1e-9))
    first = round(discard / BIN_S)
    if last - first >= 1:
        return _rate(bins, first, last, measured_s=(last - first) * BIN_S)
    if last >= 1:
        return _rate(bins, 0, last, measured_s=0.0)
    if bins and bins[0]:
        return Rate(mbps=_mbps(bins[0], max(ended_s, BIN_S)), p10_mbps=None, measured_s=0.0)
    return _NOTHING


def _rate(bins: Sequence[int], first: int, last: int, *, measured_s: float) -> Rate:
    if not sum(bins[first:last]):
        return _NOTHING
    so_far = [0, *itertools.accumulate(bins[:last])]
    blur = min(BLUR_BINS, (last - first) // 4)
    start, end = first + blur, last - blur
    size = _mean(so_far[end - blur : last + 1]) - _mean(so_far[first : start + blur + 1])
    return Rate(mbps=_mbps(size, (end - start) * BIN_S), p10_mbps=_p10(bins[first:last]), measured_s=measured_s)


_NOTHING: Final = Rate(mbps=None, p10_mbps=None, measured_s=0.0)


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)


def _p10(bins: Sequence[int]) -> float | None:
    slices = [sum(bins[i : i + SLICE_BINS]) for i in range(0, len(bins) - SLICE_BINS + 1, SLICE_BINS)]
    if len(slices) < 2:
        return None
    return _mbps(percentile(sorted(slices), 0.10), SLICE_BINS * BIN_S)


def _mbps(size: float, seconds: float) -> float:
    return size * 8 / seconds / 1e6
