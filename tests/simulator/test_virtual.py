"""Records of a virtual agent: as a real one's, the same for a seed, and following from causes."""

import random
import statistics
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.codec import decode_batch, encode
from contract.messages import Batch
from contract.record import RECORDS, Record
from contract.schedule import phase_s
from contract.vocabulary import Outcome
from simulator import calendar, district, faults
from simulator.virtual import HEAVY, LOADED, VirtualAgent
from simulator.world import World
from tests.simulator.places import DISTRICT, HOUR_MS, START, START_MS, fault, records, within


def values(found: list[Record], probe: str, field: str, target: str | None = None) -> list[float]:
    return [
        getattr(r.values, field)
        for r in found
        if r.probe == probe
        and r.outcome == "ok"
        and target in (None, r.target)
        and getattr(r.values, field) is not None
    ]


def p50(found: list[Record], probe: str, field: str, target: str | None = None) -> float:
    return statistics.median(values(found, probe, field, target))


def test_a_window_does_not_depend_on_how_it_is_cut() -> None:
    whole = [encode(record) for record in records(hours=6)]
    agent = VirtualAgent(World(district.build(1, 20, 20, 0)), DISTRICT.boxes[0])
    hours = list(range(6))
    random.Random(3).shuffle(hours)
    parts = {h: agent.records(START_MS + h * HOUR_MS, START_MS + (h + 1) * HOUR_MS) for h in hours}
    assert [encode(record) for hour in range(6) for record in parts[hour]] == whole


def test_another_seed_gives_another_district() -> None:
    assert [encode(r) for r in records(seed=1)] != [encode(r) for r in records(seed=2)]


def test_every_record_passes_the_contracts_own_decoder() -> None:
    script = [fault(kind, 0.9) for kind in faults.KINDS]
    found = records(hours=3, script=script)
    for start in range(0, len(found), 90):
        part = found[start : start + 90]
        uuid = UUID(int=1)
        batch = Batch(agent="sim-0001", outbox=uuid, batch=1, boot=uuid, sent_at=START, config_version=1, records=part)
        assert decode_batch(encode(batch)).places == part


def test_every_probe_and_outcome_occurs() -> None:
    script = [fault("cpu_starved", 0.9, first=1, last=4), fault("weak_signal", 0.9, first=5, last=10)]
    found = records(hours=24, script=script)
    assert {record.probe for record in found} == set(RECORDS)
    assert {record.outcome for record in found} == set(get_args(Outcome))


def test_the_schedule_is_the_default_one() -> None:
    found = records(hours=24)
    # A venue with every job: about 9,000 records a day.
    counts = Counter((r.probe, r.target, r.resolver) for r in found if r.probe != "wifi_event")
    assert counts["latency", "core", None] == 1440
    assert counts["dns", "news", "site"] == 288
    assert counts["throughput", "core", None] == 26
    assert 8_900 < sum(counts.values()) < 9_200


def test_slots_lie_where_the_agent_puts_them() -> None:
    box = DISTRICT.boxes[0]
    expected_s = phase_s(box.agent, ("latency", "core", box.interface, "", ""), 60)
    for record in records():
        if record.probe == "latency" and record.target == "core":
            assert record.slot.timestamp() % 60 == pytest.approx(expected_s, abs=0.001)
            assert abs(record.started_at - record.slot) <= timedelta(seconds=3.001)


def test_an_outcome_has_its_values() -> None:
    for record in records(hours=3, script=[fault("uplink_outage", 1.0)]):
        if record.probe == "latency" and record.reason == "all_lost":
            assert record.values is not None
            assert (record.values.received, record.values.loss_ratio, record.values.rtt_p50_ms) == (0, 1.0, None)
        if record.outcome == "ok":
            assert record.values is not None


