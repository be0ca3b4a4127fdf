"""Rollup rows of one hour and network to a verdict for each of its venues. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from perception.scoring.profile import Verdict as Limits
from perception.verdicts.hour import Hour
from perception.verdicts.items import Items, Measured, items
from perception.verdicts.rules import HIGH, LOW, MEDIUM, Case, Finding, Item, Peers, Share, decide, states
from perception.verdicts.verdict import Verdict

CONFIDENCE = {HIGH: 0.9, MEDIUM: 0.6, LOW: 0.3}


def judge(hour: Hour) -> list[Verdict]:
    """By venue. The sentences are left empty: :mod:`perception.verdicts.sentences` writes them."""
    found = items(hour)
    known: dict[Item, Counter[bool]] = {}
    own = {venue: states(seen) for venue, seen in found.items()}
    for mine in own.values():
        for item, state in mine.items():
            if state != "unknown":
                known.setdefault(item, Counter())[state == "bad"] += 1
    again = repeats(found.values())
    return [_verdict(hour, venue, found[venue], own[venue], known, again) for venue in sorted(found)]


def repeats(venues: Iterable[Items]) -> dict[str, float]:
    """By internet target, the mean share of repeated connections of the venues whose way there is good."""
    ratios: dict[str, list[float]] = defaultdict(list)
    for seen in venues:
        for target in seen.of("internet"):
            if seen.core == "good" and target.repeated_ratio is not None:
                ratios[target.name].append(target.repeated_ratio)
    return {name: sum(found) / len(found) for name, found in ratios.items()}


def _verdict(
    hour: Hour,
    venue: str,
    seen: Items,
    own: Mapping[Item, str],
    known: Mapping[Item, Counter[bool]],
    again: Mapping[str, float],
) -> Verdict:
    def peers(item: Item) -> Peers:
        count = known.get(item, Counter())
        mine = own.get(item, "unknown")
        bad, good = count[True] - (mine == "bad"), count[False] - (mine == "good")
        return Peers(share_of(bad, bad + good, hour.limits), bad + good, bad)

    case = Case(seen, hour.network != "wifi", hour.limits, peers, again, hour.usual_down_mbps.get(venue))
    rule, finding, around = decide(case)
    core, internet = _one(seen, "core"), _one(seen, "internet")
    outside = seen.of("internet")
    return Verdict(
        venue=venue,
        network=hour.network,
        time_ns=hour.time_ns,
        segment=finding.segment,
        confidence=CONFIDENCE.get(finding.level, 0.0),
        rule=rule,
        scope={"shared": "district", "local": "venue"}.get(around.share, ""),
        peers=around.n,
        peers_bad=around.bad,
        g_state=seen.gateway,
        c_state=seen.core,
        i_state=seen.role("internet"),
        s_state=seen.role("service"),
        l_state=seen.link.state,
        d_state=seen.names.state,
        p_state=seen.gate.state,
        j_stage=seen.joining.stage,
        target=_target(finding, seen),
        reason=finding.reason,
        rssi_dbm=seen.link.rssi_dbm,
        snr_db=seen.link.snr_db,
        tx_retry_ratio=seen.link.tx_retry_ratio,
        busy_ratio=seen.link.busy_ratio,
        gateway_ms=seen.gateway_measured.ms,
        gateway_loss_ratio=seen.gateway_measured.loss_ratio,
        core_ms=core.ms,
        core_loss_ratio=core.loss_ratio,
        internet_ms=internet.ms,
        internet_loss_ratio=internet.loss_ratio,
        dns_ms=seen.names.ms,
        dns_failed_ratio=seen.names.failed_ratio,
        portal_ms=seen.gate.ms,
        joins=seen.joining.joins,
        joins_failed=seen.joining.failed,
        targets=len([target for target in outside if target.state != "unknown"]),
        targets_bad=len([target for target in outside if target.state == "bad"]),
        down_mbps=seen.down_mbps,
        working_rise_ms=seen.working_rise_ms,
    )


def share_of(bad: int, peers: int, limits: Limits) -> Share:
    """What it means that so many of the other venues are bad."""
    if peers < limits.min_peers:
        return "unknown"
    if bad >= limits.shared_ratio * peers:
        return "shared"
    return "local" if bad <= limits.local_ratio * peers else "mixed"


def _target(finding: Finding, seen: Items) -> str:
    if finding.segment == "dns":
        return seen.names.resolver
    return finding.target


def _one(seen: Items, role: str) -> Measured:
    """The worst of a role's targets by pings; nothing where none was pinged."""
    pinged = [target.measured for target in seen.of(role) if target.by_address != "unknown"]
    return max(pinged, key=lambda m: (m.failed_ratio, m.loss_ratio or 0, m.ms or 0), default=Measured(0, 0))
