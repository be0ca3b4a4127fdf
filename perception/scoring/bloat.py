"""The DSLReports scale of the rise of the round trip time under load: A+ to F."""

from typing import Final, Literal, NamedTuple

Grade = Literal["A+", "A", "B", "C", "D", "F"]
_LIMITS: Final[tuple[tuple[float, Grade], ...]] = ((5, "A+"), (30, "A"), (60, "B"), (200, "C"), (400, "D"))


class Bloat(NamedTuple):
    """Both None when no direction was measured."""

    grade: Grade | None
    rise_ms: float | None
    """Mean of the measured directions, each at least 0."""


def bloat(down_rise_ms: float | None, up_rise_ms: float | None) -> Bloat:
    """From loaded p50 - idle p50 of each direction. A value at a limit has the worse grade."""
    rises = [max(0.0, rise) for rise in (down_rise_ms, up_rise_ms) if rise is not None]
    if not rises:
        return Bloat(None, None)
    rise = sum(rises) / len(rises)
    return Bloat(next((grade for limit, grade in _LIMITS if rise < limit), "F"), rise)