def test_a_portal_state_but_open_and_a_disconnect_are_failures_as_the_agents_are() -> None:
    strong = [
        [fault("portal_stuck", 0.3)], [fault("portal_stuck", 1.0)], [fault("dhcp_exhaustion", 1.0)],
        [fault("dns_slow", 1.0)], [fault("dns_hijack", 1.0)], [fault("upstream_outage", 1.0)],
        [fault("uplink_outage", 1.0)], [fault("weak_signal", 0.5, first=0, last=24)],
    ]  # fmt: skip
    found = [record for script in strong for record in records(hours=24, script=script)]
    states = {(r.values.state, r.outcome, r.reason) for r in found if r.probe == "portal" and r.values is not None}
    assert states == {
        ("open", "ok", None), ("portal", "failed", "portal"), ("limited", "failed", "timeout"),
        ("no_ip", "failed", "dhcp_failed"), ("no_dns", "failed", "dns_failed"),
        ("dns_hijack", "failed", "dns_hijacked"), ("walled", "failed", "portal"),
        ("no_internet", "failed", "timeout"),
    }  # fmt: skip
    events = {(r.values.kind, r.outcome, r.reason) for r in found if r.probe == "wifi_event" and r.values is not None}
    assert events == {("roam", "ok", None), ("disconnect", "failed", "no_link")}


def test_figures_of_a_train_belong_together() -> None:
    for record in records(script=[fault("lan_fault", 0.7)]):
        if record.probe == "latency" and record.outcome == "ok":
            v: Any = record.values
            assert v.rtt_min_ms <= v.rtt_p50_ms <= v.rtt_p95_ms <= v.rtt_p99_ms <= v.rtt_max_ms
            assert v.rtt_min_ms <= v.rtt_mean_ms <= v.rtt_max_ms
            assert v.loss_ratio == pytest.approx(1 - v.received / v.sent)


def test_noon_is_busier_than_night_and_a_holiday_than_no_working_day() -> None:
    world = World(DISTRICT)
    hall = next(v for v in DISTRICT.venues if v.type == "gov_hall")
    park = next(v for v in DISTRICT.venues if v.type == "park")
    day = START_MS // 60_000

    def load(venue: district.Venue, first: int) -> float:
        return float(world.state(venue, np.arange(first, first + 60)).load.mean())

    at_11, at_3 = day + 3 * 60, day + 19 * 60
    assert load(hall, at_11) > 5 * load(hall, at_3)
    national_day = at_11 - 48 * 1440  # the 1st of October, a Thursday
    assert load(hall, national_day) < 0.3 * load(hall, at_11)
    assert load(park, national_day) > 1.2 * load(park, at_11)


def test_a_worked_weekend_is_no_holiday() -> None:
    def day(text: str) -> int:
        return (date.fromisoformat(text) - date(1970, 1, 1)).days

    days = np.array([day(d) for d in ("2026-10-10", "2026-10-11", "2026-10-01", "2026-11-18")])
    assert calendar.is_free(days).tolist() == [False, True, True, False]


def test_an_upgrade_helps() -> None:
    middle = START_MS // 60_000 + 24 * 60
    place = district.build(1, 20, 20, middle)
    box = next(b for b in place.boxes if b.venue.upgraded_minute is not None)
    agent = VirtualAgent(World(place), box)
    before = agent.records(START_MS, START_MS + 6 * HOUR_MS)
    after = agent.records(START_MS + 48 * HOUR_MS, START_MS + 54 * HOUR_MS)
    assert p50(after, "wifi_link", "rssi_dbm") > p50(before, "wifi_link", "rssi_dbm") + 4
    assert p50(after, "wifi_link", "tx_retry_ratio") < p50(before, "wifi_link", "tx_retry_ratio")


def test_half_of_the_venues_lack_something() -> None:
    whole = [v.joins and v.survey and v.gateway_answers and len(v.resolvers) == 2 for v in DISTRICT.venues]
    assert 0.3 <= whole.count(False) / len(whole) <= 0.7


