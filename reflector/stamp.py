"""A STAMP session reflector (RFC 8762), stateful: it answers every request that it may, at once and in its length.

Never answered, and counted by reason: what is too short or too long, what was sent to a group of machines, a source
that sends too much, and ports from which another reflector could answer us for ever (our own, 862, and those below
1024). A source that is no single machine's is dropped by the kernel itself.
"""

import asyncio
import socket
import struct
import time
from collections import OrderedDict
from typing import Any, Final, NamedTuple

from msgspec import Struct

from contract import stamp
from reflector import kernel_clock
from reflector.connections import source_of
from reflector.counts import Counts

MAX_SESSIONS: Final = 4096
IDLE_S: Final = 60.0
MAX_SOURCES: Final = 4096
TOTAL_PACKETS_PER_S: Final = 10_000
PACKETS_PER_TURN: Final = 64
"""Answered before the event loop looks at the other servers."""
RECEIVE_BUFFER_BYTES: Final = 2 * 1024 * 1024
"""A second's worth at 2,000 packets/s: what waits while the event loop is busy."""
CLOCK_S: Final = 10.0
"""How often the kernel is asked how good its clock is."""
_FIRST_PORT: Final = 1024
_NTP_EPOCH_S: Final = 2_208_988_800
_REPLY_S: Final = 3600.0
"""Where a request is zero, a reply has the time at which it was received. Answered, two reflectors would answer each
other for ever after one forged packet."""
_MAX_DATAGRAM: Final = 65_535
_ANCILLARY_BYTES: Final = 256
_TIMESPEC: Final = struct.Struct("@ll")
_INT: Final = struct.Struct("@i")
_UNSIGNED: Final = struct.Struct("@I")

# include/uapi/asm-generic/socket.h, linux/in.h, linux/in6.h
_SO_RCVBUFFORCE: Final = 33
_SO_TIMESTAMPNS: Final = 35
_SO_RXQ_OVFL: Final = 40
_IP_TTL: Final = 2
_IP_PKTINFO: Final = 8
_IP_RECVTTL: Final = 12
_IPV6_RECVPKTINFO: Final = 49
_IPV6_PKTINFO: Final = 50
_IPV6_RECVHOPLIMIT: Final = 51
_IPV6_HOPLIMIT: Final = 52
_TTL: Final = ((socket.IPPROTO_IP, _IP_TTL), (socket.IPPROTO_IPV6, _IPV6_HOPLIMIT))
_ADDRESS4: Final = (socket.IPPROTO_IP, _IP_PKTINFO)
_ADDRESS6: Final = (socket.IPPROTO_IPV6, _IPV6_PKTINFO)
_PKTINFO4: Final = struct.Struct("@i4s4s")
"""struct in_pktinfo: interface, address of ours, destination in the packet."""
_PKTINFO6: Final = struct.Struct("@16si")
_MULTICAST6: Final = 0xFF
_LINK_LOCAL6: Final = b"\xfe\x80"


class _Session(Struct):
    """One sender: source address, port and SSID."""

    replies: int = 0
    last_s: float = 0.0


class _Bucket(Struct):
    """Packets that a source may still send at once."""

    tokens: float
    at_s: float

    def take(self, now_s: float, per_s: float) -> bool:
        self.tokens = min(2 * per_s, self.tokens + (now_s - self.at_s) * per_s)
        self.at_s = now_s
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class _Arrival(NamedTuple):
    """What the kernel says of a packet."""

    received_ns: int
    ttl: int
    """0 when not told."""
    to_us: bool
    """Not to a group of machines."""
    from_us: list[tuple[int, int, bytes]]
    """Ancillary data of the reply: it leaves from the address that was asked."""
    overflowed: int
    """Packets that the socket had no room for, since it was opened; modulo 2^32."""


