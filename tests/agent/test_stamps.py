"""Times of packets are the kernel's, however long the process waits for its turn."""

import asyncio
import errno
import socket
import time

import pytest

from agent import stamps

FAMILIES = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}


def opened(host: str, port: int, received: list[tuple[bytes, int]], no_way: list[int]) -> stamps.Datagrams:
    sock = socket.socket(FAMILIES[host], socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    return stamps.Datagrams(
        sock, (host, port), "lo", receive=lambda *packet: received.append(packet), no_way=no_way.append
    )


def peer(host: str) -> socket.socket:
    sock = socket.socket(FAMILIES[host], socket.SOCK_DGRAM)
    sock.bind((host, 0))
    return sock


@pytest.mark.parametrize("host", FAMILIES)
async def test_a_packet_left_when_the_kernel_says(host: str) -> None:
    """The process loses the processor between its look at the clock and its send."""

    def slow(made_ns: int) -> bytes:
        time.sleep(0.05)
        return made_ns.to_bytes(8)

    with peer(host) as far, opened(host, far.getsockname()[1], [], []) as datagrams:
        for _ in range(3):
            sent = datagrams.send(slow)
            after_ns = time.time_ns()
            assert sent is not None
            assert int.from_bytes(far.recv(100)) == sent.made_ns
            assert sent.made_ns + 50_000_000 <= sent.left_ns <= after_ns


@pytest.mark.parametrize("host", FAMILIES)
async def test_a_packet_came_when_the_kernel_says(host: str) -> None:
    """The process is busy with something else meanwhile."""
    received: list[tuple[bytes, int]] = []
    with peer(host) as far, opened(host, far.getsockname()[1], received, []) as datagrams:
        assert datagrams.send(lambda _: b"ask") is not None
        _, back = far.recvfrom(100)
        far.sendto(b"answer", back)
        answered_ns = time.time_ns()
        time.sleep(0.1)
        assert await datagrams.until(lambda: bool(received), 1.0)
    ((packet, received_ns),) = received
    assert packet == b"answer"
    assert received_ns - answered_ns < 20_000_000


@pytest.mark.parametrize("host", FAMILIES)
async def test_a_closed_port_is_told_once_for_each_packet_and_keeps_none_back(host: str) -> None:
    with peer(host) as far:
        port = far.getsockname()[1]
    told: list[int] = []
    with opened(host, port, [], told) as datagrams:
        for number in range(1, 6):
            assert datagrams.send(lambda _: b"ask") is not None
            assert await datagrams.until(lambda number=number: len(told) >= number, 1.0)  # type: ignore[misc]
    assert told == [errno.ECONNREFUSED] * 5


async def test_waiting_ends_with_its_time() -> None:
    with peer("127.0.0.1") as far, opened("127.0.0.1", far.getsockname()[1], [], []) as datagrams:
        started_s = time.monotonic()
        assert not await datagrams.until(lambda: False, 0.1)
        assert not await datagrams.until(lambda: False, -1.0)
        assert await datagrams.until(lambda: True, -1.0)
        assert time.monotonic() - started_s == pytest.approx(0.1, abs=0.08)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await datagrams.until(lambda: False, 10.0)
