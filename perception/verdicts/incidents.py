"""Adjacent hours of one segment become an incident; incidents that venues share get one cause. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Self, cast

from contract.series import INCIDENT
from perception.rollups.roll import HOUR_NS
from perception.verdicts.verdict import Segment, Verdict
from store.interface import Row
from store.point import Point

GAP_NS: Final = HOUR_NS
"""So much that blames something else, or nothing, does not end an incident."""


@dataclass(frozen=True, kw_only=True)
class Incident:
    """Hours of one venue in which one segment was to blame."""

    venue: str
    network: str
    segment: Segment
    time_ns: int
    """Start of its first hour."""
    end_s: float
    """End of its last hour, seconds since 1970."""
    hours: int
    """Hours that blame the segment; 0: it was merged into another or is no more."""
    confidence: float
    """That of its surest hour."""
    scope: str = ""
    venues: int = 1
    """Venues that share the cause."""
    target: str = ""
    cause: str = ""
    """The same for all of them."""
    open: int = 0
    """1 while it goes on."""
    zh: str = ""
    en: str = ""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What it is stored under."""
        return self.venue, self.network, self.segment, self.time_ns

    @property
    def end_ns(self) -> int:
        """End of its last hour."""
        return round(self.end_s) * 10**9

    def near(self, start_ns: int, end_ns: int) -> bool:
        """Whether hours of [start, end) may belong to it."""
        return self.time_ns <= end_ns + GAP_NS and start_ns <= self.end_ns + GAP_NS

    def point(self) -> Point:
        """As it is stored."""
        fields = tuple(getattr(self, name) for name in INCIDENT.fields)
        return Point(INCIDENT.key, (self.venue, self.network, self.segment), self.time_ns, fields)

    @classmethod
    def of(cls, row: Row) -> Self:
        """As it was stored."""
        known: dict[str, Any] = {**row.tags, **{name: value for name, value in row.fields.items() if value is not None}}
        known["segment"] = cast(Segment, known["segment"])
        return cls(time_ns=row.time_ns, **known)


def merged(verdicts: Iterable[Verdict]) -> list[list[Verdict]]:
    """Verdicts that blame something, by incident: one venue, one segment, no gap above :data:`GAP_NS`."""
    lines: dict[tuple[str, str, str], list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.blames:
            lines[verdict.venue, verdict.network, verdict.segment].append(verdict)
    groups: list[list[Verdict]] = []
    for line in lines.values():
        line.sort(key=lambda verdict: verdict.time_ns)
        for place, verdict in enumerate(line):
            if place and verdict.time_ns - line[place - 1].time_ns <= HOUR_NS + GAP_NS:
                groups[-1].append(verdict)
            else:
                groups.append([verdict])
    return groups


def surest(group: Sequence[Verdict]) -> Verdict:
    """The hour that an incident is told by: the surest, of several the latest."""
    return max(group, key=lambda verdict: (verdict.confidence, verdict.time_ns))


def incident(group: Sequence[Verdict], last_hour_ns: int) -> Incident:
    """Of the verdicts of one incident. `last_hour_ns` is the start of the last hour that has a verdict."""
    first, last, told = group[0], group[-1], surest(group)
    return Incident(
        venue=first.venue,
        network=first.network,
        segment=first.segment,
        time_ns=first.time_ns,
        end_s=(last.time_ns + HOUR_NS) / 1e9,
        hours=len(group),
        confidence=told.confidence,
        scope=told.scope,
        target=told.target,
        open=int(last.time_ns + GAP_NS >= last_hour_ns),
        zh=told.zh,
        en=told.en,
    )


def gone(former: Incident) -> Incident:
    """What is left of one whose hours belong to another now, or are no longer to blame."""
    return replace(former, hours=0, open=0)


def with_causes(incidents: Iterable[Incident]) -> list[Incident]:
    """The same, each with its cause. Incidents of one network, segment and target that are shared by the district and
    overlap have one; it is named after the earliest of them."""
    found: list[Incident] = []
    shared: dict[tuple[str, str, str], list[Incident]] = defaultdict(list)
    for one in incidents:
        if one.scope == "district" and one.hours:
            shared[one.network, one.segment, one.target].append(one)
        else:
            found.append(replace(one, cause=_cause(one, one.venue), venues=1))
    for line in shared.values():
        line.sort(key=lambda one: (one.time_ns, one.venue))
        group: list[Incident] = []
        for one in line:
            if group and one.time_ns > max(other.end_ns for other in group) + GAP_NS:
                found += _joined(group)
                group = []
            group.append(one)
        found += _joined(group)
    return sorted(found, key=lambda one: (one.time_ns, one.network, one.venue, one.segment))


def _joined(group: Sequence[Incident]) -> list[Incident]:
    cause, venues = _cause(group[0], "district"), len({one.venue for one in group})
    return [replace(one, cause=cause, venues=venues) for one in group]


def _cause(one: Incident, where: str) -> str:
    start = datetime.fromtimestamp(one.time_ns // 10**9, UTC)
    parts = [one.network, where, one.segment, one.target, f"{start:%Y-%m-%dT%HZ}"]
    return " ".join(part for part in parts if part)
