"""What each probe would measure, from the state of its venue: one function for each, over all slots of a window."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from contract.values import (
    Agent,
    Dns,
    Hop,
    Latency,
    Path,
    Portal,
    Throughput,
    Video,
    Web,
    WifiJoin,
    WifiLink,
    WifiScan,
)
from simulator.district import Box, Venue
from simulator.schedule import Job
from simulator.streams import Floats, Ints, Stream
from simulator.world import State, Texts

NO_NAME_S: Final = 5.5
"""A name that no server answers for: two tries of two servers."""


class Run(Struct):
    """The slots of one job in a window; every array has one value for each."""

    box: Box
    job: Job
    numbers: Ints
    """Of the slots since 1970."""
    slot_ms: Ints
    state: State
    stream: Stream


class Result(Struct):
    """How they ended. A reason of None is ok."""

    values: list[Any]
    reason: Texts
    duration_s: Floats
    flags: dict[int, list[str]] = {}
    """Cautions, by the place of their slot."""


def _reasons(run: Run, no_address: str = "dns_failed") -> Texts:
    """What joining does to a probe. On no network an interface has no carrier, so that the runner does not begin;
    without an address no name is resolved, and a host that is given by its address is `unreachable`."""
    reason: Texts = np.full(len(run.numbers), None, object)
    reason[run.state.no_address] = no_address
    reason[run.state.unlinked] = "no_link"
    return reason


def _took(reason: Texts, ok_s: Floats | float, **seconds: Floats | float) -> Floats:
    """How long each run took: `ok_s`, or what is given for its reason."""
    duration = np.broadcast_to(np.asarray(ok_s, float), reason.shape).copy()
    for word, took in ({"no_link": 0.0, "dns_failed": NO_NAME_S} | seconds).items():
        duration = np.where(_is(reason, word), took, duration)
    return duration


def _note(flags: dict[int, list[str]], flag: str, where: Any) -> None:
    for place in np.flatnonzero(where).tolist():
        flags.setdefault(place, []).append(flag)


def _where(reason: Texts, condition: Any, word: str) -> None:
    """Say `word` where nothing went wrong before."""
    reason[_is(reason, None) & condition] = word


def _is(texts: Texts, word: Any) -> NDArray[np.bool_]:
    return np.asarray(np.equal(texts, word), bool)


def _way(state: State, role: str) -> tuple[Floats | float, Floats, Floats]:
    """Fixed delay, mean of the varying delay (ms, round trip) and loss of one direction, up to a target of `role`."""
    fixed: Floats | float = state.lan_ms
    varying = state.radio_ms + 0.05
    kept = (1 - state.radio_loss) * (1 - state.lan_loss)
    if role != "gateway":
        fixed = fixed + 1.5 + (state.uplink_ms - np.minimum(state.queue_ms, state.uplink_ms))
        varying = varying + np.minimum(state.queue_ms, state.buffer_ms)
        kept = kept * (1 - state.uplink_loss)
    if role in ("internet", "service"):
        fixed = fixed + state.exit_ms
        kept = kept * (1 - state.exit_loss)
    return fixed, varying, 1 - kept


def _rounded(values: Floats) -> list[float]:
    found: list[float] = np.round(values, 3).tolist()
    return found


def latency(run: Run) -> Result:
    """A packet train: every packet drawn, so that the figures belong together."""
    state, job = run.state, run.job
    stamp = job.role == "core"
    packets, interval_ms = (60, 50.0) if stamp else (20, 100.0)
    dead = run.stream.uniform(run.numbers, 900) < state.target_fails(job.target)
    dead = dead | (state.caught if job.role != "gateway" else not run.box.venue.gateway_answers)
    rtt, up, down = _train(run, packets, 0)
    silent = dead | _unheard(rtt, up | down, interval_ms) if stamp else np.zeros(len(run.numbers), bool)
    if silent.any():
        # A reflector that answers nothing for a second is asked by ICMP instead, packet after packet anew.
        rtt[silent], up[silent], down[silent] = (part[silent] for part in _train(run, packets, 1000))
    lost = up | down | dead[:, None]
    reason = _reasons(run, "unreachable" if job.role == "gateway" else "dns_failed")
    _where(reason, lost.all(axis=1), "all_lost")
    flags: dict[int, list[str]] = {}
    _note(flags, "method_fallback", silent & _is(reason, None))
    received = packets - lost.sum(axis=1)
    late = np.where(received < packets, 2.0, np.minimum(rtt.max(axis=1) / 1000, 2.0))
    length = (packets + 1) * interval_ms / 1000 + late + np.where(silent, PATIENCE_S, 0)
    values = [
        _latency(why, quiet, figures, stamp=stamp, packets=packets, interval_ms=interval_ms)
        for why, quiet, figures in zip(reason.tolist(), silent.tolist(), _figures(rtt, up, down, lost), strict=True)
    ]
    return Result(values, reason, _took(reason, length, unreachable=0.001), flags)


PATIENCE_S: Final = 1.05
"""How long a silent reflector is sent STAMP packets."""
PATIENCE_PACKETS: Final = 19
"""Of them, those behind the warm-ups."""


def _unheard(rtt: Floats, lost: NDArray[np.bool_], interval_ms: float) -> NDArray[np.bool_]:
    """Whether nothing came back while the agent was patient."""
    back = rtt[:, :PATIENCE_PACKETS] + interval_ms * np.arange(PATIENCE_PACKETS)
    return np.asarray((lost[:, :PATIENCE_PACKETS] | (back > 1000 * PATIENCE_S)).all(axis=1))


def _train(run: Run, packets: int, first: int) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each packet: its round trip (ms), and whether it was lost on the way up or down."""
    fixed, varying, loss = _way(run.state, run.job.role or "core")
    draws = run.stream.uniforms(run.numbers, 3 * packets, first)
    rtt = np.asarray(fixed)[..., None] - np.asarray(varying)[:, None] * np.log(draws[:, :packets])
    up = draws[:, packets : 2 * packets] < loss[:, None]
    return rtt, up, ~up & (draws[:, 2 * packets :] < loss[:, None])


