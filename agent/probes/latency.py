"""Delay, delay variation and loss of a short packet train (RFC 2681, RFC 2680, RFC 5481, RFC 3393)."""

from typing import Annotated, Final, Literal

from msgspec import Meta

from agent import icmp, tcp
from agent.probe import Context, Failure, Probe, Settings
from agent.resolver import resolve
from agent.train import Train
from contract.values import Latency

DEFAULT_PORT: Final = 443
"""For TCP where the target names no port: a closed one answers as well."""

Method = Literal["icmp", "tcp"]

ORDER: Final[tuple[Method, ...]] = ("icmp", "tcp")
"""The first that this host permits is used; a later one is flagged `method_fallback`."""


class LatencySettings(Settings, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Settings of a latency job."""

    method: Method | None = None
    """Only this one; None takes the first that works."""
    packets: Annotated[int, Meta(ge=1, le=500)] = 20
    interval_ms: Annotated[float, Meta(ge=20, le=1000)] = 100.0
    payload_bytes: Annotated[int, Meta(ge=16, le=1400)] = 44
    """Behind the ICMP header; TCP has none."""
    warm_ups: Annotated[int, Meta(ge=0, le=10)] = 2
    """Sent first and not counted: they wake radios and fill neighbour tables."""
    late_s: Annotated[float, Meta(ge=0.1, le=5)] = 2.0
    """How long to wait for late replies."""

    def least_s(self) -> float:
        return (self.warm_ups + self.packets) * self.interval_ms / 1000 + self.late_s


async def measure(settings: LatencySettings, context: Context) -> Latency:
    """One train. With nothing received `all_lost` or, when routers said so, `unreachable`."""
    target = context.target
    assert target is not None
    assert target.name is not None
    address = (await resolve(target.name, context.interface))[0]
    for method in (settings.method,) if settings.method else ORDER:
        try:
            values = await _run(method, address, target.port or DEFAULT_PORT, settings, context)
        except icmp.NotPermitted:
            if settings.method is None and "method_fallback" not in context.flags:
                context.flags.append("method_fallback")
            continue
        return values
    raise Failure("no_permission", "this host permits no ICMP socket: set net.ipv4.ping_group_range")


async def _run(method: Method, address: str, port: int, settings: LatencySettings, context: Context) -> Latency:
    train = Train(settings.warm_ups)
    packet_bytes = settings.payload_bytes if method == "icmp" else None
    interval_s, late_s = settings.interval_ms / 1000, settings.late_s
    timed = True
    try:
        if method == "icmp":
            await icmp.echo(
                address,
                train,
                context,
                packets=settings.packets,
                interval_s=interval_s,
                payload_bytes=settings.payload_bytes,
                late_s=late_s,
            )
        else:
            await tcp.connect_times(
                address, port, train, context, packets=settings.packets, interval_s=interval_s, late_s=late_s
            )
    except Failure as failure:
        timed = failure.reason != "clock_step"
        raise
    finally:
        # Also when the runner ends it: what was counted until then is kept.
        values = train.values(method, packet_bytes=packet_bytes, interval_ms=settings.interval_ms, timed=timed)
        context.values = values
    if train.received == 0:
        if train.unreachable:
            raise Failure("unreachable", f"{address}: no way, {train.unreachable} times")
        raise Failure("all_lost", f"{address}: none of {train.sent} came back")
    return values


PROBE: Final = Probe(settings=LatencySettings, measure=measure, timeout_s=10.0, needs=frozenset({"host", "interface"}))
