"""Names of everything stored. Dashboards, reports and engines take them from here and from nowhere else."""

import types
from typing import Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec import Struct

from contract.values import VALUES, Values

RAW: Final = "wanggan"
"""Database of raw points."""

FieldType = Literal["float", "int", "str"]
FieldValue = float | int | str | None

MAX_COLUMNS: Final = 500
"""InfluxDB 3's limit of a table."""


class Series(Struct, frozen=True, kw_only=True):
    """One measurement: its tags (bounded identity) and its fields with types, both in storage order."""

    name: str
    tags: tuple[str, ...]
    fields: dict[str, FieldType]


RECORD_TAGS: Final = ("agent", "venue", "network", "target", "interface", "provider", "resolver")
"""Tags of every raw measurement; provider and resolver are empty where the job has none."""

OUTCOME_FIELDS: Final[dict[str, FieldType]] = {
    "ok": "int",
    "attempted": "int",
    "outcome": "str",
    "reason": "str",
    "detail": "str",
    "flags": "str",
    "clock": "str",
    "duration_s": "float",
}
"""Fields of every raw measurement, after the probe's own. `attempted` is 1 for ok and failed, else 0; `flags` are
joined with commas."""


def field_type(annotation: Any) -> FieldType:
    """The stored type of a value struct's annotation: bool becomes int 0/1, a list becomes one string."""
    if isinstance(annotation, types.UnionType) or str(get_origin(annotation)) == "typing.Union":
        annotation = next(a for a in get_args(annotation) if a is not type(None))
    if get_origin(annotation) is Literal or get_origin(annotation) is list:
        return "str"
    base = getattr(annotation, "__origin__", annotation)
    match base:
        case t if t is float:
            return "float"
        case t if t is int or t is bool:
            return "int"
        case t if t is str:
            return "str"
    raise TypeError(f"no stored type for {annotation!r}")


def value_fields(values: type[Values]) -> dict[str, FieldType]:
    """Stored fields of a value struct, in its own order."""
    return {field.encode_name: field_type(field.type) for field in msgspec.structs.fields(values)}


RAW_SERIES: Final[dict[str, Series]] = {
    probe: Series(name=probe, tags=RECORD_TAGS, fields=value_fields(values) | OUTCOME_FIELDS)
    for probe, values in VALUES.items()
}
"""One measurement per probe."""

COLLECTOR: Final = Series(
    name="collector",
    tags=("collector",),
    fields={
        "received": "int",
        "stored": "int",
        "rejected": "int",
        "later": "int",
        "dead_letters": "int",
        "dropped": "int",
        "queue_bytes": "int",
        "lag_p95_ms": "float",
        "connected": "int",
        "store_up": "int",
    },
)
"""The collector's own minute: counts since the last point, and state at its end. `lag_p95_ms` is receipt to stored."""

JOBS: Final = Series(
    name="jobs",
    tags=("agent", "probe", "target", "interface", "provider", "resolver"),
    fields={"role": "str", "period_s": "float", "announced": "int"},
)
"""An agent's announced jobs: one point when a job appears or changes (announced 1), one a day while it stays, so that
retention never takes the last one, and one when it goes away (0)."""

SERIES: Final[dict[str, Series]] = {**RAW_SERIES, COLLECTOR.name: COLLECTOR, JOBS.name: JOBS}
"""Every measurement of the raw database."""
