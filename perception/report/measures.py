"""The measures file (整改措施): what is being done about which venue, by whom, until when. An input of the report.

People keep it (TOML, ``measures.toml``)::

    [[measures]]
    venue = "changshou-library"
    action = "更换二楼接入点"
    owner = "区图书馆"
    due = 2026-11-20
    done = 2026-11-19        # when it is
"""

from datetime import date
from pathlib import Path
from typing import Self

from pydantic import model_validator

from store.register import Slug, Text
from store.tables import Table, convert, read_table


class Measure(Table):
    """One of them."""

    venue: Slug | None = None
    """None: it concerns the district."""
    indicator: Text | None = None
    action: Text
    owner: Text
    """Who is responsible."""
    due: date
    """The last day."""
    done: date | None = None
    """None: not yet."""


class Measures(Table):
    """The file."""

    measures: list[Measure] = []

    @model_validator(mode="after")
    def _once(self) -> Self:
        for i, measure in enumerate(self.measures):
            if measure in self.measures[:i]:
                raise ValueError(f"measures[{i}]: stands twice; remove one")
        return self


def load(path: Path) -> list[Measure]:
    """Read and check it, by date due.

    :raises ConfigError: one line for each mistake, with its path and the fix.
    """
    found = convert(Measures, read_table(path), path).measures
    return sorted(found, key=lambda one: (one.due, one.venue or "", one.action))