def _figures(
    rtt: Floats, up: NDArray[np.bool_], down: NDArray[np.bool_], lost: NDArray[np.bool_]
) -> Iterator[tuple[Any, ...]]:
    """Of each train: packets received, loss up and down, and the times in ms as :class:`Latency` names them, from the
    least round trip on; nothing but the first is of use where nobody replied."""
    packets = rtt.shape[1]
    received = packets - lost.sum(axis=1)
    order = np.sort(np.where(lost, np.inf, rtt), axis=1)
    order[received == 0] = 0
    rows = np.arange(len(rtt))

    def rank(share: float) -> Floats:
        return np.asarray(order[rows, np.maximum(np.ceil(share * received).astype(np.int64) - 1, 0)])

    pairs = ~lost[:, 1:] & ~lost[:, :-1]
    counted = pairs.sum(axis=1)
    steps = np.where(pairs, np.abs(rtt[:, 1:] - rtt[:, :-1]), 0.0).sum(axis=1) / np.maximum(counted, 1)
    ipdv = [step if pairs_ else None for step, pairs_ in zip(_rounded(steps), counted.tolist(), strict=True)]
    p95 = rank(0.95)
    return zip(
        received.tolist(),
        up.mean(axis=1).tolist(),
        (down.sum(axis=1) / np.maximum(packets - up.sum(axis=1), 1)).tolist(),
        _rounded(order[:, 0]),
        _rounded(np.where(lost, 0.0, rtt).sum(axis=1) / np.maximum(received, 1)),
        _rounded(rank(0.5)),
        _rounded(p95),
        _rounded(rank(0.99)),
        _rounded(rank(1.0)),
        _rounded(p95 - order[:, 0]),
        ipdv,
        strict=True,
    )


