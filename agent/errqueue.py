"""ICMP errors as the kernel hands them to an unprivileged datagram socket (ip(7), IP_RECVERR)."""

import socket
import struct
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from agent import sockets
from agent.stamps import ERRORS, SOCK_EXTENDED_ERR, STAMPS, stamp_ns

_ORIGIN_LOCAL: Final = 1
_EXPIRED: Final = ((2, 11), (3, 3))
"""Origin and type: ICMP (RFC 792) and ICMPv6 (RFC 4443)."""


class Error(NamedTuple):
    """One answer to something that was sent."""

    errno: int
    is_local: bool
    """Our own kernel's, no packet's."""
    address: str | None
    """Of the router or host that sent it."""
    is_expired: bool
    """The packet's hops were used up (ICMP time exceeded)."""
    info: int
    """With EMSGSIZE the next hop's MTU."""
    data: bytes
    """What was sent, as far as the answer quotes it: often the first bytes, sometimes nothing."""
    received_ns: int
    """When the kernel received it, in nanoseconds since 1970."""


def enable(sock: socket.socket) -> None:
    """Keep the errors for what `sock` sends, and stamp everything that it receives."""
    sock.setsockopt(*STAMPS, sockets.STAMP_ARRIVALS)
    sock.setsockopt(*ERRORS[sock.family == socket.AF_INET6], 1)


def read(sock: socket.socket) -> Iterator[Error]:
    """Those that wait."""
    while True:
        try:
            data, ancillary, _, _ = sock.recvmsg(2048, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except OSError:
            return
        for level, kind, raw in ancillary:
            if (level, kind) in ERRORS and len(raw) >= SOCK_EXTENDED_ERR.size:
                errno, origin, type_, _, _, info, _ = SOCK_EXTENDED_ERR.unpack_from(raw)
                address = _offender(raw[SOCK_EXTENDED_ERR.size :])
                expired, at_ns = (origin, type_) in _EXPIRED, stamp_ns(ancillary) or time.time_ns()
                yield Error(errno, origin == _ORIGIN_LOCAL, address, expired, info, data, at_ns)


def _offender(raw: bytes) -> str | None:
    if len(raw) < 8:
        return None
    (family,) = struct.unpack_from("@H", raw)
    if family == socket.AF_INET:
        return socket.inet_ntoa(raw[4:8])
    if family == socket.AF_INET6 and len(raw) >= 24:
        return socket.inet_ntop(socket.AF_INET6, raw[8:24])
    return None
