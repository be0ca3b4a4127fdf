"""Verdicts and incidents as `perception run` will write them, until it does; made of the same faults."""

from collections.abc import Sequence

from contract.series import INCIDENT, VERDICT, FieldValue, Series
from perception.rollups.roll import HOUR_NS
from simulator.district import District
from simulator.faults import Fault
from store.point import Point

MINUTE_NS = 60 * 10**9


def points(district: District, faults: Sequence[Fault], start_ns: int, end_ns: int) -> list[Point]:
    found = []
    for box in district.boxes:
        venue, network = box.venue.slug, box.venue.network
        own = [fault for fault in faults if fault.venue == venue]
        for hour_ns in range(start_ns, end_ns, HOUR_NS):
            now = [
                f for f in own if f.start_minute * MINUTE_NS < hour_ns + HOUR_NS and hour_ns < f.end_minute * MINUTE_NS
            ]
            states: dict[str, FieldValue] = dict.fromkeys([n for n in VERDICT.fields if n.endswith("_state")], "good")
            if any(fault.segment == "portal" for fault in now):
                states["p_state"] = "bad"
            segment = now[0].segment if now else "none"
            found.append(
                _point(
                    VERDICT,
                    (venue, network),
                    hour_ns,
                    segment=segment,
                    confidence=0.9,
                    rule=4,
                    zh="中",
                    en="en",
                    **states,
                )
            )
        for fault in own:
            open_ = fault.end_minute * MINUTE_NS >= end_ns
            hours = round((fault.end_minute - fault.start_minute) / 60)
            found.append(
                _point(
                    INCIDENT, (venue, network, fault.segment), fault.start_minute * MINUTE_NS // HOUR_NS * HOUR_NS,
                    hours=max(1, hours), open=int(open_), venues=1, end_s=fault.end_minute * 60.0,
                    confidence=0.9, zh="中", en="en",
                )
            )  # fmt: skip
    return found


def _point(series: Series, tags: tuple[str, ...], time_ns: int, **fields: FieldValue) -> Point:
    return Point(series.key, tags, time_ns, tuple(fields.get(name) for name in series.fields))
