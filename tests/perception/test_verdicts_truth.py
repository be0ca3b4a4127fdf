"""Verdicts of a small simulated network against its truth; bench.verdicts does it with a district, by the hundred."""

import pytest

from bench.district import START_MINUTE, build, hour_of, rolled
from bench.verdicts import clear_hours, compare, judged
from perception import profiles
from perception.verdicts.verdict import Verdict
from simulator.faults import Fault
from simulator.world import World

HOURS = 26
WARM = 4
PLACE = build(7, 10)
WIFI = [venue.slug for venue in PLACE.venues if venue.network == "wifi" and venue.gateway_answers and venue.survey]
GOV = [venue.slug for venue in PLACE.venues if venue.network == "gov"]
NETWORKS = {"wifi": profiles.named("wifi-public-2026"), "gov": profiles.named("gov-node-2026")}
LENGTH = 120


def fault(kind: str, venue: str, turn: int, strength: float = 0.8, target: str = "news") -> Fault:
    start = START_MINUTE + 60 * WARM + turn * LENGTH
    return Fault(kind, venue, start, start + LENGTH, strength, target)


FAULTS = [
    fault("weak_signal", WIFI[0], 0),
    fault("eap_failure", WIFI[1], 0, 1.0),
    fault("dhcp_exhaustion", WIFI[2], 0, 1.0),
    fault("portal_stuck", WIFI[3], 1, 1.0),
    fault("dns_hijack", WIFI[0], 2),
    fault("dns_slow", WIFI[1], 2),
    fault("lan_fault", WIFI[2], 3),
    fault("lan_fault", GOV[0], 3),
    fault("bufferbloat", WIFI[3], 4, 1.0),
    fault("uplink_outage", WIFI[0], 5, 0.5),
    fault("upstream_outage", WIFI[1], 6, 1.0),
    fault("cpu_starved", WIFI[2], 6, 1.0),
    fault("power_cut", WIFI[3], 7),
    *(fault("target_down", venue.slug, 8, 1.0) for venue in PLACE.venues),
    *(fault("upstream_outage", venue.slug, 10, 1.0) for venue in PLACE.venues if venue.network == "wifi"),
]


@pytest.fixture(scope="module")
def verdicts() -> list[Verdict]:
    return judged(PLACE, list(rolled(World(PLACE, FAULTS), HOURS)), NETWORKS)


def test_clear_faults_are_named(verdicts: list[Verdict]) -> None:
    clear = clear_hours(PLACE, FAULTS, NETWORKS, HOURS)
    score = compare(verdicts, FAULTS, clear, 1.0)
    segments = {fault.segment for fault in FAULTS}
    assert set(score.clear) == segments
    assert {segment for segment in segments if score.found[segment] < score.clear[segment] / 2} == set()
    precision, recall = score.without("")
    assert precision >= 0.9, score.wrong
    assert recall >= 0.85, score.wrong


def test_nobody_is_blamed_where_nothing_is_wrong(verdicts: list[Verdict]) -> None:
    assert compare(verdicts, FAULTS, {}, 1.0).false.total() == 0
    quiet = [verdict for verdict in verdicts if hour_of(verdict.time_ns) < WARM]
    assert {(verdict.segment, verdict.confidence) for verdict in quiet} == {("none", 0.9)}


def test_the_measure_itself_finds_mistakes(verdicts: list[Verdict]) -> None:
    """Verdicts of another venue are no better than chance; and blame at a quiet time is a false incident."""
    slugs = [venue.slug for venue in PLACE.venues if venue.network == "wifi"]
    other = dict(zip(slugs, [*slugs[1:], slugs[0]], strict=True))
    moved = [
        Verdict(venue=other.get(v.venue, v.venue), network=v.network, time_ns=v.time_ns, segment=v.segment)
        for v in verdicts
    ]
    alone = [fault for fault in FAULTS if fault.kind not in ("target_down", "upstream_outage")]
    score = compare(moved, alone, clear_hours(PLACE, alone, NETWORKS, HOURS), 1.0)
    assert score.without("")[1] < 0.5
    assert score.false.total() > 0