def _latency(
    why: str | None, silent: bool, figures: tuple[Any, ...], *, stamp: bool, packets: int, interval_ms: float
) -> Latency | None:
    """What the agent keeps of a train; of one that nobody answered, the reflector's."""
    if why in ("no_link", "dns_failed"):
        return None
    by_stamp = stamp and (not silent or why is not None)
    values = Latency(
        method="stamp" if by_stamp else "icmp",
        sent=packets,
        received=0,
        duplicates=0,
        reordered=0,
        packet_bytes=44,
        interval_ms=interval_ms,
    )
    if why == "unreachable":
        values.sent = 0
    elif why is not None:
        values.sent, values.loss_ratio = PATIENCE_PACKETS if stamp else packets, 1.0
    else:
        got, lost_up, lost_down, *times = figures
        values.received, values.loss_ratio = got, 1 - got / packets
        if by_stamp:
            # Of what a firewall or another host swallows, nobody knows which way it was lost.
            values.loss_up_ratio, values.loss_down_ratio = lost_up, lost_down
        (
            values.rtt_min_ms, values.rtt_mean_ms, values.rtt_p50_ms, values.rtt_p95_ms,
            values.rtt_p99_ms, values.rtt_max_ms, values.rt_pdv_p95_ms, values.ipdv_mean_ms,
        ) = times  # fmt: skip
    return values


def _rate_mbps(run: Run, capacity: float, lane: int, flows: int = 1) -> tuple[Floats, NDArray[np.bool_]]:
    """What so many TCP flows get: the narrower of radio and uplink, and what loss leaves of it (Mathis); and whether
    it is loss that limits them, so that no queue builds up."""
    state = run.state
    fixed, varying, loss = _way(state, "core")
    rtt = np.asarray(fixed) + varying
    mathis = flows * 1.22 * 11.68 / (rtt * np.sqrt(np.maximum(2 * loss, 1e-7)))
    free = np.minimum(state.radio_mbps, capacity * state.free_ratio)
    noise = (1 + 0.02 * run.stream.normal(run.numbers, lane)).clip(0.9, 1.1)
    return np.asarray(0.94 * np.minimum(free, mathis) * noise), np.asarray(mathis < free)


class _Way(Struct):
    """One direction of a throughput test: each array has one value for each run."""

    mbps: Floats
    lossy: NDArray[np.bool_]
    bytes: NDArray[np.int64]
    capped: NDArray[np.bool_]
    short: NDArray[np.bool_]
    saturated: NDArray[np.bool_]
    seconds: Floats


def _direction(run: Run, capacity: float, lane: int, idle_ms: Floats) -> _Way:
    """A test as the agent sizes it by the best rate of 24 h, which is about that of the idle uplink."""
    working = run.job.mode == "working"
    mbps, lossy = _rate_mbps(run, capacity, lane, flows=4)
    best = 0.94 * capacity
    at_work = 300e6 if best > 200 else 100e6
    cap = at_work if working else max(50e6, 1.2 * best * 125_000 * 3)
    discard = np.maximum(1.0, 20 * idle_ms / 1000)
    wanted = np.minimum(15.0, np.maximum(8.0 if working else 3.0, discard + 2))
    seconds = np.minimum(wanted, cap / (mbps * 125_000))
    return _Way(
        mbps=mbps,
        lossy=lossy,
        bytes=(mbps * 125_000 * seconds).astype(np.int64),
        capped=seconds < wanted,
        short=seconds - discard < 1.5,
        saturated=~lossy | (mbps >= 0.8 * best),
        seconds=seconds,
    )


def throughput(run: Run) -> Result:
    """Goodput each way; the mode `working` also what a full queue does to the delay."""
    state = run.state
    fixed, varying, _ = _way(state, "core")
    idle = np.asarray(fixed) + 0.69 * varying
    down = _direction(run, state.capacity_down, 20, idle)
    up = _direction(run, state.capacity_up, 21, idle)
    reason = _reasons(run)
    fails = run.stream.uniform(run.numbers, 30) < state.target_fails("core")
    _where(reason, state.caught | (state.uplink_loss > 0.7) | fails, "timeout")
    _where(reason, run.stream.uniform(run.numbers, 31) < 0.01 * (1 + 4 * state.load), "no_slot")
    flags: dict[int, list[str]] = {}
    ok = _is(reason, None)
    _note(flags, "byte_cap", ok & (down.capped | up.capped))
    _note(flags, "short_test", ok & (down.short | up.short))
    _note(flags, "not_saturated", ok & ~(down.saturated & up.saturated))
    # Others on our own interface: an update of the box, say.
    _note(flags, "cross_traffic", ok & (run.stream.uniform(run.numbers, 32) < 0.01))
    values = _rates(run, reason, down, up, idle)
    return Result(values, reason, _took(reason, down.seconds + up.seconds + 1.5, timeout=6.5, no_slot=6.5), flags)


