"""Scores of hours, days and weeks, from rows whose figures are known."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from contract.series import SCORE
from perception import profiles
from perception.config import Profiles, ProfileSettings
from perception.rollups.jobs import Jobs
from perception.rollups.roll import HOUR_NS, LocalHour, roll
from perception.rollups.roller import Roller
from perception.scores.samples import SOURCES, Venue
from perception.scores.score import point, score, values
from perception.scores.scorer import Scorer
from perception.scores.stored import Score, of, read
from perception.scoring.profile import Profile
from perception.stored import Row
from perception.week import Week
from store.interface import Store
from store.point import flaw
from store.sqlite import SqliteStore
from tests.perception.district import DISTRICT, fill, measured, place
from tests.perception.test_rollups import HOUR, facts, raw
from tests.store.conftest import influx, sqlite, store
from tests.store.points import T0

__all__ = ["influx", "sqlite", "store"]

DAY_NS = 24 * HOUR_NS
CONFIGURED = Profiles(ProfileSettings(), Path())
FAILED: dict[str, Any] = {"outcome": "failed", "reason": "timeout"}


@pytest.fixture(scope="module")
def wifi() -> Profile:
    return profiles.named("wifi-public-2026")


def rows(probe: str, records: Sequence[dict[str, Any]], *, busy: int = 1, **more: Any) -> list[Row]:
    where = facts(**more)
    where = type(where)(**{**where.__dict__, "local": lambda venue, network: LocalHour(busy, 9, 4)})
    return [Row.of(point) for point in roll(probe, raw(probe, records), where)]


def venue(*found: list[Row], day: int = 1) -> Venue:
    whole = Venue()
    for row in (row for part in found for row in part):
        whole.add(row, lambda agent, target: target, day)
    return whole


def test_what_each_value_is_made_of(wifi: Profile) -> None:
    lost = {"outcome": "failed", "reason": "all_lost", "loss_ratio": 1.0}
    whole = venue(
        rows("wifi_join", [{"online_ms": 3000.0}] * 3 + [FAILED]),
        rows("wifi_link", [{"rssi_dbm": -60.0, "snr_db": 30.0}] * 3 + [{"rssi_dbm": -70.0, "snr_db": 30.0}]),
        rows(
            "latency",
            [{"rtt_p50_ms": 20.0, "rt_pdv_p95_ms": 8.0, "loss_ratio": 0.01}] * 8
            + [lost, FAILED, {"target": "internet", "rtt_p50_ms": 900.0, "loss_ratio": 0.5}],
        ),
        rows("throughput", [{"down_mbps": 40.0, "up_mbps": 20.0, "working_rise_ms": 50.0}, FAILED]),
        rows("throughput", [{"down_mbps": 80.0, "up_mbps": 30.0}], busy=0),
        rows("dns", [{"rtt_ms": 30.0, "target": "service"}] * 3 + [{**FAILED, "target": "service"}]),
        rows("web", [{"total_ms": 900.0}] * 4 + [FAILED]),
        rows("video", [{"start_s": 1.5, "stall_ratio": 0.0}, {"start_s": 1.5, "stall_ratio": 0.02}, FAILED]),
    )
    found = values(whole, wifi, "week")
    assert found == pytest.approx(
        {
            "access_success_ratio": 0.75,
            "online_ms": 3000.0,
            "good_signal_ratio": 0.75,
            "availability_ratio": 1.0,
            "reach_ratio": 0.75,
            "down_mbps": (20 + 80) / 2,
            "up_mbps": (10 + 30) / 2,
            "rtt_p50_ms": 20.0,
            "rt_pdv_p95_ms": 8.0,
            "loss_ratio": (8 * 0.01 + 1 + 1) / 10,
            "working_rise_ms": 50.0,
            "dns_rtt_ms": 30.0,
            "web_total_ms": 900.0,
            "web_success_ratio": 0.8,
            "video_start_s": 1.5,
            "video_stall_ratio": 0.01,
            "video_success_ratio": 2 / 3,
        },
        rel=0.0101,
    )
    assert whole.samples["down_mbps"].count == (3, 2, 1)
    assert whole.samples["online_ms"].count == (4, 4, 1)
    assert whole.samples["loss_ratio"].n == 10
    fields, rated = score(whole, wifi, "hour")
    assert rated.score is not None
    assert (fields["ppi"], fields["partial"], fields["missing"]) == (rated.score, 0, "")
    assert (fields["down_busy_mbps"], fields["down_idle_mbps"]) == (20.0, 80.0)
    assert fields["profile_sha"] == wifi.sha256
    _, week = score(whole, wifi, "week")
    assert set(week.missing) >= {"access_success_ratio", "down_mbps", "web"}, "floors hold for weeks"


def test_most_failed_is_a_timeout_and_only_one_kind_of_hour_is_no_week(wifi: Profile) -> None:
    whole = venue(rows("latency", [FAILED] * 3 + [{"rtt_p50_ms": 9.0, "loss_ratio": 0.0}]))
    found = values(whole, wifi, "day")
    assert found["rtt_p50_ms"] == math.inf
    assert found["loss_ratio"] == 0.75
    busy = venue(rows("throughput", [{"down_mbps": 8.0}]))
    assert [values(busy, wifi, period)["down_mbps"] for period in ("hour", "day", "week")] == [8.0, 8.0, None]


def test_nothing_measured_is_nothing_rated(wifi: Profile) -> None:
    silent = rows("latency", [], expected={"latency": {("a-1", "lib", "wifi", "core", "", ""): 60}})
    fields, rated = score(venue(silent), wifi, "day")
    assert rated.score is None
    assert (fields["ppi"], fields["completeness"], fields["validity"], fields["n"]) == (None, 0.0, 0.0, 0)
    assert all(
        values(venue(silent), wifi, "day")[name] is None
        for name in fields
        if name in SOURCES and name in values(Venue(), wifi, "day")
    )


def test_days_add_to_a_week(wifi: Profile) -> None:
    parts = [
        venue(
            rows("latency", [{"rtt_p50_ms": 10.0 * day, "loss_ratio": 0.001 * day}] * day),
            rows("throughput", [{"down_mbps": 10.0 * day}], busy=day % 2),
            rows("wifi_link", [{"rssi_dbm": -60.0, "snr_db": 30.0}]),
            day=day,
        )
        for day in range(1, 8)
    ]
    week = Venue.total(parts)
    found = values(week, wifi, "week")
    assert week.samples["rtt_p50_ms"].count == (28, 28, 7)
    assert found["rtt_p50_ms"] == pytest.approx(50, rel=0.0101)
    assert found["loss_ratio"] == pytest.approx(sum(d * 0.001 * d for d in range(1, 8)) / 28)
    assert found["down_mbps"] == pytest.approx(((10 + 30 + 50 + 70) / 4 + (20 + 40 + 60) / 3) / 2)
    fields, _ = score(week, wifi, "week", days=[80.0, 82.0, 81.0, 79.0, 80.0])
    assert fields["ppi_lo"] is None, "no interval around what is not rated"


async def test_a_null_leaves_no_old_value_standing(store: Store, wifi: Profile) -> None:
    """Stores merge fields: a score that was there and is null now must not be read."""
    before, _ = score(venue(rows("dns", [{"rtt_ms": 30.0}])), wifi, "hour")
    timeouts, _ = score(venue(rows("latency", [FAILED])), wifi, "hour")
    key = ("lib", "wifi")
    first, second = (point(key, wifi, "hour", T0, fields) for fields in (before, timeouts))
    assert flaw(first) is None
    assert flaw(second) is None
    assert await store.write([first]) == []
    (found,) = [s async for s in read(store, "hour", T0, T0 + HOUR_NS)]
    assert (found.number("dns_rtt_ms"), found.number("rtt_p50_ms")) == (pytest.approx(30, rel=0.01), None)
    assert found == of(first)
    assert await store.write([second]) == []
    (found,) = [s async for s in read(store, "hour", T0, T0 + HOUR_NS)]
    assert (found.number("dns_rtt_ms"), found.number("rtt_p50_ms"), found.ppi) == (None, math.inf, None)
    assert found == of(second)
    with pytest.raises(KeyError, match="is no number"):
        found.number("missing")


async def scored(
    store: Store, folder: Path, hours: int, *, only: list[Profile] | None = None, **options: Any
) -> list[Score]:
    where = place(folder)
    roller = Roller(store, where)
    end = T0 + hours * HOUR_NS
    jobs: Jobs = await roller.jobs(T0, end)
    for hour in range(T0, end, HOUR_NS):
        await roller.roll(hour, jobs)
    async for _ in Scorer(store, where.roll, CONFIGURED, only=only).score(range(T0, end, HOUR_NS), jobs, **options):
        pass
    return [s for period in ("hour", "day", "week") async for s in read(store, period, T0 - 8 * DAY_NS, end)]


async def test_a_district_is_scored_alike_on_every_engine(store: Store, sqlite: SqliteStore, tmp_path: Path) -> None:
    points = measured(3)
    await fill(sqlite, points)
    expected = await scored(sqlite, tmp_path, 3)
    if store is not sqlite:
        await fill(store, points)
        assert _sorted(await scored(store, tmp_path, 3)) == _sorted(expected)
    joins = {box.venue.slug for box in DISTRICT.boxes if box.venue.joins}
    for one in expected:
        wanted = (
            "gov-node-2026"
            if one.network == "gov"
            else "wifi-public-2026"
            if one.venue in joins
            else "wifi-observe-2026"
        )
        assert one.profile == wanted
        assert one.number("completeness") == 1.0
        assert (one.number("n") or 0) > 100
    hours = [one for one in expected if one.period == "hour"]
    assert len(hours) == 3 * len(DISTRICT.venues)
    zone = place(tmp_path).roll.zone
    days = {datetime.fromtimestamp(T0 / 1e9 + 3600 * h, UTC).astimezone(zone).date() for h in range(3)}
    assert sum(one.period == "day" for one in expected) == len(days) * len(DISTRICT.venues)
    weeks = {Week.of(day).start_ns(zone) for day in days}
    assert {one.time_ns for one in expected if one.period == "week"} == weeks


def _sorted(scores: list[Score]) -> list[Score]:
    return sorted(scores, key=lambda one: (one.period, one.time_ns, one.venue, one.profile))


async def test_another_profile_makes_a_series_beside_the_old(sqlite: SqliteStore, tmp_path: Path) -> None:
    await fill(sqlite, measured(1))
    first = await scored(sqlite, tmp_path, 1)
    text = Path(profiles.__file__).with_name("gov-node-2026.yaml").read_text().replace("version: 1", "version: 2")
    changed = profiles.parse(text, Path("changed.yaml"))
    both = await scored(sqlite, tmp_path, 1, only=[changed])
    old, new = ([s for s in both if s.profile == name] for name in ("gov-node-2026", "gov-node-2026.v2"))
    assert _sorted(old) == _sorted([s for s in first if s.network == "gov"])
    assert len(new) == len(old)
    assert {s.text("profile_sha") for s in new} == {changed.sha256}
    assert {s.network for s in new} == {"gov"}


async def test_only_some_venues(sqlite: SqliteStore, tmp_path: Path) -> None:
    await fill(sqlite, measured(1))
    slug = DISTRICT.boxes[2].venue.slug
    assert {s.venue for s in await scored(sqlite, tmp_path, 1, venues=frozenset({slug}))} == {slug}


def test_every_field_is_a_stored_one(wifi: Profile) -> None:
    fields, _ = score(Venue(), wifi, "week")
    assert set(fields) <= set(SCORE.fields)
    assert set(SCORE.fields) - set(fields) == {"busy", "absent", "timeouts"}
    assert HOUR > 0


def test_a_join_that_merely_happened_does_not_make_a_venue_join_actively() -> None:
    assert not venue(rows("wifi_join", [{"scan_ms": 200.0}])).joins
