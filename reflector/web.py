"""The reflector over HTTP: portal check, video segments, NDT7, metrics, health and a page for people.

No answer is larger than a few kilobytes unless it is the payload of an admitted test, and no connection outlives
:data:`LIFE_S` or keeps still for :data:`IDLE_S`.
"""

import asyncio
import os
import re
import socket
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from contract import portal_check
from contract.throughput import TEST_HEADER
from reflector import metrics, tcp
from reflector.admission import Admission, Test
from reflector.connections import Connections
from reflector.counts import Counts
from reflector.ndt7 import PATHS, Ndt7
from reflector.page import POLICY, choose_language, page
from reflector.status import Reporter

MAX_SEGMENT_BYTES: Final = 5_000_000
IDLE_S: Final = 10.0
"""For a request's head to arrive, from the connection's start or from the last answer on."""
LIFE_S: Final = 60.0
"""Of one connection: longer than any test."""
MAX_LINE_BYTES: Final = 8190
"""Of the request line; NDT7 clients may send 4 KiB of query."""
MAX_FIELDS: Final = 50
MAX_FIELD_BYTES: Final = 2048
_CHUNK_BYTES: Final = 64 * 1024
_HOST: Final = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_TEST: Final = re.compile(r"([A-Za-z0-9_-]{16,64})\.([A-Za-z0-9_-]{16,64})")
_BYTES: Final = re.compile(r"[0-9]{1,7}")


