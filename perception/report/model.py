"""The weekly report as data: every figure that is printed, and the text around it, in both languages.

Renderers know these types and nothing of networks. A figure has a key, so that a later revision can say which figures
changed, and so that anyone can compute it again.
"""

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, Literal, Self

from msgspec import Struct

Lang = Literal["zh", "en"]

State = Literal["known", "timeout", "few", "unrated", "unknown", "incomparable"]
"""Of a figure: `known`; `timeout` (超时: most attempts failed, +infinity); `few` (样本不足); `unrated` (不评);
`unknown` (not measured); `incomparable` (无可比: of a difference, to a week of another kind or profile). Only a
known one is a number: the others are words, never 0 or blank."""

Unit = Literal[
    "points", "ratio", "ratio2", "pp", "ms", "s", "mbps", "count", "rank", "weeks", "hours", "factor", "db", "plain"
]
"""How a figure is printed; `ratio` (0-1) with one decimal of a per cent, `ratio2` with two, `pp` is 个百分点."""

Trend = Literal["up", "down", "flat"]
"""Of a difference; up and down only where it is 显著."""


class Text(Struct, frozen=True):
    """A text in both languages."""

    zh: str
    en: str

    @classmethod
    def same(cls, text: str) -> Self:
        """One that is the same in every language: a name, a hash."""
        return cls(text, text)


class Figure(Struct, frozen=True, kw_only=True):
    """A number as it is defended: with what it was made of."""

    key: str
    """`part/venue/name`: unique in a report, the same in every week."""
    unit: Unit
    value: float | None = None
    state: State = "known"
    numerator: float | None = None
    denominator: float | None = None
    """分子 and 分母 of a ratio."""
    n: int | None = None
    """Tests behind it, where it is no ratio."""
    lo: float | None = None
    hi: float | None = None
    """Interval (参考区间), 95 %; the rank's 90 %."""
    trend: Trend | None = None
    mark: bool = False
    """Printed with *: part of what belongs to it is missing."""

    def __post_init__(self) -> None:
        known = self.value is not None and math.isfinite(self.value)
        if known != (self.state == "known"):
            raise ValueError(f"{self.key}: {self.value!r} is not {self.state}")


class Line(Struct, frozen=True):
    """A sentence; each `{name}` of its text is one of the figures."""

    text: Text
    figures: dict[str, Figure] = {}


Cell = Figure | Text


class Column(Struct, frozen=True):
    """Of a table."""

    title: Text
    width: float = 1.0
    """Share of the page, beside the others."""
    figures: bool = True
    """Whether it holds figures (set to the right) or words."""


class Table(Struct, frozen=True, kw_only=True):
    """Rows of cells under titles."""

    id: str
    title: Text
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    limit: int | None = None
    """Rows that a page shows; a sheet has all of them."""
    wide: bool = False
    """Too many columns for paper: the screen and the sheet have it."""
    empty: Text = Text("无。", "None.")
    """What stands there when there is no row."""


class Curve(Struct, frozen=True):
    """One line of a chart: a figure for each label."""

    name: Text
    points: tuple[Figure, ...]


class Chart(Struct, frozen=True, kw_only=True):
    """Lines over weeks or days; figures that are not known are gaps."""

    id: str
    title: Text
    labels: tuple[str, ...]
    curves: tuple[Curve, ...]
    bottom: float = 0.0
    top: float = 100.0


Block = Line | Table | Chart


class Section(Struct, frozen=True):
    """One of the twelve."""

    number: int
    id: str
    title: Text
    blocks: tuple[Block, ...]

    def figures(self) -> Iterator[Figure]:
        """Every figure, in the order of the page."""
        for block in self.blocks:
            match block:
                case Line():
                    yield from block.figures.values()
                case Table():
                    yield from (cell for row in block.rows for cell in row if isinstance(cell, Figure))
                case Chart():
                    yield from (point for curve in block.curves for point in curve.points)


class ProfileMark(Struct, frozen=True):
    """Which profile scored."""

    id: str
    version: int
    status: str
    sha256: str


class Change(Struct, frozen=True):
    """A figure that late data changed; None: it was not in that revision."""

    key: str
    old: Figure | None
    new: Figure | None


class Head(Struct, frozen=True, kw_only=True):
    """What stands above the sections (版头)."""

    district: Text
    year: int
    week: int
    """ISO."""
    start: datetime
    end: datetime
    """Monday 00:00 to the next, local time."""
    frozen_at: datetime
    """Monday 06:00: the date of the report, whenever it is made."""
    author: Text
    """编制单位."""
    profiles: tuple[ProfileMark, ...]
    input_sha256: str
    revision: int = 1
    draft: bool = False
    """Made before the freeze."""
    simulated: bool = False
    """Nothing of it was measured."""

    @property
    def label(self) -> str:
        """``2026-W47``."""
        return f"{self.year}-W{self.week:02d}"


NUMBERS: Final = "一二三四五六七八九十"


class Report(Struct, frozen=True, kw_only=True):
    """A week."""

    head: Head
    sections: tuple[Section, ...]
    changes: tuple[Change, ...] = ()
    """Against the revision before."""

    def figures(self) -> dict[str, Figure]:
        """Every figure by its key.

        :raises ValueError: when one key has two different figures.
        """
        found: dict[str, Figure] = {}
        for section in self.sections:
            for figure in section.figures():
                if found.setdefault(figure.key, figure) != figure:
                    raise ValueError(f"{figure.key}: two figures of one key: {found[figure.key]} and {figure}")
        return found


def figure(key: str, unit: Unit, value: float | None, *, missing: State = "unknown", **more: Any) -> Figure:
    """A figure whose state follows from its value: None is `missing`, +infinity is `timeout`."""
    if value is None or math.isnan(value):
        return Figure(key=key, unit=unit, state=missing, **more)
    if math.isinf(value):
        return Figure(key=key, unit=unit, state="timeout", **more)
    return Figure(key=key, unit=unit, value=value, **more)


def ratio(key: str, part: float, whole: float, unit: Unit = "ratio", **more: Any) -> Figure:
    """A share with its numerator and denominator; of nothing it is unknown."""
    value = part / whole if whole else None
    return figure(key, unit, value, numerator=part, denominator=whole, **more)


def count(key: str, value: int, **more: Any) -> Figure:
    """How many."""
    return figure(key, "count", value, **more)
