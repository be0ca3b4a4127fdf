"""Connections are counted in all and by source, and free again."""

from reflector.connections import Connections, source_of
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


def test_an_ipv6_network_of_one_subscriber_is_one_source() -> None:
    connections = Connections(10, 1, Counts())
    assert connections.enter("2001:db8::1")
    assert not connections.enter("2001:db8::2")
    assert connections.enter("2001:db8:0:1::1")
    connections.leave("2001:db8::2")
    assert connections.enter("2001:db8::3")
    assert source_of("fe80::1%eth0") == "fe80::/64"
    assert source_of("192.0.2.1") == "192.0.2.1"
