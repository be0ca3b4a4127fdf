"""Payload over the data connections of an admitted throughput test (:mod:`contract.throughput`), counted as it comes.

No bytes object is made on the way: the receiver lets the kernel count and drop, the sender gives one buffer again and
again.
"""

import asyncio
import contextlib
import functools
import os
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from agent import sockets, tcp
from agent.clock import Clock
from agent.control import Control, refusal
from agent.probe import Context, Failure, failure_in
from contract import throughput
from contract.throughput import LINE_S, MAX_LINE_BYTES, Admitted, Join, Joined, ProtocolError, Refused, Tally

CHUNK_BYTES: Final = 256 * 1024
CHUNKS_PER_TURN: Final = 4
"""Moved by one connection before the event loop looks at anything else."""
PACED_MBPS: Final = 10_000
"""Who admits more has a line that we cannot fill, and the kernel's pacing doubles the CPU of a gigabyte."""
IDLE_S: Final = 5.0
"""Longest silence of the other side."""
_TCP_NOTSENT_LOWAT: Final = 25
_SO_MAX_PACING_RATE: Final = 47


@asynccontextmanager
async def joined(control: Control, context: Context, streams: int, port: int) -> AsyncIterator[list[socket.socket]]:
    """The data connections, bound to the interface; closed at once in the end.

    :raises Failure: when one of them cannot be made.
    """
    opened: list[socket.socket] = []
    try:
        await _join_all(control, context, streams, port, opened)
        yield opened
    finally:
        for sock in opened:
            sock.close()


async def _join_all(control: Control, context: Context, streams: int, port: int, opened: list[socket.socket]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for stream in range(streams):
                group.create_task(_join(control, context, stream, port, opened), name=f"join {stream}")
    except BaseExceptionGroup as failures:
        found = failure_in(failures)
        if found is None:
            raise
        raise found from None


async def _join(control: Control, context: Context, stream: int, port: int, opened: list[socket.socket]) -> None:
    try:
        sock = await tcp.connect(control.address, port, context.interface, LINE_S)
        opened.append(sock)
        greeting = throughput.decode_greeting(await _line(sock))
        if isinstance(greeting, Refused):
            raise refusal(greeting)
        loop = asyncio.get_running_loop()
        join = Join(test=control.admitted.test, secret=control.admitted.secret, stream=stream)
        await loop.sock_sendall(sock, throughput.encode(join))
        throughput.decode(await _line(sock), Joined)
    except ProtocolError as error:
        raise Failure("internal", f"joining stream {stream}: {error}") from error
    except OSError as error:
        raise sockets.failure(error, f"joining stream {stream}") from error


async def _line(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    line = bytearray()
    async with asyncio.timeout(LINE_S):
        while not line.endswith(b"\n"):
            piece = await loop.sock_recv(sock, MAX_LINE_BYTES)
            if not piece:
                raise ConnectionResetError("closed instead of an answer")
            line += piece
            if len(line) > MAX_LINE_BYTES:
                raise ProtocolError(f"a line of more than {MAX_LINE_BYTES} bytes")
    return bytes(line)


class _Flow:
    """Some sockets, watched until the test is over."""

    def __init__(self, socks: Sequence[socket.socket], count: Tally, byte_cap: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._socks = socks
        self._open = set(socks)
        self._count = count
        self._cap = byte_cap
        self._over = asyncio.Event()
        self._error: OSError | None = None

    async def until(self, duration_s: float) -> None:
        """Return when the duration has passed since the first byte, at the cap, or when the other side ended it.

        :raises Failure: `timeout` without a byte for :data:`IDLE_S`; `reset` and the like.
        """
        started_s = self._loop.time()
        while not self._over.is_set():
            now_s = self._loop.time()
            first_s = self._count.first_s
            if first_s is not None and now_s - first_s >= duration_s:
                return
            if now_s - max(started_s, self._count.last_s) >= IDLE_S:
                raise Failure("timeout", f"no byte for {IDLE_S:g} s")
            left_s = 0.5 if first_s is None else min(0.5, first_s + duration_s - now_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._over.wait()
        if self._error is not None:
            raise sockets.failure(self._error, "in the middle of the test")

    def _drop(self, sock: socket.socket, error: OSError | None = None) -> None:
        self._loop.remove_reader(sock)
        self._loop.remove_writer(sock)
        self._open.discard(sock)
        self._error = self._error or error
        if not self._open or error is not None:
            self._over.set()

    def stop(self) -> None:
        for sock in self._socks:
            if sock.fileno() >= 0:
                self._loop.remove_reader(sock)
                self._loop.remove_writer(sock)


class Receiving(_Flow):
    """A download."""

    def __init__(self, socks: Sequence[socket.socket], count: Tally, byte_cap: int) -> None:
        super().__init__(socks, count, byte_cap)
        self._buffer = bytearray(CHUNK_BYTES)
        for sock in socks:
            self._loop.add_reader(sock, self._on_readable, sock)

    def _on_readable(self, sock: socket.socket) -> None:
        for _ in range(CHUNKS_PER_TURN):
            try:
                # MSG_TRUNC: the kernel counts the payload and throws it away without copying it (tcp(7)).
                size = sock.recv_into(self._buffer, 0, socket.MSG_TRUNC)
            except BlockingIOError:
                return
            except OSError as error:
                self._drop(sock, error)
                return
            if size == 0:
                self._drop(sock)
                return
            self._count.note(size, self._loop.time())
            if self._count.bytes >= self._cap:
                self._count.capped = True
                self._over.set()
                return
            if size < CHUNK_BYTES:
                return


@functools.cache
def payload() -> memoryview:
    """Random, so that nothing on the way can compress it; made once, and not before it is needed."""
    return memoryview(os.urandom(CHUNK_BYTES))


class Sending(_Flow):
    """An upload; its `count` is what our kernel took, not what arrived."""

    def __init__(self, socks: Sequence[socket.socket], count: Tally, admitted: Admitted, wanted: str) -> None:
        super().__init__(socks, count, admitted.byte_cap)
        self._payload = payload()
        for sock in socks:
            if wanted != "default":
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, wanted.encode())
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, CHUNK_BYTES)
            if admitted.capacity_mbps and admitted.capacity_mbps < PACED_MBPS:
                pace = round(admitted.capacity_mbps * 1e6 / 8 / len(socks))
                sock.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, struct.pack("Q", pace))
            self._loop.add_writer(sock, self._on_writable, sock)

    def _on_writable(self, sock: socket.socket) -> None:
        for _ in range(CHUNKS_PER_TURN):
            wanted = min(CHUNK_BYTES, self._cap - self._count.bytes)
            if wanted <= 0:
                self._count.capped = True
                self._over.set()
                return
            try:
                size = sock.send(self._payload[:wanted])
            except BlockingIOError:
                return
            except OSError as error:
                self._drop(sock, error)
                return
            self._count.note(size, self._loop.time())
            if size < wanted:
                return

    def end(self) -> None:
        """Nothing more comes: the receiver may report when it has what is on the way."""
        self.stop()
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)


def congestion_control(sock: socket.socket) -> str | None:
    """What the kernel uses there; None when the connection is gone."""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).partition(b"\0")[0].decode()
    except OSError:
        return None


async def watch(count: Tally, direction: str, context: Context, clock: Clock) -> None:
    """Tell how fast it is, twice a second, until cancelled."""
    before = 0
    while True:
        await clock.sleep(0.5)
        context.progress(f"{direction} {(count.bytes - before) * 8 / 0.5 / 1e6:.1f} Mbit/s")
        before = count.bytes
