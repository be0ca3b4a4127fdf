"""Records to points: in the stored order of fields. The hot path: no branch per field."""

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec.structs import astuple

from contract.record import RECORDS, Record
from contract.series import RAW_SERIES, FieldValue
from contract.values import VALUES, Values
from store.point import Point

_COUNTS: Final = {"ok": (1, 1), "failed": (0, 1), "invalid": (0, 0), "skipped": (0, 0)}
"""Fields `ok` and `attempted` of every outcome."""

_new: Final = tuple.__new__
_Fields = tuple[FieldValue, ...]


def to_point(record: Record, tags: tuple[str, ...], time_ns: int) -> Point:
    """The record as it is stored. `tags` are in the order of :data:`contract.series.RECORD_TAGS`."""
    probe, nothing, convert = _KINDS[type(record)]
    values, flags, outcome = record.values, record.flags, record.outcome
    ok, attempted = _COUNTS[outcome]
    told = (
        ok,
        attempted,
        outcome,
        record.reason,
        record.detail,
        ",".join(flags) if flags else None,
        record.clock,
        record.duration_s,
    )
    # A NamedTuple's own constructor takes as long as all the rest.
    return _new(Point, (probe, tags, time_ns, (nothing if values is None else convert(values)) + told))


def _converter(probe: str, values: type[Values]) -> Callable[[Any], _Fields]:
    """A function from a value struct to its stored fields: booleans become 0 or 1, a list becomes its JSON."""
    stored = RAW_SERIES[probe].fields
    odd = {
        place: int if stored[field.encode_name] == "int" else _text
        for place, field in enumerate(msgspec.structs.fields(values))
        if any(word in str(field.type) for word in ("bool", "list"))
    }
    if not odd:
        return astuple

    def convert(measured: Values) -> _Fields:
        fields = list(astuple(measured))
        for place, change in odd.items():
            if fields[place] is not None:
                fields[place] = change(fields[place])
        return tuple(fields)

    return convert


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


_KINDS: Final[dict[type[Record], tuple[str, _Fields, Callable[[Any], _Fields]]]] = {
    RECORDS[probe]: (probe, (None,) * len(msgspec.structs.fields(values)), _converter(probe, values))
    for probe, values in VALUES.items()
}
"""Of every class of record: its series, its fields where nothing was measured, and how values become fields."""
