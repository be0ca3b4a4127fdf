"""What an hour says of a venue: the items of the way from the radio to the targets, each good, bad or unknown.

An item is judged over the last good one before it, so that a bad Wi-Fi is not held against the uplink. A gateway is
never worse than what lies behind it: one that answers pings slowly, seldom or never is not held against the LAN.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from contract.record import NO_TARGET
from perception.scoring.profile import Verdict as Limits
from perception.stored import Row, total
from perception.verdicts.hour import Hour

State = Literal["good", "bad", "unknown"]

AWAY: Final = ("no_link", "not_associated", "auth_failed", "dhcp_failed")
"""Reasons of slots that never got as far as the way: they count for that stage alone."""
NAMES: Final = ("dns_failed", "dns_hijacked", "nxdomain")
"""Reasons of a page that are the resolver's."""
CAUGHT: Final = ("portal", "limited")
"""States of a portal that stands in the way. `walled` is not among them: the reflector answers and the internet does
not, which is as true of a broken exit."""
ON_THE_WAY: Final = ("latency", "dns", "web")
"""Probes whose slots tell whether the box was on the network."""
CONNECT_RETRY_MS: Final = 1000.0
"""A lost SYN is sent again after a second (RFC 6298)."""


class Measured(NamedTuple):
    """What some slots say of a target."""

    attempted: int
    failed: int
    loss_ratio: float | None = None
    ms: float | None = None
    """Median of what was answered."""
    least_ms: float | None = None
    """Median of the smallest round trips of each slot."""
    repeated_ratio: float = 0.0
    """Share of connections for which a packet had to be sent again, at least."""

    @property
    def ok(self) -> int:
        """Slots that were answered."""
        return self.attempted - self.failed

    @property
    def failed_ratio(self) -> float:
        """Of what was attempted."""
        return self.failed / self.attempted if self.attempted else 0.0


NOTHING: Final = Measured(0, 0, 0.0, 0.0)


@dataclass(frozen=True)
class Target:
    """A target of the way, as one venue's agents saw it."""

    role: str
    name: str
    state: State
    by_address: State
    """By pings alone: no name had to be resolved."""
    measured: Measured
    """By pings where there are any."""
    repeated_ratio: float | None = None
    """Of connections to its pages, those for which a packet had to be sent again; None without pages."""


@dataclass(frozen=True)
class Link:
    """The radio, medians over the hour; None for what the driver does not tell."""

    state: State = "unknown"
    beyond: bool = False
    """Beyond a limit so far that it needs no other witness."""
    rssi_dbm: float | None = None
    snr_db: float | None = None
    tx_retry_ratio: float | None = None
    busy_ratio: float | None = None


@dataclass(frozen=True)
class Joining:
    """Getting onto the network."""

    state: State = "unknown"
    stage: str = ""
    """The one that fails: ``scan auth assoc eap handshake dhcp``."""
    joins: int = 0
    """The last ones that were looked at."""
    failed: int = 0
    """Of them, those that failed at `stage`; 0 where slots tell it."""
    share: float = 0.0
    """Of the hour's slots that failed so."""
    no_link: float = 0.0
    """Share of slots without a link."""


@dataclass(frozen=True)
class Gate:
    """The captive portal."""

    state: State = "unknown"
    found: str = ""
    """Its commonest state that is not `open`."""
    ms: float | None = None


@dataclass(frozen=True)
class Names:
    """The resolvers, and the worst of them."""

    state: State = "unknown"
    second_good: bool = False
    hijacked: bool = False
    resolver: str = ""
    ms: float | None = None
    failed_ratio: float | None = None


@dataclass(frozen=True)
class Own:
    """What the agents themselves kept back. `out`: too little is left of that agent to judge by it."""

    out: Mapping[str, str] = field(default_factory=dict)
    """By agent: its commonest reason, ``no_records`` for silence."""
    agents: int = 0

    @property
    def all_out(self) -> bool:
        """No agent is left."""
        return self.agents > 0 and len(self.out) == self.agents


