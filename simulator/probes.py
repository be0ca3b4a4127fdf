"""What each probe would measure, from the state of its venue: one function for each, over all slots of a window."""

from collections.abc import Callable
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
from simulator.district import Box
from simulator.schedule import Job
from simulator.streams import Floats, Ints, Stream
from simulator.world import State, Texts


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
    flags: list[str] | None = None
    """Of every one that is ok."""


def _reasons(run: Run) -> Texts:
    """What the way itself does to a probe: a box that is on no network measures nothing beyond it."""
    return run.state.link.copy()


def _where(reason: Texts, condition: Any, word: str) -> None:
    """Say `word` where nothing went wrong before."""
    reason[_is(reason, None) & condition] = word


def _is(texts: Texts, word: Any) -> NDArray[np.bool_]:
    return np.asarray(np.equal(texts, word), bool)


def _only(texts: Texts, word: str) -> Texts:
    """`texts` where they are `word`, else None."""
    found = texts.copy()
    found[~_is(texts, word)] = None
    return found


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
    packets, interval_ms = (60, 50.0) if job.role == "core" else (20, 100.0)
    fixed, varying, loss = _way(state, job.role or "core")
    reason = _reasons(run)
    size = len(run.numbers)
    dead = run.stream.uniform(run.numbers, 900) < state.target_fails(job.target)
    dead = dead | (state.caught if job.role != "gateway" else not run.box.venue.gateway_answers)
    draws = run.stream.uniforms(run.numbers, 3 * packets)
    rtt = np.asarray(fixed)[..., None] - np.asarray(varying)[:, None] * np.log(draws[:, :packets])
    up = draws[:, packets : 2 * packets] < loss[:, None]
    down = ~up & (draws[:, 2 * packets :] < loss[:, None])
    lost = up | down | dead[:, None]
    received = packets - lost.sum(axis=1)
    # Whether the reflector or a firewall is silent, nobody knows which way a packet was lost.
    up_ratio, down_ratio = up.mean(axis=1), down.sum(axis=1) / np.maximum(packets - up.sum(axis=1), 1)
    kept = np.where(lost, np.inf, rtt)
    order = np.sort(kept, axis=1)
    rows = np.arange(size)
    has = received > 0

    def rank(share: float) -> Floats:
        return np.asarray(order[rows, np.maximum(np.ceil(share * received).astype(np.int64) - 1, 0)])

    with np.errstate(invalid="ignore"):
        mean = np.where(lost, 0.0, rtt).sum(axis=1) / np.maximum(received, 1)
        pairs = ~lost[:, 1:] & ~lost[:, :-1]
        steps = np.where(pairs, np.abs(rtt[:, 1:] - rtt[:, :-1]), 0.0).sum(axis=1)
        counted = pairs.sum(axis=1)
    _where(reason, ~has, "all_lost")
    stamp = job.role == "core"
    p95 = rank(0.95)
    values: list[Any] = []
    columns = zip(
        reason.tolist(),
        received.tolist(),
        _rounded(order[:, 0]),
        _rounded(mean),
        _rounded(rank(0.5)),
        _rounded(p95),
        _rounded(rank(0.99)),
        _rounded(rank(1.0)),
        _rounded(np.where(has, p95 - np.where(has, order[:, 0], 0), 0)),
        _rounded(steps / np.maximum(counted, 1)),
        counted.tolist(),
        up_ratio.tolist(),
        down_ratio.tolist(),
        strict=True,
    )
    method: Any = "stamp" if stamp else "icmp"
    for why, got, low, average, p50, high, p99, most, pdv, ipdv, neighbours, lost_up, lost_down in columns:
        if why is not None and why != "all_lost":
            values.append(None)
        elif not got:
            values.append(
                Latency(
                    method=method,
                    sent=packets,
                    received=0,
                    duplicates=0,
                    reordered=0,
                    loss_ratio=1.0,
                    packet_bytes=44,
                    interval_ms=interval_ms,
                )
            )
        else:
            values.append(
                Latency(
                    method=method,
                    sent=packets,
                    received=got,
                    duplicates=0,
                    reordered=0,
                    loss_ratio=1 - got / packets,
                    loss_up_ratio=lost_up if stamp else None,
                    loss_down_ratio=lost_down if stamp else None,
                    rtt_min_ms=low,
                    rtt_mean_ms=average,
                    rtt_p50_ms=p50,
                    rtt_p95_ms=high,
                    rtt_p99_ms=p99,
                    rtt_max_ms=most,
                    rt_pdv_p95_ms=pdv,
                    ipdv_mean_ms=ipdv if neighbours else None,
                    packet_bytes=44,
                    interval_ms=interval_ms,
                )
            )
    length_s = (packets + 1) * interval_ms / 1000
    late = np.where(received < packets, 2.0, np.where(has, np.where(has, order[:, -1], 0), 0) / 1000)
    duration = np.where(_is(reason, None) | ~has, length_s + np.minimum(late, 2.0), 0.001)
    return Result(values, reason, duration)


