"""The reflector over real sockets: its answers, and its bounds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from reflector.server import MAX_HEADER_BYTES, Limits, Reflector


@contextlib.asynccontextmanager
async def serving(limits: Limits | None = None) -> AsyncIterator[Reflector]:
    reflector = Reflector("127.0.0.1", 0, limits)
    reflector.open()
    task = asyncio.create_task(reflector.run(), name="reflector")
    try:
        yield reflector
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def ask(reflector: Reflector, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", reflector.port)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


async def settle(reflector: Reflector, connections: int) -> None:
    for _ in range(500):
        if reflector.open_connections == connections:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{reflector.open_connections} connections open, not {connections}")


async def test_204_has_no_body() -> None:
    async with serving() as reflector:
        answer = await ask(reflector, b"GET /generate_204?x=1 HTTP/1.1\r\nHost: r\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert answer.endswith(b"\r\n\r\n")
    assert b"Content-Length" not in answer


async def test_page_has_the_length_that_it_says() -> None:
    async with serving() as reflector:
        head, _, body = (await ask(reflector, b"GET / HTTP/1.1\r\nHost: r\r\n\r\n")).partition(b"\r\n\r\n")
        only_head = await ask(reflector, b"HEAD / HTTP/1.1\r\nHost: r\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert f"Content-Length: {len(body)}".encode() in head
    assert only_head == head + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\n\r\n", b"404"),
        (b"POST / HTTP/1.1\r\n\r\n", b"405"),
        (b"\x00\xff\r\n\r\n", b"400"),
        (b"GET / SMTP\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * (2 * MAX_HEADER_BYTES) + b"\r\n\r\n", b"431"),
    ],
)
async def test_what_it_does_not_serve_is_answered_by_name(request_head: bytes, status: bytes) -> None:
    async with serving() as reflector:
        # What is left unread of an over-long head resets the connection; the answer comes first on loopback.
        assert (await ask(reflector, request_head)).split(b" ")[1] == status


async def test_a_connection_without_a_word_is_served_too() -> None:
    async with serving() as reflector:
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", reflector.port)
            writer.close()
        await settle(reflector, 0)
        assert b"204" in await ask(reflector, b"GET /generate_204 HTTP/1.1\r\n\r\n")
        assert reflector.refused_connections == 0


async def test_a_slow_connection_is_closed_at_its_deadline() -> None:
    async with serving(Limits(seconds=0.2)) as reflector:
        reader, writer = await asyncio.open_connection("127.0.0.1", reflector.port)
        writer.write(b"GET / HT")
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        await settle(reflector, 0)


async def test_connections_are_bounded_and_free_again() -> None:
    async with serving(Limits(connections=2)) as reflector:
        held = [await asyncio.open_connection("127.0.0.1", reflector.port) for _ in range(2)]
        await settle(reflector, 2)
        with contextlib.suppress(ConnectionResetError):
            assert await ask(reflector, b"GET / HTTP/1.1\r\n\r\n") == b""
        assert reflector.refused_connections == 1
        for _, writer in held:
            writer.close()
        await settle(reflector, 0)
        assert b"200 OK" in await ask(reflector, b"GET / HTTP/1.1\r\n\r\n")


async def test_stopping_closes_what_is_open() -> None:
    async with serving() as reflector:
        reader, writer = await asyncio.open_connection("127.0.0.1", reflector.port)
        await settle(reflector, 1)
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()
    assert reflector.open_connections == 0
