"""Delay, delay variation and loss of a short packet train (RFC 2681, RFC 2680, RFC 5481, RFC 3393)."""

from typing import Annotated, Final, Literal, TypedDict

import msgspec
from msgspec import Meta

from agent import icmp, stamp, tcp
from agent.probe import Context, Failure, Probe, Settings
from agent.resolver import resolve
from agent.train import Train
from contract.stamp import PACKET_BYTES
from contract.throughput import PORT
from contract.values import Latency

DEFAULT_PORT: Final = 443
"""For TCP where the target names no port: a closed one answers as well."""
METERED_PACKETS: Final = 20
HAND_SHAKE_S: Final = 1.0
"""A reflector that answers nothing for so long is asked by ICMP instead."""

Method = Literal["stamp", "icmp", "tcp"]

ORDER: Final[tuple[Method, ...]] = ("icmp", "tcp")
"""The first that this host permits is used, behind STAMP where the target is a reflector (role `core`); a later one is
flagged `method_fallback`."""


class Rhythm(TypedDict):
    """How a train is sent."""

    packets: int
    interval_s: float
    late_s: float


class LatencySettings(Settings, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Settings of a latency job."""

    method: Method | None = None
    """Only this one; None takes the first that works."""
    packets: Annotated[int, Meta(ge=1, le=500)] = 20
    interval_ms: Annotated[float, Meta(ge=20, le=1000)] = 100.0
    payload_bytes: Annotated[int, Meta(ge=16, le=1400)] = 44
    """Behind the ICMP header; of a STAMP packet (at least 44); TCP has none."""
    warm_ups: Annotated[int, Meta(ge=0, le=10)] = 2
    """Sent first and not counted: they wake radios and fill neighbour tables."""
    late_s: Annotated[float, Meta(ge=0.1, le=5)] = 2.0
    """How long to wait for late replies."""

    def least_s(self) -> float:
        return (self.warm_ups + self.packets) * self.interval_ms / 1000 + self.late_s


async def measure(settings: LatencySettings, context: Context) -> Latency:
    """One train. With nothing received `all_lost` or, when somebody said so, `refused` or `unreachable`."""
    target = context.target
    assert target is not None
    assert target.name is not None
    if context.uplink.metered:
        settings = msgspec.structs.replace(settings, packets=min(settings.packets, METERED_PACKETS))
    address = (await resolve(target.name, context.interface))[0]
    for method in await _methods(settings, address, context):
        try:
            return await _run(method, address, settings, context)
        except icmp.NotPermitted:
            if settings.method is None:
                _flag_fallback(context)
    raise Failure("no_permission", "this host permits no ICMP socket: set net.ipv4.ping_group_range")


async def _methods(settings: LatencySettings, address: str, context: Context) -> tuple[Method, ...]:
    """What to try, in order."""
    assert context.target is not None
    if settings.method is not None:
        return (settings.method,)
    if context.target.role != "core":
        return ORDER
    if await stamp.answers(address, context.target.port or PORT, context, within_s=HAND_SHAKE_S):
        return ("stamp",)
    _flag_fallback(context)
    return ORDER


def _flag_fallback(context: Context) -> None:
    if "method_fallback" not in context.flags:
        context.flags.append("method_fallback")


async def _run(method: Method, address: str, settings: LatencySettings, context: Context) -> Latency:
    assert context.target is not None
    port = context.target.port
    train = Train(settings.warm_ups)
    size = None if method == "tcp" else max(settings.payload_bytes, PACKET_BYTES if method == "stamp" else 0)
    rhythm: Rhythm = {
        "packets": settings.packets, "interval_s": settings.interval_ms / 1000, "late_s": settings.late_s
    }  # fmt: skip
    timed = True
    try:
        if method == "stamp":
            async with stamp.Stamp(address, port or PORT, context.interface, packet_bytes=size or 0) as session:
                await session.run(train, context, **rhythm)
        elif method == "icmp":
            await icmp.echo(address, train, context, payload_bytes=settings.payload_bytes, **rhythm)
        else:
            await tcp.connect_times(address, port or DEFAULT_PORT, train, context, **rhythm)
    except Failure as failure:
        timed = failure.reason != "clock_step"
        raise
    finally:
        # Also when the runner ends it: what was counted until then is kept.
        values = train.values(method, packet_bytes=size, interval_ms=settings.interval_ms, timed=timed)
        context.values = values
    if train.received == 0:
        if train.refused:
            raise Failure("refused", f"{address}: nobody listens at port {port or PORT}")
        if train.unreachable:
            raise Failure("unreachable", f"{address}: no way, {train.unreachable} times")
        raise Failure("all_lost", f"{address}: none of {train.sent} came back")
    return values


PROBE: Final = Probe(settings=LatencySettings, measure=measure, timeout_s=10.0, needs=frozenset({"host", "interface"}))
