"""Local time of the district (Shanghai: UTC+8, without summer time), and which days are free."""

import importlib.resources
import tomllib
from datetime import date, timedelta
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulator.streams import Ints

MINUTES_OF_DAY: Final = 1440
OFFSET_MINUTES: Final = 480
"""Local time minus UTC."""
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_EPOCH: Final = date(1970, 1, 1)
_EPOCH_WEEKDAY: Final = 3


def local_day(minutes: Ints) -> Ints:
    """Number of the local day since 1970, of minutes since 1970 UTC."""
    return np.asarray((minutes + OFFSET_MINUTES) // MINUTES_OF_DAY)


def minute_of_day(minutes: Ints) -> Ints:
    """Local."""
    return np.asarray((minutes + OFFSET_MINUTES) % MINUTES_OF_DAY)


def weekday(days: Ints) -> Ints:
    """0 is Monday."""
    return np.asarray((days + _EPOCH_WEEKDAY) % 7)


def is_free(days: Ints) -> NDArray[np.bool_]:
    """Whether people are off: weekends and public holidays, but not a weekend that is worked in exchange."""
    holidays, workdays = _days()
    weekend = weekday(days) >= 5
    return (weekend & ~np.isin(days, workdays)) | np.isin(days, holidays)


def is_holiday(days: Ints) -> NDArray[np.bool_]:
    """Whether it is a public holiday."""
    return np.isin(days, _days()[0])


@cache
def _days() -> tuple[Ints, Ints]:
    text = (importlib.resources.files("simulator") / "data" / "holidays.toml").read_text()
    holidays: list[int] = []
    workdays: list[int] = []
    for year, table in tomllib.loads(text).items():
        for first, last in table["holidays"]:
            day = date.fromisoformat(f"{year}-{first}")
            while day <= date.fromisoformat(f"{year}-{last}"):
                holidays.append((day - _EPOCH).days)
                day += timedelta(days=1)
        workdays += [(date.fromisoformat(f"{year}-{day}") - _EPOCH).days for day in table["workdays"]]
    return np.array(holidays, np.int64), np.array(workdays, np.int64)