def _rates(run: Run, reason: Texts, down: _Way, up: _Way, idle_ms: Floats) -> list[Any]:
    """The values; of a run that failed, what was known before."""
    state, working = run.state, run.job.mode == "working"
    full = np.where(state.radio_mbps < state.capacity_down * state.free_ratio, 35.0, state.buffer_ms)
    full = np.where(down.lossy, 1.0, full)
    loaded = idle_ms + full * run.stream.uniforms(run.numbers, 2, 22).mean(axis=1).clip(0.6, 1)
    values: list[Any] = []
    for why, d, u, down_bytes, up_bytes, i, at_load in zip(
        reason.tolist(),
        _rounded(down.mbps),
        _rounded(up.mbps),
        down.bytes.tolist(),
        up.bytes.tolist(),
        _rounded(idle_ms),
        _rounded(loaded),
        strict=True,
    ):
        if why == "no_link":
            values.append(None)
            continue
        found = Throughput(mode="working" if working else "quick", connections=8 if working else 4)
        values.append(found)
        if why == "no_slot":
            found.idle_rtt_p50_ms = i
        if why is not None:
            continue
        found.down_mbps, found.up_mbps = d, u
        found.down_p10_mbps, found.up_p10_mbps = round(0.9 * d, 3), round(0.88 * u, 3)
        found.down_bytes, found.up_bytes = down_bytes, up_bytes
        found.idle_rtt_p50_ms = i
        found.cpu_ratio = round(min(0.02 + d / 1500, 0.8), 3)
        found.congestion_control = "cubic"
        if working:
            found.loaded_down_rtt_p50_ms, found.loaded_down_rtt_p95_ms = at_load, round(1.3 * at_load, 3)
            found.loaded_up_rtt_p50_ms, found.loaded_up_rtt_p95_ms = round(1.1 * at_load, 3), round(1.4 * at_load, 3)
            found.working_rise_ms = round(1.1 * at_load - i, 3)
            found.rpm_down, found.rpm_up = round(60_000 / at_load, 1), round(60_000 / (1.1 * at_load), 1)
    return values


def _dns_ms(run: Run, resolver: str, lane: int) -> tuple[Floats, Floats]:
    """Time of an answer, and the loss of one direction, on the way to a resolver."""
    state = run.state
    fixed, varying, loss = _way(state, "gateway" if resolver == "site" else "internet")
    slow = state.dns_slow_ms if resolver == "site" else 0.0
    draw = run.stream.exponential(run.numbers, lane)
    return np.asarray(fixed) + (varying + 4.0 + slow) * draw + slow * 0.5, loss


def dns(run: Run) -> Result:
    """One query, one try, 2 s."""
    resolver = run.job.resolver or "site"
    ms, loss = _dns_ms(run, resolver, 40)
    reason = _reasons(run, "unreachable")
    lost = run.stream.uniform(run.numbers, 41) < 1 - (1 - loss) ** 2
    _where(reason, lost | (ms > 2000), "timeout")
    slow = run.state.dns_slow_ms if resolver == "site" else np.zeros(len(run.numbers))
    _where(reason, run.stream.uniform(run.numbers, 42) < 0.0002 + slow / 15_000, "dns_failed")
    if resolver == "site":
        _where(reason, run.stream.uniform(run.numbers, 43) < run.state.hijack, "dns_hijacked")
    name: str = NAMES[run.job.target]
    values: list[Any] = []
    for why, took in zip(reason.tolist(), _rounded(ms), strict=True):
        if why == "no_link":
            values.append(None)
            continue
        found = Dns(name=name, family="a")
        values.append(found)
        if why == "unreachable":
            continue
        found.transport = "udp"
        if why != "timeout":
            bad = why == "dns_failed"
            found.rcode, found.rtt_ms, found.answers = "SERVFAIL" if bad else "NOERROR", took, 0 if bad else 2
    answered = ms.clip(0, 2000) / 1000 + 0.001
    return Result(values, reason, _took(reason, answered, dns_failed=answered, timeout=2.0, unreachable=0.001))


NAMES: Final = {"news": "news.example.net", "search": "search.example.com", "gov-portal": "www.example.gov.cn"}