def test_most_venues_get_what_they_pay_for_and_who_is_promised_the_whole_line_does_not() -> None:
    got, oversold = {}, set()
    for number, box in enumerate(DISTRICT.boxes):
        if box.venue.network == "wifi":
            down, _ = box.venue.contract_mbps
            rates = values(records(number, 12), "throughput", "down_mbps")
            got[box.venue.slug] = statistics.mean(rates) >= down
            if box.venue.oversold:
                oversold.add(box.venue.slug)
    assert oversold
    assert not any(got[slug] for slug in oversold)
    assert statistics.mean(got[slug] for slug in got.keys() - oversold) > 0.8


def test_a_light_test_beside_our_own_heavy_one_carries_a_caution() -> None:
    found = records(hours=24)
    flagged = [r for r in found if "cross_traffic" in r.flags]
    assert {r.probe for r in flagged} <= {*LOADED, *HEAVY}
    heavy = [r for r in found if r.probe in ("throughput", "video") and r.outcome == "ok"]
    assert 5 < len(flagged) < 6 * len(heavy)
    for record in flagged:
        assert any(abs((record.started_at - h.started_at).total_seconds()) < 25 for h in found if h.probe in HEAVY)


# Faults: each changes what it must, and nothing else


UNTOUCHED: dict[str, set[tuple[str, str]]] = {
    "uplink_saturated": {("latency", "gateway"), ("wifi_link", "-"), ("agent", "-"), ("dns", "site")},
    "bufferbloat": {("latency", "gateway"), ("wifi_link", "-"), ("agent", "-"), ("dns", "site")},
    "uplink_outage": {("latency", "gateway"), ("wifi_link", "-"), ("agent", "-"), ("dns", "site")},
    "upstream_outage": {("latency", "gateway"), ("latency", "core"), ("wifi_link", "-"), ("throughput", "core")},
    "dns_slow": {("latency", "gateway"), ("latency", "core"), ("latency", "internet"), ("throughput", "core")},
    "dns_hijack": {("latency", "gateway"), ("latency", "core"), ("latency", "internet"), ("throughput", "core")},
    "target_down": {("latency", "gateway"), ("latency", "core"), ("latency", "internet"), ("web", "search")},
    "lan_fault": {("wifi_link", "-"), ("agent", "-")},
    "portal_stuck": {("latency", "gateway"), ("wifi_link", "-"), ("dns", "site")},
    "dhcp_exhaustion": {("wifi_link", "-"), ("agent", "-")},
    "eap_failure": {("agent", "-")},
    "cpu_starved": {("wifi_event", "-")},
}
MARK: dict[str, tuple[str, set[str]]] = {
    "weak_signal": ("wifi_link", {"not_associated"}),
    "assoc_failure": ("wifi_join", {"not_associated"}),
    "eap_failure": ("wifi_join", {"auth_failed"}),
    "dhcp_exhaustion": ("wifi_join", {"dhcp_failed"}),
    "portal_stuck": ("web", {"cert_invalid"}),
    "dns_slow": ("dns", {"timeout", "dns_failed"}),
    "dns_hijack": ("dns", {"dns_hijacked"}),
    "uplink_outage": ("latency", {"all_lost"}),
    "upstream_outage": ("web", {"unreachable", "timeout"}),
    "target_down": ("web", {"refused", "http_status", "reset", "tls_failed", "timeout"}),
    "cpu_starved": ("latency", {"internal"}),
}


def series(record: Record) -> tuple[str, str]:
    return record.probe, record.resolver or record.target if record.probe == "dns" else record.target


@settings(max_examples=4)
@given(strength=st.floats(0, 1))
@pytest.mark.parametrize("kind", sorted(faults.KINDS))
def test_a_fault_changes_nothing_before_and_after_it_nor_what_lies_elsewhere(kind: str, strength: float) -> None:
    sound, sick = records(), records(script=[fault(kind, strength)])
    assert [r for r in within(sick, 0, 1) if r.clock != "none"] == within(sound, 0, 1)
    assert within(sick, 2, 3) == within(sound, 2, 3)
    other = UNTOUCHED.get(kind, set())
    assert [r for r in sick if series(r) in other] == [r for r in sound if series(r) in other]
    # And not at another venue.
    assert records(box=1, hours=2, script=[fault(kind, strength)]) == records(box=1, hours=2)


