"""A client of the throughput protocol that a test drives by hand, wrongly too."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import msgspec

from contract import throughput
from contract.throughput import (
    Admitted,
    Direction,
    Greeting,
    Hello,
    Join,
    Joined,
    Message,
    Refused,
    Report,
    Start,
)
from reflector import tcp

TIMEOUT_S = 20.0
CHUNK = memoryview(os.urandom(64 * 1024))

_T = TypeVar("_T")


class Peer:
    """One connection; closed at the end of its ``async with``."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._port = port
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._unread = b""

    async def __aenter__(self) -> "Peer":
        self.socket.bind((self._source, 0))
        # As on a real network: the loopback's own segments are so large that the first ten are a burst.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1448)
        await self._loop.sock_connect(self.socket, ("127.0.0.1", self._port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.socket.close()

    async def say(self, what: msgspec.Struct | bytes) -> None:
        data = what if isinstance(what, bytes) else throughput.encode(what)
        await _soon(self._loop.sock_sendall(self.socket, data))

    async def hear(self, kind: type[Message]) -> Message:
        return throughput.decode(await self.line(), kind)

    async def answer(self) -> Admitted | Refused:
        """What the reflector says to a hello."""
        return throughput.decode_answer(await self.line())

    async def line(self) -> bytes:
        """The next line; what there was when the reflector closed instead, empty too after a reset."""
        while b"\n" not in self._unread:
            piece = await self._piece()
            if not piece:
                break
            self._unread += piece
        line, found, self._unread = self._unread.partition(b"\n")
        return line + found

    async def rest(self) -> bytes:
        """Everything until the reflector closes."""
        while piece := await self._piece():
            self._unread += piece
        rest, self._unread = self._unread, b""
        return rest

    async def _piece(self) -> bytes:
        try:
            return await _soon(self._loop.sock_recv(self.socket, 65536))
        except ConnectionError:
            return b""

    async def greeted(self) -> Greeting:
        return await self.hear(Greeting)

    async def ask(
        self,
        direction: Direction = "down",
        *,
        agent: str = "lib-01",
        key: bytes | None = None,
        duration_s: float = 0.5,
        streams: int = 1,
        byte_cap: int = 50_000_000,
        congestion_control: throughput.CongestionControl = "default",
    ) -> Admitted | Refused:
        """The greeting, a hello, and its answer."""
        greeting = await self.greeted()
        hello = Hello(
            agent=agent,
            direction=direction,
            duration_s=duration_s,
            streams=streams,
            byte_cap=byte_cap,
            congestion_control=congestion_control,
        )
        token = throughput.sign(key, greeting.nonce, hello) if key else None
        await self.say(msgspec.structs.replace(hello, token=token))
        return await self.answer()

    async def admitted(self, direction: Direction = "down", **wanted: object) -> Admitted:
        answer = await self.ask(direction, **wanted)  # type: ignore[arg-type]
        assert isinstance(answer, Admitted), answer
        return answer

    async def refused(self, direction: Direction = "down", **wanted: object) -> Refused:
        answer = await self.ask(direction, **wanted)  # type: ignore[arg-type]
        assert isinstance(answer, Refused), answer
        assert await self.rest() == b""
        return answer

    async def join(self, admitted: Admitted, stream: int = 0, streams: int = 1) -> None:
        """The greeting, and a join that is answered; what is sent keeps to its share of the test's rate."""
        assert admitted.capacity_mbps is not None
        tcp.limit_rate(self.socket, admitted.capacity_mbps / streams)
        await self.greeted()
        await self.say(Join(test=admitted.test, secret=admitted.secret, stream=stream))
        await self.hear(Joined)

    async def download(self) -> int:
        """Bytes until the reflector closes."""
        total = len(self._unread)
        room = bytearray(256 * 1024)
        while True:
            try:
                size = await _soon(self._loop.sock_recv_into(self.socket, room))
            except ConnectionError:
                return total
            if not size:
                return total
            total += size

    async def upload(self, duration_s: float) -> int:
        """Send for so long, or until the reflector closes; then say that it is over."""
        total, end_s = 0, self._loop.time() + duration_s
        try:
            while self._loop.time() < end_s:
                async with asyncio.timeout_at(end_s):
                    await self._loop.sock_sendall(self.socket, CHUNK)
                total += len(CHUNK)
            self.socket.shutdown(socket.SHUT_WR)
        except (TimeoutError, ConnectionError):
            pass
        return total


class Result(NamedTuple):
    report: Report
    moved: list[int]
    """Bytes of each stream, as the client saw them."""
    admitted: Admitted


async def run_test(port: int, direction: Direction = "down", *, source: str = "127.0.0.1", **wanted: object) -> Result:
    """A whole test, as a good client runs it."""
    async with Peer(port, source) as control:
        admitted = await control.admitted(direction, **wanted)
        streams = int(wanted.get("streams", 1))  # type: ignore[call-overload]
        peers = [Peer(port, source) for _ in range(streams)]
        try:
            for stream, peer in enumerate(peers):
                await peer.__aenter__()
                await peer.join(admitted, stream, streams)
            await control.say(Start(start=True))
            flow: Callable[[Peer], Awaitable[int]] = (
                Peer.download if direction == "down" else lambda peer: peer.upload(admitted.duration_s)
            )
            flows = [asyncio.ensure_future(flow(peer)) for peer in peers]
            report = await control.hear(Report)
            if direction == "up":
                control.socket.close()  # a reflector that has enough reads no more
            return Result(report, list(await asyncio.gather(*flows)), admitted)
        finally:
            for peer in peers:
                peer.socket.close()


async def _soon(what: Awaitable[_T]) -> _T:
    async with asyncio.timeout(TIMEOUT_S):
        return await what
