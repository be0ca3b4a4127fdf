"""A venue's opening and busy hours, as its agent keeps them: local time, by day of the week."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta, Struct

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Span = Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)$")]
"""``09:00-17:30``, local time, its end not included."""


class Hours(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """When the venue is open, and when it is busy."""

    timezone: str = "Asia/Shanghai"
    open: dict[str, list[Span]] = {}
    """A day that is missing is closed; an empty table is always open."""
    busy: dict[str, list[Span]] = {}
    """Their tests are paid first from the day's data budget; an empty table has none."""

    def __post_init__(self) -> None:
        for day in (*self.open, *self.busy):
            if day not in DAYS:
                raise ValueError(f"{day!r} is no day; write {', '.join(DAYS)}")
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"timezone: {self.timezone!r} is not known; write one like Asia/Shanghai") from None

    def local(self, wall_s: float) -> datetime:
        """Local time of a moment."""
        return datetime.fromtimestamp(wall_s, ZoneInfo(self.timezone))

    def is_open(self, wall_s: float) -> bool:
        return not self.open or self._within(self.open, wall_s)

    def is_busy(self, wall_s: float) -> bool:
        return self._within(self.busy, wall_s)

    def busy_slots(self, after_s: float, period_s: float) -> Iterator[float]:
        """Moments after `after_s`, `period_s` apart, that lie in busy and open hours of the same local day."""
        day = self.local(after_s).date()
        moment_s = after_s + period_s
        while self.local(moment_s).date() == day:
            if self.is_busy(moment_s) and self.is_open(moment_s):
                yield moment_s
            moment_s += period_s

    def _within(self, table: dict[str, list[Span]], wall_s: float) -> bool:
        moment = self.local(wall_s)
        since_midnight = timedelta(hours=moment.hour, minutes=moment.minute)
        spans = table.get(DAYS[moment.weekday()], [])
        return any(start <= since_midnight < end for start, end in map(_ends, spans))


ALWAYS_OPEN: Final = Hours()


def _ends(span: str) -> tuple[timedelta, timedelta]:
    first, _, last = span.partition("-")
    return _since_midnight(first), _since_midnight(last)


def _since_midnight(text: str) -> timedelta:
    return timedelta(hours=int(text[:2]), minutes=int(text[3:]))
