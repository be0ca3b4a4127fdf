"""A small simulated district in a store, with its register and what its hours are computed with."""

from collections.abc import Sequence
from pathlib import Path

from perception import profiles
from perception.calendar import NO_CALENDAR
from perception.rollups.roll import HOUR_NS
from perception.rollups.roller import Place
from simulator import district
from simulator.faults import Fault
from simulator.output import announcements, statuses, to_points
from simulator.virtual import VirtualAgent
from simulator.world import World
from store import register
from store.interface import Store
from store.point import Point
from tests.store.points import T0

HOUR_MS = HOUR_NS // 10**6
START_MS = T0 // 10**6
DISTRICT = district.build(1, 8, 8, 0)


def place(folder: Path, text: str | None = None) -> Place:
    """With the district's register, or with another one."""
    file = folder / "sites.toml"
    file.write_text(text or district.register(DISTRICT))
    known = {"wifi": profiles.named("wifi-public-2026"), "gov": profiles.named("gov-node-2026")}
    return Place(register.read(file), known, NO_CALENDAR)


def measured(hours: float, faults: Sequence[Fault] = ()) -> list[Point]:
    """What the district's agents measure from T0 on, with their jobs and births."""
    world, end_ms = World(DISTRICT, faults), START_MS + round(hours * HOUR_MS)
    points = announcements(world, START_MS, end_ms) + statuses(world, START_MS, end_ms)
    for box in DISTRICT.boxes:
        agent = VirtualAgent(world, box)
        points += to_points(agent, agent.records(START_MS, end_ms))
    return sorted(points, key=lambda point: point.time_ns)


async def fill(store: Store, points: Sequence[Point]) -> None:
    for first in range(0, len(points), 5_000):
        assert await store.write(points[first : first + 5_000]) == []
