"""STAMP on both sides: our sender, our reflector, and an independent parser of every packet."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib import stamp as scapy

from agent.clock import SystemClock
from agent.facts import Facts
from agent.probe import Context
from agent.stamp import Stamp, answers, idle_rtts_ms
from agent.train import Train, lost_by_direction
from contract import stamp
from reflector.counts import Counts
from reflector.stamp import Stamp as Reflector


def context() -> Context:
    return Context(agent="lib-01", interface="lo", clock=SystemClock(), facts=Facts(), timeout_s=10.0)


@asynccontextmanager
async def reflector(packets_per_s: float = 10_000, host: str = "127.0.0.1") -> AsyncIterator[tuple[Reflector, Counts]]:
    counts = Counts()
    server = Reflector(host, 0, counts=counts, packets_per_s=packets_per_s)
    server.open()
    task = asyncio.create_task(server.run())
    try:
        yield server, counts
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


# Layout


@given(
    st.integers(0, 2**32 - 1), st.integers(0, 2_000_000_000 * 10**9), st.integers(0, 2**16 - 1), st.integers(44, 1400)
)
def test_a_request_round_trip(sequence: int, sent_ns: int, session: int, size: int) -> None:
    request = stamp.Request(sequence, sent_ns, session=session)
    packet = stamp.pack_request(request, size)
    assert len(packet) == size
    assert stamp.unpack_request(packet) == request


@given(st.binary(max_size=200))
def test_anything_is_a_packet_or_none(data: bytes) -> None:
    assert (stamp.unpack_request(data) is None) == (len(data) < 44)
    assert (stamp.unpack_reply(data) is None) == (len(data) < 44)


def test_a_time_stamp_is_that_of_ntp() -> None:
    """RFC 5905, figure 3: the half second is the highest bit of the fraction."""
    packet = stamp.pack_request(stamp.Request(1, 500_000_000))
    assert packet[:16].hex() == "00000001" + "83aa7e80" + "80000000" + "1601" + "0000"


def test_a_foreign_parser_reads_our_packets() -> None:
    sent_ns = 1_795_000_000_250_000_000
    packet = stamp.pack_request(stamp.Request(7, sent_ns, session=99), 60)
    parsed = scapy.STAMPSessionSenderTestUnauthenticated(packet)
    assert (parsed.seq, parsed.ssid) == (7, 99)
    assert (parsed.err_estimate.S, parsed.err_estimate.Z, parsed.err_estimate.multiplier) == (0, 0, 1)
    reply = stamp.pack_reply(
        packet, sequence=3, received_ns=sent_ns + 10, sent_ns=sent_ns + 20, error_estimate=stamp.SYNCHRONISED, ttl=63
    )
    answer = scapy.STAMPSessionReflectorTestUnauthenticated(reply)
    assert (answer.seq, answer.ssid, answer.seq_sender, answer.ttl_sender) == (3, 99, 7, 63)
    assert answer.err_estimate.S == 1
    assert answer.ts_sender == parsed.ts


# The reflector


async def ask(port: int, *packets: bytes, host: str = "127.0.0.1", own_port: int = 0) -> list[bytes]:
    """What comes back within 0.3 s."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("::1" if ":" in host else "127.0.0.1", own_port))
        sock.connect((host, port))
        for packet in packets:
            sock.send(packet)
        found: list[bytes] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                while True:
                    found.append(await loop.sock_recv(sock, 2000))
        return found


def request(sequence: int = 0, size: int = 44) -> bytes:
    return stamp.pack_request(stamp.Request(sequence, 0), size)


@pytest.mark.parametrize("size", [44, 45, 500, 1400])
async def test_a_reply_is_as_long_as_its_request(size: int) -> None:
    async with reflector() as (server, _):
        (reply,) = await ask(server.port, request(5, size))
    assert len(reply) == size
    read = stamp.unpack_reply(reply)
    assert read is not None
    assert (read.sequence, read.sender_sequence, read.sender_ttl) == (0, 5, 64)
    assert 0 <= read.dwell_ns < 50_000_000


async def test_it_counts_its_own_replies_in_each_session() -> None:
    async with reflector() as (server, _):
        for _ in range(2):
            replies = [stamp.unpack_reply(raw) for raw in await ask(server.port, *(request(n * 10) for n in range(4)))]
            assert [(r.sequence, r.sender_sequence) for r in replies if r] == [(n, n * 10) for n in range(4)]