@pytest.mark.parametrize("kind", sorted(faults.KINDS))
def test_a_fault_is_seen_already_where_it_begins_to_matter(kind: str) -> None:
    if kind != "power_cut":
        sound, weak = records(hours=12), records(hours=12, script=[fault(kind, 0.02, last=12)])
        assert weak != sound


@pytest.mark.parametrize("kind", sorted(MARK))
def test_a_strong_fault_has_its_mark(kind: str) -> None:
    probe, reasons = MARK[kind]
    found = records(hours=5, script=[fault(kind, 1.0, first=1, last=5)])
    hit = [r.reason for r in within(found, 1, 5) if r.probe == probe and r.target not in ("gateway", "core")]
    assert sum(reason in reasons for reason in hit) > 0.2 * len(hit)


def test_a_full_uplink_is_felt_beyond_the_gateway_and_not_before() -> None:
    found = records(hours=8, script=[fault("uplink_saturated", 0.8, first=4, last=8)])
    sound, sick = within(found, 0, 4), within(found, 4, 8)
    for target in ("core", "internet"):
        assert p50(sick, "latency", "rtt_p50_ms", target) > p50(sound, "latency", "rtt_p50_ms", target) + 15
        assert statistics.mean(values(sick, "latency", "loss_ratio", target)) > 0.05
    assert p50(sick, "throughput", "down_mbps") < 0.5 * p50(sound, "throughput", "down_mbps")
    assert p50(sick, "web", "total_ms") > 1.5 * p50(sound, "web", "total_ms")


def test_bufferbloat_is_what_a_test_does_to_the_delay() -> None:
    found = records(hours=48, script=[fault("bufferbloat", 0.7, first=24, last=48)])
    rise = [(r.slot, r.values.working_rise_ms) for r in found if r.probe == "throughput" and r.values is not None]
    day = START + timedelta(hours=24)
    assert min(v for at, v in rise if v and at >= day) > 3 * max(v for at, v in rise if v and at < day)


def test_a_crowded_air_is_felt_at_the_gateway_already() -> None:
    found = records(hours=4, script=[fault("congestion", 0.9, first=2, last=4)])
    sound, sick = within(found, 0, 2), within(found, 2, 4)
    assert p50(sick, "wifi_link", "busy_ratio") > 0.85
    assert p50(sick, "latency", "rtt_p50_ms", "gateway") > 3 * p50(sound, "latency", "rtt_p50_ms", "gateway")
    assert p50(sick, "latency", "rtt_p50_ms", "core") > p50(sound, "latency", "rtt_p50_ms", "core")


def test_records_of_an_offline_agent_come_later_and_those_of_a_dead_one_never() -> None:
    away = within(records(script=[fault("agent_offline", 1.0)]), 1, 2)
    assert len(away) == len(within(records(), 1, 2))
    assert all("replayed" in record.flags for record in away)
    assert within(records(script=[fault("power_cut", 1.0)]), 1, 2) == []


def test_a_wrong_clock_is_put_right_or_never_known() -> None:
    right = within(records(script=[fault("clock_wrong", 0.3)]), 1, 2)
    assert {record.clock for record in right} == {"corrected"}
    never = records(script=[fault("clock_wrong", 0.9)])
    assert any(r.clock == "none" and "clock_unsynced" in r.flags for r in never)


def test_nothing_of_the_scores_or_verdicts_is_known_to_the_simulator() -> None:
    import simulator

    for file in Path(simulator.__file__).parent.rglob("*.py"):
        text = file.read_text()
        assert "perception" not in text
        assert "scoring" not in text
