"""The judge of the nothing-lost harness finds each kind of loss, and excuses only what the design allows."""

from datetime import UTC, datetime

import pytest

from bench.source import Source, identity, stored_fields, time_ns
from bench.truth import Account, Journal, Stored, Verdict, judge

SOURCE = Source("agent-00", datetime(2026, 11, 23, 2, 0, tzinfo=UTC), 400)
PLACE = {"venue": "library", "network": "wifi"}


def point(number: int) -> Stored:
    record = SOURCE.record(number)
    tags = {"agent": "agent-00", "target": record.target, "interface": "wlan0", **PLACE}
    tags |= {name: value for name in ("provider", "resolver") if (value := getattr(record, name))}
    return Stored(record.probe, time_ns(record.slot), tags, stored_fields(record))


def verdict(account: Account, *points: Stored) -> Verdict:
    found: dict[tuple[str, int], list[Stored]] = {}
    for stored in points:
        found.setdefault(identity(stored.fields["detail"]) or ("", 0), []).append(stored)
    return judge({"agent-00": SOURCE}, {"agent-00": account}, found, {"agent-00": PLACE}, hold_s=10)


def account(count: int) -> Account:
    return Account(submitted={number: 100.0 + number for number in range(count)})


def test_all_there():
    assert not verdict(account(60), *map(point, range(60))).faults


def test_records_can_be_computed_again():
    assert [SOURCE.record(n) for n in range(50)] == [SOURCE.record(n) for n in range(50)]
    assert len({SOURCE.record(n).detail for n in range(50)}) == 50
    assert {SOURCE.record(n).outcome for n in range(50)} == {"ok", "failed", "invalid", "skipped"}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda p: p._replace(time_ns=p.time_ns + 1), "another time"),
        (lambda p: p._replace(fields=p.fields | {"rtt_p50_ms": 1.0}), "another value"),
        (lambda p: p._replace(fields={k: v for k, v in p.fields.items() if k != "ok"}), "another value"),
        (lambda p: p._replace(fields=p.fields | {"flags": "byte_cap"}), "another value"),
        (lambda p: p._replace(tags=p.tags | {"venue": "park"}), "another series"),
        (lambda p: p._replace(series="dns"), "another series"),
    ],
)
def test_a_changed_point_is_a_fault(change, fault):
    assert verdict(account(1), change(point(0))).faults == {fault: 1}


def test_replayed_is_the_one_flag_that_the_way_may_add():
    stored = point(0)
    assert not verdict(account(1), stored._replace(fields=stored.fields | {"flags": "replayed"})).faults


def test_two_points_of_one_record_are_a_fault():
    assert verdict(account(1), point(0), point(0)).faults["duplicate"] == 1


def test_a_point_that_nobody_submitted_is_a_fault():
    assert verdict(account(1), point(0), point(7)).faults == {"never submitted": 1}


def test_only_the_last_seconds_before_a_kill_may_be_missing():
    told = account(30)
    told.kills = [125.5]
    result = verdict(told, *map(point, [*range(16), *range(26, 30)]))
    assert not result.faults
    assert (result.lost_uncommitted, result.lost_per_kill, result.oldest_lost_s) == (10, [10], 9.5)
    assert verdict(told, *map(point, [*range(10), *range(26, 30)])).faults == {"lost, older than allowed": 5}
    assert verdict(told, *map(point, range(26))).faults == {"missing without a kill": 4}


@pytest.mark.parametrize("how", ["committed", "stored"])
def test_a_kill_excuses_nothing_that_was_committed_or_acknowledged(how):
    told = account(2)
    told.kills = [102.0]
    getattr(told, how).update({1} if how == "committed" else {1: 101.5})
    assert sum(verdict(told, point(0)).faults.values()) == 1


def test_an_unwanted_rejection_is_a_fault():
    told = account(2)
    told.rejected[1] = 101.0
    assert verdict(told, point(0)).faults == {"rejected": 1}


def test_a_journal_reads_back(tmp_path):
    journal = Journal(tmp_path / "journal")
    journal.submitted(4)
    journal.submitted(5)
    journal.settled("stored", [4, 5])
    read = Account.read(tmp_path / "journal")
    assert set(read.submitted) == set(read.stored) == {4, 5}
    assert Account.read(tmp_path / "none") == Account()
