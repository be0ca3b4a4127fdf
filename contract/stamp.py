"""STAMP, the Simple Two-way Active Measurement Protocol, unauthenticated (RFC 8762) and with its session identifier
(SSID, RFC 8972): packet layouts, no I/O.

The sender's packet (RFC 8762, figure 2; RFC 8972, figure 1) and the reply (figure 5; figure 2), 44 octets each::

     0  sequence number (4)               |  0  the reflector's own sequence number (4)
     4  time stamp (8)                    |  4  time stamp of sending the reply (8)
    12  error estimate (2)                | 12  error estimate (2)
    14  SSID (2)                          | 14  SSID (2)
    16  zero (28)                         | 16  time stamp of receiving the request (8)
                                          | 24  octets 0 to 13 of the request (14), zero (2)
                                          | 40  TTL or hop limit of the request (1), zero (3)

What stands behind them is padding. Times here are nanoseconds since 1970.
"""

import math
import struct
from typing import Final, NamedTuple

PORT: Final = 862
"""The registered port; a reflector of ours listens where its throughput server does."""

PACKET_BYTES: Final = 44
"""The shortest packet. A reply is as long as its request, so nothing is amplified."""

_REQUEST: Final = struct.Struct("!IQHH28x")
_REPLY: Final = struct.Struct("!IQHHQIQHxxBxxx")
_ANSWER: Final = struct.Struct("!IQH2sQ14sxxBxxx")
"""A reply again, with the octets that are copied from the request as they are."""
_PADDING_TLV: Final = struct.Struct("!BBH")
_UNRECOGNIZED: Final = 0x80
"""The flag that a sender sets in each TLV (RFC 8972, 4); who knows the TLV clears it."""
_EXTRA_PADDING: Final = 1

_SECOND_NS: Final = 1_000_000_000
_NTP_EPOCH_S: Final = 2_208_988_800
"""From 1900 to 1970 (RFC 5905, 6)."""

_SYNCHRONISED: Final = 0x8000
_PTP: Final = 0x4000
_MOST_UNITS: Final = 255 << 63


class ErrorEstimate(NamedTuple):
    """How far a clock can be trusted (RFC 4656, 4.1.2; RFC 8186 for the format of its time stamps)."""

    seconds: float
    """At most this far off."""
    synchronised: bool = False
    """To UTC, by a source outside."""
    ptp: bool = False
    """Its time stamps are PTP's (seconds since 1970 and nanoseconds), not NTP's."""

    def pack(self) -> int:
        """S bit, Z bit, scale and multiplier: multiplier x 2^(scale - 32) s, never less than `seconds` says."""
        units = min(max(1, math.ceil(self.seconds * 2.0**32)), _MOST_UNITS)
        scale = max(0, units.bit_length() - 8)
        multiplier = -(-units >> scale)
        if multiplier > 255:
            scale, multiplier = scale + 1, 128
        return _SYNCHRONISED * self.synchronised | _PTP * self.ptp | scale << 8 | multiplier


UNSYNCHRONISED: Final = ErrorEstimate(seconds=16.0).pack()
"""Of a clock that nobody vouches for: what Linux says of one."""


class Request(NamedTuple):
    """A sender's packet."""

    sequence: int
    sent_ns: int
    error_estimate: int = UNSYNCHRONISED
    session: int = 0
    """The SSID."""


class Reply(NamedTuple):
    """A reflector's packet."""

    sequence: int
    """How many replies it sent before in this session, if it is stateful; else the sender's."""
    sent_ns: int
    error_estimate: int
    session: int
    """The SSID; 0 from a reflector that knows none."""
    received_ns: int
    sender_sequence: int
    sender_ns: int
    sender_error_estimate: int
    sender_ttl: int

    @property
    def dwell_ns(self) -> int:
        """How long the reflector kept the request: no part of the network's delay."""
        return self.sent_ns - self.received_ns


def error_estimate(packed: int) -> ErrorEstimate:
    """What 16 bits of a packet say. A multiplier of 0 is nothing that may be sent; it reads as 0 s."""
    return ErrorEstimate(
        seconds=(packed & 0xFF) * 2.0 ** ((packed >> 8 & 0x3F) - 32),
        synchronised=bool(packed & _SYNCHRONISED),
        ptp=bool(packed & _PTP),
    )


def pack_request(request: Request, size: int = PACKET_BYTES) -> bytes:
    """`size` octets, at least 44; the rest is an Extra Padding TLV (RFC 8972, 4.1) where one fits."""
    packet = _REQUEST.pack(request.sequence, _to_ntp(request.sent_ns), request.error_estimate, request.session)
    room = size - PACKET_BYTES - _PADDING_TLV.size
    if room >= 0:
        packet += _PADDING_TLV.pack(_UNRECOGNIZED, _EXTRA_PADDING, room)
    return packet.ljust(size, b"\0")


def unpack_request(packet: bytes) -> Request | None:
    """None for one that is too short."""
    if len(packet) < PACKET_BYTES:
        return None
    sequence, sent, error, session = _REQUEST.unpack_from(packet)
    return Request(sequence, _from_wire(sent, error), error, session)


def pack_reply(
    request: bytes, *, sequence: int, received_ns: int, sent_ns: int, error_estimate: int, ttl: int
) -> bytes:
    """The reply to the packet `request` of at least 44 octets: as long, and with its padding."""
    return (
        _ANSWER.pack(
            sequence, _to_ntp(sent_ns), error_estimate, request[14:16], _to_ntp(received_ns), request[:14], ttl
        )
        + request[PACKET_BYTES:]
    )


def unpack_reply(packet: bytes) -> Reply | None:
    """None for one that is too short."""
    if len(packet) < PACKET_BYTES:
        return None
    sequence, sent, error, session, received, sender_sequence, sender, sender_error, ttl = _REPLY.unpack_from(packet)
    return Reply(
        sequence,
        _from_wire(sent, error),
        error,
        session,
        _from_wire(received, error),
        sender_sequence,
        _from_wire(sender, sender_error),
        sender_error,
        ttl,
    )


def _to_ntp(time_ns: int) -> int:
    """Rounded up to 2^-32 s, so that the way back gives the same nanosecond."""
    seconds, rest_ns = divmod(time_ns, _SECOND_NS)
    return (seconds + _NTP_EPOCH_S & 0xFFFFFFFF) << 32 | -(-(rest_ns << 32) // _SECOND_NS)


def _from_wire(stamp: int, error: int) -> int:
    seconds, fraction = divmod(stamp, 2**32)
    if error & _PTP:
        return seconds * _SECOND_NS + fraction
    # NTP's seconds start afresh in 2036: a value of their lower half is from after that.
    seconds += 0 if seconds & 0x80000000 else 2**32
    return (seconds - _NTP_EPOCH_S) * _SECOND_NS + (fraction * _SECOND_NS >> 32)
