"""From a record to its point, and what is not stored."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collector.points import Judge
from contract.codec import PayloadError, Refused
from contract.record import RECORDS
from contract.series import RAW_SERIES
from contract.values import Agent, Hop, Values, WifiEvent
from contract.values import Path as Route
from store.register import Register, microseconds
from tests.collector.lab import AGENT, SITES, record

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NOW_US = microseconds(NOW)


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    file = tmp_path / "sites.toml"
    file.write_text(SITES)
    return Judge(Register(file))


def test_time_is_exact_to_the_microsecond(judge: Judge) -> None:
    # As a float, seconds since 1970 with these microseconds are off by one.
    slots = [NOW - timedelta(microseconds=k * 7919 + 1) for k in range(2000)]
    points = judge.judge(AGENT, [record(slot) for slot in slots], NOW_US).points
    assert [point.time_ns for point in points] == [(NOW_US - k * 7919 - 1) * 1000 for k in range(2000)]


def test_a_point_has_the_tags_and_fields_of_its_series(judge: Judge) -> None:
    sent = record(NOW, outcome="failed", reason="timeout", detail="no answer", flags=["replayed", "clock_corrected"])
    (point,) = judge.judge(AGENT, [sent], NOW_US).points
    series = RAW_SERIES["latency"]
    assert point.series == "latency"
    assert dict(zip(series.tags, point.tags, strict=True)) == {
        "agent": AGENT, "venue": "hall", "network": "wifi", "target": "core", "interface": "wlan0",
        "provider": "", "resolver": "",
    }  # fmt: skip
    fields = dict(zip(series.fields, point.fields, strict=True))
    assert {name: value for name, value in fields.items() if value is not None} == {
        "method": "icmp", "sent": 60, "received": 60, "loss_ratio": 0.0, "rtt_p50_ms": 2.5, "ok": 0, "attempted": 1,
        "outcome": "failed", "reason": "timeout", "detail": "no answer", "flags": "replayed,clock_corrected",
        "clock": "synced", "duration_s": 3.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("probe", "values", "field", "stored"),
    [
        ("agent", Agent(degraded=True), "degraded", 1),
        ("wifi_event", WifiEvent(local=False), "local", 0),
        ("path", Route(pmtu_blackhole=True), "pmtu_blackhole", 1),
        ("path", Route(hops=[Hop(address="192.0.2.1", rtt_ms=1.5), Hop()]), "hops",
         '[{"address":"192.0.2.1","rtt_ms":1.5},{"address":null,"rtt_ms":null}]'),
    ],
)  # fmt: skip
def test_booleans_are_integers_and_lists_are_text(
    probe: str, values: Values, field: str, stored: object, judge: Judge
) -> None:
    sent = RECORDS[probe](
        target="core", interface="wlan0", slot=NOW, started_at=NOW, duration_s=1.0, outcome="ok", values=values
    )
    (point,) = judge.judge(AGENT, [sent], NOW_US).points
    found = dict(zip(RAW_SERIES[probe].fields, point.fields, strict=True))[field]
    assert found == stored
    assert type(found) is type(stored)


def test_every_probe_without_values_fits_its_series(judge: Judge) -> None:
    for probe, kind in RECORDS.items():
        sent = kind(
            target="-", interface="wlan0", slot=NOW, started_at=NOW, duration_s=0.0, outcome="skipped", reason="no_slot"
        )
        (point,) = judge.judge(AGENT, [sent], NOW_US).points
        assert len(point.fields) == len(RAW_SERIES[probe].fields)


def test_what_is_not_stored(judge: Judge) -> None:
    refused = Refused(PayloadError("not_finite", "$.duration_s"), b"{}")
    unknown = Refused(PayloadError("unknown_probe", "$.probe: 'laser'"), b"{}")
    verdict = judge.judge(
        AGENT,
        [
            record(NOW),
            record(NOW + timedelta(minutes=5, seconds=1)),
            record(NOW + timedelta(minutes=5)),
            record(NOW - timedelta(days=30, seconds=1)),
            record(NOW - timedelta(days=30)),
            record(NOW, clock="none"),
            record(NOW, interface="eth9"),
            refused,
            unknown,
        ],
        NOW_US,
    )
    assert verdict.indices == [0, 2, 4]
    assert [(found.place, found.reason, found.refusal) for found in verdict.rejected] == [
        (3, "too_old", "too_old"), (5, "invalid", "clock_none"), (7, "invalid", "not_finite"),
    ]  # fmt: skip
    assert verdict.later == [(1, "clock_ahead"), (6, "unknown_agent"), (8, "unknown_probe")]


def test_a_changed_register_changes_the_next_point(judge: Judge, tmp_path: Path) -> None:
    file = tmp_path / "sites.toml"
    register = Register(file)
    judge = Judge(register)
    (before,) = judge.judge(AGENT, [record(NOW)], NOW_US).points
    file.write_text(SITES.replace('venue = "hall"', 'venue = "old-hall"'))
    assert register.refresh()
    (after,) = judge.judge(AGENT, [record(NOW)], NOW_US).points
    assert (before.tags[1], after.tags[1]) == ("hall", "old-hall")


def test_old_slots_of_a_moved_box_keep_their_venue_although_new_ones_were_seen(tmp_path: Path) -> None:
    file = tmp_path / "sites.toml"
    old = '[[sites]]\nagent = "box-0001"\ninterface = "wlan0"\nfrom = 2020-01-01\nto = 2026-11-01\n'
    file.write_text(
        SITES.replace("from = 2020-01-01", "from = 2026-11-01", 1) + old + 'venue = "old-hall"\nnetwork = "wifi"\n'
    )
    judge = Judge(Register(file))
    slots = [NOW, NOW - timedelta(days=25), NOW]
    points = judge.judge(AGENT, [record(slot) for slot in slots], NOW_US).points
    assert [point.tags[1] for point in points] == ["hall", "old-hall", "hall"]
