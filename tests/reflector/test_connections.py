"""Connections are counted in all and by source, and free again."""

from reflector.connections import Connections
from reflector.counts import Counts


def test_bounded_by_source_and_in_all() -> None:
    counts = Counts()
    connections = Connections(3, 2, counts)
    assert connections.enter("a")
    assert connections.enter("a")
    assert not connections.enter("a")
    assert connections.enter("b")
    assert not connections.enter("c")
    assert connections.open == 3
    assert counts.of("connections") == 3
    assert counts.of("connections_refused", "source") == 1
    assert counts.of("connections_refused", "total") == 1
    connections.leave("a")
    assert connections.enter("c")
    for source in ("a", "b", "c"):
        connections.leave(source)
    assert connections.open == 0
    assert not connections._open, "a source that left is forgotten"