@dataclass(frozen=True)
class Items:
    """Everything known of a venue's hour."""

    own: Own
    link: Link
    joining: Joining
    gate: Gate
    names: Names
    gateway: State
    gateway_measured: Measured
    gateway_elsewhere: bool
    """Another agent of the venue has a good gateway while this item is bad."""
    contended: bool
    """The gateway's answers vary as they do when the air is full, and the driver does not say whether it is."""
    core: State
    targets: Sequence[Target]
    """Core, internet, service."""
    down_mbps: float | None = None
    working_rise_ms: float | None = None

    def of(self, role: str) -> list[Target]:
        """Targets of a role."""
        return [target for target in self.targets if target.role == role]

    def role(self, role: str) -> State:
        """Bad when one of them is."""
        return worst(target.state for target in self.of(role))

    def by_address(self, role: str) -> State:
        """The same by pings."""
        return worst(target.by_address for target in self.of(role))

    @property
    def bad_targets(self) -> list[Target]:
        """All that are bad."""
        return [target for target in self.targets if target.state == "bad"]

    @property
    def states(self) -> list[State]:
        """Of all items."""
        named: list[State] = [self.link.state, self.joining.state, self.gate.state, self.names.state, self.gateway]
        return [*named, *(target.state for target in self.targets)]


def worst(states: Iterable[State]) -> State:
    """Bad when one is, good when all that are known are, unknown when none is known."""
    found = set(states)
    return "bad" if "bad" in found else "good" if "good" in found else "unknown"


def items(hour: Hour) -> dict[str, Items]:
    """Of every venue of the hour."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in hour.rows:
        if row.network == hour.network:
            rows[row.venue].append(row)
    return {venue: _items(hour, venue, agents, rows[venue]) for venue, agents in hour.venues.items()}


def _items(hour: Hour, venue: str, agents: frozenset[str], rows: Sequence[Row]) -> Items:
    limits = hour.limits
    own = _own(agents, rows, limits)
    by: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.agent not in own.out:
            by[row.probe].append(row)
    link = _link(by["wifi_link"], limits)
    way = _Way(hour, by["latency"], by["web"])
    gateway = way.gateway()
    targets = way.targets(gateway)
    joining = Joining()
    if hour.network == "wifi":
        joining = _joining(by, hour.earlier_joins.get(venue, ()), link, limits)
    elif any(by.values()):
        joining = Joining(no_link=_shares(by)["no_link"])
    seen = way.gateway_seen
    lost = seen.failed_ratio >= limits.failed_ratio or (seen.loss_ratio or 0.0) > limits.loss_rise_ratio
    return Items(
        own=own,
        link=link,
        joining=joining,
        gate=_gate(by["portal"], expected=venue in hour.portals, limits=limits),
        names=_names(by["dns"], by["portal"], limits),
        gateway=gateway,
        gateway_measured=seen,
        gateway_elsewhere=gateway == "bad" and way.gateway_good_elsewhere(),
        contended=(
            gateway == "bad"
            and not lost
            and link.state != "unknown"
            and link.busy_ratio is None
            and seen.least_ms is not None
            and seen.least_ms <= limits.rise_ms.gateway / 2
        ),
        core=worst(target.state for target in targets if target.role == "core"),
        targets=targets,
        down_mbps=_median(by["throughput"], "down_mbps"),
        working_rise_ms=_median(by["throughput"], "working_rise_ms"),
    )


# -- our own part


def _own(agents: frozenset[str], rows: Sequence[Row], limits: Limits) -> Own:
    """Agents of which more than the limit of what was expected is missing or invalid."""
    out = {}
    for agent in sorted(agents | {row.agent for row in rows}):
        found = [row for row in rows if row.agent == agent and row.probe not in ("agent", "wifi_event")]
        records = sum(row.n for row in found)
        # A target that is away for everybody is relabelled as no fault of the network's; it is none of ours either.
        relabelled = sum(row.reasons.get("target_down", 0) for row in found)
        invalid = sum(row.invalid for row in found) - relabelled
        missing = sum(max(0, row.expected - max(row.n, row.planned)) for row in found)
        expected = records + missing
        if not expected:
            if any(row.planned for row in found):
                continue  # under repair: nothing is known, and nobody is to blame
            out[agent] = "no_records"
        elif missing > limits.invalid_ratio * expected:
            out[agent] = "no_records"
        elif invalid + missing > limits.invalid_ratio * expected:
            out[agent] = _commonest(row.reasons for row in found)
    return Own(out, len(agents | set(out)))


_OWN_REASONS: Final = (
    "cpu_limited", "clock_step", "wrong_interface", "no_permission", "target_denied", "tool_missing", "internal",
)  # fmt: skip


def _commonest(reasons: Iterable[Mapping[str, int]]) -> str:
    count: Counter[str] = Counter()
    for found in reasons:
        count.update({reason: found.get(reason, 0) for reason in _OWN_REASONS})
    return max(_OWN_REASONS, key=lambda reason: (count[reason], reason))


# -- radio, joining, portal, names


def _link(rows: Sequence[Row], limits: Limits) -> Link:
    if not rows:
        return Link()
    row = total(rows)
    rssi, snr, retry, busy, lost = (
        _middle(row, name) for name in ("rssi_dbm", "snr_db", "tx_retry_ratio", "busy_ratio", "beacon_loss")
    )
    known = [value for value in (rssi, snr, retry, busy, lost) if value is not None]
    if not known or row.ok < limits.min_attempted:
        return Link("unknown", False, rssi, snr, retry, busy)

    def low(value: float | None, limit: float) -> bool:
        return value is not None and value < limit

    def high(value: float | None, limit: float) -> bool:
        return value is not None and value > limit

    bad = (
        low(rssi, limits.rssi_dbm)
        or low(snr, limits.snr_db)
        or high(retry, limits.tx_retry_ratio)
        or high(busy, limits.busy_ratio)
        or high(lost, 0)
    )
    beyond = (
        low(rssi, limits.rssi_dbm - HALF_DB)
        or low(snr, limits.snr_db - HALF_DB)
        or high(retry, (1 + limits.tx_retry_ratio) / 2)
        or high(busy, (1 + limits.busy_ratio) / 2)
    )
    return Link("bad" if bad else "good", beyond, rssi, snr, retry, busy)


HALF_DB: Final = 3.0
"""Half the power."""


def _shares(by: Mapping[str, Sequence[Row]]) -> dict[str, float]:
    """The share of the way's slots that failed before it, by reason."""
    rows = [row for probe in ON_THE_WAY for row in by.get(probe, ()) if row.target != NO_TARGET]
    slots = sum(row.attempted for row in rows)
    return {reason: sum(row.reasons.get(reason, 0) for row in rows) / slots if slots else 0.0 for reason in AWAY}


