"""One page, fetched in stages that are timed one by one: resolve, connect, TLS, write, first byte, end."""

import asyncio
import functools
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final
from urllib.parse import urljoin

from msgspec import Meta

from agent import http1, sockets, tcp
from agent.clock import Clock
from agent.probe import Context, Failure, Host, Probe, Settings
from agent.resolver import resolve
from contract.values import Web

IDLE_S: Final = 5.0
"""Longest silence of the other side, in every stage."""

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS: Final = 3
_NETWORK_AUTHENTICATION_REQUIRED: Final = 511
_DAY_S: Final = 86_400.0


class WebSettings(Settings, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Settings of a web job."""

    max_bytes: Annotated[int, Meta(ge=1, le=512 * 1024)] = 512 * 1024
    """Of the body; a longer one is cut and flagged `byte_cap`."""
    expect_text: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    """Must stand in the body; another page in its place is a `portal`'s."""
    hosts: Annotated[tuple[Host, ...], Meta(max_length=20)] = ()
    """Hosts to which a redirect is no portal, besides the target's own and its parent and child domains."""
    ca_file: str | None = None
    """PEM bundle that signs the page's server; None: the system's."""


async def measure(settings: WebSettings, context: Context) -> Web:
    """One visit with at most three redirects, each stage summed over them; no cache, no cookies, no proxy."""
    assert context.target is not None
    assert context.target.url is not None
    tls = tls_context(settings.ca_file)
    values = context.values = Web(redirects=0)
    url = context.target.url
    home = place = _place(url)
    started_s = context.clock.boot()
    for redirects in range(_MAX_REDIRECTS + 1):
        values.redirects = redirects
        if not _at_home(place.host, home.host, settings.hosts):
            raise Failure("portal", f"sent to another host: {place.host}")
        head, body = await _visit(place, tls, settings, context, values, started_s)
        if head.status not in _REDIRECTS or "location" not in head.fields:
            values.total_ms = _since_ms(context.clock, started_s)
            _judge(head, body, settings)
            return values
        url, place = _follow(url, head.fields["location"])
    raise Failure("http_status", f"more than {_MAX_REDIRECTS} redirects")


@functools.cache
def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """One for all runs: making it costs 20 to 30 ms of CPU. Verification is never off."""
    return ssl.create_default_context(cafile=ca_file)


async def _visit(
    place: http1.Place, tls: ssl.SSLContext, settings: WebSettings, context: Context, values: Web, started_s: float
) -> tuple[http1.Head, bytes]:
    clock = context.clock
    at_s = clock.boot()
    addresses = await resolve(place.host, context.interface)
    if addresses != [place.host]:
        values.dns_ms = (values.dns_ms or 0.0) + _since_ms(clock, at_s)
    at_s = clock.boot()
    with _stage(f"connecting to {place.host} port {place.port}"):
        sock = await tcp.connect_any(addresses, place.port, context.interface, IDLE_S)
    values.tcp_ms = (values.tcp_ms or 0.0) + _since_ms(clock, at_s)
    at_s = clock.boot()
    with _stage(f"TLS with {place.host}"):
        async with asyncio.timeout(IDLE_S):
            reader, writer = await asyncio.open_connection(
                sock=sock,
                limit=http1.MAX_HEAD_BYTES,
                ssl=tls if place.tls else None,
                server_hostname=place.host if place.tls else None,
            )
    try:
        if place.tls:
            values.tls_ms = (values.tls_ms or 0.0) + _since_ms(clock, at_s)
            values.cert_days_left = _cert_days_left(writer, clock)
        with _stage(f"answer of {place.host}"):
            writer.write(http1.request(place))
            stream = http1.Stream(reader, IDLE_S)
            await stream.first_byte()
            values.ttfb_ms = _since_ms(clock, started_s)
            head = await http1.read_head(stream)
            values.status, values.http_version = head.status, head.version
            body, cut = await http1.read_body(stream, head, settings.max_bytes)
            values.bytes = (values.bytes or 0) + len(body)
            if cut and "byte_cap" not in context.flags:
                context.flags.append("byte_cap")
            return head, body
    finally:
        writer.transport.abort()


@contextmanager
def _stage(what: str) -> Iterator[None]:
    """What goes wrong inside becomes the reason of this stage."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise Failure("cert_invalid", f"{what}: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise Failure("tls_failed", f"{what}: {error.reason or error}") from error
    except http1.Malformed as error:
        raise Failure("http_status", f"{what}: {error}") from error
    except OSError as error:
        raise sockets.failure(error, what) from error


def _judge(head: http1.Head, body: bytes, settings: WebSettings) -> None:
    """:raises Failure: when the answer is not the page that was asked for."""
    if head.status == _NETWORK_AUTHENTICATION_REQUIRED:
        raise Failure("portal", "511 network authentication required")
    if head.status >= 300:
        raise Failure("http_status", f"status {head.status}")
    if settings.expect_text is not None and settings.expect_text.encode() not in body:
        raise Failure("portal", "the expected text is not in the body")


def _at_home(host: str, home: str, allowed: tuple[str, ...]) -> bool:
    """Whether `host` is `home`, its parent or child domain (www), or one of `allowed`."""
    return host == home or host in allowed or host.endswith(f".{home}") or home.endswith(f".{host}")


def _follow(url: str, location: str) -> tuple[str, http1.Place]:
    """Where a redirect leads."""
    try:
        url = urljoin(url, location)
    except ValueError:
        raise Failure("http_status", "redirect to something that is not a page") from None
    return url, _place(url)


def _place(url: str) -> http1.Place:
    """:raises Failure: `http_status` when it is nothing that can be visited."""
    place = http1.place(url)
    if place is None:
        raise Failure("http_status", "redirect to something that is not a page")
    return place


def _cert_days_left(writer: asyncio.StreamWriter, clock: Clock) -> float | None:
    certificate = writer.get_extra_info("peercert")
    if not certificate:
        return None
    return (ssl.cert_time_to_seconds(certificate["notAfter"]) - clock.wall()) / _DAY_S


def _since_ms(clock: Clock, since_s: float) -> float:
    return (clock.boot() - since_s) * 1000


PROBE: Final = Probe(settings=WebSettings, measure=measure, timeout_s=10.0, needs=frozenset({"url", "interface"}))
