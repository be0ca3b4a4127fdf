"""The server of NDT7, M-Lab's speed test over one websocket, for browsers and foreign clients.

Protocol: https://github.com/m-lab/ndt-server/blob/main/spec/ndt7-protocol.md. The sender sends binary messages as fast
as the connection takes them; the server says in text messages what it has counted.
"""

import asyncio
import functools
import json
import os
import socket
from typing import Any, Final

from aiohttp import WSMsgType, web

from contract.throughput import SERVER_GRACE_S
from reflector import tcp
from reflector.admission import Admission, Test
from reflector.counts import Counts

SUBPROTOCOL: Final = "net.measurementlab.ndt.v7"
PATHS: Final = {"download": "/ndt/v7/download", "upload": "/ndt/v7/upload"}
MIN_MESSAGE_BYTES: Final = 1 << 13
MAX_MESSAGE_BYTES: Final = 1 << 24
"""What the protocol lets the other side send."""
MAX_SENT_BYTES: Final = 1 << 20
"""As M-Lab's own server: a larger one gains nothing, and costs its size twice."""
MESSAGES_PER_SIZE: Final = 16
"""A message grows to double its size when this many of it have left: small on slow lines, few on fast ones."""
EVERY_S: Final = 0.25
"""Between two measurements; the protocol allows no less."""
CLOSE_S: Final = 2.0
"""For the client's side of the closing handshake."""
_MAX_SOURCES: Final = 10_000


class Ndt7:
    """Takes its slots from the public pool.

    :param duration_s: of one direction; the protocol says 10, a test may say less.
    """

    def __init__(self, admission: Admission, counts: Counts, *, duration_s: float = 10.0) -> None:
        self.duration_s = duration_s
        self._admission = admission
        self._counts = counts
        self._running: set[str] = set()
        """Sources."""
        self._started_s: dict[tuple[str, str], float] = {}
        """Last start by source and direction."""

    @functools.cached_property
    def _payload(self) -> memoryview:
        """Random, so that nothing on the way can compress it; made once, when the first test asks for it."""
        return memoryview(os.urandom(MAX_SENT_BYTES))

    async def download(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, "download")

    async def upload(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, "upload")

    async def _serve(self, request: web.Request, test: str) -> web.StreamResponse:
        ws = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,), max_msg_size=MAX_MESSAGE_BYTES, compress=False, timeout=CLOSE_S
        )
        if not _is_ndt7(request, ws):
            raise web.HTTPBadRequest(text=f"this is a websocket of subprotocol {SUBPROTOCOL}\n")
        source = request.remote or ""
        slot = self._take(source, test)
        transport = request.transport
        try:
            assert transport is not None
            tcp.limit_rate(transport.get_extra_info("socket"), self._admission.limits.per_test_mbps)
            async with asyncio.timeout(self.duration_s + SERVER_GRACE_S):
                await ws.prepare(request)
                await _Run(ws, transport, test, slot, self._payload).run(self.duration_s)
        except TimeoutError:
            self._counts.add("http_refused", "overdue")
        finally:
            self._running.discard(source)
            slot.release()
            if transport is not None:
                transport.abort()
        return ws

    def _take(self, source: str, test: str) -> Test:
        """A slot.

        :raises web.HTTPException: when there is none for `source` now.
        """
        now_s = asyncio.get_running_loop().time()
        wait_s = self._started_s.get((source, test), -1e9) + self._admission.limits.pause_s - now_s
        if source in self._running or wait_s > 0:
            self._counts.add("tests_refused", "source")
            raise web.HTTPTooManyRequests(
                text="this address has just tested\n", headers={"Retry-After": str(max(1, round(wait_s)))}
            )
        slot = self._admission.public("down" if test == "download" else "up", self.duration_s)
        if not isinstance(slot, Test):
            raise web.HTTPServiceUnavailable(
                text=f"{slot.error}: {slot.detail}\n",
                headers={"Retry-After": str(max(1, round(slot.retry_after_s or self.duration_s)))},
            )
        self._running.add(source)
        self._started_s.pop((source, test), None)
        self._started_s[source, test] = now_s
        if len(self._started_s) > _MAX_SOURCES:
            del self._started_s[next(iter(self._started_s))]
        return slot


