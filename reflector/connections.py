"""Open connections, in all and from each source: one count for every server of the reflector."""

from collections import Counter

from reflector.counts import Counts


class Connections:
    """:meth:`enter` for each one that is accepted, :meth:`leave` when it is closed."""

    def __init__(self, total: int, per_source: int, counts: Counts) -> None:
        self._total = total
        self._per_source = per_source
        """A venue's boxes may share one address."""
        self._counts = counts
        self._open: Counter[str] = Counter()

    @property
    def open(self) -> int:
        return self._open.total()

    def enter(self, source: str) -> bool:
        """Whether there is room for one more; if not, close it unanswered and do not leave."""
        if self.open >= self._total:
            self._counts.add("connections_refused", "total")
            return False
        if self._open[source] >= self._per_source:
            self._counts.add("connections_refused", "source")
            return False
        self._open[source] += 1
        self._counts.add("connections")
        return True

    def leave(self, source: str) -> None:
        self._open[source] -= 1
        if self._open[source] <= 0:
            del self._open[source]
