"""Targets that are away for everybody: their failures are not the network's, and leave the scores as `target_down`.

An agent sees a target away when a quarter of its tests fail beyond its own reach while another target behind the same
segment is good there. Seen so at three venues and at most of those that test it, the target is away (自定): fewer, or
nothing else that is good, is an outage, and stays one. Only the failed slots of agents that see it are relabelled, and
they are listed under the target with that reason.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from perception.rollups.raw import OUTCOMES, Raw
from perception.scoring.profile import Verdict
from perception.stored import Row

PROBES: Final = ("latency", "web")
"""Light, often, and to every target: what is seen of it is seen here."""

RELABELLED: Final = frozenset({"latency", "web", "video", "throughput", "path"})
"""Tests of the target itself. A name that does not resolve is not the target's fault."""

REASON: Final = "target_down"
BEYOND: Final = frozenset(
    {"all_lost", "timeout", "unreachable", "refused", "reset", "tls_failed", "cert_invalid", "http_status"}
)
"""Reasons of a failure that may be the target's; names, portals and joins have faults of their own."""

BEHIND: Final[Mapping[str, frozenset[str]]] = {
    "core": frozenset({"core", "internet", "service"}),
    "internet": frozenset({"internet", "service"}),
    "service": frozenset({"core", "internet", "service"}),
}
"""Roles of targets whose way leads through everything that a target of the role needs: one of them that is good shows
that the way is."""

Role = Callable[[str, str], str]
"""The role of an agent's target."""
Limits = Callable[[str], Verdict | None]
"""By network; None where nothing is judged."""


class Seen(NamedTuple):
    """What an agent saw of a target in an hour."""

    attempted: int = 0
    failed: int = 0

    def __add__(self, other: object) -> "Seen":
        if not isinstance(other, Seen):
            return NotImplemented
        return Seen(self.attempted + other.attempted, self.failed + other.failed)


Key = tuple[str, str, str, str]
"""Agent, venue, network, target."""
Sight = dict[Key, Seen]


def seen(raw: Raw) -> Sight:
    """Of one probe's raw rows: tests that the target answered, and those whose failure may be its own."""
    beyond = np.array([word in BEYOND or word == REASON for word in raw.words])[raw.reason]
    failed = (raw.outcome == OUTCOMES["failed"]) & beyond
    counts = [
        np.bincount(raw.series[rows], minlength=len(raw.tags)) for rows in (raw.outcome == OUTCOMES["ok"], failed)
    ]
    found: Sight = {}
    for place, tags in enumerate(raw.tags):
        ok, away = (int(count[place]) for count in counts)
        key = (tags[0], tags[1], tags[2], tags[3])
        found[key] = found.get(key, Seen()) + Seen(ok + away, away)
    return found


def seen_in(rows: Iterable[Row]) -> Sight:
    """The same of rows that were rolled up before; what was relabelled then failed."""
    found: Sight = {}
    for row in rows:
        away = sum(row.reasons.get(reason, 0) for reason in (*BEYOND, REASON))
        key = (row.agent, row.venue, row.network, row.target)
        found[key] = found.get(key, Seen()) + Seen(row.ok + away, away)
    return found


def added(sights: Iterable[Sight]) -> Sight:
    """What several probes saw."""
    whole: Sight = {}
    for sight in sights:
        for key, one in sight.items():
            whole[key] = whole.get(key, Seen()) + one
    return whole


def find(sight: Sight, role: Role, limits: Limits) -> frozenset[tuple[str, str]]:
    """(agent, target) whose failures are the target's."""
    state = {key: _is_bad(one, limits(key[2])) for key, one in sight.items()}
    good: dict[str, set[tuple[str, str]]] = {}
    for (agent, _, _, target), bad in state.items():
        if bad is False:
            good.setdefault(agent, set()).add((target, role(agent, target)))
    away: dict[tuple[str, str], dict[str, list[str]]] = {}
    testing: dict[tuple[str, str], set[str]] = {}
    for (agent, venue, network, target), bad in state.items():
        behind = BEHIND.get(role(agent, target))
        if behind is None or bad is None:
            continue
        testing.setdefault((network, target), set()).add(venue)
        if bad and any(other != target and of in behind for other, of in good.get(agent, ())):
            away.setdefault((network, target), {}).setdefault(venue, []).append(agent)
    found: set[tuple[str, str]] = set()
    for (network, target), venues in away.items():
        limit = limits(network)
        if limit is None or len(venues) < limit.min_peers:
            continue
        if len(venues) >= limit.shared_ratio * len(testing[network, target]):
            found |= {(agent, target) for agents in venues.values() for agent in agents}
    return frozenset(found)


def _is_bad(one: Seen, limit: Verdict | None) -> bool | None:
    """None for too few tests."""
    if limit is None or one.attempted < limit.min_attempted:
        return None
    return one.failed >= limit.failed_ratio * one.attempted


def relabelled(raw: Raw, away: frozenset[tuple[str, str]]) -> Raw:
    """The failures of targets that are away, as `invalid: target_down`."""
    hit = np.array([(tags[0], tags[3]) in away for tags in raw.tags], np.bool_)
    if not hit.any():
        return raw
    beyond = np.array([word in BEYOND for word in raw.words])[raw.reason]
    rows = hit[raw.series] & beyond & (raw.outcome == OUTCOMES["failed"])
    return replace(
        raw,
        words=[*raw.words, REASON],
        outcome=np.where(rows, OUTCOMES["invalid"], raw.outcome),
        reason=np.where(rows, len(raw.words), raw.reason),
    )
