"""A virtual video player: what is played, when it stalls, and which quality comes next. No I/O and no clock: times are
given, in seconds since the first segment was asked for."""

from collections.abc import Sequence
from typing import Final

SEGMENT_S: Final = 2.0
LADDER_MBPS: Final = (0.4, 0.8, 1.5, 3.0, 5.0, 8.0)
FIRST_MBPS: Final = 0.8
"""Before anything is known of the network."""
BUFFER_S: Final = 10.0
"""A player with more than this ahead asks for nothing."""
SHARE: Final = 0.8
"""Of the throughput that the next segment may need."""
WINDOW: Final = 5
"""Segments that the throughput is estimated from."""

_NOTHING_S: Final = 1e-6
"""Rounding, not a stall."""


class Player:
    """Starts with the first segment, stalls when it has played all that it has, and goes on with the next."""

    def __init__(self) -> None:
        self.start_s: float | None = None
        self.played_s = 0.0
        self.stall_count = 0
        self.stall_s = 0.0
        self.bitrates_mbps: list[float] = []
        """Of the segments that have arrived, in their order."""
        self._at_s = 0.0
        self._ahead_s = 0.0
        self._stalled = False

    @property
    def ahead_s(self) -> float:
        """Seconds of video in the buffer."""
        return self._ahead_s

    @property
    def switches(self) -> int:
        """How often the quality changed."""
        return sum(a != b for a, b in zip(self.bitrates_mbps, self.bitrates_mbps[1:], strict=False))

    @property
    def wait_s(self) -> float:
        """Until there is room for another segment."""
        return max(0.0, self._ahead_s - BUFFER_S)

    def advance(self, at_s: float) -> None:
        """Play until `at_s`. A buffer that runs empty at this very moment is no stall yet."""
        passed_s = at_s - self._at_s
        self._at_s = at_s
        if self.start_s is None or passed_s <= 0:
            return
        played_s = min(passed_s, self._ahead_s)
        self.played_s += played_s
        self._ahead_s -= played_s
        missing_s = passed_s - played_s
        if missing_s > _NOTHING_S:
            self.stall_count += not self._stalled
            self._stalled = True
            self.stall_s += missing_s

    def add(self, at_s: float, bitrate_mbps: float) -> None:
        """A segment has arrived whole."""
        self.advance(at_s)
        self.bitrates_mbps.append(bitrate_mbps)
        self._ahead_s += SEGMENT_S
        self._stalled = False
        if self.start_s is None:
            self.start_s = at_s


def next_mbps(throughputs_mbps: Sequence[float], ladder_mbps: Sequence[float] = LADDER_MBPS) -> float:
    """The highest quality that :data:`SHARE` of the throughput carries: the harmonic mean of the last :data:`WINDOW`
    segments, which a single fast one cannot lift."""
    recent = throughputs_mbps[-WINDOW:]
    if not recent:
        return min(FIRST_MBPS, ladder_mbps[-1])
    affordable_mbps = SHARE * len(recent) / sum(1 / one for one in recent)
    return max((rate for rate in ladder_mbps if rate <= affordable_mbps), default=ladder_mbps[0])


def segment_bytes(bitrate_mbps: float) -> int:
    """Size of one segment."""
    return round(bitrate_mbps * 1e6 * SEGMENT_S / 8)
