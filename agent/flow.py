"""One UDP flow on pinned ports, whose packets have chosen TTLs and sizes and are never fragmented: what routers and the
target answer to each.

The ports stay the same because routers that share load send one flow one way (Paris traceroute). The packets are STAMP
requests: a reflector answers them, any other host says that nobody listens.
"""

import asyncio
import errno
import random
import socket
import time
from typing import Final, Literal, NamedTuple, Self

from agent import errqueue, sockets
from agent.stamps import stamp_ns
from contract import stamp
from contract.stamp import Request

TTL: Final = 64
_HEADERS_BYTES: Final = {socket.AF_INET: 20 + 8, socket.AF_INET6: 40 + 8}
_MAX_PACKET_BYTES: Final = 65_535
_SEQUENCE_BYTES: Final = 4
_TRIES: Final = 4

_NO_ROOM: Final = frozenset({errno.ENOBUFS, errno.EAGAIN})
"""The packet is lost in our own queue, or the cable is out: silence."""
_EARLIER: Final = frozenset(
    {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNREFUSED, errno.ENOPROTOOPT, errno.EMSGSIZE}
)
"""What a send raises for the ICMP error of an earlier packet, or because our own kernel knows no way."""

Kind = Literal["hop", "target", "echo", "too_big", "unreachable"]
"""`hop`: the packet's TTL ended there; `target`: it arrived; `echo`: it did, and a reflector answered; `too_big`: it is
longer than the next link allows."""


class Answer(NamedTuple):
    """What came back for a packet."""

    kind: Kind
    address: str | None
    """Who says so; None is our own kernel."""
    rtt_ms: float
    mtu: int | None = None
    """Of the next link, where a packet was too big and a router tells."""


class Flow:
    """A connected socket, used as an async context.

    :raises Failure: when `interface` does not lead to `address`.
    """

    def __init__(self, address: str, port: int, interface: str) -> None:
        self.unreachable = 0
        """Answers that there is no way, such as came too late to be anybody's among them."""
        self.anonymous = 0
        """Answers of which nobody knows to which packet."""
        self._interface = interface
        self._session = random.randint(1, 0xFFFF)  # noqa: S311 - only to differ from the last run
        self._sequence = 0
        self._sent_ns: dict[int, int] = {}
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        family, self._sockaddr = sockets.numeric(address, port, interface)
        self._headers_bytes = _HEADERS_BYTES[family]
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._prepare()
        except BaseException:
            self._socket.close()
            raise

    @property
    def least_bytes(self) -> int:
        """Of an IP packet: a STAMP request without padding."""
        return self._headers_bytes + stamp.PACKET_BYTES

    @property
    def most_bytes(self) -> int:
        """Of an IP packet, as our own link has it."""
        return min(sockets.mtu(self._interface), _MAX_PACKET_BYTES)

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._socket, self._receive)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    async def ask(self, *, ttl: int = TTL, packet_bytes: int | None = None, wait_s: float = 1.0) -> Answer | None:
        """Send one packet; None when nothing came back for it within `wait_s`.

        :param packet_bytes: of the whole IP packet; None for the least.
        :raises Failure: when our own side refuses to send it.
        """
        self._sequence += 1
        sequence = self._sequence
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[sequence] = answer
        try:
            self._send(sequence, ttl, packet_bytes or self.least_bytes)
            async with asyncio.timeout(wait_s):
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._waiting[sequence]

    def _prepare(self) -> None:
        sockets.bind(self._socket, self._interface)
        errqueue.enable(self._socket)
        if self._socket.family == socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, sockets.IPV6_MTU_DISCOVER, sockets.PMTUDISC_PROBE)
        else:
            self._socket.setsockopt(socket.IPPROTO_IP, sockets.IP_MTU_DISCOVER, sockets.PMTUDISC_PROBE)
        try:
            self._socket.connect(self._sockaddr)
        except OSError as error:
            raise sockets.failure(error, f"no way to {self._sockaddr[0]}") from error
        sockets.check_source(self._socket, self._interface)

    def _send(self, sequence: int, ttl: int, packet_bytes: int) -> None:
        if self._socket.family == socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
        else:
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        code: int | None = None
        for _ in range(_TRIES):
            # A pending error of an earlier packet would be raised by this send and keep it back.
            self._read_errors()
            now_ns = self._sent_ns[sequence] = time.time_ns()
            request = Request(sequence, now_ns, session=self._session)
            try:
                self._socket.send(stamp.pack_request(request, packet_bytes - self._headers_bytes))
                return
            except OSError as error:
                code = error.errno
                if code in _NO_ROOM:
                    return
                if code not in _EARLIER:
                    raise sockets.failure(error, "sending a packet") from error
        # Every time: it is no earlier packet's.
        if code == errno.EMSGSIZE:
            self._settle(sequence, "too_big", None, now_ns, sockets.mtu(self._interface))
        else:
            self._settle(sequence, "unreachable", None, now_ns)

    def _receive(self) -> None:
        self._read_errors()
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(_MAX_PACKET_BYTES, 256)
            except BlockingIOError:
                return
            except OSError:
                self._read_errors()  # the error itself waits in the error queue
                return
            reply = stamp.unpack_reply(data)
            if reply is not None and reply.session == self._session:
                at_ns = stamp_ns(ancillary) or time.time_ns()
                self._settle(reply.sender_sequence, "echo", self._sockaddr[0], at_ns)

    def _read_errors(self) -> None:
        for error in errqueue.read(self._socket):
            # What our own kernel says was raised by the send, too.
            if not error.is_local:
                kind, sequence = self._kind(error), self._asked_by(error)
                self._settle(sequence, kind, error.address, error.received_ns, error.info or None)

    def _kind(self, error: errqueue.Error) -> Kind:
        if error.is_expired:
            return "hop"
        if error.errno == errno.EMSGSIZE:
            return "too_big"
        # A port that nobody listens at, or a firewall of the target's own that says no.
        return "target" if error.errno == errno.ECONNREFUSED or error.address == self._sockaddr[0] else "unreachable"

    def _asked_by(self, error: errqueue.Error) -> int:
        """Sequence number of the packet; 0 where a router quotes none of the payload and several are under way."""
        if len(error.data) >= _SEQUENCE_BYTES:
            return int.from_bytes(error.data[:_SEQUENCE_BYTES], "big")
        self.anonymous += len(self._waiting) > 1
        return next(iter(self._waiting)) if len(self._waiting) == 1 else 0

    def _settle(self, sequence: int, kind: Kind, address: str | None, at_ns: int, mtu: int | None = None) -> None:
        self.unreachable += kind == "unreachable"
        waiting = self._waiting.get(sequence)
        if waiting is not None and not waiting.done():
            rtt_ms = max(0.0, (at_ns - self._sent_ns[sequence]) / 1e6)
            waiting.set_result(Answer(kind, address, rtt_ms, mtu if kind == "too_big" else None))
