"""Datagram sockets whose packets the kernel stamps when they leave and arrive, and the guard that such times need.

A process that has to wait for the CPU reads its clock too early before it sends, and late when something arrives.
"""

import asyncio
import contextlib
import errno
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, Self

from agent import sockets
from agent.clock import Clock
from agent.probe import Failure

STEP_MS: Final = 2.0
DRIFT_RATIO: Final = 500e-6
"""Stamps are wall time: it may drift this much against boot time in one run, not more."""

_NO_WAY: Final = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNREFUSED, errno.ENOPROTOOPT})
_NO_ROOM: Final = frozenset({errno.ENOBUFS, errno.EAGAIN})
ERRORS: Final = ((socket.IPPROTO_IP, sockets.IP_RECVERR), (socket.IPPROTO_IPV6, sockets.IPV6_RECVERR))
STAMPS: Final = (socket.SOL_SOCKET, sockets.SO_TIMESTAMPING)
_TIMESPEC: Final = struct.Struct("@ll")
SOCK_EXTENDED_ERR: Final = struct.Struct("@IBBBBII")
"""struct sock_extended_err; in the error queue the socket address of whoever sent it follows."""
_MAX_BYTES: Final = 2048


class Sent(NamedTuple):
    """A packet's way out, in wall nanoseconds."""

    made_ns: int
    """When it was made: what it may carry."""
    left_ns: int
    """When the kernel passed it to the interface's queue; `made_ns` where it does not say."""


class Datagrams:
    """A connected, non-blocking socket, bound to an interface; read by the event loop inside the context.

    :param port: to send from; 0: any.
    :param receive: gets each packet and when the kernel received it (wall ns).
    :param no_way: gets the errno of each answer, by a router, the peer or our own kernel, that there is no way.
    :raises Failure: when `peer` cannot be reached from `interface`.
    """

    def __init__(
        self,
        sock: socket.socket,
        peer: Any,
        interface: str,
        *,
        port: int = 0,
        receive: Callable[[bytes, int], None],
        no_way: Callable[[int], None],
    ) -> None:
        self._socket = sock
        self._receive = receive
        self._no_way = no_way
        self._news = asyncio.Event()
        try:
            self._connect(peer, interface, port)
        except BaseException:
            sock.close()
            raise

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def send(self, packet: Callable[[int], bytes]) -> Sent | None:
        """Send what `packet` makes of the moment (wall ns); None when there was no room for it.

        :raises Failure: what keeps us from sending; that there is no way is told to `no_way` instead.
        """
        # A pending error of an earlier packet would be raised by this send and keep it back.
        self._read_errors()
        for last_try in (False, True):
            made_ns = time.time_ns()
            try:
                self._socket.send(packet(made_ns))
            except OSError as error:
                if error.errno in _NO_ROOM:
                    return None
                if error.errno not in _NO_WAY:
                    raise sockets.failure(error, "sending a packet") from error
                if last_try:
                    self._no_way(error.errno or 0)
                else:
                    self._read_errors()
                    continue
            break
        # The kernel has stamped it meanwhile, unless it waits for its neighbour's address.
        return Sent(made_ns, max(made_ns, self._read_errors()))

    async def until(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Whether what arrives makes `done` true within `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not done():
                    self._news.clear()
                    await self._news.wait()
        return done()

    def _connect(self, peer: Any, interface: str, port: int) -> None:
        try:
            sockets.bind(self._socket, interface, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            # Somebody else has the port; the kernel picks one.
        self._socket.setsockopt(*ERRORS[self._socket.family == socket.AF_INET6], 1)
        self._socket.setsockopt(*STAMPS, sockets.STAMP_BOTH_WAYS)
        try:
            self._socket.connect(peer)
        except OSError as error:
            raise sockets.failure(error, f"no way to {peer[0]}") from error
        sockets.check_source(self._socket, interface)

    def _read(self) -> None:
        self._news.set()
        self._read_errors()
        while True:
            try:
                packet, ancillary, _, _ = self._socket.recvmsg(_MAX_BYTES, 256)
            except BlockingIOError:
                return
            except OSError:
                # The error itself waits in the error queue.
                self._read_errors()
                return
            self._receive(packet, stamp_ns(ancillary) or time.time_ns())

    def _read_errors(self) -> int:
        """Empty the error queue; returns the last stamp of a packet that left, 0 without one."""
        left_ns = 0
        while True:
            try:
                _, ancillary, _, _ = self._socket.recvmsg(0, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
            except OSError:
                return left_ns
            left_ns = stamp_ns(ancillary) or left_ns
            for level, kind, data in ancillary:
                if (level, kind) in ERRORS:
                    code = SOCK_EXTENDED_ERR.unpack_from(data)[0]
                    if code in _NO_WAY:
                        self._no_way(code)


@contextlib.contextmanager
def steady(clock: Clock) -> Iterator[None]:
    """Around packets that are under way.

    :raises Failure: `clock_step` in the end, when wall time moved meanwhile.
    """
    started = _clocks(clock)
    yield
    ended = _clocks(clock)
    elapsed_s = ended[1] - started[1]
    step_ms = abs((ended[0] - started[0]) - elapsed_s) * 1000
    if step_ms > STEP_MS + DRIFT_RATIO * elapsed_s * 1000:
        raise Failure("clock_step", f"wall clock moved {step_ms:.1f} ms against boot time")


def stamp_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The kernel's software stamp (wall ns), 0 without one."""
    for level, kind, data in ancillary:
        if (level, kind) == STAMPS:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return 0


def _clocks(clock: Clock) -> tuple[float, float]:
    """Wall and boot time of one moment: the closest of a few readings, as the machine may pause between the two."""
    readings = []
    for _ in range(5):
        before, wall, after = clock.boot(), clock.wall(), clock.boot()
        readings.append((after - before, wall, (before + after) / 2))
    _, wall, boot = min(readings)
    return wall, boot
