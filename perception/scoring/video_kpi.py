"""video_kpi: how a video feels, 0-100, from its start and its stalls. Our own (自定), with ends near national values.

Not P.1203: its reference code is not free, and only the measured points are used here.
"""

from typing import Final, NamedTuple

from perception.scoring.primitives import lin


class End(NamedTuple):
    """One of the two parts."""

    bad: float
    good: float
    w: float
    """Of the two weights' sum."""


START_S: Final = End(5, 1, 0.4)
STALL_RATIO: Final = End(0.05, 0.001, 0.6)


def video_kpi(
    start_s: float | None,
    stall_ratio: float | None,
    success_ratio: float | None = 1.0,
    *,
    start: End = START_S,
    stall: End = STALL_RATIO,
) -> float | None:
    """From the time to the first picture, and stalled time over playing time. Nothing plays: 0."""
    if success_ratio == 0:
        return 0.0
    begun, fluent = lin(start_s, start.bad, start.good), lin(stall_ratio, stall.bad, stall.good)
    if begun is None or fluent is None or success_ratio is None:
        return None
    return (start.w * begun + stall.w * fluent) / (start.w + stall.w) * success_ratio
