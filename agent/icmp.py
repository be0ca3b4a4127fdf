"""ICMP echo (RFC 792, RFC 4443) without privileges, timed by the kernel's stamps."""

import contextlib
import os
import random
import socket
import struct
from typing import Final, Self

from agent import sockets, stamps
from agent.probe import Context
from agent.train import Train

_HEADER: Final = struct.Struct("!BBHHH")
_TOKEN_BYTES: Final = 8


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
        await sender.until(lambda: train.complete, late_s)


class _Echo:
    """One socket for one run, with an identity of its own: a fixed one stays dead in a NAT after an outage."""

    def __init__(self, address: str, train: Train, interface: str, payload_bytes: int) -> None:
        self._train = train
        self._token = os.urandom(_TOKEN_BYTES)
        self._padding = bytes(payload_bytes - _TOKEN_BYTES)
        self._sent_ns: dict[int, int] = {}
        family, peer = sockets.numeric(address, 0, interface)
        self._v6 = family == socket.AF_INET6
        sock, self._raw = _open(family)
        identifier = random.randint(1, 65535)  # noqa: S311 - only to differ from the last run
        self._datagrams = stamps.Datagrams(
            sock, peer, interface, port=0 if self._raw else identifier, receive=self._note, no_way=train.note_no_way
        )
        self._id = identifier if self._raw else int(sock.getsockname()[1])
        self.until = self._datagrams.until

    def __enter__(self) -> Self:
        self._datagrams.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._datagrams.__exit__()

    def send(self, sequence: int) -> None:
        packet = self._packet(sequence)
        sent = self._datagrams.send(lambda _: packet)
        if sent is not None:
            self._sent_ns[sequence] = sent.left_ns
            self._train.note_sent(sequence)

    def _packet(self, sequence: int) -> bytes:
        kind = 128 if self._v6 else 8
        body = self._token + self._padding
        packet = _HEADER.pack(kind, 0, 0, self._id, sequence & 0xFFFF) + body
        # The kernel sums for datagram sockets and for ICMPv6; doing it always costs nothing and is right for all.
        return _HEADER.pack(kind, 0, _checksum(packet), self._id, sequence & 0xFFFF) + body

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


def permitted() -> bool:
    """Whether this process may send echo requests at all."""
    try:
        sock, _ = _open(socket.AF_INET)
    except (NotPermitted, OSError):
        return False
    sock.close()
    return True


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
