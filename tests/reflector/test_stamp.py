"""The reflector's STAMP over real sockets: what it answers, what it never answers, and its bounds."""

import asyncio
import contextlib
import random
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from scapy.contrib import stamp as scapy

from contract import stamp
from contract.stamp import Reply, Request
from reflector import stamp as module
from reflector.counts import Counts
from reflector.stamp import Stamp
from tests.network.namespaces import Namespace, cable

LOOPBACK = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}


@asynccontextmanager
async def reflector(host: str = "127.0.0.1", **limits: float) -> AsyncIterator[tuple[Stamp, Counts]]:
    counts = Counts()
    server = Stamp(host, 0, counts=counts, **({"packets_per_s": 100_000} | limits))  # type: ignore[arg-type]
    server.open()
    task = asyncio.create_task(server.run(), name="reflector")
    try:
        yield server, counts
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def sender(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    sock = socket.socket(LOOPBACK[host], socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.bind((host, port))
    return sock


async def ask(sock: socket.socket, peer: Any, *packets: bytes, wait_s: float = 0.3) -> list[bytes]:
    """What comes back: as many replies as packets, or those that came in time."""
    for packet in packets:
        sock.sendto(packet, peer)
    found: list[bytes] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            while len(found) < len(packets):
                found.append(await asyncio.get_running_loop().sock_recv(sock, 70_000))
    return found


def request(sequence: int = 0, size: int = 44, session: int = 0) -> bytes:
    return stamp.pack_request(Request(sequence, time.time_ns(), session=session), size)


def read(packet: bytes) -> Reply:
    reply = stamp.unpack_reply(packet)
    assert reply is not None
    return reply


# What it answers


@pytest.mark.parametrize("host", LOOPBACK)
@pytest.mark.parametrize("size", [44, 45, 500, 9000])
async def test_a_reply_is_as_long_as_its_request_and_has_its_padding(host: str, size: int) -> None:
    packet = request(5, 44) + random.randbytes(size - 44)
    before_ns = time.time_ns()
    async with reflector(host) as (server, counts):
        with sender(host) as sock:
            (answer,) = await ask(sock, (host, server.port), packet)
    assert answer[44:] == packet[44:]
    reply = read(answer)
    assert (reply.sequence, reply.sender_sequence, reply.sender_ttl) == (0, 5, 64)
    assert before_ns <= reply.received_ns <= reply.sent_ns <= time.time_ns()
    assert counts.rows() == [("stamp_replied", "", 1)]


async def test_the_ttl_is_that_of_the_request() -> None:
    async with reflector() as (server, _):
        with sender() as sock:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 17)
            assert [read(a).sender_ttl for a in await ask(sock, ("127.0.0.1", server.port), request())] == [17]


async def test_a_request_that_scapy_built() -> None:
    foreign = scapy.STAMPSessionSenderTestUnauthenticated(
        seq=12, ts=time.time() + 2_208_988_800, ssid=4711, err_estimate=scapy.ErrorEstimate(S=1, scale=9, multiplier=8)
    )
    async with reflector() as (server, _):
        with sender() as sock:
            (answer,) = await ask(sock, ("127.0.0.1", server.port), bytes(foreign))
    parsed = scapy.STAMPSessionReflectorTestUnauthenticated(answer)
    assert (parsed.seq, parsed.seq_sender, parsed.ssid, parsed.ttl_sender) == (0, 12, 4711, 64)
    assert answer[28:36] == bytes(foreign)[4:12]
    assert bytes(parsed.err_estimate_sender) == bytes(foreign.err_estimate)
    assert 0 <= parsed.ts - parsed.ts_rx < 1


async def test_replies_are_counted_from_0_in_each_session() -> None:
    """A session is an address, a port and an SSID."""
    async with reflector() as (server, _):
        with sender() as one, sender() as other:
            for sock, session in ((one, 0), (other, 0), (one, 7)):
                packets = [request(n * 10, session=session) for n in range(4)]
                replies = [read(a) for a in await ask(sock, ("127.0.0.1", server.port), *packets)]
                assert [(r.sequence, r.sender_sequence, r.session) for r in replies] == [
                    (n, n * 10, session) for n in range(4)
                ]
            assert read((await ask(one, ("127.0.0.1", server.port), request(50)))[0]).sequence == 4


async def test_it_answers_from_the_address_that_was_asked() -> None:
    async with reflector("0.0.0.0") as (server, _):
        with sender() as sock:
            sock.connect(("127.0.0.77", server.port))
            sock.send(request())
            async with asyncio.timeout(1):
                assert len(await asyncio.get_running_loop().sock_recv(sock, 100)) == 44


async def test_the_s_bit_is_that_of_the_kernels_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[stamp.ErrorEstimate | None] = [None, stamp.ErrorEstimate(0.002, synchronised=True)]
    monkeypatch.setattr(module, "CLOCK_S", 0.0)
    monkeypatch.setattr(module.kernel_clock, "error_estimate", lambda: told.pop(0))
    async with reflector() as (server, _):
        with sender() as sock:
            answers = await ask(sock, ("127.0.0.1", server.port), request(), request())
    unknown, known = (stamp.error_estimate(read(answer).error_estimate) for answer in answers)
    assert (unknown.synchronised, unknown.seconds) == (False, 16.0)
    assert (known.synchronised, known.seconds) == (True, pytest.approx(0.002, rel=0.01))


def test_the_kernels_word_agrees_with_the_systems_tool() -> None:
    """/proc has no such file; adjtimex(2) is read in a second, independent way."""
    import ctypes

    room = ctypes.create_string_buffer(512)
    state = ctypes.CDLL(None).adjtimex(room)
    (maxerror_us,) = struct.unpack_from("@l", room.raw, 3 * 8)
    estimate = module.kernel_clock.error_estimate()
    assert estimate is not None
    assert estimate.synchronised == (state != 5), "TIME_ERROR"
    assert estimate.seconds == pytest.approx(maxerror_us / 1e6, abs=0.01)


async def test_the_longest_datagram_is_answered_in_its_length() -> None:
    """Path MTU is looked for with such packets; the loopback's is 65,536."""
    async with reflector() as (server, _):
        with sender() as sock:
            (reply,) = await ask(sock, ("127.0.0.1", server.port), request(size=65_507))
    assert len(reply) == 65_507


# What it never answers


async def test_a_reply_is_not_answered() -> None:
    """Else one forged packet makes two reflectors answer each other for ever."""
    async with reflector() as (server, counts):
        with sender() as sock:
            (reply,) = await ask(sock, ("127.0.0.1", server.port), request(size=100))
            assert await ask(sock, ("127.0.0.1", server.port), reply) == []
    assert counts.of("stamp_dropped", "reply") == 1


@pytest.mark.parametrize("size", [0, 1, 43])
async def test_what_is_short(size: int) -> None:
    async with reflector() as (server, counts):
        with sender() as sock:
            assert await ask(sock, ("127.0.0.1", server.port), request()[:size]) == []
    assert counts.rows() == [("stamp_dropped", "short", 1)]


@pytest.mark.parametrize("port", [862, 1023, 53])
async def test_a_port_from_which_another_reflector_may_answer(port: int) -> None:
    """Two of them would answer each other for ever."""
    async with reflector() as (server, counts):
        with sender(port=port) as sock:
            assert await ask(sock, ("127.0.0.1", server.port), request()) == []
    assert counts.rows() == [("stamp_dropped", "port", 1)]


async def test_its_own_port_elsewhere() -> None:
    async with reflector() as (server, counts):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.bind(("127.0.0.2", server.port))
            assert await ask(sock, ("127.0.0.1", server.port), request()) == []
    assert counts.rows() == [("stamp_dropped", "port", 1)]


SERVE = """
import asyncio, sys
from reflector.counts import Counts
from reflector.stamp import Stamp
async def main():
    counts = Counts()
    server = Stamp(sys.argv[1], 8862, counts=counts)
    server.open()
    print("ready", flush=True)
    async with asyncio.timeout(1.5):
        await server.run()
try:
    asyncio.run(main())
except TimeoutError:
    pass
"""
SHOUT = """
import socket, sys
host, interface = sys.argv[1:]
v6 = ":" in host
sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
sock.settimeout(0.5)
if v6:
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(interface))
sock.sendto(bytes(44), (host, 8862))
try:
    print(sock.recvfrom(100)[1][0])
except TimeoutError:
    print("silence")
"""


@pytest.fixture
def pair() -> Any:
    with cable() as (here, there):
        for space, address in ((here, "fd77::1/64"), (there, "fd77::2/64")):
            space.ip("addr", "add", address, "dev", "v0", "nodad")
        yield here, there


@pytest.mark.parametrize(
    ("listen", "asked", "answer"),
    [
        ("0.0.0.0", "10.77.0.2", "10.77.0.2"),
        ("0.0.0.0", "10.77.0.255", "silence"),
        ("0.0.0.0", "255.255.255.255", "silence"),
        ("0.0.0.0", "224.0.0.1", "silence"),
        ("::", "fd77::2", "fd77::2"),
        ("::", "ff02::1", "silence"),
    ],
)
def test_what_was_sent_to_a_group_of_machines(
    pair: tuple[Namespace, Namespace], listen: str, asked: str, answer: str
) -> None:
    here, there = pair
    there.start(sys.executable, "-c", SERVE, listen, ready="ready")
    assert here.run(sys.executable, "-c", SHOUT, asked, "v0").strip() == answer


# Its bounds


async def test_a_source_that_sends_too_much() -> None:
    async with reflector(packets_per_s=20) as (server, counts):
        with sender() as sock, sender() as same_source:
            replies = await ask(sock, ("127.0.0.1", server.port), *(request(n) for n in range(100)))
            assert len(replies) == pytest.approx(45, abs=5), "a burst of twice the rate"
            assert counts.of("stamp_dropped", "source_rate") == 100 - len(replies)
            assert [read(reply).sequence for reply in replies] == list(range(len(replies)))
            await asyncio.sleep(0.5)
            again = await ask(same_source, ("127.0.0.1", server.port), *(request(n) for n in range(20)))
            assert 5 <= len(again) < 20, "another port is the same source"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.bind(("127.0.0.9", 0))
            assert len(await ask(sock, ("127.0.0.1", server.port), request())) == 1, "nobody else is held up"


async def test_all_sources_together() -> None:
    async with reflector(total_packets_per_s=10) as (server, counts):
        with sender() as sock:
            replies = await ask(sock, ("127.0.0.1", server.port), *(request(n) for n in range(60)))
    assert 20 <= len(replies) <= 25
    assert counts.of("stamp_dropped", "total_rate") == 60 - len(replies)


async def test_sessions_are_bounded_and_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SESSIONS", 3)
    async with reflector() as (server, counts):
        with sender() as sock:
            order = [1, 2, 3, 1, 4, 1, 2]
            answers = await ask(sock, ("127.0.0.1", server.port), *(request(session=n) for n in order))
    assert [read(answer).sequence for answer in answers] == [0, 0, 0, 1, 0, 2, 0], "2 was forgotten for 4"
    assert counts.of("stamp_sessions_evicted") == 2
    assert len(server._sessions) == 3


async def test_a_session_ends_when_it_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.2)
    async with reflector() as (server, _):
        with sender() as sock:
            found = []
            for pause_s in (0.0, 0.05, 0.4):
                await asyncio.sleep(pause_s)
                found += await ask(sock, ("127.0.0.1", server.port), request())
    assert [read(answer).sequence for answer in found] == [0, 1, 0]


