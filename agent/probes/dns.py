"""One DNS query straight to the job's resolver, past every cache of ours."""

import errno
import secrets
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, Final, Literal

import pycares
from msgspec import Meta
from pycares import errno as ares

from agent import sockets
from agent.probe import Context, Failure, Probe, Settings
from agent.resolver import AresError, Resolver
from contract.values import Dns

TIMEOUT_S: Final = 2.0

_RCODES: Final = {
    ares.ARES_ENODATA: "NOERROR",
    ares.ARES_EFORMERR: "FORMERR",
    ares.ARES_ESERVFAIL: "SERVFAIL",
    ares.ARES_ENOTFOUND: "NXDOMAIN",
    ares.ARES_ENOTIMP: "NOTIMP",
    ares.ARES_EREFUSED: "REFUSED",
}
"""The answers that c-ares reports as errors; its other errors are not answers."""


class DnsSettings(Settings, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Settings of a dns job. The name that is asked for is its target's host."""

    family: Literal["a", "aaaa"] = "a"
    transport: Literal["udp", "tcp"] = "udp"
    """With `udp` TCP carries what UDP had to cut (RFC 7766); the values say which it was."""
    random_label: bool = False
    """Ask for a label that nobody asked for before: the resolver's recursion instead of its cache. The right answer
    is then NXDOMAIN."""
    expect: Annotated[tuple[str, ...], Meta(max_length=20)] = ()
    """Networks (``10.0.0.0/8``) in which every answer must lie; without any, all but private ones are expected."""

    def __post_init__(self) -> None:
        for network in self.expect:
            ip_network(network)


async def measure(settings: DnsSettings, context: Context) -> Dns:
    """One question, one answer; `rtt_ms` whenever the resolver answered, whatever it said."""
    assert context.target is not None
    assert context.target.name is not None
    assert context.resolver is not None
    name = context.target.name
    if settings.random_label:
        name = f"{secrets.token_hex(8)}.{name}"
    values = context.values = Dns(name=name, family=settings.family)
    # c-ares calls a missing route `refused` and a refused device nothing at all: found out before the clock runs.
    sockets.way(context.resolver.address, context.resolver.port, context.interface)
    server = f"[{context.resolver.address}]:{context.resolver.port}"
    tcp = settings.transport == "tcp"
    async with Resolver(context.interface, servers=[server], timeout_s=TIMEOUT_S, tcp=tcp) as resolver:
        started_s = context.clock.boot()
        try:
            result = await resolver.query(name, settings.family)
        except AresError as error:
            if error.code in _RCODES:
                values.rtt_ms = (context.clock.boot() - started_s) * 1000
                values.rcode = _RCODES[error.code]
                values.answers = 0
            failure = _failure(error, name, settings.random_label)
            if failure is None:
                return values
            raise failure from error
        finally:
            values.transport = resolver.transport
        values.rtt_ms = (context.clock.boot() - started_s) * 1000
    values.rcode = "NOERROR"
    found = _addresses(result, settings.family)
    values.answers = len(result.answer)
    if settings.random_label:
        raise Failure("dns_hijacked", f"an invented name has an address: {', '.join(found)}")
    if not found:
        raise Failure("nxdomain", f"{name}: no address")
    for address in found:
        if not _expected(address, settings.expect):
            raise Failure("dns_hijacked", f"{name}: unexpected answer {address}")
    return values


def _failure(error: AresError, name: str, random_label: bool) -> Failure | None:
    """None when NXDOMAIN is what was asked for."""
    match error.code:
        case ares.ARES_ENOTFOUND if random_label:
            return None
        case ares.ARES_ENOTFOUND:
            return Failure("nxdomain", name)
        case ares.ARES_ENODATA:
            return Failure("nxdomain", f"{name}: no address")
        case _ if error.fault is not None and error.fault.errno != errno.ECONNREFUSED:
            return sockets.failure(error.fault, "asking the resolver")
        case ares.ARES_ETIMEOUT:
            return Failure("timeout", "the resolver did not answer")
        case ares.ARES_ECONNREFUSED:
            return Failure("refused", "nobody listens at the resolver's address")
    return Failure("dns_failed", str(error))


def _addresses(result: pycares.DNSResult, family: Literal["a", "aaaa"]) -> list[str]:
    kind = pycares.QUERY_TYPE_A if family == "a" else pycares.QUERY_TYPE_AAAA
    rows: list[Any] = [record.data for record in result.answer if record.type == kind]
    return [row.addr for row in rows]


def _expected(address: str, networks: tuple[str, ...]) -> bool:
    found = ip_address(address)
    if not networks:
        return found.is_global
    allowed: list[IPv4Network | IPv6Network] = [ip_network(network) for network in networks]
    return any(found in network for network in allowed)


PROBE: Final = Probe(
    settings=DnsSettings, measure=measure, timeout_s=5.0, needs=frozenset({"host", "resolver", "interface"})
)