async def test_ipv6() -> None:
    async with reflector(host="::1") as (server, _):
        (reply,) = await ask(server.port, request(5), host="::1")
    assert stamp.unpack_reply(reply).sender_ttl == 64  # type: ignore[union-attr]


async def test_what_is_short_has_no_answer() -> None:
    async with reflector() as (server, counts):
        assert await ask(server.port, b"", b"x", request()[:43]) == []
        assert counts.of("stamp_dropped", "short") == 3


async def test_another_reflector_has_no_answer() -> None:
    """Two of them would answer each other for ever."""
    async with reflector() as (server, counts):
        assert await ask(server.port, request(), own_port=862) == []
        assert counts.of("stamp_dropped", "port") == 1


async def test_who_sends_too_much_is_dropped_and_counted() -> None:
    async with reflector(packets_per_s=20) as (server, counts):
        replies = await ask(server.port, *(request(n) for n in range(100)))
        assert 40 <= len(replies) <= 50, "a burst of twice the rate"
        assert counts.of("stamp_dropped", "source_rate") == 100 - len(replies)


# The sender


async def test_a_train_is_answered_whole() -> None:
    train = Train(2)
    async with reflector() as (server, _), Stamp("127.0.0.1", server.port, "lo") as session:
        await session.run(train, context(), packets=20, interval_s=0.005, late_s=0.5)
    values = train.values("stamp", packet_bytes=44, interval_ms=5.0)
    assert (values.sent, values.received, values.loss_up_ratio, values.loss_down_ratio) == (20, 20, 0.0, 0.0)
    assert 0 < (values.rtt_p50_ms or 0) < 5


async def test_nobody_listens() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    train = Train(0)
    async with Stamp("127.0.0.1", port, "lo") as session:
        await session.run(train, context(), packets=3, interval_s=0.02, late_s=0.1)
    assert (train.sent, train.received) == (3, 0)
    assert train.refused > 0
    assert not await answers("127.0.0.1", port, context(), within_s=0.3)


async def test_round_trips_beside_something() -> None:
    async with reflector() as (server, _):
        assert len(await idle_rtts_ms("127.0.0.1", server.port, context(), packets=5, every_s=0.02)) == 5
        async with Stamp("127.0.0.1", server.port, "lo") as session:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.4):
                    await session.sample(0.05, SystemClock())
            assert 7 <= len(session.samples) <= 9


async def test_a_lie_about_the_dwell_is_not_believed() -> None:
    """A reflector whose clock steps, or that wants to look near, does not make a time negative."""

    class Liar(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, peer: object) -> None:
            lie = stamp.pack_reply(data, sequence=0, received_ns=0, sent_ns=10**18, error_estimate=1, ttl=1)
            self.transport.sendto(lie, peer)  # type: ignore[attr-defined]

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Liar, ("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    try:
        rtts = await idle_rtts_ms("127.0.0.1", port, context(), packets=3, every_s=0.02)
    finally:
        transport.close()
    assert rtts
    assert all(0 < rtt < 1000 for rtt in rtts)


# Loss by direction


def reflected(sent: int, up: set[int], down: set[int]) -> dict[int, int]:
    """The reflector's number of each packet that came back."""
    reached = [sequence for sequence in range(sent) if sequence not in up]
    return {sequence: number for number, sequence in enumerate(reached) if sequence not in down}


@given(st.sets(st.integers(0, 39)), st.sets(st.integers(0, 39)))
def test_loss_is_told_by_direction(up: set[int], down: set[int]) -> None:
    """Two warm-ups, 36 counted packets, one trailer that is answered."""
    found = lost_by_direction(reflected(41, up, down), 2, 40)
    counted = set(range(2, 40))
    if found is not None:
        assert found == (len(up & counted), len((down - up) & counted))


def test_loss_is_known_while_warm_ups_and_trailers_arrive() -> None:
    up, down = {5, 6, 7, 39}, {6, 9, 38}
    assert lost_by_direction(reflected(41, up, down), 2, 40) == (4, 2)


def test_without_an_answer_behind_the_train_nobody_knows() -> None:
    assert lost_by_direction(reflected(40, {39}, set()), 2, 40) is None
    assert lost_by_direction({}, 2, 40) is None


def test_reordered_packets_are_no_loss() -> None:
    assert lost_by_direction({0: 0, 1: 2, 2: 1, 3: 3, 4: 4}, 0, 4) == (0, 0)
