"""What is written: one point of one series."""

from typing import NamedTuple

from contract.series import FieldValue


class Point(NamedTuple):
    """One measured slot. A point is known by (series, tags, time): writing it again overwrites, field by field."""

    series: str
    """Name of a series in :data:`contract.series.SERIES`."""
    tags: tuple[str, ...]
    """Values in the order of the series' tags; ``""`` where there is none."""
    time_ns: int
    """Nanoseconds since 1970 UTC."""
    fields: tuple[FieldValue, ...]
    """Values in the order of the series' fields; None is not stored, and does not erase an older value."""
