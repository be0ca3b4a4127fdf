"""Scores as they are read back."""

import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import cast

from contract.series import SCORE, FieldValue
from perception.scores.score import Period
from store.interface import Row, Store
from store.point import Point


@dataclass(frozen=True)
class Score:
    """Every score of a venue over some time, under one profile."""

    time_ns: int
    """Its start: an hour, or a local midnight."""
    venue: str
    network: str
    profile: str
    """The tag: the profile's id, with its version from the second on."""
    period: Period
    fields: Mapping[str, FieldValue]
    """As :data:`contract.series.SCORE`; null for what is not known, math.inf for a time-out (超时)."""

    def number(self, name: str) -> float | None:
        """A numeric field.

        :raises KeyError: when there is none of that name.
        """
        if SCORE.fields[name] == "str":
            raise KeyError(f"{name} is no number")
        return cast("float | None", self.fields.get(name))

    def text(self, name: str) -> str:
        """A text field; ``""`` for none.

        :raises KeyError: when there is none of that name.
        """
        if SCORE.fields[name] != "str":
            raise KeyError(f"{name} is no text")
        return str(self.fields.get(name) or "")

    @property
    def ppi(self) -> float | None:
        """The index; None when it is not rated (不评)."""
        return self.number("ppi")


def known(tags: Mapping[str, str], time_ns: int, fields: Mapping[str, FieldValue]) -> Score:
    """A stored row, without what a former run left in fields that are null now."""
    gone = _names(fields.get("absent"))
    timeouts = _names(fields.get("timeouts"))
    read: dict[str, FieldValue] = {name: None if name in gone else value for name, value in fields.items()}
    read |= dict.fromkeys(timeouts & SCORE.fields.keys(), math.inf)
    return Score(time_ns, tags["venue"], tags["network"], tags["profile"], cast(Period, tags["period"]), read)


def of(point: Point) -> Score:
    """One that was just computed."""
    tags = dict(zip(SCORE.tags, point.tags, strict=True))
    return known(tags, point.time_ns, dict(zip(SCORE.fields, point.fields, strict=True)))


async def read(
    store: Store, period: Period, start_ns: int, end_ns: int, *, where: Mapping[str, str] | None = None
) -> AsyncIterator[Score]:
    """The scores of a window, oldest first; `where` are tags that must be equal.

    :raises StoreError: when they cannot be read.
    """
    row: Row
    async for row in store.rows(SCORE.key, start_ns, end_ns, where={"period": period, **(where or {})}):
        yield known(row.tags, row.time_ns, row.fields)


def _names(joined: FieldValue) -> set[str]:
    return set(str(joined).split(",")) if joined else set()
