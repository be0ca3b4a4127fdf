"""Questions that end in `204 No Content` where nobody stands in the way: our reflector's, signed, and those of others.

One request each, in 10 s with its name's fresh resolution; no redirect is followed, no proxy, cookie or cache used.
"""

import asyncio
import functools
import re
import secrets
import ssl
from typing import Final, Literal
from urllib.parse import urljoin, urlsplit

from msgspec import Struct

from agent import http1, sockets, tcp
from agent.clock import Clock
from agent.probe import Failure, Target
from agent.resolver import resolve
from contract import portal_check

CHECK_S: Final = 10.0
"""Of one question, from its name to the end of its answer. A portal that takes over 8 s is one that verdicts blame: it
must be seen to the end."""
MAX_BODY_BYTES: Final = 64 * 1024
PORT: Final = 80

_HOST: Final = re.compile(r"[a-z0-9_:][a-z0-9._:-]{0,252}")

Stage = Literal["name", "connect", "answer", "done"]


class Check(Struct, kw_only=True):
    """What one question came to."""

    host: str
    stage: Stage = "name"
    """Where it ended; `done` with a whole answer."""
    failure: Failure | None = None
    """Why it ended earlier."""
    addresses: list[str] = []
    status: int | None = None
    body_bytes: int = 0
    valid: bool = False
    """Exactly the answer that was expected."""
    portal: bool = False
    """An answer that somebody gave in place of the one who was asked."""
    portal_host: str | None = None
    """Whom a redirect names; the host alone, for the rest of an address holds MAC addresses and session tokens."""
    connect_s: float | None = None
    """Boot time when it began to connect."""
    first_byte_s: float | None = None
    done_s: float | None = None

    @property
    def named(self) -> bool:
        """Whether its host is a name, which had to be resolved."""
        return self.addresses != [self.host]

    def ms_to(self, end_s: float | None) -> float | None:
        """Milliseconds from the first connecting to `end_s`, where both are known."""
        return None if end_s is None or self.connect_s is None else (end_s - self.connect_s) * 1000


async def ask_reflector(target: Target, interface: str, clock: Clock) -> Check:
    """The signed 204 of our own reflector: a portal can invent a 204, but not the signature."""
    assert target.name is not None
    key = target.key() or b""
    nonce = secrets.token_urlsafe(24)
    place = http1.Place(False, target.name, target.port or PORT, f"{portal_check.PATH}?n={nonce}")
    check = Check(host=place.host)
    head = await _ask(place, check, interface, clock)
    if head is not None:
        signature = head.fields.get(portal_check.SIGNATURE_HEADER.lower(), "")
        host = f"[{place.host}]" if ":" in place.host else place.host
        check.valid = head.status == 204 and portal_check.is_signed(key, nonce, host, signature)
        # A reflector never redirects and has no page there.
        check.portal = not check.valid and (head.status < 400 or head.status == 511)
    return check


async def ask_other(url: str, interface: str, clock: Clock) -> Check:
    """The unsigned 204 of somebody whose answer phones of this country trust."""
    place = http1.place(url)
    assert place is not None, "checked with the settings"
    check = Check(host=place.host)
    head = await _ask(place, check, interface, clock)
    if head is not None:
        check.valid = head.status == 204
        elsewhere = 300 <= head.status < 400 and check.portal_host not in (None, place.host)
        unexpected = head.status == 200 and check.body_bytes > 0
        check.portal = elsewhere or unexpected or head.status == 511
    return check


async def _ask(place: http1.Place, check: Check, interface: str, clock: Clock) -> http1.Head | None:
    """The head of a whole answer; None when there is none, and `check` says why."""
    try:
        async with asyncio.timeout(CHECK_S):
            return await _exchange(place, check, interface, clock)
    except Failure as failure:
        check.failure = failure
    except ssl.SSLError as error:
        check.failure = Failure("tls_failed", f"TLS with {place.host}: {error.reason or error}")
    except http1.Malformed as error:
        check.failure = Failure("http_status", f"answer of {place.host}: {error}")
    except OSError as error:
        check.failure = sockets.failure(error, f"{check.stage} of {place.host}")
    return None


async def _exchange(place: http1.Place, check: Check, interface: str, clock: Clock) -> http1.Head:
    check.addresses = await resolve(place.host, interface)
    check.stage, check.connect_s = "connect", clock.boot()
    sock = await tcp.connect_any(check.addresses, place.port, interface, CHECK_S)
    check.stage = "answer"
    reader, writer = await asyncio.open_connection(
        sock=sock,
        limit=http1.MAX_HEAD_BYTES,
        ssl=_tls() if place.tls else None,
        server_hostname=place.host if place.tls else None,
    )
    try:
        writer.write(http1.request(place))
        stream = http1.Stream(reader, CHECK_S)
        await stream.first_byte()
        check.first_byte_s = clock.boot()
        head = await http1.read_head(stream)
        check.status = head.status
        if "location" in head.fields:
            check.portal_host = _host_of(head.fields["location"], place)
        body, _ = await http1.read_body(stream, head, MAX_BODY_BYTES)
        check.body_bytes = len(body)
        check.stage, check.done_s = "done", clock.boot()
        return head
    finally:
        writer.transport.abort()


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _host_of(location: str, asked: http1.Place) -> str | None:
    """The host that a redirect names, nothing else of it; None when it names none that could be one."""
    try:
        host = urlsplit(urljoin(f"http://{asked.authority}/", location)).hostname or ""
    except ValueError:
        return None
    return host if _HOST.fullmatch(host) else None
