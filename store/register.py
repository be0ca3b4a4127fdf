"""The site register: which agent's interface stood at which venue, and when. The only source of labels.

A file for people (TOML, ``sites.toml``): venues by slug, and sites, each with `from` and `to`. A record is joined by
its slot, so that the old records of a box that was moved keep their old venue.
"""

import logging
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from contract.times import known_zone
from store.tables import ConfigError, Table, convert, read_table

log = logging.getLogger(__name__)

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Bssid = Annotated[str, Field(pattern=r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")]
Hours = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)$")]
"""`09:00-17:30`, local time."""
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ALWAYS: Final = 2**62


def _parsed(value: object) -> object:
    """A time as TOML writes it, or as a string in ISO 8601."""
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value!r} is no time; write 2026-03-01, or 2026-03-01T09:00:00+08:00") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time())
    return value


def _not_all(agent: str) -> str:
    if agent == "all":
        raise ValueError("'all' is the broadcast topic, no agent's id")
    return agent


Time = Annotated[datetime, BeforeValidator(_parsed)]
"""A day is its midnight; without an offset it is local time of the register's `timezone`."""


class Names(Table):
    """A display name."""

    zh: Text
    en: Text


class Maintenance(Table):
    """A window that is announced and must not count."""

    from_: Annotated[Time, Field(alias="from")]
    to: Time
    reason: Text


class Contract(Table):
    """What the operator has promised; null where nothing was."""

    down_mbps: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=False)] | None = None
    up_mbps: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=False)] | None = None
    availability_ratio: Annotated[float, Field(gt=0, le=1, strict=False)] | None = None


class Venue(Table):
    """A place that people go to, or a node of the government network."""

    slug: Slug = "-"
    """The key of its table."""
    name: Names
    type: Slug
    """`gov_hall` `library` `culture` `sports` `park` `hospital` `community` `school` `node` ..."""
    unit: Text | None = None
    """Who is responsible for it."""
    open: dict[Day, list[Hours]] = {}
    """Opening hours by day of the week; a day that is missing is closed, an empty table says nothing."""
    busy: dict[Day, list[Hours]] = {}
    """Busy hours; an empty table takes those of the scoring profile."""
    upgraded: Time | None = None
    """When its Wi-Fi was upgraded."""
    controls: list[Slug] = []
    """Venues to compare it with, before and after."""
    maintenance: list[Maintenance] = []


class Site(Table):
    """An agent's interface at a venue, from one time to another."""

    agent: Annotated[str, Field(pattern=r"^[a-z0-9-]{3,32}$"), AfterValidator(_not_all)]
    interface: Annotated[str, Field(pattern=r"^[A-Za-z0-9._@-]{1,15}$")]
    from_: Annotated[Time, Field(alias="from")]
    to: Time | None = None
    """Null: still there."""
    venue: Slug
    network: Literal["wifi", "gov"]
    aps: list[Bssid] = []
    """Access points that belong to the venue."""
    portal_allowed_until: Time | None = None
    """When the captive portal's allow-list entry of this box ends."""
    contract: Contract = Contract()


class Sites(Table):
    """The file."""

    timezone: str = "Asia/Shanghai"
    venues: dict[Slug, Venue] = {}
    sites: list[Site] = []

    _known = field_validator("timezone")(known_zone)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for slug, venue in self.venues.items():
            for control in venue.controls:
                if control not in self.venues:
                    raise ValueError(f"venues.{slug}.controls: no such venue {control!r}; add [venues.{control}]")
        for i, site in enumerate(self.sites):
            if site.venue not in self.venues:
                raise ValueError(f"sites[{i}].venue: no such venue {site.venue!r}; add [venues.{site.venue}]")
        return self


class Span(NamedTuple):
    """Where an interface stood, in microseconds since 1970: from `start_us` on, before `end_us`."""

    start_us: int
    end_us: int
    venue: str
    network: str


class SiteView(NamedTuple):
    """What the status page reads of a site."""

    agent: str
    interface: str
    venue: str
    network: str


