"""Everything the page shows and the API gives, built from the collector's state, the register and recent rows.

Levels, worst first: `bad` (a job failed, an agent is silent), `caution` (something to look at, the network not proven
bad), `ok`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, Literal

from msgspec import Struct

from collector.state import AgentState, Link, State
from collector.web import wifi
from collector.web.recent import Recent, Seen, Track
from collector.web.seams import Site, Venues
from collector.web.sparkline import Slot
from collector.web.standing import ScoreView, Standing, VerdictView
from collector.web.wifi import Told, WifiView
from contract.fields import CERT_ALARM_DAYS
from contract.messages import Job
from contract.series import OUTCOME_FIELDS, FieldValue
from contract.vocabulary import Outcome

Level = Literal["bad", "caution", "ok"]
LEVELS: Final[tuple[Level, ...]] = ("bad", "caution", "ok")

Contact = Literal["online", "silent", "unknown"]
"""`unknown`: the collector itself has no broker, so it cannot tell."""

JobState = Literal[Outcome, "stale", "waiting"]
"""The newest record's outcome; `stale` when it is older than 3 periods; `waiting` when there is none yet."""

JOB_LEVEL: Final[dict[JobState, Level]] = {
    "ok": "ok",
    "skipped": "ok",
    "failed": "bad",
    "invalid": "caution",
    "stale": "caution",
    "waiting": "caution",
}

USUAL_PERIOD_S: Final = 60.0
"""Taken for an agent that announced no jobs."""
GRACE_S: Final = 30.0
"""A record may arrive so long after its slot without being late: run time, batching, one resend."""
NAMED: Final = 10
"""Agents that an alarm names; of the others it gives the number."""
UNANNOUNCED_S: Final = 3600.0
"""Results of no announced job (`once`, an event, a removed job) are shown so long."""


class LinkView(Struct, kw_only=True):
    """A connection of the collector."""

    up: bool | None
    """Null before the first attempt ended."""
    since: datetime | None
    reason: str | None
    """Why it is down; null while it is up."""


class Records(Struct, kw_only=True):
    """Counts of records since the collector started."""

    received: int
    stored: int
    rejected: int
    later: int
    dead_letters: int
    dropped: int


class Agents(Struct, kw_only=True):
    """Counts of agents; `waiting` for registration are in none of the others."""

    online: int
    silent: int
    unknown: int
    waiting: int


class JobView(Struct, kw_only=True):
    """A job and the newest of its records. Without a record, `outcome`, `slot` and `duration_s` are null."""

    probe: str
    target: str
    interface: str
    provider: str | None
    resolver: str | None
    role: str | None
    period_s: float | None
    """Null when the job is not announced."""
    state: JobState
    outcome: str | None
    reason: str | None
    detail: str | None
    flags: list[str]
    slot: datetime | None
    duration_s: float | None
    values: dict[str, FieldValue]
    """The probe's own fields; null is not measured."""
    hour: list[Slot]
    """The last hour, oldest first; values are the field that the page draws."""

    @property
    def key(self) -> str:
        """What tells it from the agent's other jobs; stable for the page."""
        return "/".join(part for part in (self.probe, self.target, self.provider, self.resolver) if part)


class SiteView(Struct, kw_only=True):
    """An agent's interface at a venue."""

    agent: str
    interface: str
    network: str
    contact: Contact
    offline: bool
    """It said so itself, or the broker for it."""
    last_message_at: datetime | None
    """The last batch or birth; null when there was none since the collector started."""
    version: str | None
    clock_offset_ms: float | None
    wifi: WifiView | None
    """Null where no record tells of a radio."""
    jobs: list[JobView]


class Name(Struct):
    """A display name."""

    zh: str
    en: str


class VenueView(Struct, kw_only=True):
    """A venue, its agents and their jobs, and how many of the jobs are in each state."""

    slug: str
    name: Name
    type: str | None
    level: Level
    networks: list[str]
    states: dict[JobState, int]
    silent: int
    """Agents' interfaces that are silent."""
    scores: list[ScoreView]
    """One for each network; none before perception has scored a day."""
    verdicts: list[VerdictView]
    """One for each network; none where the newest is hours old."""
    sites: list[SiteView]


class Waiting(Struct, kw_only=True):
    """An agent, or an interface of a registered one, that the register does not know."""

    agent: str
    interfaces: list[str]
    """As announced; empty when it announced no job."""
    last_message_at: datetime | None


class Overview(Struct, kw_only=True):
    """The whole picture at one instant."""

    version: str
    simulated: bool
    """Nothing here was measured."""
    at: datetime
    started_at: datetime
    broker: LinkView
    store: LinkView
    values_at: datetime | None
    """When values were last read from the store; null before the first time."""
    alarms: dict[str, str]
    """What a person must look at, in words, by name: `register` `store_limit` `dead_letters` `certificates`."""
    queue_bytes: int
    records: Records
    agents: Agents
    venues: list[VenueView]
    """Worst first."""
    waiting: list[Waiting]
    reports: list[str]
    """Files of the newest weekly report, under `/reports/`."""


