"""Delay, delay variation and loss of a short packet train (RFC 2681, RFC 2680, RFC 5481, RFC 3393)."""

from typing import Annotated, Final, TypedDict

import msgspec
from msgspec import Meta

from agent import icmp, stamp, tcp
from agent.probe import Context, Failure, Probe, Settings, Target
from agent.resolver import resolve
from agent.train import Method, Train
from contract.stamp import PACKET_BYTES
from contract.throughput import PORT
from contract.values import Latency, Values

DEFAULT_PORT: Final = 443
"""For TCP where the target names no port: a closed one answers as well."""
METERED_PACKETS: Final = 20
PATIENCE_S: Final = 1.0
"""A reflector that answers nothing for so long is asked by ICMP instead."""

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
        patience_s = 0.0 if self.method else PATIENCE_S
        return patience_s + (self.warm_ups + self.packets) * self.interval_ms / 1000 + self.late_s


async def measure(settings: LatencySettings, context: Context) -> Latency:
    """One train. With nothing received `all_lost` or, when somebody said so, `refused` or `unreachable`."""
    target = context.target
    assert target is not None
    assert target.name is not None
    if context.uplink.metered:
        settings = msgspec.structs.replace(settings, packets=min(settings.packets, METERED_PACKETS))
    address = (await resolve(target.name, context.interface))[0]
    methods = _methods(settings, target)
    silence: tuple[_Silent, Values | None] | None = None
    for method in methods:
        if method != methods[0] and "method_fallback" not in context.flags:
            context.flags.append("method_fallback")
        try:
            return await _run(method, address, settings, context)
        except icmp.NotPermitted:
            continue
        except _Silent as failure:
            silence = silence or (failure, context.values)
            if method != "stamp":
                break
    if silence is None:
        raise Failure("no_permission", "this host permits no ICMP socket: set net.ipv4.ping_group_range")
    first, values = silence
    if values is not context.values:
        # Nothing else was answered either: what there is to say is what the reflector did.
        context.values = values
        context.flags.remove("method_fallback")
    raise first


class _Silent(Failure):
    """Not one packet was answered, not even a warm-up."""


def _methods(settings: LatencySettings, target: Target) -> tuple[Method, ...]:
    """What to try, in order."""
    if settings.method is not None:
        return (settings.method,)
    return ("stamp", *ORDER) if target.role == "core" else ORDER


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
            patience_s = None if settings.method else PATIENCE_S
            await stamp.reflect(
                address, port or PORT, train, context, packet_bytes=size or 0, patience_s=patience_s, **rhythm
            )
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
        kind = Failure if train.heard else _Silent
        if train.refused and method == "stamp":
            raise kind("refused", f"{address}: nobody listens at UDP port {port or PORT}")
        if train.unreachable:
            raise kind("unreachable", f"{address}: no way, {train.unreachable} times")
        raise kind("all_lost", f"{address}: none of {train.sent} came back")
    return values


PROBE: Final = Probe(settings=LatencySettings, measure=measure, timeout_s=10.0, needs=frozenset({"host", "interface"}))
