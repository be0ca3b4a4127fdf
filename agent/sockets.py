"""Sockets bound to the measured interface, and the kernel's numbers that Python 3.11 lacks.

Every name of a fault in a socket becomes a reason here and nowhere else.
"""

import array
import errno
import fcntl
import os
import socket
import struct
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from agent.probe import Failure
from contract.vocabulary import Reason

# include/uapi/asm-generic/socket.h, linux/in.h, linux/in6.h, linux/sockios.h, linux/tcp.h
SO_TIMESTAMPING: Final = 37
STAMP_BOTH_WAYS: Final = 1 << 3 | 1 << 4 | 1 << 8 | 1 << 11
"""For SO_TIMESTAMPING: software stamps of what arrives, and of what is passed to an interface's queue, without copies
(linux/net_tstamp.h: RX_SOFTWARE, SOFTWARE, TX_SCHED, OPT_TSONLY)."""
STAMP_ARRIVALS: Final = 1 << 3 | 1 << 4
IP_RECVERR: Final = 11
IPV6_RECVERR: Final = 25
IP_MTU_DISCOVER: Final = 10
IPV6_MTU_DISCOVER: Final = 23
PMTUDISC_PROBE: Final = 3
"""Of both: never fragment, and pay no heed to what the kernel believes the path MTU to be."""
TCP_INFO_TOTAL_RETRANS: Final = 100
"""Offset of `tcpi_total_retrans` (u32) in struct tcp_info."""
_SIOCGIFCONF: Final = 0x8912
_SIOCGIFFLAGS: Final = 0x8913
_SIOCGIFMTU: Final = 0x8921
_IFF_UP: Final = 0x1
_IFF_RUNNING: Final = 0x40
_IFREQ: Final = struct.Struct("16s24s")

Link = Literal["up", "down", "missing"]

_REASONS: Final[dict[int, Reason]] = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.ECONNABORTED: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTUNREACH: "unreachable",
    errno.EADDRNOTAVAIL: "unreachable",
    errno.ENETDOWN: "no_link",
    errno.EPERM: "no_permission",
    errno.EACCES: "no_permission",
    errno.ENODEV: "no_interface",
}


def failure(error: OSError, what: str) -> Failure:
    """`error` as a Failure with its reason; `what` says what was tried. An errno without a reason is `internal`."""
    if isinstance(error, TimeoutError) and error.errno is None:
        return Failure("timeout", what)
    if isinstance(error, ConnectionError) and error.errno is None:
        return Failure("reset", what)
    return Failure(_REASONS.get(error.errno or 0, "internal"), f"{what}: {error.strerror or error}")


def reason_in(text: str) -> Reason:
    """The reason of the errno whose words some program ended its error with; `internal` without one."""
    for code, reason in _REASONS.items():
        if text.endswith(os.strerror(code)):
            return reason
    return "internal"


def link(interface: str) -> Link:
    """Whether `interface` exists in this network namespace and can carry packets."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            reply = fcntl.ioctl(sock, _SIOCGIFFLAGS, _IFREQ.pack(interface.encode(), b""))
        except OSError:
            return "missing"
    (flags,) = struct.unpack_from("H", reply, 16)
    return "up" if flags & _IFF_UP and flags & _IFF_RUNNING else "down"


def mtu(interface: str) -> int:
    """Bytes of the longest IP packet that `interface` sends.

    :raises Failure: `no_interface` when it has gone away.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            reply = fcntl.ioctl(sock, _SIOCGIFMTU, _IFREQ.pack(interface.encode(), b""))
        except OSError as error:
            raise failure(error, f"MTU of {interface}") from error
    (found,) = struct.unpack_from("i", reply, 16)
    return int(found)


def addresses(interface: str) -> set[str]:
    """The addresses of `interface`, without scope."""
    return _ipv4_addresses(interface) | _ipv6_addresses(interface)


def has_address(interface: str) -> bool:
    """Whether it was given one; a link-local address is what a host gives itself without DHCP."""
    return any(not ip_address(address).is_link_local for address in addresses(interface))


def numeric(address: str, port: int, interface: str) -> tuple[socket.AddressFamily, Any]:
    """Family and socket address of a literal `address`; a link-local one is taken to be on `interface`."""
    if address.lower().startswith("fe80:") and "%" not in address:
        address = f"{address}%{interface}"
    found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return found[0][0], found[0][4]


def bind(sock: socket.socket, interface: str, port: int = 0) -> None:
    """Let `sock` use `interface` only, and `port` when that is not 0.

    A kernel before 5.7 allows the first to root alone; there the source address is bound instead, and a policy route
    of the site has to do the rest. :func:`check_source` tells when it did not.

    :raises Failure: `no_interface` when it has gone away.
    :raises OSError: when `port` is taken.
    """
    source = ""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    except PermissionError:
        own = _ipv4_addresses(interface) if sock.family == socket.AF_INET else _ipv6_addresses(interface)
        source = min(own, default="")
    except OSError as error:
        raise failure(error, f"binding to {interface}") from error
    if source or port:
        sock.bind((source, port))


class Way(NamedTuple):
    """How to leave by an interface."""

    source: str
    """Local address, without scope."""
    bound: bool
    """Whether this process may bind a socket to the device; else the source address has to do."""


def way(address: str, port: int, interface: str) -> Way:
    """How `interface` leads to literal `address`; nothing is sent.

    :raises Failure: when it does not.
    """
    family, sockaddr = numeric(address, port, interface)
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            bind(sock, interface)
            sock.connect(sockaddr)
        except OSError as error:
            raise failure(error, f"no way to {address}") from error
        check_source(sock, interface)
        device = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
        return Way(str(sock.getsockname()[0]).partition("%")[0], bool(device.rstrip(b"\0")))


def check_source(sock: socket.socket, interface: str) -> None:
    """Look at the local address of connected `sock`.

    :raises Failure: `unreachable` when it has none, because `interface` has no address that leads there (no lease,
        say); `wrong_interface` when it is another interface's.
    """
    local = str(sock.getsockname()[0]).partition("%")[0]
    if ip_address(local).is_unspecified:
        raise Failure("unreachable", f"{interface} has no address to send from")
    if local not in addresses(interface):
        raise Failure("wrong_interface", f"local address {local} is not on {interface}")


def _ipv4_addresses(interface: str) -> set[str]:
    room = array.array("B", bytes(128 * _IFREQ.size))
    address, _ = room.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        reply = fcntl.ioctl(sock, _SIOCGIFCONF, struct.pack("iP", len(room), address))
    (used,) = struct.unpack_from("i", reply)
    found = set()
    for label, sockaddr in _IFREQ.iter_unpack(room.tobytes()[:used]):
        name = label.rstrip(b"\0").decode().partition(":")[0]
        if name == interface:
            found.add(socket.inet_ntoa(sockaddr[4:8]))
    return found


def _ipv6_addresses(interface: str) -> set[str]:
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:
        return set()
    rows = [line.split() for line in lines]
    return {str(IPv6Address(bytes.fromhex(row[0]))) for row in rows if row[5] == interface}
