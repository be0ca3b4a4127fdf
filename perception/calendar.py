"""The calendar file: public holidays, weekends that are worked in exchange (调休), maintenance of targets.

An input of the report like the site register: strict, and part of the input's hash. A venue's own maintenance windows
stand in the site register.
"""

from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from perception.week import Week
from store.register import Text, Time
from store.tables import Table, convert, read_table

WeekKind = Literal["plain", "holiday", "exchange"]
"""A week with a holiday on a day that would be worked, one with a worked weekend, or neither. Weeks of different kinds
are not compared."""

MONDAY: Final = 0
SATURDAY: Final = 5
SUNDAY: Final = 6


class Holiday(Table):
    """Days off, both ends included."""

    from_: Annotated[date, Field(alias="from")]
    to: date
    name: Text | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.to < self.from_:
            raise ValueError("to: before from; write the last day off")
        return self


class TargetMaintenance(Table):
    """A window in which a target is announced to be away: its slots are out of scores, and printed."""

    target: Text
    """Its name in the agents' configuration."""
    from_: Annotated[Time, Field(alias="from")]
    to: Time
    """Until before."""
    by: Text
    """Who announced it."""
    why: Text

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if (self.from_.tzinfo is None) != (self.to.tzinfo is None):
            raise ValueError("to: write both ends with an offset, or both without")
        if self.to <= self.from_:
            raise ValueError("to: not after from")
        return self


class Calendar(Table):
    """The file. Without one there are only weekends."""

    holidays: list[Holiday] = []
    workdays: list[date] = []
    """Weekend days that are worked in exchange: busy as mon-fri."""
    maintenance: list[TargetMaintenance] = []

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        spans = sorted((holiday.from_, holiday.to, i) for i, holiday in enumerate(self.holidays))
        for (_, end, i), (start, _, j) in pairwise(spans):
            if start <= end:
                raise ValueError(f"holidays[{j}]: overlaps holidays[{i}]; write each day off once")
        for i, day in enumerate(self.workdays):
            if day.weekday() < SATURDAY:
                raise ValueError(f"workdays[{i}]: {day} is no weekend; a weekday is worked anyway, remove it")
            if self.workdays.index(day) != i:
                raise ValueError(f"workdays[{i}]: {day} stands twice; remove one")
            if self.is_holiday(day):
                raise ValueError(f"workdays[{i}]: {day} is a holiday as well; remove one of them")
        return self

    def is_holiday(self, day: date) -> bool:
        """Whether it is within a holiday."""
        return any(holiday.from_ <= day <= holiday.to for holiday in self.holidays)

    def weekday(self, day: date) -> int:
        """The day of the week (0 is Monday) whose hours a day has: a holiday is as a Sunday, a worked weekend as a
        Monday (自定)."""
        if self.is_holiday(day):
            return SUNDAY
        return MONDAY if day in self.workdays else day.weekday()

    def kind(self, week: Week) -> WeekKind:
        """What a week may be compared with."""
        if any(self.is_holiday(day) and day.weekday() < SATURDAY for day in week.days):
            return "holiday"
        return "exchange" if any(day in self.workdays for day in week.days) else "plain"

    def comparable(self, week: Week, back: int = 1) -> Week | None:
        """The week `back` weeks before it, if it is of the same kind; else none is comparable."""
        other = week.shifted(-back)
        return other if self.kind(other) == self.kind(week) else None

    def windows(self, target: str, zone: ZoneInfo) -> list[tuple[int, int]]:
        """A target's maintenance windows, from and until before, in nanoseconds since 1970."""
        return sorted(
            (_ns(window.from_, zone), _ns(window.to, zone)) for window in self.maintenance if window.target == target
        )


NO_CALENDAR: Final = Calendar()


def load(path: Path) -> Calendar:
    """Read and check a calendar.

    :raises ConfigError: one line for each mistake, with its path and the fix.
    """
    return convert(Calendar, read_table(path), path)


def _ns(at: datetime, zone: ZoneInfo) -> int:
    known = at if at.tzinfo is not None else at.replace(tzinfo=zone)
    return round(known.timestamp() * 1_000_000) * 1000
