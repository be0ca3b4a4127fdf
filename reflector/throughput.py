"""The throughput protocol's server (:mod:`contract.throughput`): control and data connections on one TCP port.

Payload flows only on connections that were joined by secret. Every test ends by the server's own timer, whatever the
client does, and whatever ends it frees its slot, its connections and its tasks.
"""

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import socket
import struct
import time
from typing import Final

from msgspec import Struct

from contract import throughput
from contract.throughput import (
    DRAIN_S,
    LINE_S,
    MAX_LINE_BYTES,
    SERVER_GRACE_S,
    Admitted,
    Greeting,
    Hello,
    Join,
    Joined,
    ProtocolError,
    Refused,
    Report,
    Start,
    Tally,
)
from reflector import tcp
from reflector.admission import Admission, Test
from reflector.connections import Connections
from reflector.counts import Counts

CHUNK_BYTES: Final = 256 * 1024
CHUNKS_PER_TURN: Final = 4
"""Sent or received by one connection before the event loop looks at the others, STAMP among them."""
_TCP_NOTSENT_LOWAT: Final = 25
"""linux/tcp.h: unsent bytes below which a socket counts as writable. Keeps a stopped download short."""
_PASSING: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED)
"""What accept(2) may say and still work a moment later."""
_ABORT: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: a reset instead of a polite close."""

log = logging.getLogger(__name__)


class Throughput:
    """Listens from :meth:`open` on, serves inside :meth:`run`."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        admission: Admission,
        connections: Connections,
        counts: Counts,
        udp_port: int | None = None,
        http_port: int | None = None,
        line_s: float = LINE_S,
    ) -> None:
        self.host = host
        self.port = port
        """0 before :meth:`open`: any free port."""
        self.udp_port = udp_port
        """Told in the greeting, as `http_port`."""
        self.http_port = http_port
        self._admission = admission
        self._connections = connections
        self._counts = counts
        self._sessions: dict[str, _Session] = {}
        # Random, so that nothing on the way can compress it; made once.
        self._payload = memoryview(os.urandom(CHUNK_BYTES))
        self._line_s = line_s
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Listen; who connects now is served when :meth:`run` runs.

        :raises OSError: when the address is not ours or the port is taken.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._socket = socket.create_server((self.host, self.port), family=family, backlog=256)
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]

    async def run(self) -> None:
        """Serve until cancelled."""
        if self._socket is None:
            raise RuntimeError("open() comes before run()")
        loop = asyncio.get_running_loop()
        with self._socket:
            async with asyncio.TaskGroup() as group:
                while True:
                    try:
                        connection, peer = await loop.sock_accept(self._socket)
                    except OSError as error:
                        if error.errno not in _PASSING:
                            raise
                        await asyncio.sleep(0.1)
                        continue
                    group.create_task(self._keep(connection, peer[0]), name=f"connection {peer[0]}")

    async def _keep(self, connection: socket.socket, source: str) -> None:
        """One connection from accept to close."""
        with connection:
            if not self._connections.enter(source):
                # Other agents may share the address: it is not the network that fails them.
                refused = Refused(error="no_slot", detail="too many connections", retry_after_s=self._line_s)
                with contextlib.suppress(OSError):
                    connection.send(throughput.encode(refused))
                return
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            lines = _Lines(connection, self._line_s)
            try:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self._serve(lines, source)
            except TimeoutError:
                self._counts.add("connections_lost", "late")
            except OSError:
                self._counts.add("connections_lost", "gone")
            except ProtocolError as error:
                self._counts.add("bad_lines")
                self._admission.note_failed(source)
                with contextlib.suppress(OSError, TimeoutError):
                    await lines.end_with(Refused(error="bad_request", detail=str(error)[:200]))
            except Exception:
                # A fault of our own costs one connection, never the server.
                self._counts.add("internal_errors")
                log.exception("a connection from %s", source)
            finally:
                self._connections.leave(source)

    async def _serve(self, lines: "_Lines", source: str) -> None:
        nonce = secrets.token_urlsafe(18)
        greeting = Greeting(
            nonce=nonce, udp_port=self.udp_port, http_port=self.http_port, draining=self._admission.draining
        )
        await lines.write(greeting)
        line = await lines.read()
        if line is None:
            return  # it only wanted to see whether somebody listens
        with contextlib.suppress(ProtocolError):
            await self._join(lines, throughput.decode(line, Join))
            return
        hello = throughput.decode(line, Hello)
        test = self._admission.admit(hello, nonce, source)
        if isinstance(test, Refused):
            await lines.end_with(test)
            return
        try:
            await self._control(lines, test)
        finally:
            test.release()

    async def _join(self, lines: "_Lines", join: Join) -> None:
        """A data connection: the session's until it has ended."""
        session = self._sessions.get(join.test)
        if session is None or self._admission.find(join.test, join.secret) is None or not session.takes(join.stream):
            self._counts.add("joins_refused")
            await lines.end_with(Refused(error="bad_request", detail="no test waits for this stream with this secret"))
            return
        session.prepare(lines.socket, self._admission.limits.per_test_mbps)
        session.add(join.stream, lines.socket)
        try:
            await lines.write(Joined(ok=True))
            await session.ended.wait()
        finally:
            session.remove(join.stream)

    async def _control(self, lines: "_Lines", test: Test) -> None:
        used = tcp.use_congestion_control(lines.socket, test.congestion_control)
        admitted = Admitted(
            test=test.id,
            secret=test.secret,
            duration_s=test.duration_s,
            byte_cap=test.byte_cap,
            congestion_control=used,
            capacity_mbps=self._admission.limits.per_test_mbps,
        )
        session = self._sessions[test.id] = _Session(test, self._payload)
        try:
            await lines.write(admitted)
            if test.direction == "video":
                # Its segments go over HTTP; the slot is held until this connection ends.
                async with asyncio.timeout(test.duration_s + SERVER_GRACE_S):
                    await lines.read_nothing()
                return
            async with asyncio.timeout(self._line_s):
                await session.joined.wait()
            line = await lines.read()
            if line is None:
                return
            throughput.decode(line, Start)
            async with asyncio.timeout(test.duration_s + SERVER_GRACE_S):
                report = await self._run(lines, session)
                if report is not None:
                    await lines.end_with(report)
        finally:
            del self._sessions[test.id]
            session.ended.set()

    async def _run(self, lines: "_Lines", session: "_Session") -> Report | None:
        """None when the client went away.

        :raises ProtocolError: when it spoke out of turn.
        """
        running = asyncio.create_task(session.run(), name=f"test {session.test.id}")
        watching = asyncio.create_task(lines.read_nothing(), name=f"client of {session.test.id}")
        try:
            await asyncio.wait({running, watching}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                return running.result()
            self._counts.add("tests_broken")
            watching.result()
            return None
        finally:
            running.cancel()
            watching.cancel()
            await asyncio.wait({running, watching})


class _Session:
    """The data connections of one test, and what flows over them."""

    def __init__(self, test: Test, payload: memoryview) -> None:
        self.test = test
        self.joined = asyncio.Event()
        """Every stream has its connection."""
        self.ended = asyncio.Event()
        self._payload = payload
        self._buffer = bytearray(CHUNK_BYTES)
        self._streams: dict[int, socket.socket] = {}
        self._open: set[socket.socket] = set()
        self._over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._count = Tally()

    def takes(self, stream: int) -> bool:
        """Whether `stream` still waits for its connection."""
        return not self.joined.is_set() and stream < self.test.streams and stream not in self._streams

    def prepare(self, sock: socket.socket, per_test_mbps: float) -> None:
        """Before the first payload byte: congestion control and pace."""
        tcp.use_congestion_control(sock, self.test.congestion_control)
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, CHUNK_BYTES)
        tcp.limit_rate(sock, per_test_mbps / self.test.streams)

    def add(self, stream: int, sock: socket.socket) -> None:
        self._streams[stream] = sock
        if len(self._streams) == self.test.streams:
            self.joined.set()

    def remove(self, stream: int) -> None:
        """Before its socket is closed."""
        self._drop(self._streams.pop(stream))

    async def run(self) -> Report:
        """Let it flow until the duration, the cap or the other side ends it."""
        started_s, cpu_s = self._loop.time(), time.process_time()
        self._over.clear()
        self._open = set(self._streams.values())
        facts = [tcp.info(sock) for sock in self._open]
        try:
            if self.test.direction == "down":
                await self._send()
            else:
                await self._receive(started_s)
            after = [tcp.info(sock) for sock in self._streams.values()]
        finally:
            for sock in self._streams.values():
                self._loop.remove_reader(sock)
                self._loop.remove_writer(sock)
        elapsed_s = max(1e-9, self._loop.time() - started_s)
        report = _Facts(before=facts, after=after).report(self.test.direction == "down")
        report.cpu_ratio = min(1.0, (time.process_time() - cpu_s) / elapsed_s)
        report.capped = self._count.capped
        report.concurrent = self.test.concurrent
        for sock in self._streams.values():
            with contextlib.suppress(OSError):
                report.congestion_control = tcp.congestion_control(sock)
        if self.test.direction == "down":
            report.sent_bytes = self.test.bytes
        else:
            report.received_bytes = self.test.bytes
            report.bins = self._count.bins
            if self._count.first_s is not None:
                report.first_byte_s = self._count.first_s - started_s
                report.last_byte_s = self._count.last_s - self._count.first_s
        return report

    async def _send(self) -> None:
        for sock in self._open:
            self._loop.add_writer(sock, self._on_writable, sock)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.test.duration_s):
                await self._over.wait()
        for sock in self._streams.values():
            self._loop.remove_writer(sock)
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)

    def _on_writable(self, sock: socket.socket) -> None:
        for _ in range(CHUNKS_PER_TURN):
            wanted = self._wanted()
            if wanted == 0:
                return
            try:
                sent = sock.send(self._payload[:wanted])
            except BlockingIOError:
                return
            except OSError:
                self._drop(sock)
                return
            self.test.bytes += sent
            if sent < wanted:
                return

    def _wanted(self) -> int:
        """What may be moved next; 0 ends the test at its cap."""
        wanted = min(CHUNK_BYTES, self.test.byte_cap - self.test.bytes)
        if wanted <= 0:
            self._count.capped = True
            self._over.set()
            return 0
        return wanted

    async def _receive(self, started_s: float) -> None:
        for sock in self._open:
            self._loop.add_reader(sock, self._on_readable, sock)
        while not self._over.is_set() and (left_s := self._ends_s(started_s) - self._loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, 1.0)):
                    await self._over.wait()

    def _ends_s(self, started_s: float) -> float:
        """When the receiver stops waiting."""
        first_s = started_s if self._count.first_s is None else self._count.first_s
        return first_s + self.test.duration_s + DRAIN_S

    def _on_readable(self, sock: socket.socket) -> None:
        for _ in range(CHUNKS_PER_TURN):
            wanted = self._wanted()
            if wanted == 0:
                return
            try:
                # MSG_TRUNC: the kernel counts the payload and throws it away without copying it (tcp(7)).
                size = sock.recv_into(self._buffer, wanted, socket.MSG_TRUNC)
            except BlockingIOError:
                return
            except OSError:
                size = 0
            if size == 0:
                self._drop(sock)
                return
            self._count.note(size, self._loop.time())
            self.test.bytes += size
            if size < wanted:
                return

    def _drop(self, sock: socket.socket) -> None:
        """This stream has ended."""
        self._loop.remove_reader(sock)
        self._loop.remove_writer(sock)
        self._open.discard(sock)
        if not self._open:
            self._over.set()


