"""ISO weeks as people of the district count them: Monday 00:00 to Sunday 24:00, local time."""

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple, Self
from zoneinfo import ZoneInfo

DAYS = 7


class Week(NamedTuple):
    """A week of the ISO calendar; at a year's end its year is not that of every day in it."""

    year: int
    number: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """``2026-W47``.

        :raises ValueError: when it is no week of that year.
        """
        found = re.fullmatch(r"(\d{4})-W(\d{2})", text, re.ASCII)
        if not found:
            raise ValueError(f"{text!r} is no week; write one like 2026-W47")
        year, number = int(found[1]), int(found[2])
        try:
            date.fromisocalendar(year, number, 1)
        except ValueError:
            raise ValueError(f"{text!r}: the year {year} has no week {number}") from None
        return cls(year, number)

    @classmethod
    def of(cls, day: date) -> Self:
        """The week that a day lies in."""
        year, number, _ = day.isocalendar()
        return cls(year, number)

    def __str__(self) -> str:
        return f"{self.year:04d}-W{self.number:02d}"

    @property
    def monday(self) -> date:
        """Its first day."""
        return date.fromisocalendar(self.year, self.number, 1)

    @property
    def days(self) -> list[date]:
        """All seven."""
        return [self.monday + timedelta(days=n) for n in range(DAYS)]

    def shifted(self, weeks: int) -> "Week":
        """So many weeks later, or earlier."""
        return Week.of(self.monday + timedelta(weeks=weeks))

    @property
    def last_year(self) -> "Week":
        """The same week a year ago (同比); the last one of it where there was no 53rd."""
        try:
            return Week.of(date.fromisocalendar(self.year - 1, self.number, 1))
        except ValueError:
            return Week.of(date(self.year - 1, 12, 28))

    def start_ns(self, zone: ZoneInfo) -> int:
        """Its first instant, nanoseconds since 1970."""
        return midnight_ns(self.monday, zone)

    def end_ns(self, zone: ZoneInfo) -> int:
        """The first instant after it."""
        return midnight_ns(self.monday + timedelta(days=DAYS), zone)


def midnight_ns(day: date, zone: ZoneInfo) -> int:
    """When a local day begins, nanoseconds since 1970."""
    return round(datetime.combine(day, time(), zone).astimezone(UTC).timestamp()) * 10**9
