"""The kernel's receive stamps and ICMP errors of a datagram socket, and whether the wall clock held still meanwhile.

Receive stamps cut what a busy machine adds to a round-trip time: the packet is timed when it arrives, not when we wake.
"""

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from agent import sockets
from agent.clock import Clock
from agent.probe import Failure

STEP_MS: Final = 2.0
DRIFT_RATIO: Final = 500e-6
"""Send stamps and receive stamps are wall time: it may drift this much against boot time in one run, not more."""

_TIMESPEC: Final = struct.Struct("@ll")
_SOCK_EXTENDED_ERR: Final = struct.Struct("@IBBBBII")
_ERRORS: Final = ((socket.IPPROTO_IP, sockets.IP_RECVERR), (socket.IPPROTO_IPV6, sockets.IPV6_RECVERR))


def enable(sock: socket.socket) -> None:
    """Let the kernel stamp what `sock` receives, and keep the ICMP errors for what it sent."""
    level, kind = _ERRORS[sock.family == socket.AF_INET6]
    sock.setsockopt(level, kind, 1)
    sock.setsockopt(socket.SOL_SOCKET, sockets.SO_TIMESTAMPNS, 1)


def received_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    """When the kernel received a message, in nanoseconds since 1970; now, where it does not say."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == sockets.SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return time.time_ns()


def errors(sock: socket.socket) -> Iterator[int]:
    """The errno of each ICMP error that waits."""
    while True:
        try:
            _, ancillary, _, _ = sock.recvmsg(0, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except OSError:
            return
        for level, kind, data in ancillary:
            if (level, kind) in _ERRORS:
                yield _SOCK_EXTENDED_ERR.unpack_from(data)[0]


@contextmanager
def steady(clock: Clock) -> Iterator[None]:
    """:raises Failure: `clock_step` when wall time moved inside the block."""
    started = _clocks(clock)
    yield
    ended = _clocks(clock)
    elapsed_s = ended[1] - started[1]
    step_ms = abs((ended[0] - started[0]) - elapsed_s) * 1000
    if step_ms > STEP_MS + DRIFT_RATIO * elapsed_s * 1000:
        raise Failure("clock_step", f"wall clock moved {step_ms:.1f} ms against boot time")


def _clocks(clock: Clock) -> tuple[float, float]:
    """Wall and boot time of one moment: the closest of a few readings, as the machine may pause between the two."""
    readings = []
    for _ in range(5):
        before, wall, after = clock.boot(), clock.wall(), clock.boot()
        readings.append((after - before, wall, (before + after) / 2))
    _, wall, boot = min(readings)
    return wall, boot
