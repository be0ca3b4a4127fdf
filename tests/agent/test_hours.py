"""Opening and busy hours: local time, by day of the week."""

from datetime import datetime, timedelta, timezone

import pytest

from agent.hours import ALWAYS_OPEN, Hours

SHANGHAI = timezone(timedelta(hours=8))
LIBRARY = Hours(
    open={"wed": ["09:00-12:00", "13:00-21:00"], "thu": ["00:00-24:00"]},
    busy={"wed": ["11:00-14:00"], "fri": ["10:00-11:00"]},
)


def at(day: int, hour: int, minute: int = 0) -> float:
    """Wall seconds in November 2026 in Shanghai; the 25th is a Wednesday."""
    return datetime(2026, 11, day, hour, minute, tzinfo=SHANGHAI).timestamp()


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        (at(25, 8, 59), False),
        (at(25, 9), True),
        (at(25, 12), False),
        (at(25, 20, 59), True),
        (at(25, 21), False),
        (at(26, 0), True),
        (at(26, 23, 59), True),
        (at(27, 10), False),
    ],
)
def test_open(moment: float, is_open: bool) -> None:
    assert LIBRARY.is_open(moment) is is_open


def test_without_a_table_it_is_always_open_and_never_busy() -> None:
    assert ALWAYS_OPEN.is_open(at(25, 3))
    assert not ALWAYS_OPEN.is_busy(at(25, 3))


def test_busy_slots_lie_in_busy_and_open_hours_of_the_same_day() -> None:
    hours = [LIBRARY.local(s).strftime("%H:%M") for s in LIBRARY.busy_slots(at(25, 8, 30), 1800)]
    assert hours == ["11:00", "11:30", "13:00", "13:30"], "closed at noon"
    assert list(LIBRARY.busy_slots(at(25, 14), 1800)) == []
    assert list(LIBRARY.busy_slots(at(27, 8), 1800)) == [], "busy, and closed"


def test_another_time_zone() -> None:
    assert Hours(timezone="UTC", open={"wed": ["01:00-02:00"]}).is_open(at(25, 9, 30))
