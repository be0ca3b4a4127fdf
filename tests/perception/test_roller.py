"""Hours of a store: rolled up, again, late, without an agent, on every engine alike."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from contract.series import COUNTS, JOBS, ROLLUPS
from perception.rollups.jobs import Jobs, slots
from perception.rollups.roll import HOUR_NS
from perception.rollups.roller import Place, Roller
from perception.stored import Row, read
from store.interface import Store
from store.point import Point
from store.sqlite import SqliteStore
from tests.perception.district import DISTRICT, fill, measured, place
from tests.store.conftest import influx, sqlite, store
from tests.store.points import T0, point

__all__ = ["influx", "sqlite", "store"]

HOURS = 2
END = T0 + HOURS * HOUR_NS
MINUTE_NS = 60 * 10**9


@pytest.fixture
def here(tmp_path: Path) -> Place:
    return place(tmp_path)


async def rolled(store: Store, where: Place, **options: Any) -> list[Row]:
    roller = Roller(store, where)
    jobs = await roller.jobs(T0, END)
    return [row for hour in range(T0, END, HOUR_NS) for row in await roller.roll(hour, jobs, **options)]


async def standing(store: Store, probes: Sequence[str] = tuple(ROLLUPS)) -> list[Row]:
    rows = [row for probe in probes async for row in read(store, probe, T0, END)]
    return sorted(rows, key=lambda row: (row.probe, row.time_ns, row.agent, row.target, row.provider, row.resolver))


async def test_both_engines_give_the_same_rows(store: Store, sqlite: SqliteStore, here: Place) -> None:
    points = measured(HOURS)
    await fill(sqlite, points)
    await rolled(sqlite, here)
    if store is not sqlite:
        await fill(store, points)
        await rolled(store, here)
    found = await standing(store)
    assert found == await standing(sqlite)
    assert sum(row.n for row in found) == sum(p.series in ROLLUPS for p in points)
    light = [row for row in found if row.probe not in ("wifi_event", "throughput") and row.target != "-"]
    assert len(light) > 100
    assert all(row.n == row.expected for row in light)
    assert {(row.hour, row.dow) for row in found} == {
        ((T0 // HOUR_NS + 8 + h) % 24, row.dow) for h in (0, 1) for row in found
    }


async def test_doing_it_again_changes_nothing(sqlite: SqliteStore, here: Place) -> None:
    await fill(sqlite, measured(HOURS))
    once = await rolled(sqlite, here)
    found = await standing(sqlite)
    assert await rolled(sqlite, here) == once
    assert await standing(sqlite) == found


async def test_late_records_of_one_agent_change_its_rows_alone(store: Store, here: Place) -> None:
    points = measured(HOURS)
    away = DISTRICT.boxes[3].agent
    await fill(store, [p for p in points if p.series == JOBS.name or p.tags[0] != away])
    await rolled(store, here)
    before = {(r.probe, r.time_ns, r.agent, r.target, r.provider, r.resolver): r for r in await standing(store)}
    silent = [row for row in before.values() if row.agent == away]
    assert sum(row.n for row in silent) == 0
    assert sum(row.expected for row in silent) > 100 * HOURS
    await fill(store, [p for p in points if p.tags[0] == away])
    await rolled(store, here, agent=away)
    after = await standing(store)
    for row in after:
        key = (row.probe, row.time_ns, row.agent, row.target, row.provider, row.resolver)
        assert row.agent == away or row == before[key]
    assert sum(row.n for row in after if row.agent == away) > 100 * HOURS
    assert {row.target for row in after if row.agent == away and row.extra.get("avail_5m_n")} == {"-"}


async def test_a_series_that_vanished_is_written_empty(store: Store, here: Place) -> None:
    """Left by a former run: records that were moved to another venue since, or a store that lost them."""
    gone = [
        point(minute * 60, "web", {"agent": "gone", "target": "news"}, outcome="ok", total_ms=9.0) for minute in (1, 2)
    ]
    await fill(store, gone)
    await rolled(store, here)
    (row,) = await standing(store, ["web"])
    assert (row.n, row.metric("total_ms").n) == (2, 2)
    await _forget(store, "web")
    await rolled(store, here)
    (row,) = await standing(store, ["web"])
    assert (row.n, row.ok, row.metric("total_ms").n, row.metric("total_ms").quantile(0.5)) == (0, 0, 0, None)


async def _forget(store: Store, probe: str) -> None:
    if isinstance(store, SqliteStore):
        await store._writer.run(lambda connection: connection.execute(f"DELETE FROM {probe}"))
    else:
        form = {"q": f"DROP MEASUREMENT {probe}", "db": store._names["wanggan"]}  # type: ignore[attr-defined]
        async with store._connected().post(f"{store._url}/query", data=form) as answer:  # type: ignore[attr-defined]
            assert answer.status == 200


async def test_a_running_hour_expects_what_is_due(sqlite: SqliteStore, here: Place) -> None:
    await fill(sqlite, measured(0.5))
    rows = await rolled(sqlite, here, until_ns=T0 + 30 * MINUTE_NS)
    (core, *_) = [row for row in rows if row.probe == "latency" and row.target == "core" and row.time_ns == T0]
    assert (core.n, core.expected) == (30, 30)
    assert sum(row.expected for row in rows if row.time_ns > T0) == 0


async def test_maintenance_of_the_register_counts_for_nothing(sqlite: SqliteStore, tmp_path: Path) -> None:
    here = place(tmp_path)
    box = DISTRICT.boxes[0]
    text = (tmp_path / "sites.toml").read_text()
    start, end = ("1970-01-01T00:00:00Z", "2100-01-01T00:00:00Z")
    window = f'maintenance = [{{ from = {start}, to = {end}, reason = "moved" }}]'
    here = place(tmp_path, text.replace(f"[venues.{box.venue.slug}]", f"[venues.{box.venue.slug}]\n{window}"))
    await fill(sqlite, measured(HOURS))
    rows = await rolled(sqlite, here)
    repaired = [row for row in rows if row.venue == box.venue.slug]
    assert sum(row.n for row in repaired) > 100
    assert all(row.attempted == 0 and row.planned >= row.n for row in repaired)
    assert all(row.attempted > 0 for row in rows if row.venue != box.venue.slug and row.probe == "latency" and row.n)


def job(agent: str, target: str, hours: float, announced: int, period_s: float = 60.0, role: str = "core") -> Point:
    tags = (agent, "latency", target, "wlan0", "", "")
    return Point(JOBS.name, tags, T0 + round(hours * HOUR_NS), (role, period_s, announced))


async def test_what_is_expected_follows_the_announcements(sqlite: SqliteStore, tmp_path: Path) -> None:
    await sqlite.write(
        [
            job("moved", "core", -20 * 24, 1),  # long ago, and silent since
            job("moved", "old", -20 * 24, 1),
            job("moved", "old", -19 * 24, 0),
            job("comes", "core", 0.5, 1),
            job("comes", "core", 0.75, 0),
            job("slower", "core", -30, 1),
            job("slower", "core", -6, 1),
            job("slower", "core", 0.5, 1, period_s=120.0, role="gateway"),
        ]
    )
    here = place(
        tmp_path,
        'timezone = "UTC"\n[venues.a]\nname = { zh = "甲", en = "a" }\ntype = "library"\n'
        '[venues.b]\nname = { zh = "乙", en = "b" }\ntype = "library"\n'
        + "".join(
            f'[[sites]]\nagent = "{agent}"\ninterface = "wlan0"\nnetwork = "wifi"\n'
            f'from = {start}\n{end}venue = "{venue}"\n'
            for agent, start, end, venue in (
                ("moved", "2020-01-01", f"to = {_time(0.25)}\n", "a"),
                ("moved", _time(0.25), "", "b"),
                ("comes", "2020-01-01", "", "a"),
                ("slower", "2020-01-01", "", "a"),
            )
        ),
    )
    jobs = await Jobs.load(sqlite, here.roll, T0, END)
    expected = jobs.expected(here.roll, T0, T0 + HOUR_NS)["latency"]
    assert {(tags[0], tags[1], tags[3]): n for tags, n in expected.items()} == {
        ("moved", "a", "core"): 15,
        ("moved", "b", "core"): 45,
        ("comes", "a", "core"): 15,
        ("slower", "a", "core"): 45,
    }
    assert jobs.is_gateway("slower", "core")
    assert not jobs.is_gateway("moved", "core")
    assert jobs.is_gateway("nobody", "gateway")
    alone = await Jobs.load(sqlite, here.roll, T0, END, agent="comes")
    assert alone.expected(here.roll, T0, T0 + HOUR_NS) == {"latency": {("comes", "a", "wifi", "core", "", ""): 15}}


def _time(hours: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(T0 / 10**9 + hours * 3600, UTC).isoformat()


def test_slots_are_counted_where_they_lie() -> None:
    assert [slots(start, start + 10, 20, 7) for start in range(0, 40, 10)] == [1, 0, 1, 0]
    assert slots(7, 8, 20, 7) == 1
    assert slots(8, 27, 20, 7) == 0


def test_every_row_has_every_count() -> None:
    assert set(COUNTS) <= set(Row.__dataclass_fields__)
