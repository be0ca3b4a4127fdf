"""ICMP echo (RFC 792, RFC 4443) without privileges, timed by the kernel's receive stamps."""

import asyncio
import contextlib
import errno
import os
import random
import socket
import struct
import time
from typing import Any, Final

from agent import sockets, stamps
from agent.probe import Context
from agent.train import Train

_HEADER: Final = struct.Struct("!BBHHH")
_TOKEN_BYTES: Final = 8
_NO_WAY: Final = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNREFUSED, errno.ENOPROTOOPT})


class NotPermitted(Exception):
    """This host lets us open no ICMP socket: `net.ipv4.ping_group_range` leaves us out, and there is no CAP_NET_RAW."""


async def echo(
    address: str, train: Train, context: Context, *, packets: int, interval_s: float, payload_bytes: int, late_s: float
) -> None:
    """Send `train.warm_ups` and then `packets` echo requests, `interval_s` apart; wait `late_s` for late replies.

    :raises NotPermitted: before anything was sent.
    :raises Failure: `clock_step` when wall time moved while packets were under way; a send error's own reason.
    """
    with stamps.steady(context.clock), _Echo(address, train, context.interface, payload_bytes) as sender:
        first_s = context.clock.boot()
        for sequence in range(train.warm_ups + packets):
            await context.clock.sleep(first_s + sequence * interval_s - context.clock.boot())
            sender.send(sequence)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(late_s):
                await sender.all_answered()


class _Echo:
    """One socket for one run, with an identity of its own: a fixed one stays dead in a NAT after an outage."""

    def __init__(self, address: str, train: Train, interface: str, payload_bytes: int) -> None:
        self._train = train
        self._token = os.urandom(_TOKEN_BYTES)
        self._padding = bytes(payload_bytes - _TOKEN_BYTES)
        self._sent_ns: dict[int, int] = {}
        self._answered = asyncio.Event()
        family, sockaddr = sockets.numeric(address, 0, interface)
        self._v6 = family == socket.AF_INET6
        self._socket, self._raw = _open(family)
        try:
            self._id = self._prepare(interface, sockaddr)
        except BaseException:
            self._socket.close()
            raise
        asyncio.get_running_loop().add_reader(self._socket, self._receive)

    def __enter__(self) -> "_Echo":
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _prepare(self, interface: str, sockaddr: Any) -> int:
        """Bound, connected and checked; returns the ICMP identifier."""
        identifier = random.randint(1, 65535)  # noqa: S311 - only to differ from the last run
        try:
            sockets.bind(self._socket, interface, 0 if self._raw else identifier)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            # Another pinger has it; the kernel picks one.
        stamps.enable(self._socket)
        try:
            self._socket.connect(sockaddr)
        except OSError as error:
            raise sockets.failure(error, f"no way to {sockaddr[0]}") from error
        sockets.check_source(self._socket, interface)
        return identifier if self._raw else int(self._socket.getsockname()[1])

    def send(self, sequence: int) -> None:
        packet = self._packet(sequence)
        # A pending error of an earlier packet would be raised by this send and keep it back.
        self._read_errors()
        for last_try in (False, True):
            self._sent_ns[sequence] = time.time_ns()
            try:
                self._socket.send(packet)
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    return
                if error.errno not in _NO_WAY:
                    raise sockets.failure(error, "sending an echo request") from error
                if last_try:
                    self._train.unreachable += 1
                else:
                    self._read_errors()
                    continue
            break
        self._answered.clear()
        self._train.note_sent(sequence)

    async def all_answered(self) -> None:
        while not self._train.complete:
            self._answered.clear()
            await self._answered.wait()

    def _packet(self, sequence: int) -> bytes:
        kind = 128 if self._v6 else 8
        body = self._token + self._padding
        packet = _HEADER.pack(kind, 0, 0, self._id, sequence & 0xFFFF) + body
        # The kernel sums for datagram sockets and for ICMPv6; doing it always costs nothing and is right for all.
        return _HEADER.pack(kind, 0, _checksum(packet), self._id, sequence & 0xFFFF) + body

    def _receive(self) -> None:
        self._read_errors()
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(2048, 256)
            except BlockingIOError:
                return
            except OSError:
                # The error itself waits in the error queue.
                self._read_errors()
                return
            self._note(data, stamps.received_ns(ancillary))

    def _note(self, data: bytes, received_ns: int) -> None:
        if self._raw and not self._v6:
            data = data[(data[0] & 15) * 4 :]
        if len(data) < _HEADER.size + _TOKEN_BYTES:
            return
        kind, _, _, identifier, sequence = _HEADER.unpack_from(data)
        ours = data[_HEADER.size : _HEADER.size + _TOKEN_BYTES] == self._token
        if kind != (129 if self._v6 else 0) or identifier != self._id or not ours or sequence not in self._sent_ns:
            return
        self._train.note_reply(sequence, (received_ns - self._sent_ns[sequence]) / 1e6)
        self._answered.set()

    def _read_errors(self) -> None:
        self._train.unreachable += sum(code in _NO_WAY for code in stamps.errors(self._socket))


def _open(family: socket.AddressFamily) -> tuple[socket.socket, bool]:
    """An ICMP socket and whether it is raw (then it gets everybody's packets, with their IP header)."""
    protocol = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
    kind = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    with contextlib.suppress(PermissionError):
        return socket.socket(family, socket.SOCK_DGRAM | kind, protocol), False
    try:
        return socket.socket(family, socket.SOCK_RAW | kind, protocol), True
    except PermissionError as error:
        raise NotPermitted from error


def _checksum(packet: bytes) -> int:
    """RFC 1071."""
    padded = packet + b"\0" * (len(packet) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
