"""A STAMP session sender (RFC 8762): round trips to a reflector, timed by the kernel, less the reflector's own dwell.

Beside a load, to see what it does to the delay::

    async with Stamp(address, port, "wlan0") as stamp:
        await stamp.sample(every_s=0.05, clock=clock)      # until cancelled
    stamp.samples                                          # [(sent_s, rtt_ms), ...]
"""

import asyncio
import contextlib
import errno
import random
import socket
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Self

from agent import sockets, stamps
from agent.clock import Clock
from agent.probe import Context
from agent.train import Train, lost_by_direction
from contract import stamp
from contract.stamp import Reply, Request

TRAILERS: Final = 5
"""Uncounted packets behind a train, until one is answered: they tell on which way its last packets were lost."""
TRAILER_S: Final = 0.05
_NO_WAY: Final = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH})
_MAX_DATAGRAM: Final = 2048


class Sample(NamedTuple):
    """One round trip."""

    sent_s: float
    """Boot time."""
    rtt_ms: float


class Stamp:
    """One session: a socket with a port and a session identifier of its own, so that no NAT keeps an old one dead."""

    def __init__(self, address: str, port: int, interface: str, *, packet_bytes: int = stamp.PACKET_BYTES) -> None:
        self.refused = 0
        """Answers that nobody listens at the port."""
        self.unreachable = 0
        """Routers' and our own kernel's answers that there is no way."""
        self.replies: dict[int, tuple[Reply, float]] = {}
        """First reply to each sequence number, with its round-trip time in ms."""
        self.samples: list[Sample] = []
        self._train: Train | None = None
        self._trailers_from = 0
        self._packet_bytes = packet_bytes
        self._session = random.randint(1, 0xFFFF)  # noqa: S311 - only to differ from the last run
        self._sent_ns: dict[int, int] = {}
        self._sent_s: dict[int, float] = {}
        self._news = asyncio.Event()
        family, sockaddr = sockets.numeric(address, port, interface)
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._prepare(interface, sockaddr)
        except BaseException:
            self._socket.close()
            raise

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._socket, self._receive)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    async def run(self, train: Train, context: Context, *, packets: int, interval_s: float, late_s: float) -> None:
        """Send `train.warm_ups` and then `packets` requests, `interval_s` apart; wait `late_s` for late replies.

        :raises Failure: `clock_step`; a send error's own reason.
        """
        self._train = train
        total = self._trailers_from = train.warm_ups + packets
        with stamps.steady(context.clock):
            first_s = context.clock.boot()
            for sequence in range(total):
                await context.clock.sleep(first_s + sequence * interval_s - context.clock.boot())
                self.send(sequence, context.clock)
            await self.wait(late_s, lambda: train.complete)
            for sequence in range(total, total + TRAILERS):
                self.send(sequence, context.clock)
                if await self.wait(min(late_s, TRAILER_S + 2 * self._longest_s()), lambda: self._answered(total)):
                    break
        train.refused, train.unreachable = self.refused, self.unreachable
        numbers = {sequence: reply.sequence for sequence, (reply, _) in self.replies.items()}
        train.lost = lost_by_direction(numbers, train.warm_ups, total)

    async def sample(self, every_s: float, clock: Clock) -> None:
        """Add to :attr:`samples` until cancelled."""
        first_s, sequence = clock.boot(), 0
        while True:
            self.send(sequence, clock)
            sequence += 1
            await clock.sleep(first_s + sequence * every_s - clock.boot())

    def send(self, sequence: int, clock: Clock) -> None:
        """One request.

        :raises Failure: when our own side refuses to send it.
        """
        # A pending error of an earlier packet would be raised by this send and keep it back.
        self._read_errors()
        for last_try in (False, True):
            self._sent_s[sequence] = clock.boot()
            now_ns = self._sent_ns[sequence] = time.time_ns()
            packet = stamp.pack_request(Request(sequence, now_ns, session=self._session), self._packet_bytes)
            try:
                self._socket.send(packet)
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    return
                if error.errno != errno.ECONNREFUSED and error.errno not in _NO_WAY:
                    raise sockets.failure(error, "sending a STAMP request") from error
                if last_try:
                    self._note_error(error.errno)
                else:
                    self._read_errors()
                    continue
            break
        if self._train is not None and sequence < self._trailers_from:
            self._train.note_sent(sequence)

    def _prepare(self, interface: str, sockaddr: Any) -> None:
        sockets.bind(self._socket, interface)
        stamps.enable(self._socket)
        try:
            self._socket.connect(sockaddr)
        except OSError as error:
            raise sockets.failure(error, f"no way to {sockaddr[0]}") from error
        sockets.check_source(self._socket, interface)

    def _receive(self) -> None:
        self._read_errors()
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(_MAX_DATAGRAM, 256)
            except BlockingIOError:
                return
            except OSError:
                self._read_errors()  # the error itself waits in the error queue
                return
            reply = stamp.unpack_reply(data)
            if reply is not None and reply.session == self._session:
                self._note(reply, stamps.received_ns(ancillary))

    def _note(self, reply: Reply, received_ns: int) -> None:
        sequence = reply.sender_sequence
        sent_ns = self._sent_ns.get(sequence)
        if sent_ns is None:
            return
        # A reflector that calls its own dwell negative, or longer than the whole trip, is not believed.
        dwell_ns = reply.dwell_ns if 0 <= reply.dwell_ns <= received_ns - sent_ns else 0
        rtt_ms = (received_ns - sent_ns - dwell_ns) / 1e6
        if sequence not in self.replies:
            self.replies[sequence] = (reply, rtt_ms)
            self.samples.append(Sample(self._sent_s[sequence], rtt_ms))
        if self._train is not None:
            self._train.note_reply(sequence, rtt_ms)
        self._news.set()

    def _read_errors(self) -> None:
        for code in stamps.errors(self._socket):
            self._note_error(code)

    def _note_error(self, code: int) -> None:
        self.refused += code == errno.ECONNREFUSED
        self.unreachable += code in _NO_WAY
        self._news.set()

    def _answered(self, first: int) -> bool:
        return any(sequence >= first for sequence in self.replies)

    def _longest_s(self) -> float:
        return max((rtt_ms for _, rtt_ms in self.replies.values()), default=0.0) / 1000

    async def wait(self, seconds: float, done: Callable[[], bool]) -> bool:
        """Whether `done` became true within `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not done():
                    self._news.clear()
                    await self._news.wait()
        return done()


async def answers(address: str, port: int, context: Context, *, within_s: float) -> bool:
    """Whether a reflector answers one of three requests within `within_s`.

    :raises Failure: when the interface leads nowhere.
    """
    async with Stamp(address, port, context.interface) as session:
        for sequence in range(3):
            session.send(sequence, context.clock)
            await session.wait(within_s / 3, lambda: bool(session.replies or session.refused or session.unreachable))
            if session.replies:
                return True
    return False


async def idle_rtts_ms(address: str, port: int, context: Context, *, packets: int, every_s: float) -> list[float]:
    """Round trips of an idle path, in ascending order; empty where no reflector answers.

    :raises Failure: when the interface leads nowhere.
    """
    async with Stamp(address, port, context.interface) as session:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout((packets - 0.5) * every_s):
                await session.sample(every_s, context.clock)
        await session.wait(0.5, lambda: len(session.replies) >= packets or session.refused > 0)
        return sorted(sample.rtt_ms for sample in session.samples)
