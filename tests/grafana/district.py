"""A small virtual district in influxd, with everything that the real writers make of it; and Grafana's place at it:
variables and macros filled in."""

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

from perception import profiles
from perception.calendar import NO_CALENDAR
from perception.config import Profiles, ProfileSettings
from perception.fleet import FleetWatch
from perception.rollups.roll import HOUR_NS
from perception.rollups.roller import Place, Roller
from perception.scores.scorer import Scorer
from perception.work import judged
from simulator import district
from simulator.district import District
from simulator.faults import Fault
from simulator.output import announcements, statuses, to_points
from simulator.virtual import VirtualAgent
from simulator.world import World
from store import register
from store.influx import InfluxStore
from store.interface import Refusal, Store
from store.point import Point
from store.sqlite import SqliteStore
from tests.grafana import collecting
from tests.grafana.places import SOURCES, Asked, Json

START = datetime(2026, 11, 18, tzinfo=UTC)
"""A Wednesday, 08:00 in Shanghai."""
START_MS = round(START.timestamp() * 1000)
START_NS = START_MS * 10**6
HOUR_MS = 3_600_000
SPELLS = ((4, 10), (24, 30))
"""Hours after the start that are simulated: an afternoon, and the next day from 08:00 to 14:00. The night between them
is of no interest here, and costs time."""
END_NS = START_NS + SPELLS[-1][1] * HOUR_NS
MIDNIGHT_MINUTE = START_MS // 60_000 + 16 * 60
DISTRICT = district.build(1, 8, 8, MIDNIGHT_MINUTE)
WIFI = [box for box in DISTRICT.boxes if box.venue.network == "wifi"]
GOV = [box for box in DISTRICT.boxes if box.venue.network == "gov"]


def minute(hour: float) -> int:
    """Of the simulation, `hour` hours after its start."""
    return START_MS // 60_000 + round(60 * hour)


def fault(kind: str, box: district.Box, first: float, last: float, strength: float = 1.0) -> Fault:
    return Fault(kind, box.venue.slug, minute(first), minute(last), strength)


OUTAGE_HOUR = 10
"""At its end, an outage upstream has all venues."""
QUIET_HOUR = 26
"""Nothing is wrong."""
LAST_HOUR = 30
FAULTS = [
    fault("weak_signal", WIFI[1], 4, 7),
    fault("dhcp_exhaustion", WIFI[2], 5, 9),
    fault("uplink_outage", GOV[0], 5, 8),
    *(fault("upstream_outage", box, OUTAGE_HOUR - 0.75, OUTAGE_HOUR, 0.6) for box in DISTRICT.boxes),
    # Still there at the end.
    fault("uplink_outage", WIFI[0], QUIET_HOUR, LAST_HOUR, 0.9),
    fault("power_cut", WIFI[3], 28.5, LAST_HOUR),
    fault("portal_stuck", WIFI[5], QUIET_HOUR, LAST_HOUR),
]


class Story(NamedTuple):
    """What happens where, and which hours of it are simulated."""

    place: District
    faults: tuple[Fault, ...]
    spells: tuple[tuple[int, int], ...]

    @property
    def end_ns(self) -> int:
        return START_NS + self.spells[-1][1] * HOUR_NS


FLEET_NS = 6 * 60 * 10**9
"""Between two looks at the fleet; really they are a minute apart."""
STORY = Story(DISTRICT, tuple(FAULTS), SPELLS)


