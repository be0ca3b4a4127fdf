"""What can be measured from this machine: its gateway, its resolvers, pages on the internet."""

import socket
import struct
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Final, NamedTuple

_RTF_UP: Final = 0x1
_RTF_GATEWAY: Final = 0x2
"""linux/route.h"""

MAX_RESOLVERS: Final = 3
"""As many as the C library asks (MAXNS)."""


class Gateway(NamedTuple):
    """The first hop of the default route."""

    interface: str
    address: str


def default_gateway(routes: Path = Path("/proc/net/route")) -> Gateway | None:
    """The IPv4 default route with the lowest metric; None where there is none."""
    try:
        lines = routes.read_text().splitlines()[1:]
    except OSError:
        return None
    found: list[tuple[int, Gateway]] = []
    for fields in (line.split() for line in lines):
        if len(fields) < 8 or fields[1] != "00000000" or fields[7] != "00000000":
            continue
        if int(fields[3], 16) & (_RTF_UP | _RTF_GATEWAY) == _RTF_UP | _RTF_GATEWAY:
            # The kernel prints the address as a number of this machine's byte order.
            address = str(IPv4Address(struct.pack("=I", int(fields[2], 16))))
            found.append((int(fields[6]), Gateway(fields[0], address)))
    return min(found)[1] if found else None


def resolvers(configuration: Path = Path("/etc/resolv.conf")) -> list[str]:
    """Addresses of the system's name servers, in order, each once."""
    try:
        lines = configuration.read_text(errors="replace").splitlines()
    except OSError:
        return []
    found: list[str] = []
    for words in (line.split() for line in lines):
        if len(words) >= 2 and words[0] == "nameserver" and _is_address(words[1]) and words[1] not in found:
            found.append(words[1])
    return found[:MAX_RESOLVERS]


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def taken(host: str, port: int) -> bool:
    """Whether a server could not listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False
