"""What is written: one point of one series, and why a point cannot be stored."""

import functools
import re
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from contract.codec import CONTROL
from contract.series import SERIES, FieldType, FieldValue

MIN_INT: Final = -(2**63)
MAX_INT: Final = 2**63 - 1
MIN_TIME_NS: Final = MIN_INT + 2
MAX_TIME_NS: Final = MAX_INT - 1
"""InfluxDB keeps the outermost nanoseconds of 64 bits to itself; every engine holds to its bounds."""

_MAX_FLOAT: Final = 1.7976931348623157e308

_AMBIGUOUS: Final = re.compile(r"\\(?=[\\,= ]|$)")
"""Where the engines' line protocol parsers disagree whether a backslash in a tag escapes what follows."""


class Point(NamedTuple):
    """One measured slot. A point is known by (series, tags, time): writing it again overwrites, field by field."""

    series: str
    """Name of a series in :data:`contract.series.SERIES`."""
    tags: tuple[str, ...]
    """Values in the order of the series' tags; ``""`` where there is none."""
    time_ns: int
    """Nanoseconds since 1970 UTC."""
    fields: tuple[FieldValue, ...]
    """Values in the order of the series' fields; None is not stored, and does not erase an older value. The declared
    type decides what is stored: an int in a float field is a float, a bool in an int field is 0 or 1."""


_SOUND: Final[dict[FieldType, Any]] = {
    "float": Annotated[float, Meta(ge=-_MAX_FLOAT, le=_MAX_FLOAT)] | None,
    "int": Annotated[int, Meta(ge=MIN_INT, le=MAX_INT)] | bool | None,
    "str": str | None,
}


@functools.cache
def row_type(series: str) -> Any:
    """A msgspec type that ``msgspec.convert(point.fields, ...)`` fits exactly when number, types, finiteness and range
    of the fields are right: the check of a whole row in one C call. It does not look into strings.

    :raises KeyError: when there is no such series.
    """
    fields = [(name, _SOUND[kind]) for name, kind in SERIES[series].fields.items()]
    return msgspec.defstruct(f"_{series}_row", fields, array_like=True, forbid_unknown_fields=True)


def flaw(point: Point) -> str | None:
    """Why no engine will ever take `point`, naming the tag or field; None when it is sound.

    The engines find out quickly *that* something is wrong, and ask here *what*.

    :raises KeyError: when there is no such series.
    """
    series = SERIES[point.series]
    if len(point.tags) != len(series.tags):
        return f"{series.name}: {len(point.tags)} tags, expected {len(series.tags)}"
    if len(point.fields) != len(series.fields):
        return f"{series.name}: {len(point.fields)} fields, expected {len(series.fields)}"
    if type(point.time_ns) is not int or not MIN_TIME_NS <= point.time_ns <= MAX_TIME_NS:
        return f"time_ns: {point.time_ns!r} is not a number of nanoseconds within 64 bits"
    for name, tag in zip(series.tags, point.tags, strict=True):
        what = tag_flaw(tag)
        if what is not None:
            return f"{name}: {what}"
    for (name, kind), value in zip(series.fields.items(), point.fields, strict=True):
        what = None if value is None else text_flaw(value) if kind == "str" else _number_flaw(value, kind)
        if what is not None:
            return f"{name}: {what}"
    return None


def tag_flaw(value: object) -> str | None:
    """Why `value` cannot be a tag; None when it can."""
    what = text_flaw(value)
    if what is None and _AMBIGUOUS.search(str(value)):
        return "backslash before a backslash, comma, equals sign, blank or the end"
    return what


def text_flaw(value: object) -> str | None:
    """Why `value` cannot be a string field; None when it can."""
    if not isinstance(value, str):
        return f"expected str, got {type(value).__name__}"
    bad = CONTROL.search(value)
    return None if bad is None else f"control character U+{ord(bad[0]):04X}"


def _number_flaw(value: object, kind: FieldType) -> str | None:
    if kind == "float" and type(value) in (float, int):
        try:
            number = float(value)  # type: ignore[arg-type]
        except OverflowError:
            return "number too large"
        return f"{number} is not finite" if number - number != 0 else None
    if kind == "int" and type(value) in (int, bool):
        return None if MIN_INT <= value <= MAX_INT else "integer beyond 64 bits"  # type: ignore[operator]
    return f"expected {kind}, got {type(value).__name__}"
