"""A small real target: it accepts TCP connections and answers HTTP with a 204 and a page.

One request per connection. Whoever connects and closes without a word (a TCP latency probe) is served too. Everything
is bounded: connections, header bytes, and the time that one connection may take.
"""

import asyncio
import socket
from dataclasses import dataclass
from typing import Final

MAX_HEADER_BYTES: Final = 8 * 1024

PAGE: Final = (
    b"<!doctype html><html lang=en><meta charset=utf-8><title>Wanggan reflector</title>"
    b"<h1>Wanggan reflector</h1><p>Agents measure the network between themselves and this machine.</p></html>\n"
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one reflector gives at most."""

    connections: int = 256
    """Open at once; the next one is closed unanswered."""
    seconds: float = 10.0
    """From accept to close of one connection."""


class Reflector:
    """Listens from :meth:`open` on, serves inside :meth:`run`."""

    def __init__(self, host: str, port: int, limits: Limits | None = None) -> None:
        self.host = host
        self.port = port
        """0 before :meth:`open`: any free port."""
        self.limits = limits or Limits()
        self.open_connections = 0
        self.refused_connections = 0
        """Closed unanswered because `limits.connections` were open."""
        self._socket: socket.socket | None = None
        self._group: asyncio.TaskGroup | None = None

    def open(self) -> None:
        """Listen; who connects now is served when :meth:`run` runs.

        :raises OSError: when the address is not ours or the port is taken.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._socket = socket.create_server((self.host, self.port), family=family, backlog=self.limits.connections)
        self.port = self._socket.getsockname()[1]

    async def run(self) -> None:
        """Serve until cancelled."""
        if self._socket is None:
            raise RuntimeError("open() comes before run()")
        server = await asyncio.start_server(
            self._accept, sock=self._socket, limit=MAX_HEADER_BYTES, start_serving=False
        )
        # The group ends first: a server waits for its open connections.
        async with server, asyncio.TaskGroup() as self._group:
            await server.start_serving()
            await asyncio.get_running_loop().create_future()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.open_connections >= self.limits.connections or self._group is None:
            self.refused_connections += 1
            writer.transport.abort()
            return
        self.open_connections += 1
        self._group.create_task(self._serve(reader, writer), name=f"connection {writer.get_extra_info('peername')}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self.limits.seconds):
                request = await _read_request(reader)
                if request is not None:
                    writer.write(answer(request))
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        except (OSError, TimeoutError):
            pass  # the other side went away or was too slow: its own affair
        finally:
            writer.transport.abort()
            self.open_connections -= 1


async def _read_request(reader: asyncio.StreamReader) -> bytes | None:
    """The request's head; None when the other side closed without one; empty when it is too long."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError:
        return b""


def answer(head: bytes) -> bytes:
    """The HTTP/1.1 answer to one request's head."""
    if not head:
        return _response("431 Request Header Fields Too Large", b"request head too long\n", "text/plain")
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        return _response("400 Bad Request", b"this is HTTP/1.1\n", "text/plain")
    method, target, _ = words
    if method not in (b"GET", b"HEAD"):
        return _response("405 Method Not Allowed", b"GET or HEAD\n", "text/plain", b"Allow: GET, HEAD\r\n")
    match target.split(b"?", 1)[0]:
        case b"/generate_204":
            return _response("204 No Content", None, None)
        case b"/":
            return _response("200 OK", PAGE, "text/html; charset=utf-8", head_only=method == b"HEAD")
        case _:
            return _response("404 Not Found", b"/ and /generate_204\n", "text/plain", head_only=method == b"HEAD")


def _response(
    status: str, body: bytes | None, kind: str | None, more: bytes = b"", *, head_only: bool = False
) -> bytes:
    described = b"" if body is None else f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n".encode()
    head = f"HTTP/1.1 {status}\r\nCache-Control: no-store\r\nConnection: close\r\n".encode() + described + more
    return head + b"\r\n" + (b"" if body is None or head_only else body)
