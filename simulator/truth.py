"""What is true: every fault, and for every venue and hour the segment that is to blame. JSON lines, beside the data."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

from simulator.district import District
from simulator.faults import SEGMENTS, Fault


class Injected(Struct, tag="fault", kw_only=True):
    """One fault, and what its strength means physically."""

    venue: str
    kind: str
    segment: str
    start: datetime
    end: datetime
    strength: float
    """0: where it begins to matter; 1: beyond doubt."""
    effect: dict[str, float]
    target: str | None


class Hour(Struct, tag="hour", kw_only=True):
    """One venue in one hour. Of several faults the segment is the one nearest to the user; `none` where all is well."""

    venue: str
    network: Literal["wifi", "gov"]
    hour: datetime
    segment: str
    segments: list[str]
    strength: float | None
    """Of the worst fault of `segment`."""
    share: float
    """Of the hour in which that segment had a fault."""
    faults: list[str]


class Header(Struct, tag="simulation", kw_only=True):
    """What was simulated."""

    seed: int
    start: datetime
    end: datetime
    venues: int
    agents: int


def truth(
    district: District, faults: list[Fault], start_minute: int, end_minute: int
) -> Iterator[Header | Injected | Hour]:
    """Of the window [start, end)."""
    yield Header(
        seed=district.seed,
        start=_time(start_minute),
        end=_time(end_minute),
        venues=len(district.venues),
        agents=len(district.boxes),
    )
    for fault in faults:
        yield Injected(
            venue=fault.venue,
            kind=fault.kind,
            segment=fault.segment,
            start=_time(fault.start_minute),
            end=_time(fault.end_minute),
            strength=round(fault.strength, 4),
            effect=fault.effect,
            target=fault.target if fault.kind == "target_down" else None,
        )
    for venue in district.venues:
        own = [fault for fault in faults if fault.venue == venue.slug]
        for hour in range(start_minute - start_minute % 60, end_minute, 60):
            on = [fault for fault in own if fault.start_minute < hour + 60 and fault.end_minute > hour]
            segments = sorted({fault.segment for fault in on}, key=SEGMENTS.index)
            blamed = [fault for fault in on if segments and fault.segment == segments[0]]
            minutes = {
                minute
                for fault in blamed
                for minute in range(max(fault.start_minute, hour), min(fault.end_minute, hour + 60))
            }
            yield Hour(
                venue=venue.slug,
                network="gov" if venue.network == "gov" else "wifi",
                hour=_time(hour),
                segment=segments[0] if segments else "none",
                segments=segments,
                strength=round(max(fault.strength for fault in blamed), 4) if blamed else None,
                share=round(len(minutes) / 60, 4),
                faults=sorted({fault.kind for fault in on}),
            )


def _time(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)
