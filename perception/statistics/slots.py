"""What became of the scheduled slots: completeness, validity, success, and whether a venue may be published.

A slot without a record is missing: it lowers completeness, never the score. `invalid`, `skipped` and missing slots
never enter a score; they are always printed.
"""

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple, Self

from perception.scoring.profile import Gates

SUPPRESSED_SHARE: Final = 0.05
"""More of a venue's slots suppressed: the report marks it with a star."""

State = Literal["publish", "flag", "no_rank"]


class Slots(NamedTuple):
    """Counts of scheduled slots. Unscheduled records (`wifi_event`) are in none of them."""

    expected: int = 0
    """From the announced jobs."""
    ok: int = 0
    failed: int = 0
    invalid: int = 0
    skipped: int = 0
    planned: int = 0
    """In a maintenance window, or skipped for `quiet_hours` or `suppressed`; other skips are not."""
    suppressed: int = 0
    """Of the planned: by a fleet-wide pause."""

    @classmethod
    def total(cls, parts: Iterable["Slots"]) -> Self:
        """The sum of many."""
        columns = list(zip(*parts, strict=True))
        return cls(*(sum(column) for column in columns))

    @property
    def attempted(self) -> int:
        """Tests that were made and say something about the network."""
        return self.ok + self.failed

    @property
    def records(self) -> int:
        """Slots that ended in a record."""
        return self.attempted + self.invalid + self.skipped

    @property
    def missing(self) -> int:
        """Slots without one."""
        return max(0, self.expected - self.records)

    @property
    def completeness(self) -> float | None:
        """完整率: records of what was expected; None when nothing was."""
        return _share(self.records, self.expected)

    @property
    def validity(self) -> float | None:
        """有效率: attempted of what was expected and not left out by plan; None when nothing was."""
        return _share(self.attempted, self.expected - self.planned)

    @property
    def success_ratio(self) -> float | None:
        """成功率: ok of attempted; None when nothing was."""
        return _share(self.ok, self.attempted)

    @property
    def is_starred(self) -> bool:
        """Whether so much was suppressed that the report says so."""
        return self.suppressed > SUPPRESSED_SHARE * self.expected


def gate(validity: float | None, gates: Gates) -> State:
    """Whether a venue is published, published with a star, or has no rank."""
    if validity is None or validity < gates.flag:
        return "no_rank"
    return "publish" if validity >= gates.publish else "flag"


def _share(part: int, whole: int) -> float | None:
    """At most 1: a job that was announced in the middle of an hour may have more records than were expected."""
    return min(1.0, part / whole) if whole > 0 else None