async def test_sources_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SOURCES", 10)
    async with reflector() as (server, counts):
        for n in range(1, 30):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.bind((f"127.0.1.{n}", 0))
                await ask(sock, ("127.0.0.1", server.port), request())
    assert counts.of("stamp_replied") == 29
    assert len(server._sources) == 10


async def test_packets_that_the_socket_had_no_room_for_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECEIVE_BUFFER_BYTES", 4096)
    async with reflector() as (server, counts):
        with sender() as sock:
            answers = await ask(sock, ("127.0.0.1", server.port), *(request(n) for n in range(200)))
            # The next packet brings the count of those that were dropped before it.
            answers += await ask(sock, ("127.0.0.1", server.port), request(200))
    assert 0 < len(answers) < 201
    assert counts.of("stamp_dropped", "queue") == 201 - len(answers)


async def test_a_flood_leaves_the_loop_its_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKETS_PER_TURN", 8)
    async with reflector() as (server, counts):
        with sender() as sock:
            for n in range(400):
                sock.sendto(request(n), ("127.0.0.1", server.port))
            turns = 0
            while counts.of("stamp_replied") < 400:
                await asyncio.sleep(0)
                turns += 1
    assert turns >= 400 / 8


SENDER = """
import socket, sys, time
port, packets, per_s = map(int, sys.argv[1:])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
sock.connect(("127.0.0.1", port))
first = time.monotonic()
for n in range(packets):
    while time.monotonic() < first + n / per_s:
        time.sleep(0.0002)
    sock.send(n.to_bytes(4, "big") + bytes(40))
sock.settimeout(1.0)
answers = set()
try:
    while len(answers) < packets:
        answers.add(sock.recv(100)[24:28])
except TimeoutError:
    pass
print(len(answers))
"""