class _Run:
    """One test over one websocket."""

    def __init__(
        self, ws: web.WebSocketResponse, transport: asyncio.Transport, test: str, slot: Test, payload: memoryview
    ) -> None:
        self._ws = ws
        self._transport = transport
        self._sock: socket.socket = transport.get_extra_info("socket")
        self._test = test
        self._slot = slot
        self._payload = payload
        self._loop = asyncio.get_running_loop()
        self._started_s = self._reported_s = self._loop.time()
        self._moved = 0
        """Payload bytes given to the transport, or received in whole messages."""

    async def run(self, duration_s: float) -> None:
        """Until the client closes or the time is over; then the closing handshake."""
        try:
            if self._test == "download":
                await self._send(self._started_s + duration_s)
            else:
                await self._receive(self._started_s + duration_s)
        finally:
            self._slot.bytes = self._bytes

    @property
    def _bytes(self) -> int:
        """Payload that is on its way or has arrived."""
        return max(0, self._moved - self._transport.get_write_buffer_size())

    async def _send(self, end_s: float) -> None:
        # Nothing here that waits for room in the transport may be cancelled alone: aiohttp lets all share one future.
        listening = asyncio.create_task(self._listen(), name="ndt7 listen")
        try:
            size = MIN_MESSAGE_BYTES
            while self._loop.time() < end_s and not listening.done():
                await self._ws.send_bytes(self._payload[:size])  # type: ignore[arg-type] # it takes what bytes() takes
                self._moved += size
                if size < MAX_SENT_BYTES and self._bytes >= MESSAGES_PER_SIZE * size:
                    size *= 2
                await self._report()
                # A client that reads as fast as we write would otherwise have the loop for itself.
                await asyncio.sleep(0)
            await self._close()
        finally:
            listening.cancel()
            await asyncio.wait({listening})

    async def _listen(self) -> None:
        """During a download: return when the client closes, or sends what it may not."""
        async for message in self._ws:
            if message.type is WSMsgType.BINARY:
                return

    async def _receive(self, end_s: float) -> None:
        while (now_s := self._loop.time()) < end_s:
            try:
                async with asyncio.timeout(min(end_s, self._reported_s + EVERY_S) - now_s):
                    message = await self._ws.receive()
            except TimeoutError:
                message = None
            if message is not None and message.type is WSMsgType.BINARY:
                self._moved += len(message.data)
            elif message is not None and message.type is not WSMsgType.TEXT:
                return
            await self._report()
        await self._close()

    async def _report(self) -> None:
        """When it is time."""
        now_s = self._loop.time()
        if now_s - self._reported_s >= EVERY_S:
            self._reported_s = now_s
            await self._ws.send_json(self._measurement(), dumps=_dumps)

    async def _close(self) -> None:
        """The last word, and the closing handshake."""
        if not self._ws.closed:
            await self._ws.send_json(self._measurement(), dumps=_dumps)
            await self._ws.close()

    def _measurement(self) -> dict[str, Any]:
        """The protocol's message; times in microseconds."""
        elapsed_us = round((self._loop.time() - self._started_s) * 1e6)
        found: dict[str, Any] = {
            "Origin": "server",
            "Test": self._test,
            "ConnectionInfo": {
                "Client": _address(self._transport.get_extra_info("peername")),
                "Server": _address(self._transport.get_extra_info("sockname")),
                "UUID": self._slot.id,
            },
            "AppInfo": {"ElapsedTime": elapsed_us, "NumBytes": self._bytes},
        }
        info = tcp.info(self._sock)
        if info is not None:
            found["TCPInfo"] = {
                "ElapsedTime": elapsed_us,
                "BusyTime": info.busy_us,
                "BytesAcked": info.bytes_acked,
                "BytesReceived": info.bytes_received,
                "BytesSent": info.bytes_sent,
                "BytesRetrans": info.bytes_retransmitted,
                "MinRTT": info.min_rtt_us,
                "RTT": info.rtt_us,
                "RTTVar": info.rtt_var_us,
                "RWndLimited": info.rwnd_limited_us,
                "SndBufLimited": info.sndbuf_limited_us,
            }
        bbr = tcp.bbr_info(self._sock)
        if bbr is not None:
            found["BBRInfo"] = {
                "ElapsedTime": elapsed_us,
                "BW": bbr.bandwidth_bytes_s,
                "MinRTT": bbr.min_rtt_us,
                "PacingGain": bbr.pacing_gain,
                "CwndGain": bbr.cwnd_gain,
            }
        return found


def _is_ndt7(request: web.Request, ws: web.WebSocketResponse) -> bool:
    offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
    try:
        return SUBPROTOCOL in (word.strip() for word in offered) and ws.can_prepare(request).ok
    except ValueError:
        return False  # a key that is not ASCII


def _dumps(found: dict[str, Any]) -> str:
    return json.dumps(found, separators=(",", ":"))


def _address(name: tuple[Any, ...]) -> str:
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
