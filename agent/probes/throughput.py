"""Goodput in both directions and what it does to the delay, against a reflector (:mod:`contract.throughput`).

Down, then up. The download is counted here, the upload by the reflector: what our own kernel took says nothing of what
arrived.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from agent import estimate, iperf3, ookla, tcp, transfer
from agent.control import Control, address_of, admission
from agent.estimate import Rate
from agent.gates import CPU_LIMIT, Gates
from agent.probe import Context, Failure, Probe, Settings
from agent.stamp import Sample, idle_rtts_ms, sample
from agent.train import percentile
from agent.uplink import Uplink
from contract.throughput import (
    CLIENT_GRACE_S,
    DRAIN_S,
    MAX_BYTES,
    MAX_DURATION_S,
    MAX_STREAMS,
    PORT,
    CongestionControl,
    Hello,
    Report,
    Tally,
)
from contract.values import Throughput

Mode = Literal["quick", "working", "audit"]
Way = Literal["down", "up"]

UNKNOWN_BYTES: Final = 50_000_000
"""Cap of a direction whose rate nobody knows yet."""
METERED_BYTES: Final = 10_000_000
WORKING_BYTES: Final = 100_000_000
FAST_WORKING_BYTES: Final = 300_000_000
FAST_MBPS: Final = 200.0
MARGIN: Final = 1.2
"""Over the best rate of 24 h: a line that got a little faster is still measured to the end."""
IDLE_PACKETS: Final = 12
EVERY_S: Final = 0.05
"""Between two round trips, idle and beside the load."""
STABLE_S: Final = 3.0
"""Round trips beside the load count from here on: the queue has filled."""
SLOT_WAIT_S: Final = 5.0
SATURATED_RISE_MS: Final = 5.0
BEST_SHARE: Final = 0.80
LIMITED_RATIO: Final = 0.10
CAPACITY_SHARE: Final = 0.90


class _Mode(Struct, frozen=True):
    streams: int
    seconds: float
    loaded_rtt: bool
    """Whether round trips are measured beside the load."""


MODES: Final[dict[Mode, _Mode]] = {
    "quick": _Mode(4, 3.0, False),
    "working": _Mode(8, 8.0, True),
    "audit": _Mode(4, 10.0, True),
}


class ThroughputSettings(Settings, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Settings of a throughput job; what is None follows from the mode."""

    mode: Mode = "quick"
    connections: Annotated[int, Meta(ge=1, le=MAX_STREAMS)] | None = None
    seconds: Annotated[float, Meta(ge=1, le=MAX_DURATION_S)] | None = None
    """Of each direction; longer where the round trip is long."""
    max_bytes: Annotated[int, Meta(ge=1_000_000, le=MAX_BYTES)] | None = None
    """Of each direction."""
    congestion_control: CongestionControl = "cubic"
    """Asked for on both sides; what was used is stored."""

    @property
    def streams(self) -> int:
        return self.connections or MODES[self.mode].streams

    @property
    def duration_s(self) -> float:
        """Of each direction."""
        return self.seconds or MODES[self.mode].seconds

    def least_s(self) -> float:
        return 2 * self.duration_s

    def most_bytes(self, uplink: Uplink) -> int:
        return sum(self.expected_bytes(way, uplink) for way in ("down", "up"))

    def expected_bytes(self, way: Way, uplink: Uplink) -> int:
        """What a direction moves at the most, as far as its best rate of 24 h is known."""
        best = uplink.best_down_mbps if way == "down" else uplink.best_up_mbps
        cap = self.cap_bytes(way, uplink)
        return cap if best is None else min(cap, self._at(best))

    def cap_bytes(self, way: Way, uplink: Uplink) -> int:
        """Where a direction is cut."""
        best = uplink.best_down_mbps if way == "down" else uplink.best_up_mbps
        if self.max_bytes is not None:
            return self.max_bytes
        if uplink.metered:
            return METERED_BYTES
        if self.mode == "audit":
            return MAX_BYTES
        if self.mode == "working":
            return FAST_WORKING_BYTES if (best or 0.0) > FAST_MBPS else WORKING_BYTES
        return UNKNOWN_BYTES if best is None else min(MAX_BYTES, max(UNKNOWN_BYTES, self._at(best)))

    def _at(self, mbps: float) -> int:
        return round(MARGIN * mbps * 1e6 / 8 * self.duration_s)


class _Run(Struct, kw_only=True):
    """One direction that has been run."""

    rate: Rate
    bytes: int
    capped: bool
    report: Report
    capacity_mbps: float | None
    loaded_ms: list[float]
    """Round trips beside the stable load, ascending."""


async def measure(settings: ThroughputSettings, context: Context) -> Throughput:
    """The provider that the job names."""
    assert context.provider is not None
    return await PROVIDERS[context.provider](settings, context)


