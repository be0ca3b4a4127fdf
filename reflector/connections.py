"""Open connections, in all and from each source: one count for every server of the reflector."""

import functools
from collections import Counter
from ipaddress import ip_network

from reflector.counts import Counts


@functools.lru_cache(4096)
def source_of(address: str) -> str:
    """Whom limits count as one: an address, of IPv6 its /64, which one subscriber has whole."""
    return str(ip_network((address.partition("%")[0], 64), strict=False)) if ":" in address else address


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
        source = source_of(source)
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
        source = source_of(source)
        self._open[source] -= 1
        if self._open[source] <= 0:
            del self._open[source]
