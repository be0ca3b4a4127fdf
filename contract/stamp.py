"""STAMP, the Simple Two-way Active Measurement Protocol (RFC 8762), unauthenticated and stateful, with the session
identifier of RFC 8972: packet layouts, no I/O.

A reflector that is stateful counts its own replies from 0, so that the sender can tell in which direction a packet was
lost: of the requests up to the sender's S, S + 1 minus the R + 1 that were answered are lost on the way up.
"""

import struct
from typing import Final, NamedTuple

PORT: Final = 862
"""The registered port; a reflector of ours listens where its throughput server does."""

PACKET_BYTES: Final = 44
"""The shortest packet, in both directions; a reply is as long as its request, so that nothing is amplified."""

_SENDER: Final = struct.Struct("!IIIHH28x")
"""RFC 8762, figure 2 (with RFC 8972, 3): sequence, time stamp, error estimate, SSID, zero."""
_REPLY: Final = struct.Struct("!IIIHHIIIIIHxxBxxx")
"""RFC 8762, figure 5: sequence, time stamp, error estimate, SSID, receive time stamp, then the sender's sequence, time
stamp, error estimate, zero, TTL, zero."""

_UNIX_EPOCH_S: Final = 2_208_988_800
"""1970 on NTP's scale, which starts in 1900 (RFC 5905, 6)."""
_SECOND_NS: Final = 1_000_000_000

UNSYNCHRONISED: Final = 0x1601
"""Error estimate (RFC 4656, 4.1.2) of a clock that nobody sets: S 0, multiplier 1 x 2^(22 - 32) s = 1 ms."""
SYNCHRONISED: Final = UNSYNCHRONISED | 0x8000


class Request(NamedTuple):
    """A sender's packet; times in nanoseconds since 1970."""

    sequence: int
    sent_ns: int
    error_estimate: int = UNSYNCHRONISED
    session: int = 0


class Reply(NamedTuple):
    """A reflector's packet; `sequence` is its own count of replies in this session."""

    sequence: int
    sent_ns: int
    error_estimate: int
    session: int
    received_ns: int
    sender_sequence: int
    sender_sent_ns: int
    sender_error_estimate: int
    sender_ttl: int

    @property
    def dwell_ns(self) -> int:
        """How long the reflector kept the request: no part of the network's round trip."""
        return self.sent_ns - self.received_ns


def pack_request(request: Request, size: int = PACKET_BYTES) -> bytes:
    """`size` bytes, padded with zeros."""
    head = _SENDER.pack(request.sequence, *_to_ntp(request.sent_ns), request.error_estimate, request.session)
    return head.ljust(size, b"\0")


def unpack_request(data: bytes) -> Request | None:
    """None for what is too short to be one."""
    if len(data) < PACKET_BYTES:
        return None
    sequence, seconds, fraction, error_estimate, session = _SENDER.unpack_from(data)
    return Request(sequence, _from_ntp(seconds, fraction), error_estimate, session)


def pack_reply(
    request: bytes, *, sequence: int, received_ns: int, sent_ns: int, error_estimate: int, ttl: int
) -> bytes:
    """The reply to the packet `request`, as long as that one and with its padding."""
    sender_sequence, seconds, fraction, sender_error, session = _SENDER.unpack_from(request)
    head = _REPLY.pack(
        sequence, *_to_ntp(sent_ns), error_estimate, session, *_to_ntp(received_ns),
        sender_sequence, seconds, fraction, sender_error, ttl,
    )  # fmt: skip
    return head + request[PACKET_BYTES:]


def unpack_reply(data: bytes) -> Reply | None:
    """None for what is too short to be one."""
    if len(data) < PACKET_BYTES:
        return None
    (
        sequence, sent_s, sent_f, error, session, received_s, received_f,
        sender_sequence, sender_s, sender_f, sender_error, ttl,
    ) = _REPLY.unpack_from(data)  # fmt: skip
    return Reply(
        sequence,
        _from_ntp(sent_s, sent_f),
        error,
        session,
        _from_ntp(received_s, received_f),
        sender_sequence,
        _from_ntp(sender_s, sender_f),
        sender_error,
        ttl,
    )


def _to_ntp(time_ns: int) -> tuple[int, int]:
    seconds, rest_ns = divmod(time_ns, _SECOND_NS)
    return (seconds + _UNIX_EPOCH_S) & 0xFFFFFFFF, (rest_ns << 32) // _SECOND_NS


def _from_ntp(seconds: int, fraction: int) -> int:
    """Rounded up, so that a time survives the way there and back; good until 2036."""
    return (seconds - _UNIX_EPOCH_S) * _SECOND_NS + -(-fraction * _SECOND_NS >> 32)
