"""The route to a target, and the largest packet that gets there whole; both without privileges.

Routers say who they are when a packet's hops are used up; one flow for all packets, so that load balancers do not mix
routes. The path MTU is asked for with packets that must not be fragmented: a router that cannot pass one says so, and
the target answers those that arrive. Where neither happens although small packets pass, the path has a black hole: the
size is then searched for, which needs a target that answers (a reflector by STAMP).
"""

import asyncio
import contextlib
import errno
import fcntl
import random
import socket
import struct
from typing import Annotated, Final, Literal

from msgspec import Meta

from agent import errqueue, sockets
from agent.probe import Context, Failure, Probe, Settings
from agent.resolver import resolve
from contract import stamp
from contract.throughput import PORT
from contract.values import Hop, Path

AT_ONCE: Final = 3
"""Hops that are asked at the same time."""
WAIT_S: Final = 1.0
SILENT_HOPS: Final = 8
"""So many without an answer, one behind the other: the rest will not answer either."""
TRACE_PORT: Final = 33434
"""Where nobody listens, as traceroute has it: the target's own answer is that its port is closed."""
TRIES: Final = 2
"""Of a size, before its silence is believed."""
_LEAST_BYTES: Final = {socket.AF_INET: 576, socket.AF_INET6: 1280}
"""What every path carries (RFC 791, RFC 8200)."""
_HEADER_BYTES: Final = {socket.AF_INET: 28, socket.AF_INET6: 48}
_SEQUENCE: Final = struct.Struct("!I")

# linux/in.h, linux/in6.h, linux/sockios.h
_IP_TTL: Final = 2
_IP_MTU_DISCOVER: Final = 10
_IPV6_UNICAST_HOPS: Final = 16
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_PROBE: Final = 3
_SIOCGIFMTU: Final = 0x8921

_NO_WAY: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH})