def web(run: Run) -> Result:
    """Resolve, connect, TLS, first byte, end."""
    state = run.state
    fixed, varying, loss = _way(state, "internet")
    both = 1 - (1 - loss) ** 2
    draws = run.stream.uniforms(run.numbers, 8, 50)
    trip = np.asarray(fixed)[:, None] - np.asarray(varying)[:, None] * np.log(draws[:, :4])
    # A lost packet costs a retransmission timeout: 1 s while connecting, 0.3 s later.
    again = (draws[:, 4:7] < both[:, None]) * np.array([1000.0, 1000.0, 300.0])
    resolve, _ = _dns_ms(run, "site", 60)
    tcp, tls = trip[:, 0] + again[:, 0], 1.2 * trip[:, 1] + 3 + again[:, 1]
    first = trip[:, 2] + 25 - 20 * np.log(draws[:, 7]) + again[:, 2]
    size = 180_000 if run.job.target == "news" else 60_000
    rate = np.maximum(_rate_mbps(run, state.capacity_down, 70)[0], 0.02)
    ttfb = resolve + tcp + tls + first
    total = ttfb + 3 * trip[:, 3] + size * 8 / rate / 1000
    reason = _page_reasons(run, resolve, total, both)
    left = np.round(90 - run.slot_ms / 86_400_000 % 60, 3)
    values = [
        _page(size, *stages)
        for stages in zip(reason.tolist(), *map(_rounded, (resolve, tcp, tls, ttfb, total)), left.tolist(), strict=True)
    ]
    return Result(values, reason, _took(reason, np.minimum(total, 10_000) / 1000, timeout=10.0))


