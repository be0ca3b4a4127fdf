"""A STAMP session reflector (RFC 8762), stateful: it answers every request that it may, at once and in its length.

Never answered, and counted by reason: what is too short, a source that sends too much, and ports from which another
reflector could answer us for ever (our own, 862, and those below 1024).
"""

import asyncio
import socket
import struct
import time
from collections import OrderedDict
from typing import Any, Final

from msgspec import Struct

from contract import stamp
from reflector.counts import Counts

MAX_SESSIONS: Final = 4096
IDLE_S: Final = 60.0
MAX_SOURCES: Final = 4096
TOTAL_PACKETS_PER_S: Final = 20_000
PACKETS_PER_TURN: Final = 64
"""Answered before the event loop looks at the other servers."""
RECEIVE_BUFFER_BYTES: Final = 2 * 1024 * 1024
_FIRST_PORT: Final = 1024
_MAX_DATAGRAM: Final = 9216
_ANCILLARY_BYTES: Final = 128
_TIMESPEC: Final = struct.Struct("@ll")

# include/uapi/asm-generic/socket.h, linux/in.h, linux/in6.h
_SO_TIMESTAMPNS: Final = 35
_IP_RECVTTL: Final = 12
_IP_TTL: Final = 2
_IPV6_RECVHOPLIMIT: Final = 51
_IPV6_HOPLIMIT: Final = 52


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


class Stamp:
    """Listens from :meth:`open` on, serves inside :meth:`run`.

    :param packets_per_s: from one source address, in bursts of twice as many.
    """

    def __init__(self, host: str, port: int, *, counts: Counts, packets_per_s: float = 200) -> None:
        self.host = host
        self.port = port
        """0 before :meth:`open`: any free port."""
        self._counts = counts
        self._per_s = packets_per_s
        self._sessions: OrderedDict[tuple[str, int, int], _Session] = OrderedDict()
        self._sources: OrderedDict[str, _Bucket] = OrderedDict()
        self._total = _Bucket(2 * TOTAL_PACKETS_PER_S, time.monotonic())
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Listen; what comes now is answered when :meth:`run` runs.

        :raises OSError: when the address is not ours or the port is taken.
        """
        v6 = ":" in self.host
        sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            if v6:
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVHOPLIMIT, 1)
            # Also for IPv4 over an IPv6 socket.
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
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
                data, ancillary, _, peer = sock.recvmsg(_MAX_DATAGRAM, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:
                self._counts.add("stamp_dropped", "error")  # an ICMP error for an earlier reply
                continue
            self._counts.add("stamp_received")
            reason = self._refusal(data, peer)
            if reason is not None:
                self._counts.add("stamp_dropped", reason)
                continue
            self._reply(sock, data, ancillary, peer)

    def _refusal(self, data: bytes, peer: Any) -> str | None:
        if len(data) < stamp.PACKET_BYTES:
            return "short"
        if peer[1] < _FIRST_PORT or peer[1] in (self.port, stamp.PORT):
            return "port"
        now_s = time.monotonic()
        if not self._bucket(peer[0], now_s).take(now_s, self._per_s):
            return "source_rate"
        if not self._total.take(now_s, TOTAL_PACKETS_PER_S):
            return "total_rate"
        return None

    def _reply(self, sock: socket.socket, data: bytes, ancillary: list[tuple[int, int, bytes]], peer: Any) -> None:
        request = stamp.unpack_request(data)
        assert request is not None
        received_ns, ttl = _facts(ancillary)
        session = self._session((peer[0], peer[1], request.session))
        answer = stamp.pack_reply(
            data,
            sequence=session.replies & 0xFFFFFFFF,
            received_ns=received_ns,
            sent_ns=time.time_ns(),
            error_estimate=stamp.UNSYNCHRONISED,
            ttl=ttl,
        )
        try:
            sock.sendto(answer, peer)
        except OSError:
            self._counts.add("stamp_dropped", "send")
            return
        session.replies += 1
        self._counts.add("stamp_replied")

    def _session(self, key: tuple[str, int, int]) -> _Session:
        now_s = time.monotonic()
        session = self._sessions.pop(key, None)
        if session is None or now_s - session.last_s > IDLE_S:
            session = _Session()
        session.last_s = now_s
        self._sessions[key] = session
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
            self._counts.add("stamp_sessions_evicted")
        return session

    def _bucket(self, source: str, now_s: float) -> _Bucket:
        bucket = self._sources.pop(source, None) or _Bucket(2 * self._per_s, now_s)
        self._sources[source] = bucket
        if len(self._sources) > MAX_SOURCES:
            self._sources.popitem(last=False)
        return bucket


def _facts(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int]:
    """When the kernel received the packet (ns since 1970), and its TTL (0 when not told)."""
    received_ns, ttl = time.time_ns(), 0
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            received_ns = seconds * 1_000_000_000 + nanoseconds
        elif (level, kind) in ((socket.IPPROTO_IP, _IP_TTL), (socket.IPPROTO_IPV6, _IPV6_HOPLIMIT)):
            (ttl,) = struct.unpack_from("@i", data)
    return received_ns, ttl & 0xFF
