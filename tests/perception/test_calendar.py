"""Weeks and the calendar file: years' ends, holidays, worked weekends, windows, mistakes."""

import re
import tomllib
from datetime import date, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from perception.calendar import NO_CALENDAR, Calendar, load
from perception.week import Week
from store.tables import ConfigError

ROOT = Path(__file__).parent.parent.parent
SHANGHAI = ZoneInfo("Asia/Shanghai")
EXAMPLE = load(ROOT / "deploy/calendar.example.toml")


def test_a_week() -> None:
    week = Week.parse("2026-W47")
    assert str(week) == "2026-W47"
    assert (week.days[0], week.days[-1]) == (date(2026, 11, 16), date(2026, 11, 22))
    assert week.start_ns(SHANGHAI) == 1794758400 * 10**9
    assert week.end_ns(SHANGHAI) - week.start_ns(SHANGHAI) == 7 * 86400 * 10**9
    assert Week.of(date(2026, 11, 22)) == week


def test_weeks_across_a_year_s_end() -> None:
    week = Week.parse("2026-W53")
    assert (week.days[0], week.days[-1]) == (date(2026, 12, 28), date(2027, 1, 3))
    assert str(week.shifted(1)) == "2027-W01"
    assert str(Week.parse("2027-W01").shifted(-1)) == "2026-W53"
    assert str(Week.of(date(2027, 1, 3))) == "2026-W53"
    assert str(week.last_year) == "2025-W52"
    assert str(Week.parse("2027-W05").last_year) == "2026-W05"


@pytest.mark.parametrize("text", ["2026-W54", "2027-W53", "2026-W00", "2026W47", "2026-W7", "W47", "", "２０２６-W47"])
def test_what_is_no_week(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        Week.parse(text)


def test_days_as_they_are_lived() -> None:
    assert EXAMPLE.weekday(date(2026, 10, 1)) == 6
    assert EXAMPLE.weekday(date(2026, 10, 10)) == 0
    assert EXAMPLE.weekday(date(2026, 10, 11)) == 6
    assert EXAMPLE.weekday(date(2026, 10, 14)) == 2
    assert NO_CALENDAR.weekday(date(2026, 10, 1)) == 3


def test_weeks_of_different_kinds_are_not_compared() -> None:
    assert EXAMPLE.kind(Week.parse("2026-W40")) == "holiday"
    assert EXAMPLE.kind(Week.parse("2026-W41")) == "holiday"
    assert EXAMPLE.kind(Week.parse("2026-W19")) == "holiday"
    assert EXAMPLE.kind(Week.parse("2026-W07")) == "exchange"
    assert EXAMPLE.kind(Week.parse("2026-W47")) == "plain"
    assert EXAMPLE.comparable(Week.parse("2026-W47")) == Week.parse("2026-W46")
    assert EXAMPLE.comparable(Week.parse("2026-W42")) is None


def test_maintenance_of_a_target_in_local_time() -> None:
    assert EXAMPLE.windows("core", SHANGHAI) == [(1795194000 * 10**9, 1795201200 * 10**9)]
    assert EXAMPLE.windows("other", SHANGHAI) == []


def test_the_example_has_the_holidays_of_the_simulator() -> None:
    years = tomllib.loads((ROOT / "simulator/data/holidays.toml").read_text())
    for year, table in years.items():
        spans = [[f"{year}-{first}", f"{year}-{last}"] for first, last in table["holidays"]]
        assert [[str(one.from_), str(one.to)] for one in EXAMPLE.holidays if str(one.from_.year) == year] == spans
        assert [str(day) for day in EXAMPLE.workdays if str(day.year) == year] == [
            f"{year}-{day}" for day in table["workdays"]
        ]


MISTAKES = {
    "unknown key": ("holiday = []", "holiday: unknown key; did you mean holidays?"),
    "turned": ("holidays = [{from = 2026-10-07, to = 2026-10-01}]", "holidays[0]: to: before from"),
    "overlap": (
        "holidays = [{from = 2026-10-01, to = 2026-10-07}, {from = 2026-10-07, to = 2026-10-08}]",
        "holidays[1]: overlaps holidays[0]; write each day off once",
    ),
    "no date": ('holidays = [{from = "October", to = 2026-10-01}]', "holidays[0].from: "),
    "a worked weekday": ("workdays = [2026-10-12]", "workdays[0]: 2026-10-12 is no weekend"),
    "twice": ("workdays = [2026-10-10, 2026-10-10]", "workdays[1]: 2026-10-10 stands twice; remove one"),
    "worked and off": (
        "workdays = [2026-10-03]\nholidays = [{from = 2026-10-01, to = 2026-10-07}]",
        "workdays[0]: 2026-10-03 is a holiday as well",
    ),
    "window without a reason": (
        '[[maintenance]]\ntarget = "core"\nfrom = 2026-10-01\nto = 2026-10-02\nby = "us"',
        "maintenance[0].why: missing",
    ),
    "window turned": (
        '[[maintenance]]\ntarget = "core"\nfrom = 2026-10-02\nto = 2026-10-02\nby = "us"\nwhy = "x"',
        "maintenance[0]: to: not after from",
    ),
    "window with one offset": (
        '[[maintenance]]\ntarget = "core"\nfrom = 2026-10-02T00:00:00+08:00\nto = 2026-10-03\nby = "us"\nwhy = "x"',
        "maintenance[0]: to: write both ends with an offset",
    ),
    "not TOML": ("holidays = [", "not TOML"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake: str, tmp_path: Path) -> None:
    text, message = MISTAKES[mistake]
    file = tmp_path / "calendar.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(file)


def test_an_empty_calendar_has_weekends_alone() -> None:
    days = [date(2026, 10, 1) + timedelta(n) for n in range(14)]
    assert [Calendar().weekday(day) for day in days] == [day.weekday() for day in days]
