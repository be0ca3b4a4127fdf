"""The control connection against reflectors that admit, refuse, retry, stall, break off and talk nonsense."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from agent import control
from agent.clock import SystemClock
from agent.facts import Facts
from agent.probe import Context, Failure, Target
from contract.throughput import Admitted, Greeting, Hello, Refused, Report, Start, decode, encode, is_signed

NONCE = "n" * 24
KEY = b"the agent's key"
HELLO = Hello(agent="lib-01", direction="down", duration_s=3.0, streams=4, byte_cap=50_000_000)
ADMITTED = Admitted(test="t" * 16, secret="s" * 32, duration_s=3.0, byte_cap=1_000, congestion_control="cubic")

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def context(port: int, key_file: str | None = None) -> Context:
    return Context(
        agent="lib-01",
        interface="lo",
        clock=SystemClock(),
        facts=Facts(),
        timeout_s=10.0,
        target=Target(role="core", host="127.0.0.1", port=port, key_file=key_file),
    )


@asynccontextmanager
async def server(talk: Talk) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await talk(reader, writer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


def answering(answers: Sequence[bytes], hellos: list[Hello]) -> Talk:
    """One connection each: greet, note the hello, answer, and stay until the client leaves."""
    left = list(answers)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode(Greeting(nonce=NONCE, http_port=8863)))
        hellos.append(decode(await reader.readline(), Hello))
        writer.write(left.pop(0))
        await reader.read()

    return talk


async def fails(port: int, *, wait_s: float = 5.0, key_file: str | None = None) -> tuple[str, str]:
    with pytest.raises(Failure) as caught:
        async with control.admission(HELLO, context(port, key_file), "127.0.0.1", wait_s=wait_s):
            pass
    return caught.value.reason, caught.value.detail or ""


async def test_a_reflector_with_too_many_connections_has_no_slot() -> None:
    async def full(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode(Refused(error="no_slot", detail="too many connections", retry_after_s=30)))

    async with server(full) as port:
        assert await fails(port) == ("no_slot", "the reflector said no_slot: too many connections")


async def test_admitted_with_a_token_of_the_nonce(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_bytes(KEY + b"\na comment\n")
    hellos: list[Hello] = []
    async with (
        server(answering([encode(ADMITTED)], hellos)) as port,
        control.admission(HELLO, context(port, str(key_file)), "127.0.0.1", wait_s=0) as admitted,
    ):
        assert admitted.admitted == ADMITTED
        assert admitted.greeting.http_port == 8863
        assert admitted.address == "127.0.0.1"
    assert is_signed(KEY, NONCE, hellos[0])
    assert hellos[0].streams == 4


async def test_whoever_answers_may_give_less_than_was_asked_for_and_never_more() -> None:
    greedy = msgspec.structs.replace(ADMITTED, byte_cap=2**62, duration_s=1e6)
    async with (
        server(answering([encode(greedy)], [])) as port,
        control.admission(HELLO, context(port), "127.0.0.1", wait_s=0) as admitted,
    ):
        assert admitted.admitted.byte_cap == HELLO.byte_cap
        assert admitted.admitted.duration_s == HELLO.duration_s


async def test_a_laboratory_is_asked_without_a_token() -> None:
    hellos: list[Hello] = []
    async with (
        server(answering([encode(ADMITTED)], hellos)) as port,
        control.admission(HELLO, context(port), "127.0.0.1", wait_s=0),
    ):
        pass
    assert hellos[0].token is None


async def test_the_slot_is_freed_at_once_and_also_when_the_test_fails() -> None:
    left: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode(Greeting(nonce=NONCE)))
        await reader.readline()
        writer.write(encode(ADMITTED))
        with contextlib.suppress(ConnectionError):
            left.append(await reader.read())
            return
        left.append(b"reset")

    async with server(talk) as port:
        with pytest.raises(ZeroDivisionError):
            async with control.admission(HELLO, context(port), "127.0.0.1", wait_s=0):
                raise ZeroDivisionError
        for _ in range(100):
            if left:
                break
            await asyncio.sleep(0.01)
    assert left == [b"reset"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("no_slot", "no_slot"),
        ("bad_token", "no_permission"),
        ("bad_request", "internal"),
        ("over_budget", "budget"),
        ("draining", "target_down"),
    ],
)
async def test_a_refusal_is_a_reason_of_ours(error: str, reason: str) -> None:
    refused = encode(Refused(error=error, detail="because", retry_after_s=60))  # type: ignore[arg-type]
    hellos: list[Hello] = []
    async with server(answering([refused], hellos)) as port:
        assert await fails(port) == (reason, f"the reflector said {error}: because")
    assert len(hellos) == 1


async def test_no_slot_is_tried_once_more_when_there_is_time() -> None:
    full = encode(Refused(error="no_slot", retry_after_s=0.05))
    hellos: list[Hello] = []
    async with (
        server(answering([full, encode(ADMITTED)], hellos)) as port,
        control.admission(HELLO, context(port), "127.0.0.1", wait_s=1),
    ):
        pass
    assert len(hellos) == 2
    async with server(answering([full, full, full], hellos)) as port:
        assert await fails(port) == ("no_slot", "the reflector said no_slot")
    assert len(hellos) == 4


def saying(*lines: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for line in lines:
            writer.write(line)
            await writer.drain()

    return talk


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        (saying(), "reset"),
        (saying(b'{"v":1,"non'), "reset"),
        (saying(b"SSH-2.0-OpenSSH_9.2\r\n"), "internal"),
        (saying(b"\xff\xfe\n"), "internal"),
        (saying(b'{"v":1,"nonce":"short"}\n'), "internal"),
        (saying(b"x" * 1_000_000), "internal"),
        (saying(b"x" * 5_000 + b"\n"), "internal"),
        (saying(b"[" * 4_000 + b"\n"), "internal"),
        (saying(encode(Greeting(nonce=NONCE)), b'{"ok":false}\n'), "internal"),
        (saying(encode(Greeting(nonce=NONCE)), b'{"ok":true,"test":"../x","secret":"y"}\n'), "internal"),
        (saying(encode(Greeting(nonce=NONCE)), b'{"error":"go away"}\n'), "internal"),
    ],
)
async def test_what_is_no_reflector_is_said(talk: Talk, reason: str) -> None:
    async with server(talk) as port:
        found, detail = await fails(port)
    assert found == reason, detail
    if reason == "internal":
        assert "is this a reflector?" in detail


async def test_silence_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LINE_S", 0.1)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode(Greeting(nonce=NONCE)))
        await reader.read()

    async with server(silent) as port:
        assert await fails(port) == ("timeout", "the reflector's greeting")
    async with server(greets) as port:
        assert await fails(port) == ("timeout", "the reflector's answer")


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    reason, detail = await fails(port)
    assert reason == "refused"
    assert f"connecting to 127.0.0.1 port {port}" in detail


async def test_a_key_that_cannot_be_read(tmp_path: Path) -> None:
    reason, detail = await fails(9, key_file=str(tmp_path / "none"))
    assert reason == "no_permission"
    assert "none: No such file or directory" in detail


async def test_start_and_report() -> None:
    started: list[Start] = []
    report = Report(received_bytes=5, bins=[1] * 200)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode(Greeting(nonce=NONCE)))
        await reader.readline()
        writer.write(encode(ADMITTED))
        started.append(decode(await reader.readline(), Start))
        writer.write(encode(report))
        await reader.readline()

    async with server(talk) as port, control.admission(HELLO, context(port), "127.0.0.1", wait_s=0) as admitted:
        admitted.start()
        assert await admitted.report(5) == report
        with pytest.raises(Failure) as caught:
            await admitted.report(0.05)
    assert started == [Start(start=True)]
    assert caught.value.reason == "timeout"


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_cancelled_anywhere_leaves_nothing_behind() -> None:
    async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode(Greeting(nonce=NONCE)))
        await reader.read()

    async def enter(port: int) -> None:
        async with control.admission(HELLO, context(port), "127.0.0.1", wait_s=0):
            pass

    async with server(greets) as port:
        before = descriptors()
        for delay_s in (0, 0.0005, 0.001, 0.002, 0.02):
            for _ in range(10):
                task = asyncio.create_task(enter(port))
                await asyncio.sleep(delay_s)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
        for _ in range(100):
            if descriptors() <= before:
                break
            await asyncio.sleep(0.01)
        assert descriptors() <= before
