"""The routers on the way to a target, and the longest packet that gets through: traceroute and path MTU discovery
(RFC 1191, RFC 8201) by UDP, without privileges."""

import asyncio
import contextlib
import random
from collections.abc import Iterable, Iterator
from typing import Annotated, Final

from msgspec import Meta

from agent import stamps
from agent.flow import Answer, Flow
from agent.probe import Context, Failure, Probe, Settings
from agent.resolver import resolve
from contract.throughput import PORT
from contract.values import Hop, Path

PARALLEL: Final = 3
HOP_S: Final = 1.0
TRIES: Final = 3
"""Of a packet of one size, before its silence means something."""
ROUND_TRIPS: Final = 4
"""How long an answer is waited for where the round-trip time is known."""
LEAST_S: Final = 0.2
SEARCH_S: Final = 20.0
"""For the longest packet that a black hole lets through."""
_PORTS: Final = range(33434, 33534)
"""Where nobody listens: traceroute's own."""


class PathSettings(Settings, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Settings of a path job."""

    max_hops: Annotated[int, Meta(ge=1, le=64)] = 30


async def measure(settings: PathSettings, context: Context) -> Path:
    """The hops, then the path MTU.

    :raises Failure: `unreachable` when a router or our own kernel says so; `all_lost` when nobody said anything.
    """
    target = context.target
    assert target is not None
    assert target.name is not None
    address = (await resolve(target.name, context.interface))[0]
    port = (target.port or PORT) if target.role == "core" else random.choice(_PORTS)  # noqa: S311 - a new flow each run
    values = context.values = Path(hops=[])
    async with Flow(address, port, context.interface) as flow:
        trace = _Trace(flow, settings.max_hops, context, values)
        await trace.run()
        await _find_mtu(flow, trace.wait_s, context, values)
        if values.pmtu_bytes is None and not values.hops:
            if flow.unreachable:
                raise Failure("unreachable", f"{address}: no way")
            raise Failure("all_lost", f"{address}: nobody on the way answered")
    return values


class _Trace:
    """One packet to each hop."""

    def __init__(self, flow: Flow, most: int, context: Context, values: Path) -> None:
        self._flow = flow
        self._context = context
        self._values = values
        self._most = most
        self._answers: dict[int, Answer] = {}
        self._end: int | None = None
        """The first TTL with which a packet arrived, or with which a router knew no way."""

    async def run(self) -> None:
        """:raises Failure: `unreachable`; `clock_step` when wall time moved, then no hop has a time."""
        try:
            with stamps.steady(self._context.clock):
                # Wakes the radio and fills the neighbour table; not counted.
                await self._flow.ask(ttl=1, wait_s=LEAST_S)
                await self._walk_all(range(1, self._most + 1), PARALLEL)
                if self._flow.anonymous:
                    # One by one it is clear whose an answer is.
                    await self._walk_all([ttl for ttl in range(1, self._most + 1) if ttl not in self._answers], 1)
        except Failure:
            self._values.hops = [Hop(address=hop.address) for hop in self._values.hops or []]
            raise
        end = self._answers.get(self._end or 0)
        if end is not None and end.kind == "unreachable":
            raise Failure("unreachable", f"{end.address or 'our own kernel'} says that there is no way")

    @property
    def wait_s(self) -> float:
        """What a further packet is worth waiting for."""
        if not self._answers:
            return HOP_S
        return min(HOP_S, max(LEAST_S, ROUND_TRIPS * max(one.rtt_ms for one in self._answers.values()) / 1000))

    async def _walk_all(self, ttls: Iterable[int], at_once: int) -> None:
        left = iter(ttls)
        async with asyncio.TaskGroup() as group:
            for place in range(at_once):
                group.create_task(self._walk(left), name=f"traceroute {place}")

    async def _walk(self, ttls: Iterator[int]) -> None:
        for ttl in ttls:
            if self._end is not None and ttl > self._end:
                return
            answer = await self._flow.ask(ttl=ttl, wait_s=HOP_S)
            if answer is None:
                continue
            self._answers[ttl] = answer
            if answer.kind != "hop":
                self._end = min(ttl, self._end or ttl)
            self._context.progress(f"hop {ttl}: {answer.address or '-'}, {answer.rtt_ms:.1f} ms")
            self._note()

    def _note(self) -> None:
        """Keep what is known by now. A silent hop tells nothing; behind the last answer there may be more."""
        end = self._end or max(self._answers)
        known = {ttl: one for ttl, one in self._answers.items() if ttl <= end and one.kind != "unreachable"}
        self._values.hops = [
            Hop(address=known[ttl].address, rtt_ms=known[ttl].rtt_ms) if ttl in known else Hop()
            for ttl in range(1, max(known, default=0) + 1)
        ]
        self._values.hop_count = self._end if self._end in known else None


async def _find_mtu(flow: Flow, wait_s: float, context: Context, values: Path) -> None:
    """Ask with packets as long as our own link allows, then as long as routers say that the next one does.

    Where a long packet is swallowed, a reflector tells how long it may be. Without one nothing is known but what
    routers said: a packet that was swallowed looks like a host that does not answer.
    """
    size = flow.most_bytes
    while (answer := await _insist(flow, size, wait_s, context)) is not None:
        if answer.kind in ("target", "echo"):
            values.pmtu_bytes, values.pmtu_blackhole = size, False
        if answer.mtu is None or answer.mtu >= size:
            return
        size = values.pmtu_bytes = answer.mtu
    small = await _insist(flow, flow.least_bytes, wait_s, context)
    if small is None or small.kind != "echo":
        return
    values.pmtu_bytes, values.pmtu_blackhole = None, True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SEARCH_S):
            values.pmtu_bytes = await _search(flow, flow.least_bytes, size, wait_s, context)


async def _search(flow: Flow, passes: int, swallowed: int, wait_s: float, context: Context) -> int:
    """The longest packet that is answered, between one that is and one that is not."""
    while swallowed - passes > 1:
        size = (passes + swallowed) // 2
        answer = await _insist(flow, size, wait_s, context)
        if answer is not None and answer.kind == "echo":
            passes = size
        else:
            swallowed = size
    return passes


async def _insist(flow: Flow, packet_bytes: int, wait_s: float, context: Context) -> Answer | None:
    """The answer to a packet of this size; None when none of a few got one."""
    context.progress(f"a packet of {packet_bytes} bytes")
    for _ in range(TRIES):
        answer = await flow.ask(packet_bytes=packet_bytes, wait_s=wait_s)
        if answer is not None:
            return answer
    return None


PROBE: Final = Probe(settings=PathSettings, measure=measure, timeout_s=60.0, needs=frozenset({"host", "interface"}))