def _joining(by: Mapping[str, Sequence[Row]], earlier: Sequence[Row], link: Link, limits: Limits) -> Joining:
    shares = _shares(by)
    no_address = _state_share(by.get("portal", ()), ("no_ip",), limits)
    unassociated = shares["not_associated"] + shares["no_link"]
    by_slots = {
        # The signal tells whether nobody was found or nobody let us in.
        "assoc" if link.state == "good" else "scan": unassociated,
        "eap": shares["auth_failed"],
        "dhcp": max(shares["dhcp_failed"], no_address or 0.0),
    }
    stage, share = max(by_slots.items(), key=lambda pair: pair[1])
    joins, failed_stage, failed = _last_joins(by.get("wifi_join", ()), earlier, limits)
    tried = any(row.attempted for probe in ON_THE_WAY for row in by.get(probe, ()))
    if failed_stage:
        return Joining("bad", failed_stage, joins, failed, share, shares["no_link"])
    if share >= limits.slots_ratio:
        return Joining("bad", stage, joins, 0, share, shares["no_link"])
    return Joining("good" if tried or joins else "unknown", "", joins, 0, share, shares["no_link"])


STAGES: Final = ("scan", "auth", "assoc", "eap", "handshake", "dhcp")


def _last_joins(now: Sequence[Row], earlier: Sequence[Row], limits: Limits) -> tuple[int, str, int]:
    """Joins looked at, the stage at which too many of them failed (``""``: none), and how many did. What failed in
    earlier hours alone is over."""
    newest = total(now) if now else None
    if newest is None or not newest.attempted:
        return 0, "", 0
    taken = [newest]
    for row in earlier:
        if sum(row.attempted for row in taken) >= limits.join_window:
            break
        taken.append(row)
    joins = sum(row.attempted for row in taken)
    for stage in STAGES:
        failed = sum(row.reasons.get(f"stage.{stage}", 0) for row in taken)
        often = failed >= limits.join_failures and failed * limits.join_window >= joins * limits.join_failures
        if often and newest.reasons.get(f"stage.{stage}"):
            return joins, stage, failed
    return joins, "", 0


