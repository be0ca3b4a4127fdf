"""A small district and windows of it, for tests."""

from datetime import UTC, datetime, timedelta

from contract.record import Record
from simulator import district, faults
from simulator.faults import Fault
from simulator.virtual import VirtualAgent
from simulator.world import World

START = datetime(2026, 11, 18, tzinfo=UTC)
"""A Wednesday, 08:00 in Shanghai."""
START_MS = round(START.timestamp() * 1000)
HOUR_MS = 3_600_000
DISTRICT = district.build(1, 20, 20, 0)


def minute(hours: float) -> int:
    return START_MS // 60_000 + round(60 * hours)


def records(box: int = 0, hours: float = 3.0, script: list[Fault] | None = None, seed: int = 1) -> list[Record]:
    place = DISTRICT if seed == 1 else district.build(seed, 20, 20, 0)
    agent = VirtualAgent(World(place, script or []), place.boxes[box])
    return agent.records(START_MS, START_MS + round(hours * HOUR_MS))


def fault(
    kind: str, strength: float, box: int = 0, first: float = 1.0, last: float = 2.0, target: str = "news"
) -> Fault:
    return Fault(kind, DISTRICT.boxes[box].venue.slug, minute(first), minute(last), strength, target)


def parse(text: str) -> list[Fault]:
    return faults.parse(text, DISTRICT, START)


def within(found: list[Record], first: float, last: float) -> list[Record]:
    return [r for r in found if START + timedelta(hours=first) <= r.started_at < START + timedelta(hours=last)]
