"""One HTTP/1.1 exchange (RFC 9112): where it goes, its request, then the answer's head and its body up to a cap."""

import asyncio
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit

from msgspec import Struct

MAX_HEAD_BYTES: Final = 64 * 1024
_PROTOCOLS: Final = ("HTTP/1.0", "HTTP/1.1")
_MAX_INFORMATIONAL: Final = 20
_DROP_BYTES: Final = 256 * 1024


class Malformed(Exception):
    """The other side does not speak HTTP/1.x, or not soundly."""


class Place(NamedTuple):
    """Where a request goes."""

    tls: bool
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Value of the Host field."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def place(url: str) -> Place | None:
    """Where `url` leads; None when that is nothing that can be visited."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode() if parts.hostname else ""
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host or host.startswith("-"):
        return None
    tls = parts.scheme == "https"
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]") if parts.query else ""
    return Place(tls, host, port or (443 if tls else 80), path + query)


def request(to: Place) -> bytes:
    """For the page and nothing else: no cookies, no compression, one answer per connection."""
    return (
        f"GET {to.path} HTTP/1.1\r\nHost: {to.authority}\r\nUser-Agent: wanggan\r\n"
        "Accept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
    ).encode("ascii")


class Head(Struct, frozen=True):
    """Status line and header fields; names in lower case, the last of equal names wins."""

    version: str
    """``1.1`` or ``1.0``."""
    status: int
    fields: dict[str, str]


class Stream:
    """A StreamReader in which every wait for bytes is bounded.

    :raises TimeoutError: no byte for `idle_s`.
    :raises ConnectionResetError: the other side closed in the middle.
    """

    def __init__(self, reader: asyncio.StreamReader, idle_s: float) -> None:
        self._reader = reader
        self._idle_s = idle_s
        self._ahead = b""
        self.taken_bytes = 0
        """Read so far, heads included."""

    async def first_byte(self) -> None:
        """Return when the answer begins."""
        self._ahead = await self._read(1)
        if not self._ahead:
            raise ConnectionResetError("closed without an answer")

    async def line(self) -> bytes:
        """One line without its end."""
        try:
            async with asyncio.timeout(self._idle_s):
                line = await self._reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("closed in the middle of the answer") from error
        except asyncio.LimitOverrunError as error:
            raise Malformed("a line without end") from error
        self.taken_bytes += len(line)
        line, self._ahead = self._ahead + line, b""
        return line.rstrip(b"\r\n")

    async def some(self, at_most: int) -> bytes:
        """What there is, at least one byte; empty at the end of the stream."""
        return await self._read(at_most)

    async def _read(self, at_most: int) -> bytes:
        async with asyncio.timeout(self._idle_s):
            data = await self._reader.read(at_most)
        self.taken_bytes += len(data)
        return data


async def read_head(stream: Stream) -> Head:
    """The head of the final answer; informational ones (1xx) are passed over."""
    for _ in range(_MAX_INFORMATIONAL):
        head = await _read_one_head(stream)
        if head.status >= 200:
            return head
    raise Malformed(f"{_MAX_INFORMATIONAL} informational answers and no final one")


async def _read_one_head(stream: Stream) -> Head:
    start = (await stream.line()).decode("latin-1")
    protocol, _, rest = start.partition(" ")
    status = rest[:3]
    if protocol not in _PROTOCOLS or not (status.isascii() and status.isdigit() and int(status) >= 100):
        raise Malformed(f"not an HTTP/1 answer: {start[:40]!r}")
    fields: dict[str, str] = {}
    size = len(start)
    while line := await stream.line():
        size += len(line)
        if size > MAX_HEAD_BYTES:
            raise Malformed("a head without end")
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            fields[name.strip().lower()] = value.strip()
    return Head(protocol.removeprefix("HTTP/"), int(status), fields)


async def read_body(stream: Stream, head: Head, cap_bytes: int) -> tuple[bytes, bool]:
    """At most `cap_bytes` of the body, and whether there was more."""
    body = bytearray()
    if head.status in (204, 304):
        return bytes(body), False
    if "chunked" in head.fields.get("transfer-encoding", "").lower():
        return await _read_chunks(stream, cap_bytes)
    length = _length(head)
    wanted = cap_bytes + 1 if length is None else min(length, cap_bytes)
    while len(body) < wanted:
        data = await stream.some(wanted - len(body))
        if not data:
            if length is None:
                return bytes(body), False
            raise ConnectionResetError(f"closed after {len(body)} of {length} bytes")
        body += data
    return bytes(body[:cap_bytes]), length is None or length > cap_bytes


async def drop_body(stream: Stream, head: Head) -> int:
    """Read a body of known length and keep nothing of it; how long it was."""
    length = _length(head)
    if length is None:
        raise Malformed("a body without a length")
    left = length
    while left:
        data = await stream.some(min(left, _DROP_BYTES))
        if not data:
            raise ConnectionResetError(f"closed after {length - left} of {length} bytes")
        left -= len(data)
    return length


async def _read_chunks(stream: Stream, cap_bytes: int) -> tuple[bytes, bool]:
    body = bytearray()
    most = stream.taken_bytes + 2 * cap_bytes + MAX_HEAD_BYTES
    while True:
        if stream.taken_bytes > most:
            raise Malformed("chunks that are mostly frame")
        await asyncio.sleep(0)  # what is buffered already would be read without letting anybody else run
        digits = (await stream.line()).partition(b";")[0].strip()
        try:
            left = int(digits, 16)
        except ValueError:
            raise Malformed(f"bad chunk size {digits[:20]!r}") from None
        if left < 0:
            raise Malformed(f"bad chunk size {digits[:20]!r}")
        if left == 0:
            return bytes(body), False
        while left:
            if len(body) >= cap_bytes:
                return bytes(body), True
            data = await stream.some(min(left, cap_bytes - len(body)))
            if not data:
                raise ConnectionResetError("closed in the middle of a chunk")
            body += data
            left -= len(data)
        await stream.line()


def _length(head: Head) -> int | None:
    text = head.fields.get("content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Malformed(f"bad content-length {text[:20]!r}")
    return int(text)