def _state_share(rows: Sequence[Row], states: Sequence[str], limits: Limits) -> float | None:
    """Of the portal checks that were made; None of too few."""
    made = sum(row.attempted - sum(row.reasons.get(reason, 0) for reason in AWAY[:3]) for row in rows)
    if made < limits.min_attempted:
        return None
    return sum(row.reasons.get(f"portal.{state}", 0) for row in rows for state in states) / made


def _gate(rows: Sequence[Row], *, expected: bool, limits: Limits) -> Gate:
    share = _state_share(rows, CAUGHT, limits)
    if share is None:
        return Gate()
    row = total(rows)
    metric = row.metric("portal_ms")
    ms = metric.quantile(0.5) if metric.n else None
    slow = ms is not None and metric.n >= limits.min_attempted and ms > limits.portal_ms
    count = {state: row.reasons.get(f"portal.{state}", 0) for state in CAUGHT}
    found = max(CAUGHT, key=lambda state: count[state])
    bad = slow or (not expected and share >= limits.slots_ratio)
    return Gate("bad" if bad else "good", found if count[found] else "", ms)


def _names(rows: Sequence[Row], checks: Sequence[Row], limits: Limits) -> Names:
    by: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by[row.resolver].append(row)
    judged = [found for name in sorted(by) if (found := _resolver(name, total(by[name]), limits)) is not None]
    good = any(found.state == "good" for found in judged)
    bad = [found for found in judged if found.state == "bad"]
    checked = _state_share(checks, ("no_dns", "dns_hijack"), limits) or 0.0
    if not bad and checked >= limits.slots_ratio:
        hijacked = any(row.reasons.get("portal.dns_hijack") for row in checks)
        return Names("bad", good, hijacked, "", None, checked)
    if not judged:
        return Names()
    worst_of = max(bad or judged, key=lambda found: (found.failed_ratio or 0.0, found.ms or 0.0))
    return Names(
        worst_of.state, good, any(f.hijacked for f in bad), worst_of.resolver, worst_of.ms, worst_of.failed_ratio
    )


def _resolver(name: str, row: Row, limits: Limits) -> Names | None:
    away = sum(row.reasons.get(reason, 0) for reason in AWAY)
    attempted, failed = row.attempted - away, row.failed - away
    if attempted < limits.min_attempted:
        return None
    ms = row.metric("rtt_ms").quantile(0.5, failures=False)
    hijacked = row.reasons.get("dns_hijacked", 0) >= limits.slots_ratio * attempted
    ratio = failed / attempted
    bad = hijacked or ratio >= limits.failed_ratio or (ms is not None and ms > limits.dns_rtt_ms)
    return Names("bad" if bad else "good", False, hijacked, name, ms, ratio)


# -- the way