class Web:
    """One application on one port: listens from :meth:`open` on, serves inside :meth:`run`."""

    def __init__(self, host: str, port: int, application: web.Application, connections: Connections) -> None:
        self.host = host
        self.port = port
        """0 before :meth:`open`: any free port."""
        self._application = application
        self._connections = connections
        self._accepted: set[_Connection] = set()
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Listen; who connects now is served when :meth:`run` runs.

        :raises OSError: when the address is not ours or the port is taken.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._socket = socket.create_server((self.host, self.port), family=family, backlog=256)
        self.port = self._socket.getsockname()[1]

    async def run(self) -> None:
        """Serve until cancelled; then every connection is closed at once."""
        if self._socket is None:
            raise RuntimeError("open() comes before run()")
        loop = asyncio.get_running_loop()
        runner = web.AppRunner(self._application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        manager = runner.server
        assert manager is not None
        server = await loop.create_server(
            lambda: _Connection(manager, self._connections, self._accepted, loop), sock=self._socket
        )
        try:
            await loop.create_future()
        finally:
            server.close()
            for connection in list(self._accepted):
                connection.abort()
            await runner.cleanup()


class _Connection(web.RequestHandler):
    """One HTTP connection that is counted, and bounded in its heads and its life."""

    __slots__ = ("_accepted", "_connections", "_life", "_source", "_wire")

    def __init__(
        self,
        manager: web.Server,
        connections: Connections,
        accepted: set["_Connection"],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=IDLE_S,
            lingering_time=0,
            max_line_size=MAX_LINE_BYTES,
            max_headers=MAX_FIELDS,
            max_field_size=MAX_FIELD_BYTES,
        )
        self._connections = connections
        self._accepted = accepted
        self._source: str | None = None
        self._wire: asyncio.Transport | None = None
        self._life: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        peer = transport.get_extra_info("peername")
        if peer is None or not self._connections.enter(peer[0]):
            transport.abort()
            return
        self._source = peer[0]
        self._wire = transport
        self._accepted.add(self)
        self._life = self._loop.call_later(LIFE_S, transport.abort)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._source is not None and self._life is not None:
            self._life.cancel()
            self._accepted.discard(self)
            self._connections.leave(self._source)
            self._source = None

    def abort(self) -> None:
        if self._wire is not None:
            self._wire.abort()

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What is not HTTP, is no text or goes away is the other side's affair: answered, and not worth a log line."""
        if not isinstance(exc, HttpProcessingError | UnicodeError | ConnectionError):
            return super().handle_error(request, status, exc, message)
        answer = web.Response(status=400, text="this is HTTP/1.1\n")
        answer.force_close()
        return answer


def portal_application(key: bytes | None) -> web.Application:
    """The portal check alone, for port 80.

    :param key: signs; without one the 204 is unsigned.
    """
    application = web.Application(middlewares=[_closing_unread])
    application.on_response_prepare.append(_add_fields)
    application.router.add_get(portal_check.PATH, _PortalCheck(key).answer)
    return application


def application(
    *,
    admission: Admission,
    counts: Counts,
    reporter: Reporter,
    portal_key: bytes | None = None,
    ndt7: Ndt7 | None = None,
) -> web.Application:
    """Everything. Without `ndt7` that is not served."""
    site = _Site(reporter)
    found = portal_application(portal_key)
    found.router.add_get("/segment", _Segments(admission, counts).answer)
    found.router.add_get("/metrics", site.metrics)
    found.router.add_get("/health", site.health)
    found.router.add_get("/", site.page)
    if ndt7 is not None:
        found.router.add_get(PATHS["download"], ndt7.download, allow_head=False)
        found.router.add_get(PATHS["upload"], ndt7.upload, allow_head=False)
    return found


@web.middleware
async def _closing_unread(request: web.Request, handler: Any) -> web.StreamResponse:
    """No request here has a body: one that has is answered, and the connection closed instead of read."""
    answer: web.StreamResponse
    try:
        answer = await handler(request)
    except web.HTTPException as error:
        answer = web.Response(status=error.status, text=error.text, headers=_without_type(error.headers))
    if request.body_exists and not answer.prepared:
        answer.force_close()
    return answer


def _without_type(fields: Any) -> dict[str, str]:
    return {name: value for name, value in fields.items() if name.lower() not in ("content-type", "content-length")}


async def _add_fields(request: web.Request, answer: web.StreamResponse) -> None:
    answer.headers["Server"] = "wanggan"
    answer.headers.setdefault("Cache-Control", "no-store")
    answer.headers["X-Content-Type-Options"] = "nosniff"


class _PortalCheck:
    """``/generate_204?n=NONCE``: a captive portal can invent a 204, but not its signature."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key

    async def answer(self, request: web.Request) -> web.Response:
        """Signed when a nonce was given and there is a key; 400 for a nonce or a host that is none."""
        nonce = request.query.get("n")
        if nonce is None:
            return web.Response(status=204)
        host = _HOST.fullmatch(request.headers.get("Host", ""))
        if portal_check.NONCE.fullmatch(nonce) is None:
            return web.Response(status=400, text="n: 16 to 64 of A-Z a-z 0-9 _ -\n")
        if host is None:
            return web.Response(status=400, text="Host: a name or an address\n")
        if self._key is None:
            return web.Response(status=204)
        signature = portal_check.sign(self._key, nonce, host[1])
        return web.Response(status=204, headers={portal_check.SIGNATURE_HEADER: signature})


class _Segments:
    """``/segment?bytes=N`` with the header of an admitted `video` test: random bytes, counted against its cap."""

    def __init__(self, admission: Admission, counts: Counts) -> None:
        self._admission = admission
        self._counts = counts
        # Random, so that nothing on the way can compress it; made once.
        self._payload = memoryview(os.urandom(_CHUNK_BYTES * 16))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        source = request.remote or ""
        test = self._find(request)
        if test is None and self._admission.is_banned(source):
            return self._refuse(429, "banned", "too many bad requests\n")
        if test is None:
            self._admission.note_failed(source)
            return self._refuse(403, "bad_token", f"{TEST_HEADER}: no running video test has this id and secret\n")
        size = _BYTES.fullmatch(request.query.get("bytes", ""))
        if size is None or not 1 <= int(size[0]) <= MAX_SEGMENT_BYTES:
            return self._refuse(400, "bad_request", f"bytes: 1 to {MAX_SEGMENT_BYTES}\n")
        if test.bytes + int(size[0]) > test.byte_cap:
            return self._refuse(429, "over_budget", "the test's byte cap is reached\n")
        return await self._send(request, test, int(size[0]))

    def _find(self, request: web.Request) -> Test | None:
        words = _TEST.fullmatch(request.headers.get(TEST_HEADER, ""))
        test = self._admission.find(words[1], words[2]) if words else None
        return test if test is not None and test.direction == "video" else None

    async def _send(self, request: web.Request, test: Test, size: int) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/octet-stream", "Content-Length": str(size)})
        if request.method == "HEAD":
            await answer.prepare(request)
            return answer
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        test.bytes += size
        tcp.limit_rate(transport.get_extra_info("socket"), self._admission.limits.per_test_mbps)
        await answer.prepare(request)
        left = size
        while left:
            if self._admission.find(test.id, test.secret) is None:
                transport.abort()  # its slot is another's now
                break
            start = (size - left) % len(self._payload)
            piece = self._payload[start : start + min(left, _CHUNK_BYTES)]
            await answer.write(piece)
            left -= len(piece)
        return answer

    def _refuse(self, status: int, reason: str, text: str) -> web.Response:
        self._counts.add("http_refused", reason)
        return web.Response(status=status, text=text)


class _Site:
    """What the reflector says of itself."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    async def metrics(self, request: web.Request) -> web.Response:
        text = metrics.exposition(self._reporter.status())
        return web.Response(body=text.encode(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def health(self, request: web.Request) -> web.Response:
        """200, and 503 while it drains."""
        status = self._reporter.status()
        return web.Response(
            status=503 if status.draining else 200,
            body=msgspec.json.encode(status),
            content_type="application/json",
        )

    async def page(self, request: web.Request) -> web.Response:
        language = choose_language(request.headers.get("Accept-Language", ""))
        return web.Response(
            text=page(self._reporter.status(), language),
            content_type="text/html",
            headers={"Content-Security-Policy": POLICY, "Vary": "Accept-Language", "Content-Language": language},
        )