class PathSettings(Settings, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Settings of a path job."""

    max_hops: Annotated[int, Meta(ge=1, le=64)] = 30


async def measure(settings: PathSettings, context: Context) -> Path:
    """Hops, then path MTU.

    :raises Failure: `all_lost` when nobody on the way answered; `unreachable` when a router said that there is no way.
    """
    target = context.target
    assert target is not None
    assert target.name is not None
    values = context.values = Path()
    address = (await resolve(target.name, context.interface))[0]
    with _Trace(address, context) as trace:
        try:
            await trace.run(settings.max_hops)
        finally:
            values.hops, values.hop_count = trace.route()
    if trace.no_way:
        raise Failure("unreachable", f"{address}: {trace.no_way} says that there is no way")
    # A reflector answers packets of every size; elsewhere the closed port has to do.
    port = (target.port or PORT) if target.role == "core" else TRACE_PORT
    with _Sizes(address, port, context) as sizes:
        values.pmtu_bytes, values.pmtu_blackhole = await sizes.path_mtu()
    if values.hop_count is None and not any(hop.address for hop in values.hops) and values.pmtu_bytes is None:
        raise Failure("all_lost", f"{address}: nobody on the way answered")
    return values


class _Flow:
    """A connected datagram socket with its errors."""

    def __init__(self, address: str, port: int, context: Context) -> None:
        self._context = context
        self._news = asyncio.Event()
        self._family, sockaddr = sockets.numeric(address, port, context.interface)
        self._socket = socket.socket(self._family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sockets.bind(self._socket, context.interface)
            errqueue.enable(self._socket)
            self._never_fragment()
            try:
                self._socket.connect(sockaddr)
            except OSError as error:
                raise sockets.failure(error, f"no way to {address}") from error
            sockets.check_source(self._socket, context.interface)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> "_Flow":
        asyncio.get_running_loop().add_reader(self._socket, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _never_fragment(self) -> None:
        """Nor believe what an earlier run has learnt."""
        if self._family == socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
        else:
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)

    def _send(self, data: bytes) -> int:
        """0, or the errno with which our own kernel refused."""
        for _ in range(TRIES):
            try:
                self._socket.send(data)
            except OSError as error:
                self._receive()  # an error of an earlier packet is raised here once
                if error.errno == errno.EMSGSIZE:
                    return errno.EMSGSIZE
                continue
            return 0
        return errno.EHOSTUNREACH

    def _receive(self) -> None:
        for error in errqueue.read(self._socket):
            self._note_error(error)
        while True:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                break
            except OSError:
                continue
            self._note_reply(data)
        self._news.set()

    def _note_error(self, error: errqueue.Error) -> None:
        raise AssertionError

    def _note_reply(self, data: bytes) -> None:
        pass

    async def _wait(self, seconds: float) -> None:
        """Return when something came, or after `seconds`."""
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._news.wait()


class _Trace(_Flow):
    """Who is on the way."""

    def __init__(self, address: str, context: Context) -> None:
        super().__init__(address, TRACE_PORT, context)
        self.no_way: str | None = None
        """The router that said so."""
        self._address = address
        self._sent_s: dict[int, float] = {}
        self._hops: dict[int, Hop] = {}
        self._reached: int | None = None
        """Hops to the target itself."""

    def __enter__(self) -> "_Trace":
        super().__enter__()
        return self

    async def run(self, max_hops: int) -> None:
        """Ask hop by hop, :data:`AT_ONCE` at a time."""
        for first in range(1, max_hops + 1, AT_ONCE):
            wave = range(first, min(first + AT_ONCE, max_hops + 1))
            for ttl in wave:
                self._ask(ttl)
            ends_s = self._context.clock.boot() + WAIT_S
            while not self._done(wave) and self._context.clock.boot() < ends_s:
                await self._wait(ends_s - self._context.clock.boot())
            last = max(self._hops, default=0)
            self._context.progress(f"hop {last}: {self._hops[last].address if last else 'silent'}")
            if self._reached is not None or self.no_way or wave[-1] - last >= SILENT_HOPS:
                return

    def route(self) -> tuple[list[Hop], int | None]:
        """The hops, silent ones included, up to the last that answered; and how many there are, when the target did."""
        last = self._reached or max(self._hops, default=0)
        return [self._hops.get(ttl, Hop()) for ttl in range(1, last + 1)], self._reached

    def _ask(self, ttl: int) -> None:
        if self._family == socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_UNICAST_HOPS, ttl)
        else:
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_TTL, ttl)
        self._sent_s[ttl] = self._context.clock.boot()
        self._send(_SEQUENCE.pack(ttl))

    def _done(self, wave: range) -> bool:
        last = wave[-1] if self._reached is None else self._reached
        return self.no_way is not None or all(ttl in self._hops for ttl in wave if ttl <= last)

    def _note_error(self, error: errqueue.Error) -> None:
        if error.is_local or error.address is None:
            return
        ttl = self._ttl_of(error)
        if ttl is None or ttl in self._hops:
            return
        at_target = error.errno == errno.ECONNREFUSED or error.address == self._address
        if not (error.is_expired or at_target):
            self.no_way = error.address if error.errno in _NO_WAY else self.no_way
            if any(hop.address == error.address for hop in self._hops.values()):
                return
        rtt_ms = (self._context.clock.boot() - self._sent_s[ttl]) * 1000
        self._hops[ttl] = Hop(address=error.address, rtt_ms=rtt_ms)
        if at_target:
            self._reached = ttl if self._reached is None else min(ttl, self._reached)

    def _ttl_of(self, error: errqueue.Error) -> int | None:
        """From what the answer quotes; a short quote is taken for the first hop that has not answered."""
        if len(error.data) >= _SEQUENCE.size:
            ttl: int = _SEQUENCE.unpack_from(error.data)[0]
            return ttl if ttl in self._sent_s else None
        return next((ttl for ttl in self._sent_s if ttl not in self._hops), None)


class _Sizes(_Flow):
    """Which sizes arrive."""

    def __init__(self, address: str, port: int, context: Context) -> None:
        super().__init__(address, port, context)
        self._session = random.randint(1, 0xFFFF)  # noqa: S311 - only to differ from the last run
        self._sequence = 0
        self._answer: Literal["arrived", "too_big"] | None = None
        self._told_mtu = 0

    def __enter__(self) -> "_Sizes":
        super().__enter__()
        return self

    async def path_mtu(self) -> tuple[int | None, bool | None]:
        """The largest IP packet that arrives, and whether it had to be searched for because no router said so. Both
        None when the target answers no packet at all."""
        size = self._interface_mtu()
        least = _LEAST_BYTES[self._family]
        for _ in range(8):
            answer = await self._ask(size)
            if answer == "arrived":
                return size, False
            if answer is None:
                break
            if not least <= self._told_mtu < size:
                break  # a router that says nothing sensible
            size = self._told_mtu
        if await self._ask(least) != "arrived":
            return None, None
        return await self._search(least, size), True

    async def _search(self, passes: int, fails: int) -> int:
        """The largest size that is answered, by halving."""
        while fails - passes > 1:
            middle = (passes + fails) // 2
            if await self._ask(middle) == "arrived":
                passes = middle
            else:
                fails = middle
            self._context.progress(f"path MTU {passes} to {fails}")
        return passes

    async def _ask(self, size: int) -> Literal["arrived", "too_big"] | None:
        """What becomes of a packet of `size`; None is silence."""
        for _ in range(TRIES):
            self._sequence += 1
            self._answer = None
            request = stamp.Request(self._sequence, 0, session=self._session)
            if self._send(stamp.pack_request(request, size - _HEADER_BYTES[self._family])) == errno.EMSGSIZE:
                return "too_big"
            ends_s = self._context.clock.boot() + WAIT_S / TRIES
            while self._answer is None and self._context.clock.boot() < ends_s:
                await self._wait(ends_s - self._context.clock.boot())
            if self._answer is not None:
                return self._answer
        return None

    def _interface_mtu(self) -> int:
        request = struct.pack("16si12x", self._context.interface.encode(), 0)
        (_, mtu) = struct.unpack_from("16si", fcntl.ioctl(self._socket, _SIOCGIFMTU, request))
        # Loopback's packets are larger than IP allows.
        return min(int(mtu), 65_000)

    def _note_error(self, error: errqueue.Error) -> None:
        if error.errno == errno.EMSGSIZE:
            self._told_mtu, self._answer = error.info, "too_big"
        elif error.errno == errno.ECONNREFUSED and not error.is_local:
            self._answer = "arrived"

    def _note_reply(self, data: bytes) -> None:
        reply = stamp.unpack_reply(data)
        if reply is not None and (reply.session, reply.sender_sequence) == (self._session, self._sequence):
            self._answer = "arrived"


PROBE: Final = Probe(settings=PathSettings, measure=measure, timeout_s=40.0, needs=frozenset({"host", "interface"}))