async def by_reflector(settings: ThroughputSettings, context: Context) -> Throughput:
    """Two tests of the own protocol, down and up.

    :raises Failure: the refusal of the reflector, a gate's verdict, or what happened to the connections.
    """
    values = context.values = Throughput(mode=settings.mode, connections=settings.streams)
    address = await address_of(context)
    context.progress("idle round trip")
    idle_ms = values.idle_rtt_p50_ms = await _idle_rtt_ms(address, context)
    runs: list[_Run] = []
    moved = 0
    with Gates(context) as gates:
        for way in ("down", "up"):
            run = await _run(way, settings, context, address, idle_ms, values)
            runs.append(run)
            moved += run.bytes
            _keep(values, way, run)
    values.cpu_ratio = gates.cpu_ratio
    if idle_ms is not None and values.loaded_down_rtt_p50_ms is not None and values.loaded_up_rtt_p50_ms is not None:
        values.working_rise_ms = max(0.0, max(values.loaded_down_rtt_p50_ms, values.loaded_up_rtt_p50_ms) - idle_ms)
    _flag(runs, context, idle_ms)
    gates.judge(moved)
    return values


async def by_iperf3(settings: ThroughputSettings, context: Context) -> Throughput:
    """The system's iperf3 against an iperf3 server."""
    return await _by_program(iperf3.measure, settings, context)


async def by_ookla(settings: ThroughputSettings, context: Context) -> Throughput:
    """speedtest-cli against a Mini server, or a public one."""
    return await _by_program(ookla.measure, settings, context)


Provider = Callable[[ThroughputSettings, Context], Awaitable[Throughput]]


async def _by_program(measure: Provider, settings: ThroughputSettings, context: Context) -> Throughput:
    """What another program measures is judged by what the interface's counters and its own CPU time say.

    :raises Failure: also `budget` where traffic costs money: these programs know no cap.
    """
    if context.uplink.metered:
        raise Failure("budget", f"the uplink is metered, and {context.provider} cannot be kept small")
    with Gates(context) as gates:
        values = await measure(settings, context)
    gates.judge((values.down_bytes or 0) + (values.up_bytes or 0), all_counted=False)
    if values.cpu_ratio is not None and values.cpu_ratio > CPU_LIMIT:
        raise Failure("cpu_limited", f"{context.provider} used {values.cpu_ratio:.0%} of a core")
    return values


async def _idle_rtt_ms(address: str, context: Context) -> float | None:
    """Median by STAMP; by the time of a TCP connect where no reflector answers that."""
    assert context.target is not None
    port = context.target.port or PORT
    rtts = await idle_rtts_ms(address, port, context, packets=IDLE_PACKETS, every_s=EVERY_S)
    if rtts:
        return percentile(rtts, 0.50)
    started_s = context.clock.boot()
    with contextlib.suppress(OSError):
        (await tcp.connect(address, port, context.interface, transfer.IDLE_S)).close()
        return (context.clock.boot() - started_s) * 1000
    return None


async def _run(
    way: Way,
    settings: ThroughputSettings,
    context: Context,
    address: str,
    idle_ms: float | None,
    values: Throughput,
) -> _Run:
    assert context.target is not None
    mode, streams = MODES[settings.mode], settings.streams
    port = context.target.port or PORT
    hello = Hello(
        agent=context.agent,
        direction=way,
        duration_s=estimate.duration_s(settings.duration_s, idle_ms, MAX_DURATION_S),
        streams=streams,
        byte_cap=settings.cap_bytes(way, context.uplink),
        congestion_control=settings.congestion_control,
    )
    count = Tally()
    async with (
        admission(hello, context, address, wait_s=SLOT_WAIT_S) as control,
        transfer.joined(control, context, streams, port) as socks,
        _Beside(control, context, count, way, mode.loaded_rtt) as beside,
    ):
        seconds = control.admitted.duration_s
        if way == "down":
            values.congestion_control = control.admitted.congestion_control
            report = await _download(control, socks, count, seconds)
        else:
            report = await _upload(control, socks, count, seconds, settings.congestion_control)
            values.congestion_control = transfer.congestion_control(socks[0]) or values.congestion_control
        loaded_ms = beside.loaded_ms(count)
    discard = estimate.discard_s(idle_ms)
    if way == "down":
        ended_s = min(seconds, (count.last_s - (count.first_s or 0.0)))
        rate, moved = estimate.rate(count.bins, ended_s, discard), count.bytes
    else:
        ended_s = min(seconds, report.last_byte_s or 0.0)
        rate, moved = estimate.rate(report.bins, ended_s, discard), report.received_bytes or 0
    return _Run(
        rate=rate,
        bytes=moved,
        capped=count.capped or report.capped,
        report=report,
        capacity_mbps=control.admitted.capacity_mbps,
        loaded_ms=loaded_ms,
    )


async def _download(control: Control, socks: Sequence[socket.socket], count: Tally, seconds: float) -> Report:
    flow = transfer.Receiving(socks, count, control.admitted.byte_cap)
    try:
        control.start()
        await flow.until(seconds)
    finally:
        flow.stop()
    with contextlib.suppress(Failure):
        # Only its opinion of the sender: a download is counted here, and holds without it.
        return await control.report(CLIENT_GRACE_S)
    return Report()


