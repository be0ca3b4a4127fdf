"""What a host's name says without asking anybody."""

from ipaddress import ip_address


def is_this_machine(host: str) -> bool:
    """Whether `host` (a name, or an address with or without scope) is the loopback of this machine."""
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"