def build(
    state: State,
    recent: Recent,
    venues: Venues,
    now: datetime,
    version: str,
    *,
    standing: Standing | None = None,
    simulated: bool = False,
) -> Overview:
    """The picture at `now`; without `standing` nothing of scores and reports."""
    by_venue: dict[str, list[SiteView]] = defaultdict(list)
    for site, tracks in _with_tracks(venues.sites(now), recent.tracks):
        by_venue[site.venue].append(_site(site, tracks, state, now))
    cards = [_venue(slug, sites, venues, standing) for slug, sites in by_venue.items()]
    # A gateway that never answers pings is a failing job all the year; what a verdict blames comes before it.
    cards.sort(key=lambda card: (LEVELS.index(card.level), card.silent == 0, not _blamed(card.verdicts), card.slug))
    sites = [site for card in cards for site in card.sites]
    waiting = _waiting(state, sites)
    return Overview(
        version=version,
        simulated=simulated,
        at=now,
        started_at=state.started_at,
        broker=_link(state.broker),
        store=_store_link(state.store, recent),
        values_at=recent.read_at,
        alarms=dict(state.alarms) | _certificates(sites),
        queue_bytes=state.queue_bytes,
        records=Records(**{name: state.counters[name] for name in Records.__struct_fields__}),
        agents=count_agents(sites, waiting),
        venues=cards,
        waiting=waiting,
        reports=standing.reports if standing else [],
    )


def contact_of(agent: AgentState | None, broker: Link, now: datetime) -> tuple[Contact, bool, datetime | None]:
    """Whether an agent is heard, whether it is known to be offline, and when it was last heard.

    Silent is: offline by its own status or will, or nothing heard for 3 of its shortest periods.
    """
    heard = [at for at in (agent.last_batch_at, agent.status_at) if at is not None] if agent else []
    last = max(heard, default=None)
    if broker.since is not None and not broker.up:
        return "unknown", False, last
    if agent is None or last is None:
        return "silent", False, last
    if agent.status is not None and not agent.status.online:
        # The will's own arrival is no message of the agent.
        return "silent", True, agent.last_batch_at or agent.status_at
    jobs = agent.status.jobs if agent.status else []
    period_s = min((job.period_s for job in jobs), default=USUAL_PERIOD_S)
    silent = (now - last).total_seconds() > 3 * period_s + GRACE_S
    return "silent" if silent else "online", False, last


def level_of(states: Iterable[JobState], contacts: Iterable[Contact]) -> Level:
    """The worst of them."""
    found = {JOB_LEVEL[state] for state in states}
    contacts = set(contacts)
    if "bad" in found or "silent" in contacts:
        return "bad"
    return "caution" if "caution" in found or "unknown" in contacts else "ok"


def count_agents(sites: Iterable[SiteView], waiting: Iterable[Waiting]) -> Agents:
    """Each agent once, as its interfaces are heard."""
    contacts = {site.agent: site.contact for site in sites}
    counts = {contact: list(contacts.values()).count(contact) for contact in ("online", "silent", "unknown")}
    return Agents(waiting=sum(view.agent not in contacts for view in waiting), **counts)


_Identity = tuple[str, str, str, str]
"""Probe, target, provider and resolver: what tells the jobs of a site apart."""
_Tracks = dict[_Identity, Seen]


def _with_tracks(sites: Iterable[Site], tracks: Mapping[Track, Seen]) -> list[tuple[Site, _Tracks]]:
    """Each site with its own tracks: those of its agent, interface, venue and network."""
    own: dict[tuple[str, str, str, str], _Tracks] = defaultdict(dict)
    for track, seen in tracks.items():
        place = (track.agent, track.interface, track.venue, track.network)
        own[place][track.probe, track.target, track.provider, track.resolver] = seen
    return [(site, own[site.agent, site.interface, site.venue, site.network]) for site in sites]


def _site(site: Site, tracks: _Tracks, state: State, now: datetime) -> SiteView:
    agent = state.agents.get(site.agent)
    status = agent.status if agent else None
    contact, offline, last = contact_of(agent, state.broker, now)
    announced = {
        (job.probe, job.target, job.provider or "", job.resolver or ""): job
        for job in (status.jobs if status else [])
        if job.interface == site.interface
    }
    jobs = []
    for identity in sorted(announced.keys() | tracks.keys(), key=_order):
        view = _job(identity, site.interface, announced.get(identity), tracks.get(identity), now)
        if view.period_s is None and announced and view.slot and (now - view.slot).total_seconds() > UNANNOUNCED_S:
            continue
        jobs.append(view)
    return SiteView(
        agent=site.agent,
        interface=site.interface,
        network=site.network,
        contact=contact,
        offline=offline,
        last_message_at=last,
        version=status.version if status else None,
        clock_offset_ms=agent.clock_offset_ms if agent else None,
        wifi=wifi.view(_told(identity[0], seen) for identity, seen in tracks.items()),
        jobs=jobs,
    )


_PROBES: Final = ("portal", "wifi_link", "wifi_join", "latency", "dns", "web", "throughput", "video", "path")
"""From the radio outwards; probes not named come after."""


