"""The facts of a week: what is stored of it, and what statistics say about that. Sections only word it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from contract.series import INDICATORS
from perception.calendar import Calendar
from perception.report.measures import Measure
from perception.report.model import State, Text
from perception.scoring.ppi import COUNTED, marked
from perception.scoring.profile import Indicator, Profile
from perception.statistics.change import Change, Word, change, holm, pairs, word
from perception.statistics.intervals import Interval, around, mean
from perception.statistics.ranking import Ranked, rank_intervals, tiers
from perception.statistics.slots import SUPPRESSED_SHARE, gate
from perception.statistics.slots import State as Gate
from perception.week import Week
from store.register import Roll, Span, Venue

NETWORKS: Final = ("wifi", "gov")
LOOK_BACK: Final = 12
"""Earlier weeks that are read: for how long an indicator has been short."""
CHART_WEEKS: Final = 4
SURE: Final = 0.6
"""Confidence (medium) from which a verdict may be named as a cause."""

Fields = Mapping[str, Any]


class At(NamedTuple):
    """Whose score: a venue of a network, by one profile."""

    venue: str
    network: str
    profile: str
    """Its series: id, and the version from 2 on."""


@dataclass
class Counts:
    """Slots of a week; what they mean is told by :data:`contract.series.COUNTS`."""

    n: int = 0
    ok: int = 0
    failed: int = 0
    invalid: int = 0
    skipped: int = 0
    planned: int = 0
    expected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Counts") -> None:
        """Take another's in."""
        for name in ("n", "ok", "failed", "invalid", "skipped", "planned", "expected"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reasons.update(other.reasons)

    @property
    def attempted(self) -> int:
        """Tests that say something about the network."""
        return self.ok + self.failed

    @property
    def records(self) -> int:
        """Of the expected slots; a job that is announced within an hour may have more than were expected."""
        return min(self.n, self.expected)

    @property
    def missing(self) -> int:
        """Slots without a record."""
        return self.expected - self.records

    @property
    def due(self) -> int:
        """Expected, and not left out by plan."""
        return max(0, self.expected - self.planned)

    @property
    def valid(self) -> int:
        """Attempted, of those due."""
        return min(self.attempted, self.due)

    @property
    def validity(self) -> float | None:
        """有效率."""
        return self.valid / self.due if self.due else None

    @property
    def is_starred(self) -> bool:
        """So much was suppressed that it must be said."""
        return self.reasons["suppressed"] > SUPPRESSED_SHARE * self.expected


@dataclass
class Blame:
    """Verdicts of a venue's week that blame one segment, medium confidence or more."""

    hours: int = 0
    sentence: Text = field(default_factory=lambda: Text.same(""))
    """The latest."""


@dataclass(frozen=True, kw_only=True)
class Incident:
    """Verdicts of adjacent hours and one segment, as stored."""

    venue: str
    network: str
    segment: str
    start_ns: int
    end_ns: int
    hours: int
    confidence: float
    sentence: Text


class Delay(NamedTuple):
    """Round trips to the core over a week, failures as time-outs; None without tests."""

    p50_ms: float | None
    p95_ms: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What was read of the store, before anything is said about it."""

    weeks: Mapping[Week, Mapping[At, Fields]] = field(default_factory=dict)
    days: Mapping[At, Mapping[date, float]] = field(default_factory=dict)
    """Day scores of this week and of the upgrades' windows."""
    hours: Mapping[Week, Mapping[At, Mapping[int, float]]] = field(default_factory=dict)
    """Hour scores by hour of the week, of this week and the one that it is compared with."""
    slots: Mapping[tuple[str, str, str], Counts] = field(default_factory=dict)
    """By venue, network and probe."""
    blame: Mapping[tuple[str, str], Mapping[str, Blame]] = field(default_factory=dict)
    """By venue and network, then segment."""
    judged_hours: Mapping[tuple[str, str], int] = field(default_factory=dict)
    incidents: Sequence[Incident] = ()
    delays: Mapping[str, Delay] = field(default_factory=dict)
    """Of government nodes."""
    signals: Mapping[str, Mapping[date, float]] = field(default_factory=dict)
    """Mean RSSI of days around upgrades, dBm, by venue."""
    online: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """Minutes that agents were online, and minutes known of them, by network."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the report is made under: everything but the data."""

    week: Week
    zone: ZoneInfo
    roll: Roll
    calendar: Calendar
    profiles: Mapping[str, Sequence[Profile]]
    """By network: those that the report goes by. A venue has the first that scored it."""
    beside: Mapping[str, Sequence[Profile]] = field(default_factory=dict)
    """Others that score the same hours: a week of overlap."""
    measures: Sequence[Measure] = ()
    district: Text
    author: Text
    baseline: Week | None = None
    """The week that scores are compared with for good."""

    def holds(self, span: Span) -> bool:
        """Whether an interface stood there in the week."""
        start_us, end_us = (at // 1000 for at in (self.week.start_ns(self.zone), self.week.end_ns(self.zone)))
        return span.start_us < end_us and start_us < span.end_us


@dataclass(frozen=True, kw_only=True)
class VenueFacts:
    """A venue's week on one network."""

    slug: str
    network: str
    venue: Venue
    profile: Profile
    week: Fields
    """The stored week score; empty when there is none."""
    last: Fields
    """Of the week that may be compared; empty when there is none."""
    trail: Sequence[Fields]
    """Earlier weeks under the same profile, the last first; empty ones among them."""
    days: Mapping[date, float]
    counts: Counts
    promised: Mapping[str, float]
    """What the contract says, by indicator."""
    change: Change
    trend: Word
    gate: Gate

    @property
    def name(self) -> Text:
        """For people."""
        return Text(self.venue.name.zh, self.venue.name.en)

    @property
    def key(self) -> str:
        """Beginning of its figures' keys."""
        return f"{self.network}/{self.slug}"

    @property
    def ppi(self) -> float | None:
        """感知度指数."""
        return number(self.week, "ppi")

    @property
    def is_ranked(self) -> bool:
        """Whether it has a place: a score, an interval and enough valid slots."""
        known = all(number(self.week, name) is not None for name in ("ppi", "ppi_lo", "ppi_hi"))
        return known and self.gate != "no_rank"

    @property
    def is_marked(self) -> bool:
        """Whether its figures carry a star."""
        return self.gate == "flag" or bool(self.week.get("partial")) or self.counts.is_starred

    def indicator(self, name: str) -> tuple[float | None, State]:
        """A measured indicator, +infinity for a time-out; and what it is where it is None. Below its floor it is."""
        n = self.week.get(f"{name}_n")
        if name in missing(self.week):
            return None, "few" if n else "unknown"
        return number(self.week, name), "unknown"

    def count(self, indicator: str) -> int:
        """Tests behind an indicator."""
        return min(int(self.week.get(f"{name}_n") or 0) for name in COUNTED.get(indicator, (indicator,)))

    def threshold(self, indicator: Indicator) -> float | None:
        """The mark it must meet; what the contract promises replaces it. None without one."""
        if indicator.pass_ is None:
            return None
        return self.promised.get(indicator.id, indicator.pass_.v)

    def passes(self, indicator: Indicator, fields: Fields | None = None) -> bool | None:
        """Whether the indicator meets its mark; None when that is not known."""
        values = self.week if fields is None else fields
        if indicator.pass_ is None or indicator.id in missing(values):
            return None
        x = self.measured(indicator, values)
        return None if x is None else indicator.pass_.met(x, self.promised.get(indicator.id))

    def measured(self, indicator: Indicator, fields: Fields | None = None) -> float | None:
        """The number that the mark is about; +infinity for a time-out."""
        values = self.week if fields is None else fields
        known = {name: number(values, name) for name in INDICATORS}
        return marked(self.profile, indicator.id, known)

    def weeks_short(self, indicator: Indicator) -> int:
        """For how many weeks in a row, this one included, the mark has been missed; weeks without data end it."""
        weeks = 1
        for fields in self.trail:
            if self.passes(indicator, fields) is not False:
                break
            weeks += 1
        return weeks


@dataclass(frozen=True, kw_only=True)
class Place:
    """A venue in the ranking of its type."""

    facts: VenueFacts
    rank: int
    tier: int
    interval: Interval


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that the sections say."""

    setting: Setting
    stored: Stored
    venues: Mapping[str, Sequence[VenueFacts]]
    """By network, by slug; those that the register has this week."""

    def scored(self, network: str) -> list[VenueFacts]:
        """Those with a week score."""
        return [venue for venue in self.venues[network] if venue.ppi is not None]

    def judged(self, network: str) -> list[VenueFacts]:
        """Those of whose marks any can be judged, rated or not; a validity that allows no rank allows no judgement."""
        return [
            venue
            for venue in self.venues[network]
            if venue.gate != "no_rank" and any(venue.passes(one) is not None for one in venue.profile.indicators)
        ]

    def average(self, network: str, name: str) -> float | None:
        """The district's value: every venue weighs the same."""
        known = [x for venue in self.scored(network) if (x := number(venue.week, name)) is not None]
        return mean(known) if known else None

    def interval(self, network: str) -> Interval:
        """Of the district's score: Student's t over its day values."""
        by_day: dict[date, list[float]] = {}
        for venue in self.scored(network):
            for day, score in venue.days.items():
                by_day.setdefault(day, []).append(score)
        return around(self.average(network, "ppi"), [mean(by_day[day]) for day in sorted(by_day)]).within(0, 100)

    @cached_property
    def compared(self) -> Week | None:
        """The week before, if it is of the same kind."""
        return self.setting.calendar.comparable(self.setting.week)

    def change(self, network: str) -> Change:
        """The district against the week before: each hour the mean of the venues that both weeks have."""
        by_hour: dict[int, list[float]] = {}
        for venue in self.scored(network):
            for hour, d in self.differences(venue).items():
                by_hour.setdefault(hour, []).append(d)
        return change([{hour: mean(by_hour[hour]) for hour in sorted(by_hour)}] if by_hour else [])

    def differences(self, venue: VenueFacts) -> dict[int, float]:
        """A venue's hours against those of the week before."""
        return _differences(self.stored, self.setting.week, self.compared, _at(venue))

    def week_average(self, network: str, week: Week) -> float | None:
        """The district's score of another week, under the profiles of this one."""
        series = [profile.series for profile in self.setting.profiles[network]]
        found: dict[str, float] = {}
        for profile in reversed(series):
            for at, fields in self.stored.weeks.get(week, {}).items():
                if at.network == network and at.profile == profile and (x := number(fields, "ppi")) is not None:
                    found[at.venue] = x
        return mean([found[slug] for slug in sorted(found)]) if found else None

    def ranking(self, network: str) -> dict[str, list[Place]]:
        """By venue type, in the order of the register's types; best first."""
        by_type: dict[str, list[VenueFacts]] = {}
        for venue in self.venues[network]:
            if venue.is_ranked:
                by_type.setdefault(venue.venue.type, []).append(venue)
        return {kind: self._places(by_type[kind]) for kind in sorted(by_type)}

    def _places(self, venues: Sequence[VenueFacts]) -> list[Place]:
        known = {venue.slug: venue for venue in venues}
        ranked = [Ranked(venue.slug, venue.week["ppi"], venue.week["ppi_lo"], venue.week["ppi_hi"]) for venue in venues]
        sha = "|".join(sorted({venue.profile.sha256 for venue in venues}))
        days = {venue.slug: [venue.days[day] for day in sorted(venue.days)] for venue in venues}
        intervals = rank_intervals(days, str(self.setting.week), sha)
        places: list[Place] = []
        for tier, slugs in enumerate(tiers(ranked), 1):
            for slug in slugs:
                interval = intervals.get(slug, Interval(None, None))
                places.append(Place(facts=known[slug], rank=len(places) + 1, tier=tier, interval=interval))
        return places

    def counts(self, network: str, probe: str | None = None) -> Counts:
        """Of a network's slots, or of those of one probe. Unscheduled records (`wifi_event`) are in none."""
        total = Counts()
        for (_, of, name), counts in self.stored.slots.items():
            if of == network and name != "wifi_event" and probe in (None, name):
                total.add(counts)
        return total

    def causes(self, venue: VenueFacts) -> list[tuple[str, Blame]]:
        """Segments that verdicts blame, the one with most hours first."""
        blamed = self.stored.blame.get((venue.slug, venue.network), {})
        return sorted(
            ((segment, blame) for segment, blame in blamed.items() if segment != "none"),
            key=lambda one: (-one[1].hours, one[0]),
        )


def gathered(setting: Setting, stored: Stored) -> Facts:
    """The facts of a week.

    A venue belongs to it when the register has one of its interfaces there in the week, or when it was scored.
    """
    compared = setting.calendar.comparable(setting.week)
    counts: dict[tuple[str, str], Counts] = {}
    for (slug, network, probe), part in stored.slots.items():
        if probe != "wifi_event":
            counts.setdefault((slug, network), Counts()).add(part)
    found: dict[str, list[VenueFacts]] = {}
    for network in NETWORKS:
        drafts = [
            _venue(setting, stored, compared, slug, network, counts.get((slug, network), Counts()))
            for slug in _slugs(setting, stored, network)
        ]
        changes = {venue.slug: venue.change.p for venue in drafts}
        adjusted = holm(changes)
        found[network] = [_judged(venue, adjusted[venue.slug]) for venue in drafts]
    return Facts(setting=setting, stored=stored, venues=found)


def _slugs(setting: Setting, stored: Stored, network: str) -> list[str]:
    spans = (span for spans in setting.roll.spans.values() for span in spans)
    slugs = {span.venue for span in spans if span.network == network and setting.holds(span)}
    slugs |= {at.venue for at in stored.weeks.get(setting.week, {}) if at.network == network}
    return sorted(slug for slug in slugs if slug in setting.roll.venues)


def _venue(
    setting: Setting, stored: Stored, compared: Week | None, slug: str, network: str, counts: Counts
) -> VenueFacts:
    this = stored.weeks.get(setting.week, {})
    profiles = setting.profiles[network]
    scored = [profile for profile in profiles if At(slug, network, profile.series) in this]
    # Of two that scored it (joins in a part of the week) the one that rated it.
    rated = [p for p in scored if number(this[At(slug, network, p.series)], "ppi") is not None]
    profile = next(iter([*rated, *scored, *profiles]))
    at = At(slug, network, profile.series)
    last = stored.weeks.get(compared, {}).get(at, {}) if compared else {}
    days = stored.days.get(at, {})
    return VenueFacts(
        slug=slug,
        network=network,
        venue=setting.roll.venues[slug],
        profile=profile,
        week=this.get(at, {}),
        last=last,
        trail=[stored.weeks.get(setting.week.shifted(-n), {}).get(at, {}) for n in range(1, LOOK_BACK + 1)],
        days={day: days[day] for day in setting.week.days if day in days},
        counts=counts,
        promised=contract(setting, slug, network),
        change=change([d] if (d := _differences(stored, setting.week, compared, at)) else []),
        trend="flat",
        gate=gate(counts.validity, profile.gates),
    )


def _judged(venue: VenueFacts, adjusted: float | None) -> VenueFacts:
    return replace(venue, trend=word(venue.change, adjusted, "score"))


def _at(venue: VenueFacts) -> At:
    return At(venue.slug, venue.network, venue.profile.series)


def _differences(stored: Stored, week: Week, compared: Week | None, at: At) -> dict[int, float]:
    if compared is None:
        return {}
    return pairs(stored.hours.get(week, {}).get(at, {}), stored.hours.get(compared, {}).get(at, {}))


def contract(setting: Setting, slug: str, network: str) -> dict[str, float]:
    """What the operator has promised of a venue in the week, by indicator: the most of its interfaces."""
    promised: dict[str, float] = {}
    for span, terms in setting.roll.contracts.get((slug, network), ()):
        if setting.holds(span):
            for name, value in terms:
                if value is not None:
                    promised[name] = max(value, promised.get(name, value))
    return promised


def number(fields: Fields, name: str) -> float | None:
    """A stored number, +infinity for a time-out; None where there is none."""
    value = fields.get(name)
    return None if value is None or isinstance(value, str) else float(value)


def missing(fields: Fields) -> list[str]:
    """Indicators that a score went without."""
    return [name for name in str(fields.get("missing") or "").split(",") if name]
