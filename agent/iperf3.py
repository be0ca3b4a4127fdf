"""Throughput against an iperf3 server: the system's own `iperf3` as a child process, once in each direction."""

import asyncio
from typing import Final, Literal, Protocol

import msgspec
from msgspec import Struct

from agent import command, counters, sockets
from agent.probe import Context, Failure
from agent.resolver import resolve
from contract.values import Throughput
from contract.vocabulary import Reason

PORT: Final = 5201
OMIT_S: Final = 1
"""Of the start, not counted."""
CONNECT_S: Final = 5
IDLE_S: Final = 5
END_S: Final = 3
"""For the exchange of results."""
RETRY_S: Final = 1.0
"""Before the second try at a server that is busy: it may still be so with our own last test."""

Way = Literal["down", "up"]

_SAYINGS: Final[dict[str, Reason]] = {
    "server is busy": "no_slot",
    "closed unexpectedly": "reset",
    "server has terminated": "reset",
    "unable to receive results": "reset",
    "idle timeout": "timeout",
    "bind-to-device": "no_permission",
}
"""Of iperf3's own errors; the others end in the system's words for an errno."""


class Wanted(Protocol):
    """What is read of a throughput job's settings."""

    @property
    def mode(self) -> Literal["quick", "working", "audit"]: ...
    @property
    def streams(self) -> int: ...
    @property
    def duration_s(self) -> float: ...
    @property
    def congestion_control(self) -> str:
        """`default` leaves it to the hosts."""
        ...


class Half(Struct):
    """What one direction brought; None is not known."""

    failure: Failure | None = None
    """Why there is no rate."""
    mbps: float | None = None
    """Goodput, as the receiver counted it."""
    bytes: int | None = None
    """Of payload, as the receiver counted it; of a download also when it was cut short."""
    connections: int | None = None
    cpu_ratio: float | None = None
    congestion_control: str | None = None
    """The sender's."""


async def measure(settings: Wanted, context: Context) -> Throughput:
    """Down, then up; `context.values` keeps the first when the second fails.

    :raises Failure: `tool_missing`, `no_slot`, or what the network did.
    """
    assert context.target is not None
    assert context.target.name is not None
    command.find("iperf3")
    values = context.values = Throughput(mode=settings.mode)
    address = (await resolve(context.target.name, context.interface))[0]
    words = _words(settings, address, context.target.port or PORT, context.interface)
    timeout_s = CONNECT_S + OMIT_S + settings.duration_s + END_S
    down = await _half("down", words, timeout_s, context)
    values.down_mbps, values.down_bytes, values.connections = down.mbps, down.bytes, down.connections
    values.cpu_ratio, values.congestion_control = down.cpu_ratio, down.congestion_control
    if down.failure is not None:
        raise down.failure
    up = await _half("up", words, timeout_s, context)
    values.up_mbps, values.up_bytes = up.mbps, up.bytes
    if up.failure is not None:
        raise up.failure
    values.cpu_ratio = max((half.cpu_ratio for half in (down, up) if half.cpu_ratio is not None), default=None)
    if up.congestion_control != down.congestion_control:
        values.congestion_control = f"{down.congestion_control}/{up.congestion_control}"
    return values


def _words(settings: Wanted, address: str, port: int, interface: str) -> list[str]:
    """Its arguments but for the direction, the congestion control last.

    :raises Failure: when `interface` does not lead to `address`.
    """
    route = sockets.way(address, port, interface)
    words = ["-c", address, "-p", str(port), "-J", "-P", str(settings.streams), "-t", str(round(settings.duration_s))]
    words += ["-O", str(OMIT_S), "--connect-timeout", str(CONNECT_S * 1000)]
    words += ["--bind-dev", interface] if route.bound else ["-B", route.source]
    if settings.congestion_control != "default":
        words += ["-C", settings.congestion_control]
    return words


async def _half(way: Way, words: list[str], timeout_s: float, context: Context) -> Half:
    """One direction; a second try where a server is busy, or a host refuses the congestion control."""
    half = await _try(way, words, timeout_s, context)
    match half.failure:
        case Failure(reason="no_slot"):
            await context.clock.sleep(RETRY_S)
        case Failure(detail=str(detail)) if "TCP_CONGESTION" in detail and "-C" in words:
            words = words[: words.index("-C")]
        case _:
            return half
    return await _try(way, words, timeout_s, context)


async def _try(way: Way, words: list[str], timeout_s: float, context: Context) -> Half:
    if way == "down":
        words = ["-R", "--rcv-timeout", str(IDLE_S * 1000), *words]
    watching = asyncio.create_task(counters.watch(way, context), name="live rate")
    try:
        return parse(await command.run("iperf3", *words, timeout_s=timeout_s), way)
    except command.Killed as killed:
        # Nothing of ours takes so long: the path or the server says nothing any more.
        return Half(Failure("timeout", f"{way}: {killed.detail}"))
    finally:
        watching.cancel()


class _Sum(Struct):
    bytes: int
    bits_per_second: float = 0.0
    omitted: bool = False


class _Interval(Struct):
    sum: _Sum


class _Cpu(Struct):
    host_total: float


class _End(Struct):
    streams: list[msgspec.Raw] = []
    sum_received: _Sum | None = None
    cpu_utilization_percent: _Cpu | None = None
    sender_tcp_congestion: str | None = None


class _Output(Struct):
    """What is read of `iperf3 -J`."""

    intervals: list[_Interval] = []
    end: _End = msgspec.field(default_factory=_End)
    error: str | None = None


def parse(done: command.Done, way: Way) -> Half:
    """One run's output. iperf3 may put warnings before the JSON, and exits with 0 after an error, too: what tells is
    the JSON's `error`."""
    try:
        said = msgspec.json.decode(done.output[max(0, done.output.find("{")) :], type=_Output)
    except msgspec.MsgspecError as error:
        return Half(Failure("internal", f"iperf3 ended with {done.code}: {done.error or error}"))
    if said.error is not None:
        half = Half(Failure(_reason(said.error), f"{way}: {said.error}"))
        counted = [interval.sum.bytes for interval in said.intervals if not interval.sum.omitted]
        if way == "down" and counted:
            half.bytes = sum(counted)
        return half
    received, cpu = said.end.sum_received, said.end.cpu_utilization_percent
    if received is None:
        return Half(Failure("internal", f"{way}: iperf3 reports no receiver's sum"))
    return Half(
        mbps=received.bits_per_second / 1e6,
        bytes=received.bytes,
        connections=len(said.end.streams),
        cpu_ratio=min(1.0, cpu.host_total / 100) if cpu else None,
        congestion_control=said.end.sender_tcp_congestion,
    )


def _reason(error: str) -> Reason:
    for saying, reason in _SAYINGS.items():
        if saying in error:
            return reason
    return sockets.reason_in(error)
