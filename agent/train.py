"""A packet train: what was sent, what came back, and the figures that follow. No I/O."""

import itertools
import math
from collections.abc import Sequence
from errno import ECONNREFUSED
from typing import Literal

from contract.values import Latency

Method = Literal["stamp", "icmp", "tcp"]


class Train:
    """Bookkeeping of one run. The first `warm_ups` sequence numbers are sent and answered, but never counted; nor are
    trailers, which follow the train."""

    def __init__(self, warm_ups: int) -> None:
        self.warm_ups = warm_ups
        self.unreachable = 0
        """Routers' and our own kernel's answers that there is no way."""
        self.refused = 0
        """Those of them that say that the port is closed."""
        self.heard = False
        """Whether anything was answered, warm-ups included."""
        self._sent: set[int] = set()
        self._rtt_ms: dict[int, float] = {}
        self._duplicates = 0
        self._reordered = 0
        self._trailers: list[int] = []
        self._numbers: dict[int, int] = {}
        """The sequence number behind each number that the reflector gave its replies."""
        self._renumbered = False
        """It gave one number to two packets."""

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

    def rtts_ms(self) -> list[float]:
        """Ascending."""
        return sorted(self._rtt_ms.values())

    def note_trailer(self, sequence: int) -> None:
        self._trailers.append(sequence)

    def note_no_way(self, code: int) -> None:
        """There is no way, says errno `code`."""
        self.unreachable += 1
        self.refused += code == ECONNREFUSED

    def note_reply(self, sequence: int, rtt_ms: float, number: int | None = None) -> None:
        """A second reply to one packet is a duplicate; one behind a later one is reordered (RFC 4737). Neither
        changes a time.

        :param number: how many replies the reflector sent before this one; None where it does not say.
        """
        self.heard = True
        if number is not None:
            self._renumbered |= self._numbers.setdefault(number, sequence) != sequence
        if sequence not in self._sent:
            return
        if sequence in self._rtt_ms:
            self._duplicates += 1
            return
        if self._rtt_ms and sequence < max(self._rtt_ms):
            self._reordered += 1
        self._rtt_ms[sequence] = rtt_ms

    @property
    def tail_answered(self) -> bool:
        """Whether the last packet or a trailer was answered: then the reflector's count covers the whole train."""
        return max(self._sent, default=-1) in self._rtt_ms or self._first_trailer() is not None

    @property
    def lost(self) -> tuple[int, int] | None:
        """Packets that were lost on their way up, and replies lost on their way down.

        From the reflector's own count of its replies: what has no number never arrived there; a number that did not
        come back was lost on the way down. None where it does not count, or when its count at the train's end is
        not known for certain.
        """
        end = self._replies_sent()
        if end is None or self._renumbered:
            return None
        down = end - sum(number < end for number in self._numbers)
        up = self.sent - self.received - down
        # Less than none: it counts something else, or copies the sender's number as a stateless reflector does.
        return (up, down) if up >= 0 and down >= 0 else None

    def _replies_sent(self) -> int | None:
        """How many packets of the train the reflector answered."""
        counted = {sequence: number for number, sequence in self._numbers.items() if sequence in self._sent}
        last = max(self._sent, default=None)
        if last in counted:
            return max(counted.values()) + 1
        trailer = self._first_trailer()
        if trailer is None or last is None:
            return None
        number = min(number for number, sequence in self._numbers.items() if sequence == trailer)
        unanswered = self._trailers.index(trailer)
        if not unanswered:
            return number
        # Which of the unanswered ones at the end, packets and trailers, were lost on which way? Certain only when all
        # of them were lost on the same.
        known = max(counted.values(), default=-1) + 1
        missing = sum(sequence > max(counted, default=-1) for sequence in self._sent)
        if number == known:
            return known
        return number - unanswered if number - known == missing + unanswered else None

    def _first_trailer(self) -> int | None:
        """The first that was answered with a number."""
        answered = set(self._numbers.values())
        return next((trailer for trailer in self._trailers if trailer in answered), None)

    def values(
        self,
        method: Literal["stamp", "icmp", "tcp"],
        *,
        packet_bytes: int | None,
        interval_ms: float,
        timed: bool = True,
    ) -> Latency:
        """The figures so far; without times when nothing came back, or when they are not `timed`.

        The ratio of each direction is that of the packets which were sent in it: down, the reflector's replies.
        """
        up, down = self.lost or (None, None)
        replies = self.sent - (up or 0)
        counted = Latency(
            method=method,
            sent=self.sent,
            received=self.received,
            # A TCP stack hides both.
            duplicates=self._duplicates if method != "tcp" else None,
            reordered=self._reordered if method != "tcp" else None,
            loss_ratio=1 - self.received / self.sent if self.sent else None,
            loss_up_ratio=None if up is None else up / self.sent,
            loss_down_ratio=None if down is None or not replies else down / replies,
            packet_bytes=packet_bytes,
            interval_ms=interval_ms,
        )
        if not (timed and self._rtt_ms):
            return counted
        rtts = self.rtts_ms()
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


def percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest rank: the smallest value that is not below `share` of them. `ordered` ascends and is not empty."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
