"""A packet train: what was sent, what came back, and the figures that follow. No I/O."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal

from contract.values import Latency


class Train:
    """Bookkeeping of one run. The first `warm_ups` sequence numbers are sent and answered, but never counted."""

    def __init__(self, warm_ups: int) -> None:
        self.warm_ups = warm_ups
        self.unreachable = 0
        """Routers' and our own kernel's answers that there is no way."""
        self.refused = 0
        """Answers that nobody listens at the port."""
        self.lost: tuple[int, int] | None = None
        """Counted packets lost on the way up and on the way down; None when nobody can tell."""
        self._sent: set[int] = set()
        self._rtt_ms: dict[int, float] = {}
        self._duplicates = 0
        self._reordered = 0

    @property
    def complete(self) -> bool:
        """Whether everything that was sent came back."""
        return len(self._rtt_ms) == len(self._sent)

    @property
    def received(self) -> int:
        return len(self._rtt_ms)

    @property
    def sent(self) -> int:
        return len(self._sent)

    def note_sent(self, sequence: int) -> None:
        if sequence >= self.warm_ups:
            self._sent.add(sequence)

    def note_reply(self, sequence: int, rtt_ms: float) -> None:
        """A second reply to one packet is a duplicate; one behind a later one is reordered (RFC 4737). Neither
        changes a time."""
        if sequence not in self._sent:
            return
        if sequence in self._rtt_ms:
            self._duplicates += 1
            return
        if self._rtt_ms and sequence < max(self._rtt_ms):
            self._reordered += 1
        self._rtt_ms[sequence] = rtt_ms

    def values(
        self,
        method: Literal["stamp", "icmp", "tcp"],
        *,
        packet_bytes: int | None,
        interval_ms: float,
        timed: bool = True,
    ) -> Latency:
        """The figures so far; without times when nothing came back, or when they are not `timed`."""
        counted = Latency(
            method=method,
            sent=self.sent,
            received=self.received,
            # A TCP stack hides both.
            duplicates=self._duplicates if method != "tcp" else None,
            reordered=self._reordered if method != "tcp" else None,
            loss_ratio=1 - self.received / self.sent if self.sent else None,
            loss_up_ratio=self.lost[0] / self.sent if self.lost and self.sent else None,
            loss_down_ratio=self.lost[1] / self.sent if self.lost and self.sent else None,
            packet_bytes=packet_bytes,
            interval_ms=interval_ms,
        )
        if not (timed and self._rtt_ms):
            return counted
        rtts = sorted(self._rtt_ms.values())
        counted.rtt_min_ms = rtts[0]
        counted.rtt_mean_ms = math.fsum(rtts) / len(rtts)
        counted.rtt_p50_ms = percentile(rtts, 0.50)
        counted.rtt_p95_ms = percentile(rtts, 0.95)
        counted.rtt_p99_ms = percentile(rtts, 0.99)
        counted.rtt_max_ms = rtts[-1]
        counted.rt_pdv_p95_ms = percentile([rtt - rtts[0] for rtt in rtts], 0.95)
        counted.ipdv_mean_ms = self._ipdv_mean_ms()
        return counted

    def _ipdv_mean_ms(self) -> float | None:
        """Mean absolute difference over packets that were sent one after the other (RFC 3393); None without a pair."""
        differences = [
            abs(self._rtt_ms[b] - self._rtt_ms[a]) for a, b in itertools.pairwise(sorted(self._rtt_ms)) if b == a + 1
        ]
        return math.fsum(differences) / len(differences) if differences else None


def lost_by_direction(numbers: Mapping[int, int], first: int, end: int) -> tuple[int, int] | None:
    """How many of the packets `first` to `end` (not included) were lost on the way up, and on the way down.

    `numbers` has the reflector's own count of replies (RFC 8762, stateful) for each packet that was answered. Between
    two answered packets, the reflector's count grew by what reached it. Packets before `first` and from `end` on were
    sent, too, and do not count; without an answer to one of the latter, or where they cannot be told apart from the
    counted, None.
    """
    if not numbers or max(numbers) < end:
        return None
    up = down = 0
    # Sorted each by itself: a reordered packet took its neighbour's number.
    answered = [(-1, -1), *zip(sorted(numbers), sorted(numbers.values()), strict=True)]
    for (before, number_before), (after, number_after) in itertools.pairwise(answered):
        lost = after - before - 1
        counted = max(0, min(after, end) - max(before + 1, first))
        reached = number_after - number_before - 1
        if counted == 0:
            continue
        if not 0 <= reached <= lost or (counted < lost and reached not in (0, lost)):
            return None
        back_lost = reached if counted == lost else counted if reached else 0
        up, down = up + counted - back_lost, down + back_lost
    return up, down


def percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest rank: the smallest value that is not below `share` of them. `ordered` ascends and is not empty."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
