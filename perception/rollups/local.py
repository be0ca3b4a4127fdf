"""Hours as people at a venue live them: local time, busy or not."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from perception.calendar import Calendar
from perception.rollups.roll import LocalHour
from perception.scoring.profile import DAYS, Profile, minutes_of
from store.register import Roll

STEP_MINUTES: Final = 5
"""An hour is looked at so closely; busy is one that is busy for half of it or more."""
_STEPS: Final = 60 // STEP_MINUTES


class Clock:
    """Local hours of every venue, busy by the site register, else by the profile of its network."""

    def __init__(self, roll: Roll, profiles: Mapping[str, Profile], calendar: Calendar) -> None:
        """:param profiles: by network."""
        self._roll = roll
        self._profiles = profiles
        self._calendar = calendar
        self._known: dict[tuple[str, str], LocalHour] = {}
        self._hour_ns = -1

    def local(self, venue: str, network: str, hour_ns: int) -> LocalHour:
        """A venue's hour; never busy where neither register nor profile knows busy hours."""
        if hour_ns != self._hour_ns:
            self._known.clear()
            self._hour_ns = hour_ns
        found = self._known.get((venue, network))
        if found is None:
            found = self._known[venue, network] = self._local(venue, network, hour_ns)
        return found

    def _local(self, venue: str, network: str, hour_ns: int) -> LocalHour:
        start = datetime.fromtimestamp(hour_ns // 10**9, UTC)
        busy = 0
        for step in range(_STEPS):
            at = (start + timedelta(minutes=step * STEP_MINUTES)).astimezone(self._roll.zone)
            busy += self._is_busy(venue, network, self._calendar.weekday(at.date()), at.hour * 60 + at.minute)
        local = start.astimezone(self._roll.zone)
        return LocalHour(int(2 * busy >= _STEPS), local.hour, local.isoweekday())

    def _is_busy(self, venue: str, network: str, day: int, minute: int) -> bool:
        known = self._roll.venues.get(venue)
        if known is not None and known.busy:
            windows = known.busy.get(DAYS[day], [])
            return any(first <= minute < last for first, last in map(minutes_of, windows))
        profile = self._profiles.get(network)
        return profile is not None and profile.busy_idle.is_busy(known.type if known else "", day, minute)
