"""AIM, Cloudflare's points for what a line is good for: streaming, gaming, calls (cloudflare/speedtest, MIT).

A value at a breakpoint belongs to the next step.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

Class = Literal["bad", "poor", "average", "good", "great"]
CLASSES: Final[tuple[Class, ...]] = ("bad", "poor", "average", "good", "great")

_DELAY: Final = ((10, 20, 50, 100, 500), (20, 10, 5, 0, -10, -20))
_JITTER: Final = ((10, 20, 100, 500), (10, 5, 0, -10, -20))
_LOSS: Final = ((0.01, 0.05, 0.25, 0.5), (10, 5, 0, -10, -20))
_DOWN: Final = ((1, 10, 50, 100), (0, 5, 10, 20, 30))

_STREAMING: Final = (15, 20, 40, 60)
_GAMING: Final = (5, 15, 25, 30)
_RTC: Final = (5, 15, 25, 40)


class Experience(NamedTuple):
    """None when a value that it needs was not measured."""

    points: int | None
    class_: Class | None


class Aim(NamedTuple):
    """What the line is good for."""

    streaming: Experience
    gaming: Experience
    rtc: Experience


def aim(
    *,
    rtt_ms: float | None,
    ipdv_mean_ms: float | None,
    loss_ratio: float | None,
    down_mbps: float | None,
    rise_ms: float | None,
) -> Aim:
    """`rise_ms` is the worse direction's (`working_rise_ms`). Loss that is not measured is worth 0 points."""
    rtt, rise = _points(rtt_ms, *_DELAY), _points(rise_ms, *_DELAY)
    jitter, down = _points(ipdv_mean_ms, *_JITTER), _points(down_mbps, *_DOWN)
    loss = 0 if loss_ratio is None else _points(loss_ratio, *_LOSS)
    return Aim(
        streaming=_experience((rtt, loss, down, rise), _STREAMING),
        gaming=_experience((rtt, loss, rise), _GAMING),
        rtc=_experience((rtt, jitter, loss, rise), _RTC),
    )


def _points(value: float | None, breakpoints: Sequence[float], points: Sequence[int]) -> int | None:
    return None if value is None else points[bisect_right(breakpoints, value)]


def _experience(parts: Sequence[int | None], edges: Sequence[int]) -> Experience:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return Experience(None, None)
    total = max(0, sum(known))
    return Experience(total, CLASSES[bisect_right(edges, total)])