class Roll:
    """One register, read and checked."""

    def __init__(self, sites: Sites) -> None:
        """:raises ValueError: when two entries of one interface overlap; with the path of the second."""
        self.venues = {slug: venue.model_copy(update={"slug": slug}) for slug, venue in sites.venues.items()}
        self.spans: dict[tuple[str, str], list[Span]] = {}
        self.agents = frozenset(site.agent for site in sites.sites)
        self.contracts: dict[tuple[str, str], list[tuple[Span, Contract]]] = {}
        """What was promised, by venue and network."""
        self._sites = sites.sites
        self.zone = zone = ZoneInfo(sites.timezone)
        """Local time of all venues."""
        places: dict[tuple[str, str], list[tuple[Span, int]]] = {}
        for i, site in enumerate(sites.sites):
            start_us = _microseconds(site.from_, zone)
            end_us = _ALWAYS if site.to is None else _microseconds(site.to, zone)
            if end_us <= start_us:
                raise ValueError(f"sites[{i}].to: not after from; a site lasts from `from` until before `to`")
            span = Span(start_us, end_us, site.venue, site.network)
            for other, j in places.setdefault((site.agent, site.interface), []):
                if span.start_us < other.end_us and other.start_us < span.end_us:
                    raise ValueError(
                        f"sites[{i}]: overlaps sites[{j}] (agent {site.agent}, interface {site.interface}): "
                        "one interface stands in one place at a time; end the first with `to`"
                    )
            places[site.agent, site.interface].append((span, i))
            self.contracts.setdefault((site.venue, site.network), []).append((span, site.contract))
        for key, spans in places.items():
            # The newest first: nearly every record is about where the box is now.
            self.spans[key] = sorted((span for span, _ in spans), reverse=True)

    def portals(self, network: str) -> Iterable[tuple[str, datetime | None]]:
        """Of each site of a network, its venue and when the portal's allow-list entry of its box ends."""
        for site in self._sites:
            if site.network == network:
                until = site.portal_allowed_until
                local = until is not None and until.tzinfo is None
                yield site.venue, until.replace(tzinfo=self.zone) if until is not None and local else until

    def find(self, agent: str, interface: str, slot_us: int) -> Span | None:
        """Where it stood at `slot_us`; None when the register does not say."""
        for span in self.spans.get((agent, interface), ()):
            if span.start_us <= slot_us < span.end_us:
                return span
        return None


def read_sites(path: Path) -> Sites:
    """:raises ConfigError: one line for each mistake, with its path."""
    if not path.exists():
        raise ConfigError(f"register: {path}: no such file; make it: wanggan fleet import SHEET --out {path}")
    return convert(Sites, read_table(path), path)


def read(path: Path) -> Roll:
    """:raises ConfigError: one line for each mistake, with its path."""
    return checked(read_sites(path), path)


def checked(sites: Sites, path: Path) -> Roll:
    """Who was where, by the register of this file.

    :raises ConfigError: where its sites contradict one another.
    """
    try:
        return Roll(sites)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


class Register:
    """The register that holds now; takes a changed file without a restart, and keeps the old one when it is broken."""

    def __init__(self, path: Path) -> None:
        """:raises ConfigError: when the file cannot be used: a collector does not start with a broken register."""
        self._path = path
        self._seen = _signature(path)
        self.roll = read(path)
        self.broken: str | None = None
        """Why the newest file is not used; None when it is."""

    def refresh(self, *, force: bool = False) -> bool:
        """Read the file when it has changed; True when another register holds now. `broken` says what was wrong."""
        seen = _signature(self._path)
        if seen == self._seen and not force:
            return False
        self._seen = seen
        try:
            self.roll = read(self._path)
        except ConfigError as error:
            self.broken = str(error)
            log.error("site register not taken, the old one holds: %s", error)
            return False
        self.broken = None
        log.info("site register taken: %d agents, %d venues", len(self.roll.agents), len(self.roll.venues))
        return True

    def knows(self, agent: str) -> bool:
        """Whether it names the agent at all."""
        return agent in self.roll.agents

    def venue(self, slug: str) -> Venue | None:
        """The venue of that slug; None when there is none."""
        return self.roll.venues.get(slug)

    def sites(self, at: datetime) -> Iterable[SiteView]:
        """Every interface that is registered at the instant `at`."""
        at_us = microseconds(at)
        for (agent, interface), _ in self.roll.spans.items():
            span = self.roll.find(agent, interface, at_us)
            if span is not None:
                yield SiteView(agent, interface, span.venue, span.network)


def microseconds(at: datetime) -> int:
    """Since 1970, exactly."""
    return (at - _EPOCH) // _MICROSECOND


def _microseconds(at: datetime, zone: ZoneInfo) -> int:
    return microseconds(at if at.tzinfo is not None else at.replace(tzinfo=zone))


def _signature(path: Path) -> tuple[int, int, int] | None:
    """Changes with the file; None when it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