class Answer:
    """What influxd said."""

    def __init__(self, found: Json) -> None:
        (result,) = found["results"]
        self.error: str | None = result.get("error")
        self.series: list[Json] = result.get("series", [])

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Each row with its tags."""
        return [
            {**series.get("tags", {}), **dict(zip(series["columns"], values, strict=True))}
            for series in self.series
            for values in series["values"]
        ]

    def values(self) -> list[Any]:
        """Everything in the rows that is no time, tag or null."""
        return [
            value
            for series in self.series
            for row in series["values"]
            for name, value in zip(series["columns"], row, strict=True)
            if name != "time" and value is not None
        ]


class Grafana:
    """Asks as a dashboard or a rule would, at a moment of its own."""

    def __init__(self, url: str, database: str) -> None:
        self._url = url
        self._databases = {source: name.replace("wanggan", database) for source, name in SOURCES.items()}

    def ask(self, asked: Asked, variables: Mapping[str, str], now_ns: int = END_NS, hours: float = 7 * 24) -> Answer:
        form = {"q": text_of(asked, variables, now_ns, hours), "db": self._databases[asked.source], "epoch": "ms"}
        request = urllib.request.Request(f"{self._url}/query", urllib.parse.urlencode(form).encode())
        with urllib.request.urlopen(request, timeout=60) as response:
            return Answer(json.load(response))


def text_of(asked: Asked, variables: Mapping[str, str], now_ns: int, hours: float) -> str:
    """The query with macros and variables filled in, as Grafana does."""
    now = datetime.fromtimestamp(now_ns // 10**9, UTC).strftime("'%Y-%m-%dT%H:%M:%SZ'")
    now_ms = now_ns // 10**6
    text = asked.text.replace("$timeFilter", f"time >= {now_ms - round(hours * HOUR_MS)}ms AND time <= {now_ms}ms")
    text = text.replace("$__interval", asked.interval).replace("now()", now)
    for name, value in variables.items():
        text = re.sub(rf"\${name}\b", value, text)
    assert "$" not in re.sub(r"\$[/)]", "", text), text
    return text


def store_at(url: str, database: str) -> Store:
    return InfluxStore(url, endpoint="/write", database=database, retention_days=None, hours_retention_days=None)


class Both:
    """Writes to two stores and reads from the first: what is computed comes from the quick one."""

    def __init__(self, first: Store, second: Store) -> None:
        self._first, self._second = first, second

    def __getattr__(self, name: str) -> Any:
        return getattr(self._first, name)

    async def write(self, points: Sequence[Point]) -> list[Refusal]:
        return await self._first.write(points) + await self._second.write(points)


async def fill(influx: Store, folder: Path) -> None:
    """The small district's story, and a collector's minutes."""
    quick = SqliteStore(folder / "store.sqlite", retention_days=None, hours_retention_days=None)
    await quick.ensure()
    await influx.ensure()
    try:
        await compute(cast(Store, Both(quick, influx)), folder, STORY, measured())
    finally:
        await quick.close()
    good, _ = await collecting.minutes(folder)
    await write(influx, collecting.again(good, START_NS, END_NS))


async def compute(store: Store, folder: Path, story: Story, points: Sequence[Point]) -> None:
    """Write what was measured; roll up, score, judge."""
    await write(store, points)
    sites = folder / "sites.toml"
    sites.write_text(_register(story.place))
    configured = Profiles(ProfileSettings(), folder)
    known = {network: profiles.named(name) for network, name in profiles.DEFAULTS.items()}
    place = Place(register.read(sites), known, NO_CALENDAR)
    roller = Roller(store, place)
    jobs = await roller.jobs(START_NS, story.end_ns)
    hours = [START_NS + hour * HOUR_NS for first, last in story.spells for hour in range(first, last)]
    fleet = FleetWatch(store, register.Register(sites), back_days=30)
    for hour_ns in hours:
        rows = await roller.roll(hour_ns, jobs, until_ns=story.end_ns)
        looks = [await fleet.points(time_ns) for time_ns in range(hour_ns, hour_ns + HOUR_NS, FLEET_NS)]
        await write(store, [point for look in looks for point in look])
        fleet.closed(rows)
    async for _ in Scorer(store, place.roll, configured).score(hours, jobs):
        pass
    await judged(store, place.roll, configured, jobs, hours)


def _register(place: District) -> str:
    """The simulator's, with every box on the allow-list of its venue's portal."""
    allowed = "portal_allowed_until = 2030-01-01"
    return district.register(place).replace('network = "wifi"', f'network = "wifi"\n{allowed}')


def measured(story: Story = STORY) -> list[Point]:
    """What the district's agents measure, with their jobs and births."""
    world, end_ms = World(story.place, list(story.faults)), story.end_ns // 10**6
    points = announcements(world, START_MS, end_ms) + statuses(world, START_MS, end_ms)
    for box in story.place.boxes:
        agent = VirtualAgent(world, box)
        for first, last in story.spells:
            points += to_points(agent, agent.records(START_MS + first * HOUR_MS, START_MS + last * HOUR_MS))
    return sorted(points, key=lambda point: point.time_ns)


async def write(store: Store, points: Sequence[Point]) -> None:
    for first in range(0, len(points), 5_000):
        assert await store.write(points[first : first + 5_000]) == []
