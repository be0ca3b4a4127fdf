"""The sender of STAMP, against our reflector, against foreign ones, and against silence."""

import asyncio
import contextlib
import itertools
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from scapy.contrib import stamp as scapy

from agent.clock import SystemClock
from agent.facts import Facts
from agent.probe import Context, Failure
from agent.stamp import Sample, idle_rtts_ms, reflect, sample
from agent.train import Train
from reflector.counts import Counts
from reflector.stamp import Stamp

Answer = Callable[[bytes], list[bytes]]


def context(clock: SystemClock | None = None) -> Context:
    return Context(agent="lib-01", interface="lo", clock=clock or SystemClock(), facts=Facts(), timeout_s=10.0)


@asynccontextmanager
async def reflector(host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Ours; its port."""
    server = Stamp(host, 0, counts=Counts(), packets_per_s=10_000)
    server.open()
    task = asyncio.create_task(server.run(), name="reflector")
    try:
        yield server.port
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def foreign(answer: Answer) -> AsyncIterator[int]:
    """Answers each packet as `answer` says; its port."""

    class Protocol(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, peer: Any) -> None:
            for packet in answer(data):
                self.transport.sendto(packet, peer)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Protocol, ("127.0.0.1", 0))
    try:
        yield int(transport.get_extra_info("sockname")[1])
    finally:
        transport.close()


async def run(port: int, *, packets: int = 10, warm_ups: int = 2, late_s: float = 0.3, **more: Any) -> Train:
    train = Train(warm_ups)
    at = context()
    await reflect("127.0.0.1", port, train, at, packets=packets, interval_s=0.005, late_s=late_s, **more)
    return train


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_train_is_answered_whole(host: str) -> None:
    train = Train(2)
    started_s = time.monotonic()
    async with reflector(host) as port:
        await reflect(host, port, train, context(), packets=20, interval_s=0.005, late_s=5.0)
    assert time.monotonic() - started_s < 2, "nobody is waited for when everything is there"
    values = train.values("stamp", packet_bytes=44, interval_ms=5.0)
    assert (values.sent, values.received, values.loss_ratio) == (20, 20, 0.0)
    assert (values.loss_up_ratio, values.loss_down_ratio) == (0.0, 0.0)
    assert (values.duplicates, values.reordered) == (0, 0)
    assert 0 < (values.rtt_p50_ms or 0) < 5


async def test_packets_on_the_wire_are_what_scapy_reads() -> None:
    seen: list[bytes] = []

    def note(packet: bytes) -> list[bytes]:
        seen.append(packet)
        return []

    async with foreign(note) as port:
        before_s = time.time()
        await run(port, packets=3, packet_bytes=100)
        after_s = time.time()
    assert [len(packet) for packet in seen] == [100] * (2 + 3 + 5), "five trailers, as nothing was answered"
    parsed = [scapy.STAMPSessionSenderTestUnauthenticated(packet) for packet in seen]
    assert [packet.seq for packet in parsed] == list(range(10))
    warm_up, counted = {packet.ssid for packet in parsed[:2]}, {packet.ssid for packet in parsed[2:]}
    assert (len(warm_up), len(counted)) == (1, 1)
    assert not warm_up & counted
    for packet in parsed:
        assert (packet.mbz, packet.err_estimate.S, packet.err_estimate.Z) == (0, 0, 0)
        assert before_s <= packet.ts - 2_208_988_800 + 1e-6
        assert packet.ts - 2_208_988_800 - 1e-6 <= after_s
        (padding,) = packet.tlv_objects
        assert (padding.type, padding.len) == (1, 52)


def scapy_reply(packet: bytes, number: int, dwell_s: float, **fields: Any) -> bytes:
    read = scapy.STAMPSessionSenderTestUnauthenticated(packet)
    now_s = time.time() + 2_208_988_800
    reply = scapy.STAMPSessionReflectorTestUnauthenticated(
        **{"seq": number, "ssid": read.ssid, "ts_rx": now_s - dwell_s, "ts": now_s, "seq_sender": read.seq} | fields
    )
    # As it came: scapy keeps times in less than their 64 bits.
    return bytes(reply)[:28] + packet[4:14] + bytes(reply)[38:]


async def test_a_foreign_reflector_of_scapys_packets_and_its_dwell() -> None:
    """It keeps each packet for 30 ms, and says so."""
    loop = asyncio.get_running_loop()

    class Slow(asyncio.DatagramProtocol):
        numbers: dict[int, int] = {}

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, peer: Any) -> None:
            session = int.from_bytes(data[14:16])
            number = self.numbers[session] = self.numbers.get(session, -1) + 1
            arrived_s = time.time()
            loop.call_later(0.03, lambda: self.transport.sendto(self.reply(data, number, arrived_s), peer))

        @staticmethod
        def reply(data: bytes, number: int, arrived_s: float) -> bytes:
            return scapy_reply(data, number, time.time() - arrived_s)

    transport, _ = await loop.create_datagram_endpoint(Slow, ("127.0.0.1", 0))
    try:
        train = await run(transport.get_extra_info("sockname")[1])
    finally:
        transport.close()
    values = train.values("stamp", packet_bytes=44, interval_ms=5.0)
    assert (values.received, values.loss_up_ratio, values.loss_down_ratio) == (10, 0.0, 0.0)
    assert (values.rtt_p50_ms or 99) < 10, "the 30 ms are not the network's"


@pytest.mark.parametrize("lie_s", [-5.0, 1e6])
async def test_a_lie_about_the_dwell_is_not_believed(lie_s: float) -> None:
    async with foreign(lambda packet: [scapy_reply(packet, 0, lie_s)]) as port:
        train = await run(port)
    assert train.received == 10
    assert all(0 < rtt_ms < 1000 for rtt_ms in train.rtts_ms())


async def test_a_reflector_that_knows_no_sessions_tells_no_direction() -> None:
    """RFC 8762 alone: the octets of the SSID are zero in its replies, and it has counted the warm-ups."""
    numbers = iter(range(1000))
    async with foreign(
        lambda packet: [] if packet[3] in (4, 7) else [scapy_reply(packet, next(numbers), 0.0, ssid=0)]
    ) as port:
        train = await run(port)
    values = train.values("stamp", packet_bytes=44, interval_ms=5.0)
    assert (values.received, values.loss_up_ratio, values.loss_down_ratio) == (8, None, None)


async def test_a_stateless_reflector_tells_no_direction() -> None:
    """RFC 8762, 4.3: it copies the sender's number. What it never got would look as lost on the way down."""
    async with foreign(
        lambda packet: [] if packet[3] in (4, 7) else [scapy_reply(packet, int.from_bytes(packet[:4]), 0.0)]
    ) as port:
        train = await run(port)
    values = train.values("stamp", packet_bytes=44, interval_ms=5.0)
    assert (values.received, values.loss_up_ratio, values.loss_down_ratio) == (8, None, None)


async def test_replies_that_are_none_of_ours_are_ignored() -> None:
    def answer(packet: bytes) -> list[bytes]:
        good = scapy_reply(packet, 0, 0.0)
        other_time = good[:28] + bytes(8) + good[36:]
        other_number = good[:24] + b"\xff" * 4 + good[28:]
        return [b"", b"x" * 43, other_time, other_number, packet]

    async with foreign(answer) as port:
        train = await run(port)
    assert (train.sent, train.received, train.heard) == (10, 0, False)


async def test_duplicates_are_counted() -> None:
    async with foreign(lambda packet: 2 * [scapy_reply(packet, max(0, packet[3] - 2), 0.0)]) as port:
        train = await run(port)
    values = train.values("stamp", packet_bytes=44, interval_ms=5.0)
    assert (values.received, values.loss_up_ratio, values.loss_down_ratio) == (10, 0.0, 0.0)
    assert values.duplicates in (9, 10), "nobody waits for that of the last one"


async def test_nobody_listens() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    train = await run(port)
    assert (train.sent, train.received) == (10, 0)
    assert train.refused > 0
    assert await idle_rtts_ms("127.0.0.1", port, context(), packets=3, every_s=0.02) == []


async def test_patience_ends_what_nobody_answers() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        started_s = time.monotonic()
        train = Train(2)
        await reflect(
            "127.0.0.1",
            silent.getsockname()[1],
            train,
            context(),
            packets=100,
            interval_s=0.02,
            late_s=2.0,
            patience_s=0.5,
        )
    assert time.monotonic() - started_s == pytest.approx(0.5, abs=0.2)
    assert not train.heard
    assert 20 <= train.sent < 30


async def test_patience_is_not_longer_than_the_train() -> None:
    """Whoever answers late, but within the patience, is heard; also behind a short train."""

    async def answer_late(sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            packet, peer = await loop.sock_recvfrom(sock, 100)
            loop.call_later(0.4, sock.sendto, scapy_reply(packet, 0, 0.0), peer)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(("127.0.0.1", 0))
        task = asyncio.create_task(answer_late(sock), name="late")
        train = await run(sock.getsockname()[1], packets=2, late_s=0.6, patience_s=0.8)
        task.cancel()
    assert train.received == 2
    assert min(train.rtts_ms()) > 400


async def test_a_hundred_cancelled_trains_leave_nothing() -> None:
    async with reflector() as port:
        before = len(asyncio.all_tasks())
        with socket.socket() as mark:
            first_fd = mark.fileno()
        for n in range(100):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.0005 * (n % 10)):
                    await run(port, packets=50)
        with socket.socket() as mark:
            assert mark.fileno() == first_fd
        assert len(asyncio.all_tasks()) == before


# Beside a load


async def sampled(port: int, seconds: float, clock: SystemClock | None = None) -> list[Sample]:
    samples: list[Sample] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await sample("127.0.0.1", port, context(clock), 0.05, samples)
    return samples


async def test_round_trips_beside_something() -> None:
    clock = SystemClock()
    async with reflector() as port:
        assert len(await idle_rtts_ms("127.0.0.1", port, context(), packets=5, every_s=0.02)) == 5
        before_s = clock.boot()
        samples = await sampled(port, 0.5)
    assert 9 <= len(samples) <= 10
    assert all(0 < one.rtt_ms < 20 for one in samples)
    assert before_s <= samples[0].sent_s <= before_s + 0.1
    steps = [b.sent_s - a.sent_s for a, b in itertools.pairwise(samples)]
    assert sum(steps) / len(steps) == pytest.approx(0.05, abs=0.01)


async def test_a_late_event_loop_sends_no_bunch() -> None:
    async with reflector() as port:
        task = asyncio.create_task(sampled(port, 0.6), name="samples")
        await asyncio.sleep(0.12)
        time.sleep(0.3)
        samples = await task
    assert min(b.sent_s - a.sent_s for a, b in itertools.pairwise(samples)) > 0.02


async def test_silence_is_no_failure_beside_a_load() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        assert await sampled(silent.getsockname()[1], 0.2) == []


class SteppingClock(SystemClock):
    """A wall clock that is set forward by a minute after 0.2 s."""

    def __init__(self) -> None:
        self._start_s = self.boot()

    def wall(self) -> float:
        return super().wall() + (60.0 if self.boot() - self._start_s > 0.2 else 0.0)


async def test_round_trips_while_the_clock_steps_are_left_out() -> None:
    """Those before and after it are good."""
    waiting: list[tuple[bytes, Any]] = []
    loop = asyncio.get_running_loop()

    class Slow(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, peer: Any) -> None:
            waiting.append((data, peer))
            loop.call_later(0.06, self.reply)

        def reply(self) -> None:
            data, peer = waiting.pop(0)
            self.transport.sendto(scapy_reply(data, 0, 0.0), peer)

    transport, _ = await loop.create_datagram_endpoint(Slow, ("127.0.0.1", 0))
    try:
        samples = await sampled(transport.get_extra_info("sockname")[1], 0.6, SteppingClock())
    finally:
        transport.close()
    assert all(50 < one.rtt_ms < 200 for one in samples)
    assert 6 <= len(samples) <= 10, "12 were sent, 1 or 2 were under way at the step, 2 at the end"


async def test_a_train_while_the_clock_steps_is_no_measurement() -> None:
    async with reflector() as port:
        with pytest.raises(Failure) as caught:
            await reflect(
                "127.0.0.1", port, Train(0), context(SteppingClock()), packets=20, interval_s=0.02, late_s=0.1
            )
    assert caught.value.reason == "clock_step"
