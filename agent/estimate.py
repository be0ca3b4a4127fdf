"""From counted payload to a rate. Pure: no I/O, no clock.

A rate is bytes over time behind a discarded start, never a percentile or a trimmed mean of slices: those read up to
74 % high with bursty senders.
"""

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
    """The rate behind the first `discard` seconds.

    :param bins: payload bytes of each :data:`BIN_S` from the first payload byte on.
    :param ended_s: when the test ended, from the first payload byte on: at its duration, its cap or its last byte.
    """
    whole = min(len(bins), math.floor(ended_s / BIN_S + 1e-9))
    first = round(discard / BIN_S)
    if whole - first < 1:
        # Too short for what should be left out: all of it, and it says so.
        first = 0
        seconds = max(ended_s, BIN_S) if whole < 1 else whole * BIN_S
        counted = bins[: max(whole, 1)]
    else:
        seconds = (whole - first) * BIN_S
        counted = bins[first:whole]
    if not counted or not sum(counted):
        return Rate(mbps=None, p10_mbps=None, measured_s=0.0)
    measured_s = 0.0 if first == 0 and discard > 0 else seconds
    return Rate(mbps=_mbps(sum(counted), seconds), p10_mbps=_p10(counted), measured_s=measured_s)


def _p10(bins: Sequence[int]) -> float | None:
    slices = [sum(bins[i : i + SLICE_BINS]) for i in range(0, len(bins) - SLICE_BINS + 1, SLICE_BINS)]
    if len(slices) < 2:
        return None
    return _mbps(percentile(sorted(slices), 0.10), SLICE_BINS * BIN_S)


def _mbps(size: float, seconds: float) -> float:
    return size * 8 / seconds / 1e6
