"""A fuzzer of the reflector's three ports: nonsense, near misses, slowness, resets and floods, from many addresses.

Everything follows from one seed but the time of the machine.
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from contract import stamp, throughput
from contract.throughput import TEST_HEADER, Admitted, Greeting, Hello, Join, ProtocolError, Start

ATTACKERS: Final = 48
AGENTS: Final = {f"fuzz-{number}": b"the fuzzer's own key %d" % number for number in range(8)}
"""Who has a good key, and does not know how to behave."""
PATIENCE_S: Final = 3.0
"""Of one attack."""

Attack = Callable[["Fuzzer"], Awaitable[None]]


class Fuzzer:
    """Attacks until it is told to stop."""

    def __init__(self, seed: int, *, tcp: int, udp: int, http: int) -> None:
        self.dice = random.Random(seed)
        self.tcp = tcp
        self.udp = udp
        self.http = http
        self.done: Counter[str] = Counter()
        """Attacks by name."""

    async def run(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + seconds
        async with asyncio.TaskGroup() as group:
            for number in range(ATTACKERS):
                group.create_task(self._attack(end_s), name=f"attacker {number}")

    async def _attack(self, end_s: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < end_s:
            attack = self.dice.choice(ATTACKS)
            # An attack that the reflector refuses, ends, or keeps waiting is over.
            with contextlib.suppress(OSError, TimeoutError, ProtocolError):
                async with asyncio.timeout(self.dice.choice((0.05, 0.5, PATIENCE_S))):
                    await attack(self)
            self.done[attack.__name__] += 1

    def source(self) -> str:
        """Few that are seen again, and many that are not."""
        if self.dice.random() < 0.5:
            return f"127.0.1.{self.dice.randrange(1, 20)}"
        return f"127.{self.dice.randrange(1, 255)}.{self.dice.randrange(256)}.{self.dice.randrange(1, 255)}"

    @asynccontextmanager
    async def connection(self, port: int) -> AsyncIterator["Connection"]:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
            sock.bind((self.source(), 0))
            if self.dice.random() < 0.5:
                # Ends with a reset.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if self.dice.random() < 0.2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            yield Connection(self, sock)

    def hello(self, **more: Any) -> Hello:
        return Hello(
            agent=self.dice.choice([*AGENTS, "unknown"]),
            direction=self.dice.choice(("down", "up", "video")),
            duration_s=self.dice.choice((0.001, 0.05, 0.5, 15.0)),
            streams=self.dice.choice((1, 2, 16)),
            byte_cap=self.dice.choice((1, 1000, 1_000_000, 400_000_000)),
            congestion_control=self.dice.choice(("default", "cubic", "reno", "bbr")),
            **more,
        )

    def mutated(self, data: bytes) -> bytes:
        """`data` with something wrong in it."""
        dice, place = self.dice, self.dice.randrange(len(data) + 1)
        match dice.randrange(9):
            case 0:
                return data[:place]
            case 1:
                return data[:place] + dice.randbytes(dice.choice((1, 4, 300))) + data[place:]
            case 2:
                return data + data
            case 3:
                return data[:place] + data[place : place + 10] * dice.choice((2, 1000)) + data[place:]
            case 4:
                changed = bytearray(data)
                for _ in range(dice.randrange(1, 6)):
                    if changed:
                        changed[dice.randrange(len(changed))] = dice.randrange(256)
                return bytes(changed)
            case 5:
                number = dice.choice(
                    (b"-1", b"1e999", b"9" * 400, b"null", b"[]", b'"\\ud800"', b"0.0", b"true", b"NaN")
                )
                return data.replace(dice.choice((b"1", b"0", b"down", b"fuzz")), number)
            case 6:
                return data.replace(b"\n", b"\r\n\x00")
            case 7:
                return b"[" * 2000 + data
            case _:
                return data.swapcase()


class Connection:
    """One of the fuzzer's, over TCP."""

    def __init__(self, fuzzer: Fuzzer, sock: socket.socket) -> None:
        self.fuzzer = fuzzer
        self.socket = sock
        self._loop = asyncio.get_running_loop()

    async def say(self, data: bytes) -> None:
        """At once, in pieces, or byte by byte."""
        dice = self.fuzzer.dice
        way = dice.randrange(8)
        size = 1 if way == 0 else max(1, len(data) // 3) if way == 1 else len(data) or 1
        for start in range(0, len(data), size):
            await self._loop.sock_sendall(self.socket, data[start : start + size])
            if size < len(data):
                await asyncio.sleep(dice.choice((0, 0.001, 0.05)))

    async def line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            piece = await self._loop.sock_recv(self.socket, 1)
            if not piece:
                raise ConnectionResetError
            line += piece
        return line

    async def listen(self) -> None:
        """Until the reflector has enough."""
        while await self._loop.sock_recv(self.socket, 65536):
            pass

    async def greeting(self) -> Greeting:
        return throughput.decode(await self.line(), Greeting)

    async def admitted(self, **more: Any) -> tuple[Hello, Admitted]:
        """A hello that is right but for what it asks."""
        greeting = await self.greeting()
        hello = self.fuzzer.hello(**more)
        key = AGENTS.get(hello.agent, b"nobody's key, but long")
        signed = msgspec.structs.replace(hello, token=throughput.sign(key, greeting.nonce, hello))
        await self._loop.sock_sendall(self.socket, throughput.encode(signed))
        answer = throughput.decode_answer(await self.line())
        if not isinstance(answer, Admitted):
            raise ProtocolError(answer.error)
        return hello, answer


# TCP


async def connect_and_leave(fuzzer: Fuzzer) -> None:
    async with fuzzer.connection(fuzzer.tcp):
        pass


async def say_nothing(fuzzer: Fuzzer) -> None:
    async with fuzzer.connection(fuzzer.dice.choice((fuzzer.tcp, fuzzer.http))) as connection:
        await connection.listen()


async def random_bytes(fuzzer: Fuzzer) -> None:
    async with fuzzer.connection(fuzzer.dice.choice((fuzzer.tcp, fuzzer.http))) as connection:
        await connection.say(fuzzer.dice.randbytes(fuzzer.dice.choice((1, 10, 1000, 100_000))))
        await connection.listen()


async def mutated_hello(fuzzer: Fuzzer) -> None:
    async with fuzzer.connection(fuzzer.tcp) as connection:
        hello = fuzzer.hello(token=fuzzer.dice.choice((None, "0" * 64, "x")))
        await connection.greeting()
        await connection.say(fuzzer.mutated(throughput.encode(hello)))
        await connection.listen()


async def mutated_join(fuzzer: Fuzzer) -> None:
    async with fuzzer.connection(fuzzer.tcp) as control, fuzzer.connection(fuzzer.tcp) as data:
        _, admitted = await control.admitted()
        join = Join(test=admitted.test, secret=admitted.secret, stream=fuzzer.dice.randrange(16))
        await data.say(fuzzer.mutated(throughput.encode(join)))
        await data.listen()


async def half_a_test(fuzzer: Fuzzer) -> None:
    """Right until some step, then wrong or away."""
    dice = fuzzer.dice
    async with contextlib.AsyncExitStack() as stack:
        control = await stack.enter_async_context(fuzzer.connection(fuzzer.tcp))
        hello, admitted = await control.admitted()
        flows = []
        for stream in range(hello.streams + dice.choice((0, 0, 0, 1, -1))):
            data = await stack.enter_async_context(fuzzer.connection(fuzzer.tcp))
            await data.greeting()
            if dice.random() < 0.03:
                return
            secret = admitted.secret if dice.random() < 0.97 else "s" * 32
            await data.say(throughput.encode(Join(test=admitted.test, secret=secret, stream=min(stream, 15))))
            if dice.random() < 0.1:
                await data.say(dice.randbytes(1000))
            flows.append(data)
        line = throughput.encode(Start(start=True))
        await control.say(fuzzer.mutated(line) if dice.random() < 0.2 else line)
        moves = [data.listen() if dice.random() < 0.5 else data.say(dice.randbytes(200_000)) for data in flows]
        moves.append(control.say(line) if dice.random() < 0.2 else control.listen())
        if flows and dice.random() < 0.2:
            flows[0].socket.close()
        await asyncio.gather(*moves, return_exceptions=True)


# UDP


async def datagrams(fuzzer: Fuzzer) -> None:
    """A flood from one address: requests, near misses, and nonsense of any length."""
    dice = fuzzer.dice
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind((fuzzer.source(), 0))
        sock.connect(("127.0.0.1", fuzzer.udp))
        for number in range(dice.choice((1, 10, 500))):
            request = stamp.pack_request(stamp.Request(number, dice.randrange(2**63), session=dice.randrange(3)))
            packet = dice.choice((request, fuzzer.mutated(request), dice.randbytes(dice.randrange(3000)), b""))
            with contextlib.suppress(OSError):
                sock.send(packet[:60_000])
            if number % 50 == 0:
                await asyncio.sleep(0)


# HTTP

PATHS: Final = (
    "/", "/metrics", "/health", "/generate_204?n=" + "n" * 20, "/generate_204?n=%00", "/segment?bytes=5000000",
    "/segment?bytes=-1", "/segment", "/ndt/v7/download", "/ndt/v7/upload", "/../../etc/passwd", "/" + "a" * 9000, "*",
    "http://elsewhere.example/", "/%ff%fe", "//", "/?\u00e9",
)  # fmt: skip


async def request(fuzzer: Fuzzer) -> None:
    dice = fuzzer.dice
    method = dice.choice(("GET", "HEAD", "POST", "PUT", "OPTIONS", "CONNECT", "X" * 100))
    fields = dice.sample(
        (
            "Host: 127.0.0.1", "Host: a", "Connection: close", "Content-Length: 5", "Content-Length: -1",
            "Content-Length: 99999999999", "Transfer-Encoding: chunked", "Expect: 100-continue",
            f"{TEST_HEADER}: {'t' * 16}.{'s' * 32}", "Accept-Language: " + "zh;q=x," * 100, "Upgrade: websocket",
            "Cookie: " + "c" * 4000, "\x00: \x01", "A" * 100, "Accept-Encoding: gzip", "Range: bytes=0-",
        ),
        dice.randrange(8),
    )  # fmt: skip
    head = "\r\n".join([f"{method} {dice.choice(PATHS)} HTTP/{dice.choice(('1.1', '1.0', '2.0', ''))}", *fields])
    raw = head.encode("latin-1") + b"\r\n\r\n" + dice.choice((b"", b"5\r\nhello\r\n", dice.randbytes(3000)))
    if dice.random() < 0.3:
        raw = fuzzer.mutated(raw)
    async with fuzzer.connection(fuzzer.http) as connection:
        await connection.say(raw * dice.choice((1, 1, 1, 20)))
        await connection.listen()


async def websocket(fuzzer: Fuzzer) -> None:
    """A good handshake, then frames that are none."""
    dice = fuzzer.dice
    path = dice.choice(("/ndt/v7/download", "/ndt/v7/upload"))
    head = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Protocol: net.measurementlab.ndt.v7\r\n\r\n"
    )
    async with fuzzer.connection(fuzzer.http) as connection:
        await connection.say(head.encode())
        frame = bytes([dice.randrange(256), dice.randrange(256)]) + dice.randbytes(dice.choice((0, 14, 5000)))
        await connection.say(frame * dice.choice((1, 50)))
        if dice.random() < 0.7:
            await connection.listen()


async def segments(fuzzer: Fuzzer) -> None:
    """A video test whose segments are asked for, read or not, with and without its end."""
    dice = fuzzer.dice
    async with fuzzer.connection(fuzzer.tcp) as control, fuzzer.connection(fuzzer.http) as connection:
        _, admitted = await control.admitted()
        size = dice.choice((1, 1000, 5_000_000))
        header = f"{TEST_HEADER}: {admitted.test}.{admitted.secret}"
        raw = f"GET /segment?bytes={size} HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n".encode()
        await connection.say(raw * dice.choice((1, 4)))
        if dice.random() < 0.3:
            control.socket.close()
        await connection.listen()


ATTACKS: Final[tuple[Attack, ...]] = (
    connect_and_leave,
    say_nothing,
    random_bytes,
    mutated_hello,
    mutated_join,
    half_a_test,
    half_a_test,
    datagrams,
    request,
    request,
    websocket,
    segments,
)