def _order(identity: _Identity) -> tuple[object, ...]:
    probe = identity[0]
    return (_PROBES.index(probe) if probe in _PROBES else len(_PROBES), *identity)


def _job(identity: _Identity, interface: str, job: Job | None, seen: Seen | None, now: datetime) -> JobView:
    probe, target, provider, resolver = identity
    fields = seen.newest.fields if seen else {}
    slot = datetime.fromtimestamp(seen.newest.time_ns / 1e9, UTC) if seen else None
    period_s = job.period_s if job else None
    flags = str(fields.get("flags") or "")
    return JobView(
        probe=probe,
        target=target,
        interface=interface,
        provider=provider or None,
        resolver=resolver or None,
        role=job.role if job else None,
        period_s=period_s,
        state=_job_state(fields.get("outcome"), slot, period_s, now),
        outcome=_text(fields.get("outcome")),
        reason=_text(fields.get("reason")),
        detail=_text(fields.get("detail")),
        flags=flags.split(",") if flags else [],
        slot=slot,
        duration_s=_number(fields.get("duration_s")),
        values={name: value for name, value in fields.items() if name not in OUTCOME_FIELDS},
        hour=[Slot(slot_ns / 1e9, *what) for slot_ns, what in sorted(seen.hour.items())] if seen else [],
    )


def _job_state(outcome: FieldValue, slot: datetime | None, period_s: float | None, now: datetime) -> JobState:
    if slot is None:
        return "waiting"
    if period_s is not None and (now - slot).total_seconds() > 3 * period_s + GRACE_S:
        return "stale"
    match outcome:
        case "ok" | "failed" | "invalid" | "skipped":
            return outcome
    # Written by someone else: shown as ours to look into, and nothing else on the page suffers.
    return "invalid"


def _venue(slug: str, sites: list[SiteView], venues: Venues, standing: Standing | None) -> VenueView:
    venue = venues.venue(slug)
    states: dict[JobState, int] = defaultdict(int)
    for site in sites:
        for job in site.jobs:
            states[job.state] += 1
    verdicts = standing.verdicts.get(slug, []) if standing else []
    level = level_of(states, (site.contact for site in sites))
    return VenueView(
        slug=slug,
        name=Name(venue.name.zh, venue.name.en) if venue else Name(slug, slug),
        type=venue.type if venue else None,
        level="caution" if level == "ok" and _blamed(verdicts) else level,
        networks=sorted({site.network for site in sites}),
        states=dict(states),
        silent=sum(site.contact == "silent" for site in sites),
        scores=standing.scores.get(slug, []) if standing else [],
        verdicts=verdicts,
        sites=sorted(sites, key=lambda site: (site.agent, site.interface)),
    )


def _blamed(verdicts: Iterable[VerdictView]) -> bool:
    return any(verdict.segment != "none" for verdict in verdicts)


def _waiting(state: State, sites: list[SiteView]) -> list[Waiting]:
    registered = {(site.agent, site.interface) for site in sites}
    waiting = []
    for name, agent in sorted(state.agents.items()):
        announced = {job.interface for job in agent.status.jobs} if agent.status else set()
        missing = sorted(interface for interface in announced if (name, interface) not in registered)
        if missing or not (agent.registered or any(site.agent == name for site in sites)):
            last = max((at for at in (agent.last_batch_at, agent.status_at) if at), default=None)
            waiting.append(Waiting(agent=name, interfaces=missing, last_message_at=last))
    return waiting


def _certificates(sites: list[SiteView]) -> dict[str, str]:
    """The alarm on certificates that end soon, by the agents' own newest word; empty where none does."""
    told = {
        site.agent: days
        for site in sites
        for job in site.jobs
        if job.probe == "agent" and (days := _number(job.values.get("cert_days_left"))) is not None
    }
    near = sorted((days, agent) for agent, days in told.items() if days < CERT_ALARM_DAYS)
    if not near:
        return {}
    more = f", + {len(near) - NAMED}" if len(near) > NAMED else ""
    return {"certificates": ", ".join(f"{agent} {max(int(days), 0)} d" for days, agent in near[:NAMED]) + more}


def _link(link: Link) -> LinkView:
    tried = link.since is not None
    return LinkView(up=link.up if tried else None, since=link.since, reason=link.reason)


def _store_link(link: Link, recent: Recent) -> LinkView:
    """The store is up when records can be written and read."""
    if recent.failure is None or (link.since is not None and not link.up):
        return _link(link)
    return LinkView(up=False, since=recent.failing_since, reason=recent.failure)


def _told(probe: str, seen: Seen) -> Told:
    row = seen.newest
    at = datetime.fromtimestamp(row.time_ns / 1e9, UTC)
    return Told(probe, at, _text(row.fields.get("outcome")), _text(row.fields.get("reason")), row.fields)


def _text(value: FieldValue) -> str | None:
    return None if value is None else str(value)


def _number(value: FieldValue) -> float | None:
    return float(value) if isinstance(value, float | int) else None
