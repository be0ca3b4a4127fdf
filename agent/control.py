"""The control connection to a reflector: from its greeting to an admitted test, and the report. Protocol:
:mod:`contract.throughput`."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import msgspec

from agent import sockets, tcp
from agent.probe import Context, Failure
from agent.resolver import resolve
from contract import throughput
from contract.throughput import (
    LINE_S,
    MAX_LINE_BYTES,
    MAX_REPORT_BYTES,
    PORT,
    Admitted,
    Greeting,
    Hello,
    ProtocolError,
    Refusal,
    Refused,
    Report,
    Start,
)
from contract.vocabulary import Reason

REASONS: Final[dict[Refusal, Reason]] = {
    "no_slot": "no_slot",
    "bad_token": "no_permission",
    "bad_request": "internal",
    "over_budget": "budget",
    "draining": "target_down",
}
"""What a refusal makes of the slot."""
RETRY_S: Final = 1.0
"""Before the second try, where a server without a slot names no time."""


class Control:
    """Open while its test runs: the reflector frees the slot when it closes."""

    def __init__(
        self,
        address: str,
        greeting: Greeting,
        admitted: Admitted,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.address = address
        """Of the reflector, in numbers: everything else of the test goes there, too."""
        self.greeting = greeting
        self.admitted = admitted
        self._reader = reader
        self._writer = writer

    def start(self) -> None:
        """Every data connection has joined: let the payload flow."""
        self._writer.write(throughput.encode(Start(start=True)))

    async def report(self, timeout_s: float) -> Report:
        """What the reflector saw; it comes when the test is over.

        :raises Failure: `timeout` without one; `reset` when the reflector closed instead.
        """
        with _stage("the reflector's report"):
            return throughput.decode(await _line(self._reader, MAX_REPORT_BYTES, timeout_s), Report)


async def address_of(context: Context) -> str:
    """The reflector's address in numbers, asked for once: everything of a slot goes to the same one.

    :raises Failure: as the resolver has it.
    """
    assert context.target is not None
    assert context.target.name is not None
    return (await resolve(context.target.name, context.interface))[0]


@asynccontextmanager
async def admission(hello: Hello, context: Context, address: str, *, wait_s: float) -> AsyncIterator[Control]:
    """An admitted test at `address`; its control connection is closed at the end, at once.

    :param hello: without a token; it is signed here with the target's key, where it has one.
    :param wait_s: longest wait for a free slot; there is one second try.
    :raises Failure: when the reflector cannot be reached, speaks something else, or refuses.
    """
    assert context.target is not None
    key = context.target.key()
    port = context.target.port or PORT
    refused = None
    for tries_left in (1, 0):
        async with _connection(address, port, context.interface) as (reader, writer):
            answer = await _ask(reader, writer, hello, key)
            if not isinstance(answer, Refused):
                yield Control(address, *answer, reader, writer)
                return
        refused = answer
        pause_s = RETRY_S if refused.retry_after_s is None else refused.retry_after_s
        if not tries_left or refused.error != "no_slot" or pause_s > wait_s:
            break
        await context.clock.sleep(pause_s)
    assert refused is not None
    raise refusal(refused)


def refusal(refused: Refused) -> Failure:
    """What a refusal makes of the slot."""
    return Failure(REASONS[refused.error], f"the reflector said {refused.error}: {refused.detail or ''}".rstrip(": "))


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: Hello, key: bytes | None
) -> tuple[Greeting, Admitted] | Refused:
    with _stage("the reflector's greeting"):
        greeting = throughput.decode_greeting(await _line(reader, MAX_LINE_BYTES, LINE_S))
    if isinstance(greeting, Refused):
        return greeting
    if key is not None:
        hello = msgspec.structs.replace(hello, token=throughput.sign(key, greeting.nonce, hello))
    with _stage("the reflector's answer"):
        writer.write(throughput.encode(hello))
        answer = throughput.decode_answer(await _line(reader, MAX_LINE_BYTES, LINE_S))
    if isinstance(answer, Refused):
        return answer
    # Whoever answers is not authenticated: it may give less than was asked for, never more.
    duration_s, byte_cap = min(answer.duration_s, hello.duration_s), min(answer.byte_cap, hello.byte_cap)
    return greeting, msgspec.structs.replace(answer, duration_s=duration_s, byte_cap=byte_cap)


@asynccontextmanager
async def _connection(
    address: str, port: int, interface: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    with _stage(f"connecting to {address} port {port}"):
        sock = await tcp.connect(address, port, interface, LINE_S)
    reader, writer = await asyncio.open_connection(sock=sock, limit=MAX_REPORT_BYTES)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _line(reader: asyncio.StreamReader, at_most: int, timeout_s: float) -> bytes:
    try:
        async with asyncio.timeout(timeout_s):
            line = await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("closed in the middle of a line" if error.partial else "closed") from error
    except asyncio.LimitOverrunError:
        line = b""
    if not 0 < len(line) <= at_most:
        raise ProtocolError(f"a line of more than {at_most} bytes")
    return line


@contextmanager
def _stage(what: str) -> Iterator[None]:
    """What goes wrong inside becomes a Failure."""
    try:
        yield
    except ProtocolError as error:
        raise Failure("internal", f"{what}: is this a reflector? {error}") from error
    except OSError as error:
        raise sockets.failure(error, what) from error
