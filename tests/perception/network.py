"""Rollup rows of a network's hour, made by hand: everything is fine unless told."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from perception import profiles
from perception.stored import Metric, Row
from perception.verdicts.hour import Hour
from perception.verdicts.judge import judge
from perception.verdicts.verdict import Verdict

T0 = 490_000 * 3600 * 10**9
LIMITS = profiles.named("wifi-public-2026").verdict
WIRED = profiles.named("gov-node-2026").verdict
ROLES = {"gateway": "gateway", "core": "core", "internet": "internet", "news": "internet", "search": "internet"}

Key = tuple[str, str, str]
"""Probe, target, resolver."""
Rows = dict[Key, Row]


def metric(value: float, n: int = 60) -> Metric:
    return Metric(n=n, total=value * n, minimum=value, maximum=value, p50=value, p95=value)


def row(probe: str, target: str = "-", attempted: int = 60, resolver: str = "", **values: float) -> Row:
    return Row(
        probe=probe, time_ns=T0, target=target, resolver=resolver,
        n=attempted, attempted=attempted, ok=attempted, expected=attempted,
        metrics={name: metric(value, attempted) for name, value in values.items()},
    )  # fmt: skip


def fine(network: str = "wifi") -> Rows:
    found = [
        row("latency", "gateway", rtt_min_ms=1, rtt_p50_ms=3, loss_ratio=0),
        row("latency", "core", rtt_min_ms=4, rtt_p50_ms=8, loss_ratio=0),
        row("latency", "internet", rtt_min_ms=12, rtt_p50_ms=20, loss_ratio=0),
        row("dns", "news", 24, "site", rtt_ms=10),
        row("dns", "news", 24, "public", rtt_ms=25),
        row("web", "news", 6, tcp_ms=20),
        row("web", "search", 6, tcp_ms=22),
    ]
    if network == "wifi":
        found += [
            row("portal", attempted=12),
            row("wifi_link", rssi_dbm=-55, snr_db=35, tx_retry_ratio=0.05, busy_ratio=0.2, beacon_loss=0),
            row("wifi_join", attempted=1),
            row("throughput", "core", 1, down_mbps=90, working_rise_ms=20),
        ]
    return {(one.probe, one.target, one.resolver): one for one in found}


def failing(one: Row, reason: str, count: int) -> Row:
    """So many of its slots failed for a reason."""
    return replace(one, failed=one.failed + count, ok=one.ok - count, reasons={**one.reasons, reason: count})


def measuring(one: Row, **values: float) -> Row:
    return replace(one, metrics={**one.metrics, **{name: metric(value, one.ok) for name, value in values.items()}})


def change(rows: Rows, probe: str, target: str = "-", resolver: str = "", **values: float) -> None:
    rows[probe, target, resolver] = measuring(rows[probe, target, resolver], **values)


def fail(rows: Rows, reason: str, share: float, *probes: str, target: str = "", resolver: str = "") -> None:
    """A share of the slots of some probes, of all targets or of one."""
    for key, one in rows.items():
        if key[0] in probes and target in ("", key[1]) and resolver in ("", key[2]):
            rows[key] = failing(one, reason, round(share * one.attempted))


def without(rows: Rows, *probes: str, target: str = "") -> None:
    for key in [key for key in rows if key[0] in probes and target in ("", key[1])]:
        del rows[key]


def lose(rows: Rows, ratio: float, *targets: str) -> None:
    for target in targets:
        change(rows, "latency", target, loss_ratio=ratio)


def hour(
    here: Rows, peers: Sequence[Rows] = (), network: str = "wifi", second: Rows | None = None, **more: Any
) -> Hour:
    """The venue `here`, others beside it, and perhaps a second agent of the same venue."""
    rows: list[Row] = []
    venues = {"here": {"a-1"}}
    for number, found in enumerate([here, *peers]):
        venue, agent = ("here", "a-1") if not number else (f"peer-{number}", f"p-{number}")
        venues.setdefault(venue, set()).add(agent)
        rows += [replace(one, venue=venue, agent=agent, network=network) for one in found.values()]
    if second is not None:
        venues["here"].add("a-2")
        rows += [replace(one, venue="here", agent="a-2", network=network) for one in second.values()]
    return Hour(
        time_ns=T0,
        network=network,
        venues={venue: frozenset(agents) for venue, agents in venues.items()},
        rows=rows,
        role=lambda agent, target: ROLES.get(target, target),
        limits=LIMITS if network == "wifi" else WIRED,
        **more,
    )


def verdict(here: Rows, peers: Sequence[Rows] = (), network: str = "wifi", **more: Any) -> Verdict:
    return next(found for found in judge(hour(here, peers, network, **more)) if found.venue == "here")