def _rate_mbps(run: Run, capacity: float, lane: int, flows: int = 4) -> Floats:
    """What so many TCP flows get: the narrower of radio and uplink, and what loss leaves of it (Mathis)."""
    state = run.state
    fixed, varying, loss = _way(state, "core")
    rtt = np.asarray(fixed) + varying
    mathis = flows * 1.22 * 11.68 / (rtt * np.sqrt(np.maximum(2 * loss, 1e-7)))
    free = np.minimum(np.minimum(state.radio_mbps, capacity * state.free_ratio), mathis)
    return np.asarray(0.94 * free * (1 + 0.02 * run.stream.normal(run.numbers, lane)).clip(0.9, 1.1))


def throughput(run: Run) -> Result:
    """Goodput each way; the mode `working` also what a full queue does to the delay."""
    state = run.state
    working = run.job.mode == "working"
    down, up = _rate_mbps(run, state.capacity_down, 20), _rate_mbps(run, state.capacity_up, 21)
    fixed, varying, _ = _way(state, "core")
    idle = np.asarray(fixed) + 0.69 * varying
    full = np.where(state.radio_mbps < state.capacity_down * state.free_ratio, 35.0, state.buffer_ms)
    loaded = idle + full * run.stream.uniforms(run.numbers, 2, 22).mean(axis=1).clip(0.6, 1)
    reason = _reasons(run)
    fails = run.stream.uniform(run.numbers, 30) < state.target_fails("core")
    _where(reason, state.caught | (state.uplink_loss > 0.7) | fails, "timeout")
    _where(reason, run.stream.uniform(run.numbers, 31) < 0.01 * (1 + 4 * state.load), "no_slot")
    _where(reason, run.stream.uniform(run.numbers, 32) < 0.01, "cross_traffic")
    seconds = 8.0 if working else 3.0
    most = 300_000_000 if working else 400_000_000
    values: list[Any] = []
    for why, d, u, i, at_load in zip(
        reason.tolist(), _rounded(down), _rounded(up), _rounded(idle), _rounded(loaded), strict=True
    ):
        if why is not None:
            values.append(None)
            continue
        values.append(
            Throughput(
                mode="working" if working else "quick",
                down_mbps=d,
                up_mbps=u,
                down_p10_mbps=round(0.9 * d, 3),
                up_p10_mbps=round(0.88 * u, 3),
                down_bytes=int(min(d * 125_000 * seconds, most)),
                up_bytes=int(min(u * 125_000 * seconds, most)),
                connections=8 if working else 4,
                idle_rtt_p50_ms=i,
                cpu_ratio=round(min(0.02 + d / 1500, 0.8), 3),
                congestion_control="cubic",
                loaded_down_rtt_p50_ms=at_load if working else None,
                loaded_down_rtt_p95_ms=round(1.3 * at_load, 3) if working else None,
                loaded_up_rtt_p50_ms=round(1.1 * at_load, 3) if working else None,
                loaded_up_rtt_p95_ms=round(1.4 * at_load, 3) if working else None,
                working_rise_ms=round(1.1 * at_load - i, 3) if working else None,
                rpm_down=round(60_000 / at_load, 1) if working else None,
                rpm_up=round(60_000 / (1.1 * at_load), 1) if working else None,
            )
        )
    return Result(values, reason, np.where(_is(reason, None), 2 * seconds + 1.5, 0.2))


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
    reason = _reasons(run)
    lost = run.stream.uniform(run.numbers, 41) < 1 - (1 - loss) ** 2
    _where(reason, lost | (ms > 2000), "timeout")
    slow = run.state.dns_slow_ms if resolver == "site" else np.zeros(len(run.numbers))
    _where(reason, run.stream.uniform(run.numbers, 42) < 0.0002 + slow / 15_000, "dns_failed")
    if resolver == "site":
        _where(reason, run.stream.uniform(run.numbers, 43) < run.state.hijack, "dns_hijacked")
    name: str = NAMES[run.job.target]
    values: list[Any] = []
    for why, took in zip(reason.tolist(), _rounded(ms), strict=True):
        if why in (None, "dns_failed", "dns_hijacked"):
            bad = why == "dns_failed"
            values.append(
                Dns(
                    name=name,
                    rcode="SERVFAIL" if bad else "NOERROR",
                    rtt_ms=took,
                    answers=0 if bad else 2,
                    transport="udp",
                    family="a",
                )
            )
        else:
            values.append(Dns(name=name, transport="udp", family="a") if why == "timeout" else None)
    duration = np.where(_is(reason, "timeout"), 2.0, ms.clip(0, 2000) / 1000 + 0.001)
    return Result(values, reason, duration)


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
    size = np.int64(180_000 if run.job.target == "news" else 60_000)
    rate = np.maximum(_rate_mbps(run, state.capacity_down, 70, flows=1), 0.02)
    ttfb = resolve + tcp + tls + first
    total = ttfb + 3 * trip[:, 3] + size * 8 / rate / 1000
    reason = _reasons(run)
    hijacked = run.stream.uniform(run.numbers, 61) < state.hijack
    _where(reason, resolve > 5000, "dns_failed")
    _where(reason, hijacked, "cert_invalid")
    _where(reason, state.caught, "portal")
    fails = run.stream.uniform(run.numbers, 62) < state.target_fails(run.job.target)
    how = run.stream.uniform(run.numbers // 36, 63)
    for limit, word in (
        (0.25, "refused"),
        (0.5, "http_status"),
        (0.65, "reset"),
        (0.8, "tls_failed"),
        (1.0, "timeout"),
    ):
        _where(reason, fails & (how < limit), word)
    _where(reason, state.exit_loss >= 0.97, "unreachable")
    _where(reason, (total > 10_000) | (both > 0.9), "timeout")
    values: list[Any] = []
    days = run.slot_ms / 86_400_000
    for why, a, b, c, d, e, day in zip(
        reason.tolist(),
        _rounded(resolve),
        _rounded(tcp),
        _rounded(tls),
        _rounded(ttfb),
        _rounded(total),
        days.tolist(),
        strict=True,
    ):
        left = round(90 - day % 60, 3)
        if why is None or why == "http_status":
            bad = why is not None
            values.append(
                Web(
                    status=503 if bad else 200,
                    dns_ms=a,
                    tcp_ms=b,
                    tls_ms=c,
                    ttfb_ms=d,
                    total_ms=d if bad else e,
                    bytes=190 if bad else int(size),
                    redirects=0,
                    http_version="1.1",
                    cert_days_left=left,
                )
            )
        elif why in ("refused", "unreachable", "timeout"):
            values.append(Web(dns_ms=a))
        elif why in ("reset", "tls_failed", "cert_invalid", "portal"):
            values.append(Web(dns_ms=a, tcp_ms=b))
        else:
            values.append(None)
    duration = np.where(_is(reason, "timeout"), 10.0, np.minimum(total, 10_000) / 1000)
    return Result(values, reason, duration)


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
    rate = np.maximum(_rate_mbps(run, state.capacity_down, 80, flows=1), 0.001)
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
            values.append(None)
    return Result(values, reason, np.where(_is(reason, None), 12.0, 10.0))


def path(run: Run) -> Result:
    """The routers on the way; the third never answers."""
    state = run.state
    fixed, varying, loss = _way(state, "internet")
    gateway, between, _ = _way(state, "gateway")
    reason = _reasons(run)
    _where(reason, state.caught | (loss >= 0.95), "all_lost")
    values: list[Any] = []
    for why, near, far in zip(
        reason.tolist(), _rounded(np.asarray(gateway) + between), _rounded(np.asarray(fixed) + varying), strict=True
    ):
        if why is not None:
            values.append(None)
            continue
        hops = [
            Hop(address="192.0.2.1", rtt_ms=near) if run.box.venue.gateway_answers else Hop(),
            Hop(address="198.51.100.1", rtt_ms=round(near + 0.4 * (far - near), 3)),
            Hop(),
            Hop(address="203.0.113.9", rtt_ms=round(near + 0.8 * (far - near), 3)),
            Hop(address="203.0.113.80", rtt_ms=far),
        ]
        values.append(Path(hops=hops, hop_count=len(hops), pmtu_bytes=1492, pmtu_blackhole=False))
    return Result(values, reason, np.full(len(reason), 2.1))


def wifi_link(run: Run) -> Result:
    """The radio as the driver tells it."""
    state, venue = run.state, run.box.venue
    reason: Texts = _only(state.link, "not_associated")
    jitter = run.stream.normal(run.numbers, 90)
    bssid = f"02:00:00:{sum(venue.slug.encode()) % 256:02x}:{len(venue.slug):02x}:01"
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
                stations=stations,
            )
        )
    return Result(values, reason, np.full(len(reason), 0.02))


