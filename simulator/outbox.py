"""What a live virtual agent keeps until it is answered: in memory, as a real one does that has no disk."""

from collections import deque
from typing import Final, NamedTuple

from contract.record import Record
from contract.vocabulary import CLASS_OF, CLASSES

KEEP: Final = 5_000
"""Records at most, those in flight among them: half a day of the default schedule."""


class Kept(NamedTuple):
    """A record that waits to be sent."""

    order: int
    since_s: float
    """Monotonic."""
    record: Record


class Outbox:
    """Records that were not sent, by eviction class. When it is full, the oldest of the lowest class goes."""

    def __init__(self) -> None:
        self.dropped = [0] * len(CLASSES)
        """Records lost so far, by class."""
        self._lines: list[deque[Kept]] = [deque() for _ in CLASSES]
        self._order = 0

    def __len__(self) -> int:
        return sum(map(len, self._lines))

    @property
    def oldest(self) -> Kept | None:
        return min((line[0] for line in self._lines if line), default=None)

    def keep(self, record: Record, now_s: float) -> None:
        self._order += 1
        self._lines[CLASS_OF[record.probe]].append(Kept(self._order, now_s, record))

    def take(self) -> Kept:
        """The oldest, to be sent."""
        return min((line for line in self._lines if line), key=lambda line: line[0].order).popleft()

    def drop(self) -> None:
        """Lose one record."""
        kind = next(kind for kind, line in enumerate(self._lines) if line)
        self._lines[kind].popleft()
        self.dropped[kind] += 1
