"""What the kernel knows of one TCP connection, and how fast it may send.

Structs: tcp_info of linux/tcp.h, tcp_bbr_info of linux/inet_diag.h.
"""

import contextlib
import socket
import struct
from typing import Final

from msgspec import Struct

TCP_CC_INFO: Final = 26
SO_MAX_PACING_RATE: Final = 47
_INFO: Final = struct.Struct("=8B24I4Q6I4Q2I2Q")
"""Up to `tcpi_bytes_retrans` (Linux 4.19)."""
_BBR: Final = struct.Struct("=5I")


class Info(Struct, kw_only=True, frozen=True):
    """A moment of a connection; times in microseconds, as the kernel has them."""

    rtt_us: int
    rtt_var_us: int
    min_rtt_us: int
    total_retransmits: int
    bytes_acked: int
    bytes_received: int
    bytes_sent: int
    bytes_retransmitted: int
    delivery_rate_bytes_s: int
    busy_us: int
    """While there was something to send."""
    rwnd_limited_us: int
    """Of these, held back by the peer's window."""
    sndbuf_limited_us: int
    """Of these, held back by our own send buffer."""


class BbrInfo(Struct, kw_only=True, frozen=True):
    """The model of BBR; gains are multiples of 1/256."""

    bandwidth_bytes_s: int
    min_rtt_us: int
    pacing_gain: int
    cwnd_gain: int


def info(sock: socket.socket) -> Info | None:
    """None where the kernel is too old, or the connection is gone."""
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    except OSError:
        return None
    if len(raw) < _INFO.size:
        return None
    found = _INFO.unpack(raw)
    return Info(
        rtt_us=found[23],
        rtt_var_us=found[24],
        min_rtt_us=found[39],
        total_retransmits=found[31],
        bytes_acked=found[34],
        bytes_received=found[35],
        bytes_sent=found[48],
        bytes_retransmitted=found[49],
        delivery_rate_bytes_s=found[42],
        busy_us=found[43],
        rwnd_limited_us=found[44],
        sndbuf_limited_us=found[45],
    )


def bbr_info(sock: socket.socket) -> BbrInfo | None:
    """None where another congestion control is used."""
    try:
        if congestion_control(sock) != "bbr":
            return None
        raw = sock.getsockopt(socket.IPPROTO_TCP, TCP_CC_INFO, _BBR.size)
    except OSError:
        return None
    if len(raw) < _BBR.size:
        return None
    low, high, min_rtt_us, pacing_gain, cwnd_gain = _BBR.unpack(raw)
    return BbrInfo(
        bandwidth_bytes_s=high << 32 | low, min_rtt_us=min_rtt_us, pacing_gain=pacing_gain, cwnd_gain=cwnd_gain
    )


def congestion_control(sock: socket.socket) -> str:
    """Its name.

    :raises OSError: when the connection is gone.
    """
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).partition(b"\0")[0].decode()


def use_congestion_control(sock: socket.socket, name: str) -> str:
    """Ask for `name` (``default`` asks for nothing) and tell what is really used: a host may forbid it, or lack it."""
    if name != "default":
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
    return congestion_control(sock)


def limit_rate(sock: socket.socket, mbps: float) -> None:
    """Let the kernel pace what `sock` sends, headers included: a test leaves room for the others."""
    sock.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, struct.pack("Q", round(mbps * 1e6 / 8)))