def wifi_scan(run: Run) -> Result:
    """The neighbourhood, as counts."""
    reason: Texts = np.full(len(run.numbers), None, object)
    near = 6 + 3 * run.stream.uniform(run.numbers, 95)
    strongest = -55 - 12 * run.stream.uniform(run.numbers, 96)
    values: list[Any] = [
        WifiScan(ap_count=int(n), co_channel_count=int(n // 4), overlap_count=int(n // 3), strongest_neighbour_dbm=s)
        for n, s in zip(near.tolist(), np.round(strongest).tolist(), strict=True)
    ]
    return Result(values, reason, np.full(len(reason), 11.4))


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
    values: list[Any] = []
    reason: Texts = np.array([_JOIN_REASONS[stage] for stage in first.tolist()], object)
    for stage, times in zip(first.tolist(), ms.tolist(), strict=True):
        done = dict(zip(_JOIN_TIMES[: min(stage, 8)], times, strict=False))
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
    agent makes it, with its values."""
    state = run.state
    fixed, varying, loss = _way(state, "core")
    trip = 2 * (np.asarray(fixed) + varying * run.stream.exponential(run.numbers, 130))
    reason: Texts = np.full(len(run.numbers), None, object)
    values: list[Any] = []
    columns = (state.link, state.caught, state.portal_ms, loss, state.hijack, state.dns_slow_ms)
    for n, (link, caught, slow, lost, hijack, dns_slow, ms) in enumerate(
        zip(*(np.asarray(column).tolist() for column in columns), _rounded(trip), strict=True)
    ):
        if link in ("not_associated", "auth_failed"):
            reason[n] = link
            values.append(None)
        elif link == "dhcp_failed":
            reason[n] = link
            values.append(Portal(state="no_ip"))
        elif dns_slow > 2000:
            reason[n] = "dns_failed"
            values.append(Portal(state="no_dns"))
        elif caught and slow > 10_000:
            reason[n] = "timeout"
            values.append(Portal(state="limited"))
        elif caught:
            reason[n] = "portal"
            values.append(
                Portal(state="portal", detect_ms=ms, portal_ms=slow, portal_host="portal.example.net", http_status=302)
            )
        elif lost > 0.9:
            reason[n] = "timeout"
            values.append(Portal(state="no_internet"))
        elif hijack > 0.6:
            reason[n] = "dns_hijacked"
            values.append(Portal(state="dns_hijack", detect_ms=ms))
        elif state.exit_loss[n] > 0.9:
            reason[n] = "portal"
            values.append(Portal(state="walled", detect_ms=ms, http_status=204))
        else:
            values.append(Portal(state="open", detect_ms=ms, http_status=204))
    return Result(values, reason, trip.clip(0, 5000) / 1000)


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
