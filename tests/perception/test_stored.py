"""Rollup rows read back from a store, and added."""

import math
import random

import pytest

from contract.series import METRICS, ROLLUPS
from perception.rollups.roll import HOUR_NS, emptied, roll
from perception.sketch import Sketch
from perception.stored import Row, read, total
from store.sqlite import SqliteStore
from tests.perception.test_rollups import HOUR, LOCAL, exact, facts, random_rows, raw
from tests.store.conftest import sqlite

__all__ = ["sqlite"]


def rows_of(probe: str, records: list[dict[str, object]]) -> list[Row]:
    return [Row.of(point) for point in roll(probe, raw(probe, records), facts())]


async def stored(store: SqliteStore, probe: str, **options: object) -> list[Row]:
    return [row async for row in read(store, probe, HOUR, HOUR + HOUR_NS, **options)]  # type: ignore[arg-type]


async def test_a_row_comes_back_as_it_was_computed(sqlite: SqliteStore) -> None:
    dice = random.Random(7)
    for probe in ROLLUPS:
        points = roll(probe, raw(probe, random_rows(probe, dice)), facts())
        assert await sqlite.write(points) == []
        assert await stored(sqlite, probe) == [Row.of(point) for point in sorted(points)]


async def test_only_what_is_asked_for_is_read(sqlite: SqliteStore) -> None:
    await sqlite.write(roll("web", raw("web", [{"total_ms": 5.0, "dns_ms": 1.0}, {"agent": "a-2"}]), facts()))
    (row,) = await stored(sqlite, "web", metrics=["total_ms"], where={"agent": "a-1"})
    assert (set(row.metrics), row.metric("total_ms").n, row.metric("dns_ms").n) == ({"total_ms"}, 1, 0)
    with pytest.raises(KeyError, match="no metric"):
        row.metric("rtt_ms")


async def test_what_a_former_run_left_is_not_read(sqlite: SqliteStore) -> None:
    """Fields merge: a null erases nothing. So a row says what holds by its counts."""
    answers = [{"rtt_p50_ms": 10.0}] * 3
    lost = [{"outcome": "failed", "reason": "all_lost", "loss_ratio": 1.0}] * 9
    await sqlite.write(roll("latency", raw("latency", answers), facts()))
    await sqlite.write(roll("latency", raw("latency", answers + lost), facts()))
    (row,) = [row for row in await stored(sqlite, "latency") if row.target == "core"]
    assert (row.metric("rtt_p50_ms").p50, row.metric("rtt_p50_ms").p95) == (math.inf, math.inf)
    assert row.metric("rtt_p50_ms").quantile(0.2) == pytest.approx(10, rel=0.01)
    await sqlite.write([emptied("latency", ("a-1", "lib", "wifi", "core", "", ""), HOUR, LOCAL)])
    (row,) = [row for row in await stored(sqlite, "latency") if row.target == "core"]
    metric = row.metric("rtt_p50_ms")
    assert (metric.p50, metric.maximum, metric.mean, metric.quantile(0.5), row.n) == (None, None, None, None, 0)
    assert row.reasons == {}


@pytest.mark.parametrize("probe", ["latency", "web", "throughput", "wifi_link"])
def test_a_sum_of_hours_is_what_the_longer_time_gives(probe: str) -> None:
    dice = random.Random(probe)
    parts = [[{**row, "target": "core", "agent": "a-1"} for row in random_rows(probe, dice)] for _ in range(5)]
    (whole,) = [row for row in rows_of(probe, [row for part in parts for row in part]) if row.target == "core"]
    hours = [row for part in parts for row in rows_of(probe, part) if row.target == "core"]
    found = total(hours)
    assert (found.n, found.ok, found.failed, found.attempted) == (whole.n, whole.ok, whole.failed, whole.attempted)
    assert dict(found.reasons) == whole.reasons
    assert dict(found.extra) == whole.extra
    assert found.success_ratio == whole.success_ratio
    for name in METRICS[probe]:
        added, exactly = found.metric(name), whole.metric(name)
        assert (added.n, added.minimum, added.maximum) == (exactly.n, exactly.minimum, exactly.maximum)
        assert added.mean == pytest.approx(exactly.mean)
        assert added.sketch == exactly.sketch
        if added.sketch is None:
            assert added.quantile(0.5) is None
        elif exactly.p95 is not None:
            assert added.quantile(0.95) == pytest.approx(exactly.p95, rel=0.011)


def test_a_sum_names_what_is_common() -> None:
    rows = rows_of("dns", [{"resolver": "site"}, {"resolver": "public"}])
    added = total(rows)
    assert (added.agent, added.resolver, added.target, added.time_ns) == ("a-1", "", "core", HOUR)
    assert total(rows[:1]) is rows[0]
    with pytest.raises(ValueError, match="no rows"):
        total([])
    with pytest.raises(ValueError, match="do not add"):
        total([*rows, *rows_of("web", [{}])])


def test_answers_alone() -> None:
    (row,) = rows_of("dns", [{"rtt_ms": 20.0}, {"outcome": "failed", "reason": "timeout"}] * 3)
    metric = row.metric("rtt_ms")
    assert metric.quantile(0.9) == math.inf
    assert metric.quantile(0.9, failures=False) == pytest.approx(20, rel=0.01)
    assert metric.sketch == Sketch.of([20.0] * 3, failures=3)
    assert exact([20.0] * 3, 3, 0.9) is None
