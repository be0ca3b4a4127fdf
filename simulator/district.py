"""The virtual district: venues, what is built there, and the agents that stand in them. Nothing of it was measured."""

import itertools
import json
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from simulator.streams import Stream

_WORK: Final = ("mon", "tue", "wed", "thu", "fri")
_ALL: Final = (*_WORK, "sat", "sun")


class Kind(Struct, frozen=True):
    """A type of venue: its hours and what it has."""

    zh: str
    en: str
    slug: str
    days: tuple[str, ...]
    hours: str
    uplink_mbps: tuple[float, float]
    """What the line carries."""
    people: int
    """At its fullest."""
    evening: float
    """Its load in the evening, of that at noon."""
    weekend: float
    """Its load on free days, of that on working days."""


KINDS: Final[dict[str, Kind]] = {
    "gov_hall": Kind(
        "政务服务中心", "Government Service Hall", "hall", _WORK, "09:00-17:00", (300, 100), 180, 0.02, 0.05
    ),
    "library": Kind("图书馆", "Library", "library", _ALL, "09:00-20:00", (200, 60), 220, 0.5, 1.3),
    "culture": Kind("文化馆", "Cultural Centre", "culture", _ALL, "09:00-20:30", (150, 50), 120, 0.6, 1.3),
    "sports": Kind("体育馆", "Sports Centre", "sports", _ALL, "08:00-21:30", (200, 50), 160, 1.2, 1.4),
    "park": Kind("公园", "Park", "park", _ALL, "06:00-20:00", (100, 30), 140, 0.6, 1.6),
    "hospital": Kind("医院", "Hospital", "hospital", _ALL, "00:00-24:00", (300, 100), 300, 0.3, 0.6),
    "community": Kind(
        "社区事务受理服务中心", "Community Affairs Centre", "community", _WORK, "08:30-17:00", (100, 40), 90, 0.02, 0.05
    ),
    "school": Kind("社区学校", "Community School", "school", _WORK, "08:00-18:00", (200, 80), 150, 0.2, 0.1),
    "node": Kind("政务外网节点", "Government Network Node", "node", _ALL, "00:00-24:00", (200, 200), 60, 0.1, 0.15),
}

_PLACES: Final = (
    ("长寿路", "changshou"),
    ("曹杨", "caoyang"),
    ("真如", "zhenru"),
    ("长征", "changzheng"),
    ("桃浦", "taopu"),
    ("宜川", "yichuan"),
    ("甘泉", "ganquan"),
    ("石泉", "shiquan"),
    ("长风", "changfeng"),
    ("万里", "wanli"),
)
_WIFI: Final = ("gov_hall", "library", "culture", "sports", "park", "hospital", "community", "school")
WIFI_VENUES: Final = 40
NODES: Final = 12
SOLD: Final = 0.6
"""What the contract promises of what the line carries: visitors use a part of it, and a test gets what they leave."""


class Venue(Struct, frozen=True):
    """A place, with what is built there."""

    slug: str
    zh: str
    en: str
    type: str
    network: str
    upgraded_minute: int | None
    """When its Wi-Fi was renewed, in minutes since 1970; None: it was not."""
    joins: bool
    """Active joins are allowed."""
    survey: bool
    """The driver reports noise and airtime."""
    gateway_answers: bool
    resolvers: tuple[str, ...]
    oversold: bool
    """The contract promises all that the line carries: more than a test gets."""

    @property
    def contract_mbps(self) -> tuple[int, int]:
        """What is paid for, down and up."""
        down, up = (round(rate if self.oversold else SOLD * rate) for rate in self.kind.uplink_mbps)
        return down, up

    @property
    def kind(self) -> Kind:
        return KINDS[self.type]


class Box(Struct, frozen=True):
    """An agent."""

    agent: str
    venue: Venue
    interface: str


class District(Struct, frozen=True):
    """Everything that stands."""

    seed: int
    venues: list[Venue]
    boxes: list[Box]


def build(seed: int, venues: int, agents: int, middle_minute: int) -> District:
    """40 of 52 venues have public Wi-Fi, 12 are government nodes; other sizes keep the shares. Agents are dealt round.
    A tenth of the Wi-Fi venues is renewed at `middle_minute`; another tenth of all gets less than it pays for."""
    nodes = round(venues * NODES / (NODES + WIFI_VENUES)) if venues > 1 else 0
    found = [_venue(seed, i, _WIFI[i % len(_WIFI)], i // len(_WIFI), middle_minute) for i in range(venues - nodes)]
    found += [_venue(seed, i, "node", i, middle_minute) for i in range(nodes)]
    boxes = []
    for number, venue in zip(range(agents), itertools.cycle(found), strict=False):
        interface = "wlan0" if venue.network == "wifi" else "eth0"
        boxes.append(Box(f"sim-{number + 1:04d}", venue, interface))
    return District(seed, found, boxes)


def _venue(seed: int, number: int, type_: str, place: int, middle_minute: int) -> Venue:
    kind = KINDS[type_]
    name, word = _PLACES[place % len(_PLACES)]
    again = place // len(_PLACES)
    # Each place its own list of what is missing: every second venue lacks something, as in the field.
    lacks = number % 2
    stream = Stream(seed, "venue", type_, str(place))
    which = int(stream.number() * 3)
    wifi = type_ != "node"
    return Venue(
        slug=f"sim-{word}-{kind.slug}" + (f"-{again + 1}" if again else ""),
        zh=f"{name}{kind.zh}" + (f"（{again + 1}）" if again else "") + "（仿真）",
        en=f"{word.capitalize()} {kind.en}" + (f" {again + 1}" if again else "") + " (simulated)",
        type=type_,
        network="wifi" if wifi else "gov",
        upgraded_minute=middle_minute if wifi and number % 10 == 4 else None,
        joins=not (lacks and number % 4 == 1),
        survey=not (lacks and which == 0),
        gateway_answers=not (lacks and which == 1),
        resolvers=("site",) if lacks and which == 2 else ("site", "public"),
        oversold=number % 10 == 7,
    )


def register(district: District) -> str:
    """The site register, as the collector reads it."""
    lines = ["# 仿真 / SIMULATED: no venue here was ever measured. Written by `wanggan simulate`.", ""]
    for venue in district.venues:
        kind = venue.kind
        lines += [f"[venues.{venue.slug}]", _pair("name", zh=venue.zh, en=venue.en), f'type = "{venue.type}"']
        lines.append('unit = "仿真数据"')
        if venue.upgraded_minute is not None:
            lines.append(f"upgraded = {_time(venue.upgraded_minute)}")
            controls = [v.slug for v in district.venues if v.type == venue.type and v.upgraded_minute is None][:3]
            lines.append(f"controls = {json.dumps(controls)}")
        lines += [f"[venues.{venue.slug}.open]", *(f'{day} = ["{kind.hours}"]' for day in kind.days), ""]
    for box in district.boxes:
        down, up = box.venue.contract_mbps
        lines += [
            "[[sites]]",
            f'agent = "{box.agent}"',
            f'interface = "{box.interface}"',
            "from = 2020-01-01",
            f'venue = "{box.venue.slug}"',
            f'network = "{box.venue.network}"',
            f"contract = {{ down_mbps = {down}, up_mbps = {up} }}",
            "",
        ]
    return "\n".join(lines)


def _pair(key: str, **names: str) -> str:
    inner = ", ".join(f"{name} = {json.dumps(text, ensure_ascii=False)}" for name, text in names.items())
    return f"{key} = {{ {inner} }}"


def _time(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).isoformat()