def _page_reasons(run: Run, resolve_ms: Floats, total_ms: Floats, both_lost: Floats) -> Texts:
    state = run.state
    reason = _reasons(run)
    _where(reason, resolve_ms > 5000, "dns_failed")
    # Pages are asked for by https: whoever answers in their place has no certificate for it, a portal either.
    _where(reason, (run.stream.uniform(run.numbers, 61) < state.hijack) | state.caught, "cert_invalid")
    fails = run.stream.uniform(run.numbers, 62) < state.target_fails(run.job.target)
    how = run.stream.uniform(run.numbers // 36, 63)
    for limit, word in _WAYS_TO_FAIL:
        _where(reason, fails & (how < limit), word)
    _where(reason, state.exit_loss >= 0.97, "unreachable")
    _where(reason, (total_ms > 10_000) | (both_lost > 0.9), "timeout")
    return reason


def _page(
    size: int,
    why: str | None,
    dns_ms: float,
    tcp_ms: float,
    tls_ms: float,
    ttfb_ms: float,
    total_ms: float,
    left: float,
) -> Web | None:
    """The stages that were reached."""
    if why == "no_link":
        return None
    values = Web(redirects=0)
    if why == "dns_failed":
        return values
    values.dns_ms = dns_ms
    if why in ("refused", "unreachable", "timeout"):
        return values
    values.tcp_ms = tcp_ms
    if why in ("tls_failed", "cert_invalid"):
        return values
    values.tls_ms, values.cert_days_left = tls_ms, left
    if why == "reset":
        return values
    bad = why is not None
    values.ttfb_ms, values.total_ms = ttfb_ms, ttfb_ms if bad else total_ms
    values.status, values.bytes, values.http_version = 503 if bad else 200, 190 if bad else size, "1.1"
    return values


_WAYS_TO_FAIL: Final = (
    (0.25, "refused"),
    (0.5, "http_status"),
    (0.65, "reset"),
    (0.8, "tls_failed"),
    (1.0, "timeout"),
)
_LADDER: Final = np.array([0.4, 0.8, 1.5, 3.0, 5.0, 8.0])


def video(run: Run) -> Result:
    """A player of 2 s segments: it takes the rate that four fifths of the throughput carries."""
    state = run.state
    rate = np.maximum(_rate_mbps(run, state.capacity_down, 80)[0], 0.001)
    fixed, varying, _ = _way(state, "core")
    trip_s = (np.asarray(fixed) + varying) / 1000
    level = np.searchsorted(_LADDER, 0.8 * rate, side="right").clip(1) - 1
    start = 3 * trip_s + 2 * _LADDER[0] / rate
    dip = run.stream.uniform(run.numbers, 81) < 0.4 * state.rho * (rate < 6)
    stall = np.clip(12 * (1 - rate / _LADDER[0]), 0, 11) + np.where(dip, 0.8, 0.0)
    reason = _reasons(run)
    fails = run.stream.uniform(run.numbers, 82) < state.target_fails("core")
    _where(reason, state.caught | fails | (start > 10), "timeout")
    values: list[Any] = []
    for why, begin, stalled, top in zip(
        reason.tolist(), _rounded(start), _rounded(stall), _LADDER[level].tolist(), strict=True
    ):
        if why is None:
            played = round(max(12 - stalled - begin, 0.2), 3)
            values.append(
                Video(
                    start_s=begin,
                    stall_count=int(np.ceil(stalled / 2)),
                    stall_s=stalled,
                    stall_ratio=round(stalled / (stalled + played), 4),
                    played_s=played,
                    mean_mbps=top,
                    switches=int(top > 0.4),
                )
            )
        else:
            values.append(None if why == "no_link" else Video(stall_count=0, played_s=0.0))
    return Result(values, reason, _took(reason, 12.0, timeout=10.0))


def path(run: Run) -> Result:
    """The routers on the way; the third never answers, and nobody behind a break."""
    state = run.state
    fixed, varying, _ = _way(state, "internet")
    gateway, between, _ = _way(state, "gateway")
    cut_off = state.caught | (state.uplink_loss >= 0.95)
    reached = np.where(cut_off, 1, np.where(state.exit_loss >= 0.95, 2, 5))
    reason = _reasons(run)
    _where(reason, (reached == 1) & (not run.box.venue.gateway_answers), "all_lost")
    values: list[Any] = []
    for why, far_off, near, far in zip(
        reason.tolist(),
        reached.tolist(),
        _rounded(np.asarray(gateway) + between),
        _rounded(np.asarray(fixed) + varying),
        strict=True,
    ):
        if why is not None:
            values.append(Path(hops=[]) if why == "all_lost" else None)
            continue
        hops = [
            Hop(address="192.0.2.1", rtt_ms=near) if run.box.venue.gateway_answers else Hop(),
            Hop(address="198.51.100.1", rtt_ms=round(near + 0.4 * (far - near), 3)),
            Hop(),
            Hop(address="203.0.113.9", rtt_ms=round(near + 0.8 * (far - near), 3)),
            Hop(address="203.0.113.80", rtt_ms=far),
        ]
        found = Path(hops=hops[:far_off])
        if far_off == len(hops):
            found.hop_count, found.pmtu_bytes, found.pmtu_blackhole = len(hops), 1492, False
        values.append(found)
    # 30 hops, three at once, a second each; then six packets for the path MTU.
    return Result(values, reason, _took(reason, np.where(reached == 5, 2.1, 14.0), all_lost=16.0))


def wifi_link(run: Run) -> Result:
    """The radio as the driver tells it."""
    state, venue = run.state, run.box.venue
    reason: Texts = np.full(len(run.numbers), None, object)
    reason[state.unlinked] = "not_associated"
    jitter = run.stream.normal(run.numbers, 90)
    bssid = _bssid(venue)
    values: list[Any] = []
    columns = (
        np.round(state.rssi_dbm + 0.8 * jitter),
        np.round(state.noise_dbm),
        state.phy_mbps,
        state.mcs,
        np.round(state.retry_ratio, 4),
        np.round(state.retry_ratio**4 * 0.6, 4),
        np.round(state.busy_ratio, 3),
        state.stations,
        state.width_mhz,
    )
    for why, rssi, noise, phy, mcs, retry, failed, busy, stations, width in zip(
        reason.tolist(), *(column.tolist() for column in columns), strict=True
    ):
        if why is not None:
            values.append(None)
            continue
        values.append(
            WifiLink(
                ssid="i-Shanghai",
                bssid=bssid,
                frequency_mhz=5180,
                channel=36,
                width_mhz=width,
                band="5",
                rssi_dbm=rssi,
                noise_dbm=noise if venue.survey else None,
                snr_db=rssi - noise if venue.survey else None,
                tx_mbps=phy,
                rx_mbps=phy,
                mcs=mcs,
                streams=2,
                tx_retry_ratio=retry,
                tx_failed_ratio=failed,
                beacon_loss=int(retry > 0.8),
                busy_ratio=busy if venue.survey else None,
                stations=stations if venue.survey else None,
            )
        )
    return Result(values, reason, np.full(len(reason), 0.02))


def _bssid(venue: Venue) -> str:
    return f"02:00:00:{sum(venue.slug.encode()) % 256:02x}:{len(venue.slug):02x}:01"


def wifi_scan(run: Run) -> Result:
    """The neighbourhood, as counts."""
    reason: Texts = np.full(len(run.numbers), None, object)
    near = 6 + 3 * run.stream.uniform(run.numbers, 95)
    strongest = -55 - 12 * run.stream.uniform(run.numbers, 96)
    values: list[Any] = [
        # Without an association nobody shares its air.
        WifiScan(
            ap_count=int(n),
            co_channel_count=None if alone else int(n // 4),
            overlap_count=None if alone else int(n // 3),
            strongest_neighbour_dbm=s,
        )
        for n, s, alone in zip(near.tolist(), np.round(strongest).tolist(), run.state.unlinked.tolist(), strict=True)
    ]
    return Result(values, reason, np.full(len(reason), 0.06))


def wifi_join(run: Run) -> Result:
    """Stage after stage, ending at the first that fails."""
    state = run.state
    draws = run.stream.uniforms(run.numbers, 12, 100)
    slow = 1 + 4 * state.retry_ratio + 2 * state.busy_ratio
    ms = np.round(np.array([900.0, 12, 10, 180, 25, 400, 0, 0]) * (0.7 + 0.6 * draws[:, :8]) * slow[:, None], 3)
    resolve, _ = _dns_ms(run, "site", 120)
    fixed, varying, loss = _way(state, "core")
    ms[:, 6] = np.round(resolve, 3)
    ms[:, 7] = np.round(2 * (np.asarray(fixed) + varying), 3)
    air = 0.002 + 0.9 * state.retry_ratio**6
    fails = np.stack(
        [
            state.snr_db < 3,
            draws[:, 8] < air,
            draws[:, 9] < state.assoc_fail,
            draws[:, 10] < state.eap_fail,
            np.zeros(len(ms), bool),
            draws[:, 11] < state.dhcp_fail,
            resolve > 2000,
            state.caught,
            loss > 0.9,
        ],
        axis=1,
    )
    first = np.where(fails.any(axis=1), fails.argmax(axis=1), 9)
    bssid = _bssid(run.box.venue)
    values: list[Any] = []
    reason: Texts = np.array([_JOIN_REASONS[stage] for stage in first.tolist()], object)
    for stage, times in zip(first.tolist(), ms.tolist(), strict=True):
        done = dict(zip(_JOIN_TIMES[: min(stage, 8)], times, strict=False))
        if stage > 0:
            done |= {"bssid": bssid}
        if stage == 9:
            done |= {"online_ms": round(sum(times), 3)}
        else:
            done |= {"failed_stage": _JOIN_STAGES[stage]}
            if stage in (1, 2):
                done |= {"status_code": 17}
            if stage == 3:
                done |= {"reason_code": 23}
        values.append(WifiJoin(**done))
    return Result(values, reason, np.round(ms.sum(axis=1) / 1000, 3))


_JOIN_STAGES: Final = ("scan", "auth", "assoc", "eap", "handshake", "dhcp", "dns", "portal", "internet")
_JOIN_TIMES: Final = (
    "scan_ms",
    "auth_ms",
    "assoc_ms",
    "eap_ms",
    "handshake_ms",
    "dhcp_ms",
    "first_dns_ms",
    "first_byte_ms",
)
_JOIN_REASONS: Final = (
    "not_associated",
    "auth_failed",
    "not_associated",
    "auth_failed",
    "auth_failed",
    "dhcp_failed",
    "dns_failed",
    "portal",
    "timeout",
    None,
)


def portal(run: Run) -> Result:
    """Whether somebody stands in the way; usually nobody does. Every state but `open` is a failure, as the
    agent makes it, with its values. It asks twice, our reflector and then others; each gets 10 s."""
    state = run.state
    fixed, varying, loss = _way(state, "core")
    trip = 2 * (np.asarray(fixed) + varying * run.stream.exponential(run.numbers, 130))
    reason = _reasons(run, "dhcp_failed")
    seconds = 2 * trip.clip(0, 10_000) / 1000
    seconds[_is(reason, "dhcp_failed")] = 0.001
    values: list[Any] = []
    columns = (state.caught, state.portal_ms, loss, state.hijack, state.dns_slow_ms, state.exit_loss)
    for n, (why, caught, slow, lost, hijack, dns_slow, exit_lost, ms) in enumerate(
        zip(reason.tolist(), *(np.asarray(column).tolist() for column in columns), _rounded(trip), strict=True)
    ):
        if why == "no_link":
            values.append(None)
        elif why == "dhcp_failed":
            values.append(Portal(state="no_ip"))
        elif dns_slow > 2000:
            reason[n], seconds[n] = "dns_failed", 2 * NO_NAME_S
            values.append(Portal(state="no_dns"))
        elif caught and slow > 10_000:
            reason[n], seconds[n] = "timeout", 20.0
            values.append(Portal(state="limited"))
        elif caught:
            reason[n], seconds[n] = "portal", 2 * slow / 1000
            values.append(
                Portal(state="portal", detect_ms=ms, portal_ms=slow, portal_host="portal.example.net", http_status=302)
            )
        elif lost > 0.9:
            reason[n], seconds[n] = "timeout", 20.0
            values.append(Portal(state="no_internet"))
        elif hijack > 0.6:
            reason[n] = "dns_hijacked"
            values.append(Portal(state="dns_hijack", detect_ms=ms, http_status=200))
        elif exit_lost > 0.9:
            reason[n], seconds[n] = "portal", 10.0 + ms / 1000
            values.append(Portal(state="walled", detect_ms=ms, http_status=204))
        else:
            values.append(Portal(state="open", detect_ms=ms, http_status=204))
    return Result(values, reason, _took(reason, seconds, dns_failed=seconds))


def agent(run: Run) -> Result:
    """The box's own health."""
    state = run.state
    draws = run.stream.uniforms(run.numbers, 4, 140)
    cpu = np.maximum(0.008 + 0.004 * draws[:, 0], state.fault("cpu_starved", "cpu_ratio"))
    lag = np.where(cpu > 0.5, 400 + 3000 * draws[:, 1], 1 + 2 * draws[:, 1])
    # Six records a minute wait while nobody takes them.
    away_minutes = state.minutes_into("agent_offline")
    offset = np.where(state.during("clock_wrong"), 1000 * state.fault("clock_wrong", "offset_s"), 4 * draws[:, 2] - 2)
    reason: Texts = np.full(len(run.numbers), None, object)
    since = (run.slot_ms // 60_000) % 40_320
    values: list[Any] = [
        Agent(
            uptime_s=float(60 * up),
            rss_bytes=int(33_000_000 + 3_000_000 * r),
            cpu_ratio=c,
            loop_lag_p95_ms=lag_ms,
            outbox_records=2 + 6 * away,
            outbox_oldest_s=1.5 + 60 * away,
            outbox_dropped=0,
            outbox_dropped_context=0,
            outbox_dropped_light=0,
            outbox_dropped_heavy=0,
            outbox_dropped_rare=0,
            outbox_quarantined=0,
            disk_free_bytes=5_200_000_000,
            clock_offset_ms=o,
            restarts=1,
            last_exit="clean",
            config_version=1,
            temperature_c=t,
            reconnects=1,
            degraded=False,
            cert_days_left=400.0,
        )
        for up, r, c, lag_ms, away, o, t in zip(
            since.tolist(),
            draws[:, 3].tolist(),
            _rounded(cpu),
            _rounded(lag),
            away_minutes.tolist(),
            _rounded(offset),
            np.round(44 + 8 * draws[:, 0], 1).tolist(),
            strict=True,
        )
    ]
    return Result(values, reason, np.full(len(reason), 0.003))


PROBES: Final[dict[str, Callable[[Run], Result]]] = {
    "latency": latency,
    "throughput": throughput,
    "dns": dns,
    "web": web,
    "video": video,
    "path": path,
    "wifi_link": wifi_link,
    "wifi_scan": wifi_scan,
    "wifi_join": wifi_join,
    "portal": portal,
    "agent": agent,
}
