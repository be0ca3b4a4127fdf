"""The signal around upgrades, read from the hours of a store."""

from datetime import timedelta

import pytest

from perception.report.reading import _signals
from perception.rollups.roll import LocalHour, emptied
from perception.week import midnight_ns
from store.sqlite import SqliteStore
from tests.perception.report import weeks
from tests.store.conftest import sqlite

__all__ = ["sqlite"]
HOUR_NS = 3600 * 10**9


async def test_days_are_means_of_what_was_measured(sqlite: SqliteStore) -> None:
    upgraded = weeks.WEEK.monday - timedelta(weeks=2)
    made = weeks.setting(weeks.WEEK, weeks.sites(6, 1, upgraded=upgraded))
    day = upgraded - timedelta(days=3)
    start_ns = midnight_ns(day, made.zone)
    rows = [
        ("wifi-00", 0, 60, -60.0), ("wifi-00", 23, 20, -52.0), ("wifi-00", 5, 0, 0.0), ("wifi-00", 24, 60, -40.0),
        ("wifi-01", 0, 60, -70.0), ("wifi-05", 0, 60, -50.0),
    ]  # fmt: skip
    points = [
        emptied(
            "wifi_link", ("box", venue, "wifi", "-", "", ""), start_ns + hour * HOUR_NS, LocalHour(0, hour % 24, 1),
            rssi_dbm_n=n, rssi_dbm_sum=n * mean,
        )
        for venue, hour, n, mean in rows
    ]  # fmt: skip
    assert await sqlite.write(points) == []
    found = await _signals(sqlite, made)
    assert found["wifi-00"] == {day: pytest.approx(-58), day + timedelta(days=1): pytest.approx(-40)}
    assert found["wifi-01"] == {day: pytest.approx(-70)}
    assert set(found) == {"wifi-00", "wifi-01"}


async def test_without_an_upgrade_nothing_is_read(sqlite: SqliteStore) -> None:
    assert await _signals(sqlite, weeks.setting(weeks.WEEK, weeks.sites(2, 0))) == {}