async def _upload(
    control: Control, socks: Sequence[socket.socket], count: Tally, seconds: float, wanted: str
) -> Report:
    control.start()
    flow = transfer.Sending(socks, count, control.admitted, wanted)
    try:
        await flow.until(seconds)
    finally:
        flow.end()
    report = await control.report(DRAIN_S + CLIENT_GRACE_S)
    if report.received_bytes is None:
        raise Failure("timeout", "the reflector did not say what arrived")
    _check(report, count.bytes)
    return report


def _check(report: Report, sent_bytes: int) -> None:
    """:raises Failure: when the reflector says more than can be true; it is not authenticated."""
    if not sum(report.bins) <= (report.received_bytes or 0) <= sent_bytes:
        raise Failure("internal", "the reflector counted more than was sent")


class _Beside:
    """What goes on beside the load: round trips by STAMP, and a word on how fast it is."""

    def __init__(self, control: Control, context: Context, count: Tally, way: Way, with_rtt: bool) -> None:
        self._context = context
        self._tasks: list[asyncio.Task[None]] = []
        self._samples: list[Sample] = []
        self._count = count
        self._way = way
        self._address = control.address
        self._port = control.greeting.udp_port if with_rtt else None

    async def __aenter__(self) -> "_Beside":
        clock = self._context.clock
        telling = transfer.watch(self._count, self._way, self._context, clock)
        self._tasks.append(asyncio.create_task(telling, name="progress"))
        if self._port is not None:
            sampling = sample(self._address, self._port, self._context, EVERY_S, self._samples)
            self._tasks.append(asyncio.create_task(sampling, name="loaded round trips"))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def loaded_ms(self, count: Tally) -> list[float]:
        """Ascending; of what was sent while the load was stable."""
        if count.first_s is None:
            return []
        # The loop's clock (monotonic) and boot time differ by a constant while nothing suspends the machine.
        offset_s = self._context.clock.boot() - asyncio.get_running_loop().time()
        first_s, last_s = count.first_s + STABLE_S + offset_s, count.last_s + offset_s
        return sorted(rtt_ms for sent_s, rtt_ms in self._samples if first_s <= sent_s <= last_s)


def _keep(values: Throughput, way: Way, run: _Run) -> None:
    rtts = run.loaded_ms
    p50 = percentile(rtts, 0.50) if rtts else None
    p95 = percentile(rtts, 0.95) if rtts else None
    rpm = 60_000 / p50 if p50 else None
    if way == "down":
        values.down_mbps, values.down_p10_mbps, values.down_bytes = run.rate.mbps, run.rate.p10_mbps, run.bytes
        values.loaded_down_rtt_p50_ms, values.loaded_down_rtt_p95_ms, values.rpm_down = p50, p95, rpm
    else:
        values.up_mbps, values.up_p10_mbps, values.up_bytes = run.rate.mbps, run.rate.p10_mbps, run.bytes
        values.loaded_up_rtt_p50_ms, values.loaded_up_rtt_p95_ms, values.rpm_up = p50, p95, rpm


def _flag(runs: Sequence[_Run], context: Context, idle_ms: float | None) -> None:
    best = (context.uplink.best_down_mbps, context.uplink.best_up_mbps)
    if any(run.capped for run in runs):
        context.flags.append("byte_cap")
    if any(run.rate.is_short for run in runs):
        context.flags.append("short_test")
    if any(
        not is_saturated(run.rate.mbps, run.report, known, run, idle_ms) for run, known in zip(runs, best, strict=True)
    ):
        context.flags.append("not_saturated")


def is_saturated(mbps: float | None, report: Report, best_mbps: float | None, run: _Run, idle_ms: float | None) -> bool:
    """Whether the line was filled, so that the rate is the line's and not a lower bound.

    Not so above 90 % of what the reflector gives one test; nor, while no queue has built up, below 80 % of the best
    rate of 24 h or with a sender that was held back for over 10 % of the time.
    """
    if mbps is None:
        return True
    if run.capacity_mbps is not None and mbps > CAPACITY_SHARE * run.capacity_mbps:
        return False
    loaded_ms = percentile(run.loaded_ms, 0.50) if run.loaded_ms else report.tcp_rtt_ms
    if loaded_ms is None or idle_ms is None or loaded_ms - idle_ms >= SATURATED_RISE_MS:
        return True
    held_back = max(report.rwnd_limited_ratio or 0.0, report.sndbuf_limited_ratio or 0.0) > LIMITED_RATIO
    return not (held_back or (best_mbps is not None and mbps < BEST_SHARE * best_mbps))


PROVIDERS: Final[dict[str, Provider]] = {"reflector": by_reflector, "iperf3": by_iperf3, "ookla": by_ookla}
"""Who serves the test; the first is the default."""

PROBE: Final = Probe(
    settings=ThroughputSettings,
    measure=measure,
    timeout_s=60.0,
    needs=frozenset({"host", "interface"}),
    providers=tuple(PROVIDERS),
    heavy=True,
)