class _Facts(Struct, frozen=True):
    """What the kernel knew of each connection before and after the test; None where it did not say."""

    before: list[tcp.Info | None]
    after: list[tcp.Info | None]

    def report(self, sending: bool) -> Report:
        known = [info for info in self.after if info is not None]
        if not (sending and known):
            return Report()
        busy_us = sum(info.busy_us for info in known)
        earlier = sum(info.total_retransmits for info in self.before if info is not None)
        return Report(
            tcp_rtt_ms=sum(info.rtt_us for info in known) / len(known) / 1000,
            retransmits=max(0, sum(info.total_retransmits for info in known) - earlier),
            rwnd_limited_ratio=min(1.0, sum(i.rwnd_limited_us for i in known) / busy_us) if busy_us else None,
            sndbuf_limited_ratio=min(1.0, sum(i.sndbuf_limited_us for i in known) / busy_us) if busy_us else None,
        )


class _Lines:
    """The lines of one connection, each in time and of a bounded length."""

    def __init__(self, sock: socket.socket, line_s: float) -> None:
        self.socket = sock
        self._line_s = line_s
        self._loop = asyncio.get_running_loop()

    async def write(self, message: Struct) -> None:
        async with asyncio.timeout(self._line_s):
            await self._loop.sock_sendall(self.socket, throughput.encode(message))

    async def end_with(self, message: Struct) -> None:
        """The last line; then wait until the other side has read it and closed."""
        await self.write(message)
        self.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while await self._loop.sock_recv(self.socket, MAX_LINE_BYTES):
                    pass

    async def read(self) -> bytes | None:
        """The next line; None when the other side closed instead.

        :raises ProtocolError: for one that is too long, or that has more behind it: nobody speaks out of turn here.
        """
        line = bytearray()
        async with asyncio.timeout(self._line_s):
            while not line.endswith(b"\n"):
                piece = await self._loop.sock_recv(self.socket, MAX_LINE_BYTES + 1 - len(line))
                if not piece:
                    return None
                line += piece
                if len(line) > MAX_LINE_BYTES or b"\n" in line[:-1]:
                    raise ProtocolError(f"one line of at most {MAX_LINE_BYTES} bytes, and nothing behind it")
        return bytes(line)

    async def read_nothing(self) -> None:
        """Return when the other side goes.

        :raises ProtocolError: when it says something instead.
        """
        with contextlib.suppress(OSError):
            if await self._loop.sock_recv(self.socket, 1):
                raise ProtocolError("nothing may be said while a test runs")