async def test_2000_packets_a_second_are_answered_while_the_loop_is_busy() -> None:
    """Something else keeps the event loop for 50 ms at a time, as a hundred busy connections might."""

    async def keep_busy() -> None:
        while True:
            time.sleep(0.05)
            await asyncio.sleep(0)

    async with reflector() as (server, counts):
        busy = asyncio.create_task(keep_busy(), name="busy")
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", SENDER, str(server.port), "4000", "2000", stdout=asyncio.subprocess.PIPE
            )
            said, _ = await process.communicate()
        finally:
            busy.cancel()
    assert counts.rows() == [("stamp_replied", "", 4000)]
    assert int(said) == 4000


async def test_nonsense_for_a_while() -> None:
    """Whatever comes, in any length, it goes on, keeps its sizes, and answers no more than it was sent."""
    chance = random.Random(8762)
    async with reflector() as (server, counts):
        with sender() as sock:
            sent = 0
            for _ in range(3000):
                packet = chance.randbytes(chance.choice([0, 1, 14, 43, 44, 45, 48, chance.randrange(2000)]))
                if chance.random() < 0.3:
                    packet = bytes([255]) * len(packet)
                sock.sendto(packet, ("127.0.0.1", server.port))
                sent += 1
                if sent % 50 == 0:
                    await asyncio.sleep(0.002)
                    with contextlib.suppress(BlockingIOError):
                        while sock.recv(10_000):
                            pass
        with sender() as sock:
            assert len(await ask(sock, ("127.0.0.1", server.port), request())) == 1
    assert sum(value for _, _, value in counts.rows()) == sent + 1
    assert {reason for name, reason, _ in counts.rows() if name == "stamp_dropped"} == {"short"}