class _Way:
    """Gateway, core, internet and service of one venue."""

    def __init__(self, hour: Hour, pings: Sequence[Row], pages: Sequence[Row]) -> None:
        self._limits = hour.limits
        self._silent = hour.silent
        self._pings: dict[tuple[str, str], list[Row]] = defaultdict(list)
        self._pages: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for kind, rows in ((self._pings, pings), (self._pages, pages)):
            for row in rows:
                if row.target != NO_TARGET:
                    kind[hour.role(row.agent, row.target), row.target].append(row)
        self._gateways = [row for (role, _), rows in self._pings.items() if role == "gateway" for row in rows]
        self.gateway_seen = _pinged(self._gateways)
        self._behind = [
            measured
            for (role, _), rows in self._pings.items()
            if role in ("core", "internet", "service") and self._known(measured := _pinged(rows))
        ]

    def gateway(self) -> State:
        """Bad when it and everything behind it is, by the gateway's own limits."""
        if not self._known(self.gateway_seen):
            return "unknown"
        if all((row.agent, row.target) in self._silent for row in self._gateways):
            return "unknown"
        return (
            "bad" if self._is_bad(self._bounded(self.gateway_seen), NOTHING, self._limits.rise_ms.gateway) else "good"
        )

    def gateway_good_elsewhere(self) -> bool:
        """Whether one of several agents finds its gateway good."""
        agents = {row.agent for row in self._gateways}
        each = [_pinged([row for row in self._gateways if row.agent == agent]) for agent in sorted(agents)]
        known = [measured for measured in each if self._known(measured)]
        return any(not self._is_bad(measured, NOTHING, self._limits.rise_ms.gateway) for measured in known)

    def targets(self, gateway: State) -> list[Target]:
        """In the order of the way."""
        before = NOTHING
        if gateway == "good" and self.gateway_seen.ms is not None:
            before = self._bounded(self.gateway_seen)
        found = self._of("core", before, self._limits.rise_ms.core)
        good = [target.measured for target in found if target.by_address == "good"]
        if good:
            before = min(good, key=lambda measured: measured.ms or 0.0)
        for role in ("internet", "service"):
            found += self._of(role, before, self._limits.rise_ms.internet)
        return found

    def _of(self, role: str, before: Measured, limit_ms: float | None) -> list[Target]:
        found = []
        for name in sorted({name for kind, name in (*self._pings, *self._pages) if kind == role}):
            pinged, opened = _pinged(self._pings.get((role, name), [])), _opened(self._pages.get((role, name), []))
            by_address = self._state(pinged, before, limit_ms)
            state = worst((by_address, self._state(opened, before, limit_ms)))
            measured = pinged if pinged.attempted else opened
            found.append(Target(role, name, state, by_address, measured, opened.repeated_ratio if opened.ok else None))
        return found

    def _known(self, measured: Measured) -> bool:
        return measured.attempted >= self._limits.min_attempted

    def _state(self, measured: Measured, before: Measured, limit_ms: float | None) -> State:
        if not self._known(measured):
            return "unknown"
        return "bad" if self._is_bad(measured, before, limit_ms) else "good"

    def _is_bad(self, measured: Measured, before: Measured, limit_ms: float | None) -> bool:
        limits = self._limits
        if max(measured.failed_ratio, measured.repeated_ratio) >= limits.failed_ratio:
            return True
        if measured.loss_ratio is not None and measured.loss_ratio - (before.loss_ratio or 0) > limits.loss_rise_ratio:
            return True
        return limit_ms is not None and measured.ms is not None and measured.ms - (before.ms or 0) > limit_ms

    def _bounded(self, measured: Measured) -> Measured:
        """What came back from behind it also passed it."""
        seen = [measured, *self._behind]
        best = min(seen, key=lambda one: one.failed_ratio)
        return Measured(
            best.attempted,
            best.failed,
            min((one.loss_ratio for one in seen if one.loss_ratio is not None), default=None),
            min((one.ms for one in seen if one.ms is not None), default=None),
        )


def _pinged(rows: Sequence[Row]) -> Measured:
    if not rows:
        return Measured(0, 0)
    row = total(rows)
    away, down = sum(row.reasons.get(reason, 0) for reason in AWAY), row.reasons.get("target_down", 0)
    return Measured(
        row.attempted - away + down,
        row.failed - away + down,
        row.metric("loss_ratio").mean,
        row.metric("rtt_p50_ms").quantile(0.5, failures=False),
        _middle(row, "rtt_min_ms"),
    )


def _opened(rows: Sequence[Row]) -> Measured:
    """Of pages, without what the resolver or a portal did to them; the time is that of the connection."""
    if not rows:
        return Measured(0, 0)
    row = total(rows)
    away = sum(row.reasons.get(reason, 0) for reason in (*AWAY, *NAMES, "portal"))
    down = row.reasons.get("target_down", 0)
    connect = row.metric("tcp_ms")
    again = 0.0
    if connect.mean is not None and connect.minimum is not None:
        again = (connect.mean - connect.minimum) / CONNECT_RETRY_MS
    ms = connect.p50
    return Measured(row.attempted - away + down, row.failed - away + down, None, ms, None, again)


def _middle(row: Row, name: str) -> float | None:
    """The hour's median; of several agents together the mean."""
    metric = row.metric(name)
    if not metric.n:
        return None
    value = metric.quantile(0.5, failures=False)
    if value is None or value == float("inf"):
        value = metric.mean
    return value


def _median(rows: Sequence[Row], name: str) -> float | None:
    return _middle(total(rows), name) if rows else None
