"""Line protocol: points as text that InfluxDB and its relatives take in.

Names come from :mod:`contract.series`, never from a point, and the declared type decides a value's form, so no input
can make a measurement, tag or field, or change a field's type.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from contract.series import SERIES, FieldType, FieldValue
from store.interface import Refusal
from store.point import MAX_TIME_NS, MIN_TIME_NS, Point, flaw, row_type, tag_flaw, text_flaw

_CACHED: Final = 1_000
"""Texts that a field's cache holds before it starts again; a hundred caches must fit into a small collector."""

_CACHED_HEADS: Final = 20_000
"""The same for tags: above the tag sets of a large fleet in one series."""

_SHORT: Final = 64
"""Characters of a text worth keeping: above vocabulary and names, below free text."""

_JSON_TO_LINE: Final = bytes.maketrans(b"{:", b" =")
"""Makes ` a=1.5,b=2.0` of `{"a":1.5,"b":2.0}`, when quotes and the closing brace are deleted as well."""


class Encoded(NamedTuple):
    """What became of a sequence of points. A sound point without any field has neither line nor refusal."""

    lines: list[str]
    places: list[int]
    """Index of each line's point."""
    refusals: list[Refusal]


def encode(points: Sequence[Point]) -> Encoded:
    """Lines with times in nanoseconds; points that no engine can take are refused by :func:`store.point.flaw`.

    :raises KeyError: when a point's series is not in :data:`contract.series.SERIES`.
    """
    encoded = Encoded([], [], [])
    lines, places, refusals = encoded
    for place, point in enumerate(points):
        encode_point = _encoder(point.series)
        try:
            line = encode_point(point)
        except (ValueError, TypeError):
            words = flaw(point)
            if words is None:
                raise
            refusals.append(Refusal(place, words))
            continue
        if line is not None:
            lines.append(line)
            places.append(place)
    return encoded


@functools.cache
def _encoder(series: str) -> Callable[[Point], str | None]:
    """What makes the line of a point of `series`, or None where there is nothing to store; a flaw raises ValueError or
    TypeError.

    Hardly a field is looked at in Python: msgspec checks the row and writes the floats, as a JSON object without its
    nulls; all other fields are looked up in caches of ready-made ``,name=value``. The function is compiled from the
    series, because one f-string is a fifth faster than a loop. Its source is numbers and the text below, not even a
    name. With fields 0 (float) and 1 (string) it reads::

        def encode_point(point):
            _, tags, time_ns, fields = point
            check(fields, row)
            v0, v1, = fields
            floats = to_json(floats_type(v0, )).translate(to_line, b'"}').decode()
            others = f"{t1[v1]}"
            ...
    """
    table = SERIES[series]
    kinds = list(table.fields.values())
    floats = [place for place, kind in enumerate(kinds) if kind == "float"]
    others = [place for place, kind in enumerate(kinds) if kind != "float"]
    names = list(table.fields)
    source = f"""
def encode_point(point):
    _, tags, time_ns, fields = point
    check(fields, row)
    {"".join(f"v{place}, " for place in range(len(kinds)))}= fields
    floats = to_json(floats_type({"".join(f"v{place}, " for place in floats)})).translate(to_line, b'"}}').decode()
    others = f"{"".join(f"{{t{place}[v{place}]}}" for place in others)}"
    head = heads[tags]
    if type(time_ns) is not int or not first <= time_ns <= last:
        raise ValueError
    if floats == " ":  # all of them null
        return f"{{head}} {{others[1:]}} {{time_ns}}" if others else None
    return f"{{head}}{{floats}}{{others}} {{time_ns}}"
"""
    scope: dict[str, Any] = {
        "check": msgspec.convert,
        "row": row_type(series),
        "to_json": msgspec.json.Encoder().encode,
        "to_line": _JSON_TO_LINE,
        "floats_type": msgspec.defstruct(
            "_Floats", [(names[place], float | None, None) for place in floats], omit_defaults=True
        ),
        "heads": _Heads(table.name, table.tags),
        "first": MIN_TIME_NS,
        "last": MAX_TIME_NS,
    }
    scope |= {f"t{place}": _Texts(names[place], kinds[place]) for place in others}
    exec(source, scope)  # noqa: S102 - see above
    encode_point: Callable[[Point], str | None] = scope["encode_point"]
    return encode_point


class _Cache(dict[Any, str]):
    """Texts made once. Emptied when full, so that hostile input cannot make it grow."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def keep(self, key: Any, text: str) -> str:
        if len(self) >= self._limit:
            self.clear()
        self[key] = text
        return text


class _Texts(_Cache):
    """Value of one string or int field -> ``,name=value``; null -> nothing."""

    def __init__(self, name: str, kind: FieldType) -> None:
        super().__init__(_CACHED)
        self._start = f",{name}="
        self._kind = kind

    def __missing__(self, value: FieldValue) -> str:
        if value is None:
            return self.keep(value, "")
        if self._kind == "int":
            return self.keep(value, f"{self._start}{value:d}i")
        words = text_flaw(value)
        if words is not None:
            raise ValueError(words)
        escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
        text = f'{self._start}"{escaped}"'
        return self.keep(value, text) if len(text) <= _SHORT else text


class _Heads(_Cache):
    """Tag values of one series -> measurement and tags. An empty tag is left out: the protocol cannot say it."""

    def __init__(self, series: str, names: tuple[str, ...]) -> None:
        super().__init__(_CACHED_HEADS)
        self._series = series
        self._names = names

    def __missing__(self, tags: tuple[str, ...]) -> str:
        text = self._series
        for name, tag in zip(self._names, tags, strict=True):
            words = tag_flaw(tag)
            if words is not None:
                raise ValueError(words)
            if tag:
                text += f",{name}={_escape(tag)}"
        return self.keep(tags, text)


def _escape(tag: str) -> str:
    return tag.replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")