class Stamp:
    """Listens from :meth:`open` on, serves inside :meth:`run`.

    Counts `stamp_replied`, `stamp_dropped` by reason (`queue`: the kernel had no room for it) and
    `stamp_sessions_evicted`.

    :param packets_per_s: from one source address, in bursts of twice as many.
    :param total_packets_per_s: from all of them.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        counts: Counts,
        packets_per_s: float = 200,
        total_packets_per_s: float = TOTAL_PACKETS_PER_S,
    ) -> None:
        self.host = host
        self.port = port
        """0 before :meth:`open`: any free port."""
        self._counts = counts
        self._per_s = packets_per_s
        self._total_per_s = total_packets_per_s
        self._sessions: OrderedDict[tuple[str, int, int, bytes], _Session] = OrderedDict()
        """The one that was used last is the last."""
        self._sources: OrderedDict[str, _Bucket] = OrderedDict()
        self._total = _Bucket(2 * total_packets_per_s, time.monotonic())
        self._overflowed = 0
        self._error_estimate = stamp.UNSYNCHRONISED
        self._asked_s = -CLOCK_S
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Listen; what comes now is answered when :meth:`run` runs.

        :raises OSError: when the address is not ours or the port is taken.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            _prepare(sock)
            sock.bind((self.host, self.port))
        except BaseException:
            sock.close()
            raise
        self._socket = sock
        self.port = sock.getsockname()[1]

    async def run(self) -> None:
        """Serve until cancelled."""
        if self._socket is None:
            raise RuntimeError("open() comes before run()")
        loop = asyncio.get_running_loop()
        with self._socket as sock:
            loop.add_reader(sock, self._answer_some, sock)
            try:
                await loop.create_future()
            finally:
                loop.remove_reader(sock)

    def _answer_some(self, sock: socket.socket) -> None:
        for _ in range(PACKETS_PER_TURN):
            try:
                packet, ancillary, _, peer = sock.recvmsg(_MAX_DATAGRAM, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            arrival = _arrival(ancillary)
            if arrival.overflowed != self._overflowed:
                self._counts.add("stamp_dropped", "queue", (arrival.overflowed - self._overflowed) & 0xFFFFFFFF)
                self._overflowed = arrival.overflowed
            now_s = time.monotonic()
            reason = self._refusal(packet, arrival, peer, now_s)
            if reason is None:
                reason = self._reply(sock, packet, arrival, peer, now_s)
            if reason is None:
                self._counts.add("stamp_replied")
            else:
                self._counts.add("stamp_dropped", reason)

    def _refusal(self, packet: bytes, arrival: _Arrival, peer: Any, now_s: float) -> str | None:
        if len(packet) < stamp.PACKET_BYTES:
            return "short"
        if peer[1] < _FIRST_PORT or peer[1] in (self.port, stamp.PORT):
            return "port"
        if not arrival.to_us:
            return "group"
        if abs(int.from_bytes(packet[16:20], "big") - _NTP_EPOCH_S - time.time()) < _REPLY_S:
            return "reply"
        if not self._bucket(peer[0], now_s).take(now_s, self._per_s):
            return "source_rate"
        if not self._total.take(now_s, self._total_per_s):
            return "total_rate"
        return None

    def _reply(self, sock: socket.socket, packet: bytes, arrival: _Arrival, peer: Any, now_s: float) -> str | None:
        """Why it could not be sent, if so."""
        session = self._session((peer[0], peer[1], peer[3] if len(peer) > 2 else 0, packet[14:16]), now_s)
        if now_s - self._asked_s >= CLOCK_S:
            self._asked_s = now_s
            estimate = kernel_clock.error_estimate()
            self._error_estimate = stamp.UNSYNCHRONISED if estimate is None else estimate.pack()
        answer = stamp.pack_reply(
            packet,
            sequence=session.replies & 0xFFFFFFFF,
            received_ns=arrival.received_ns,
            sent_ns=time.time_ns(),
            error_estimate=self._error_estimate,
            ttl=arrival.ttl,
        )
        try:
            sock.sendmsg((answer,), arrival.from_us, 0, peer)
        except OSError:
            return "unsent"
        session.replies += 1
        return None

    def _session(self, key: tuple[str, int, int, bytes], now_s: float) -> _Session:
        session = self._sessions.get(key)
        if session is None or now_s - session.last_s > IDLE_S:
            session = self._sessions[key] = _Session()
        session.last_s = now_s
        self._sessions.move_to_end(key)
        if len(self._sessions) > MAX_SESSIONS:
            _, oldest = self._sessions.popitem(last=False)
            if now_s - oldest.last_s <= IDLE_S:
                self._counts.add("stamp_sessions_evicted")
        return session

    def _bucket(self, source: str, now_s: float) -> _Bucket:
        source = source_of(source)
        bucket = self._sources.get(source)
        if bucket is None:
            bucket = self._sources[source] = _Bucket(2 * self._per_s, now_s)
            if len(self._sources) > MAX_SOURCES:
                self._sources.popitem(last=False)
        else:
            self._sources.move_to_end(source)
        return bucket


def _prepare(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except PermissionError:
        # Without CAP_NET_ADMIN, as much as net.core.rmem_max allows.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVHOPLIMIT, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def _arrival(ancillary: list[tuple[int, int, bytes]]) -> _Arrival:
    received_ns, ttl, to_us, from_us, overflowed = 0, 0, True, ancillary[:0], 0
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            received_ns = seconds * 1_000_000_000 + nanoseconds
        elif level == socket.SOL_SOCKET and kind == _SO_RXQ_OVFL:
            (overflowed,) = _UNSIGNED.unpack_from(data)
        elif (level, kind) in _TTL:
            (ttl,) = _INT.unpack_from(data)
        elif (level, kind) == _ADDRESS4:
            _, own, asked = _PKTINFO4.unpack_from(data)
            to_us = own == asked
            from_us = [(level, kind, _PKTINFO4.pack(0, own, b""))]
        elif (level, kind) == _ADDRESS6:
            asked, index = _PKTINFO6.unpack_from(data)
            to_us = asked[0] != _MULTICAST6
            # An address that is good on one link only needs to know on which.
            from_us = [(level, kind, _PKTINFO6.pack(asked, index if asked.startswith(_LINK_LOCAL6) else 0))]
    return _Arrival(received_ns or time.time_ns(), ttl & 0xFF, to_us, from_us, overflowed)
