"""ICMP errors as the kernel hands them to an unprivileged datagram socket (ip(7), IP_RECVERR)."""

import socket
import struct
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from agent import sockets

_EXTENDED: Final = struct.Struct("@IBBBBII")
"""struct sock_extended_err; the offender's socket address follows."""
_STAMPED: Final = (socket.SOL_SOCKET, sockets.SO_TIMESTAMPING)
_TIMESPEC: Final = struct.Struct("@ll")
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
    sock.setsockopt(*_STAMPED, sockets.STAMP_ARRIVALS)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, sockets.IPV6_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, sockets.IP_RECVERR, 1)


def read(sock: socket.socket) -> Iterator[Error]:
    """Those that wait."""
    kinds = ((socket.IPPROTO_IP, sockets.IP_RECVERR), (socket.IPPROTO_IPV6, sockets.IPV6_RECVERR))
    while True:
        try:
            data, ancillary, _, _ = sock.recvmsg(2048, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except OSError:
            return
        for level, kind, raw in ancillary:
            if (level, kind) in kinds and len(raw) >= _EXTENDED.size:
                errno, origin, type_, _, _, info, _ = _EXTENDED.unpack_from(raw)
                address = _offender(raw[_EXTENDED.size :])
                expired, at_ns = (origin, type_) in _EXPIRED, received_ns(ancillary)
                yield Error(errno, origin == _ORIGIN_LOCAL, address, expired, info, data, at_ns)


def received_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    """When the kernel received a message; now, where it does not say."""
    for level, kind, raw in ancillary:
        if (level, kind) == _STAMPED:
            seconds, nanoseconds = _TIMESPEC.unpack_from(raw)
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return time.time_ns()


def _offender(raw: bytes) -> str | None:
    if len(raw) < 8:
        return None
    (family,) = struct.unpack_from("@H", raw)
    if family == socket.AF_INET:
        return socket.inet_ntoa(raw[4:8])
    if family == socket.AF_INET6 and len(raw) >= 24:
        return socket.inet_ntop(socket.AF_INET6, raw[8:24])
    return None
