"""Line protocol: points as text that InfluxDB and its relatives take in.

Names come from :mod:`contract.series`, never from a point, and the declared type decides a value's form, so no input
can make a measurement, tag or field, or change a field's type.
"""

import functools
from collections.abc import Callable, Sequence
from operator import getitem, itemgetter
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

_encode_json: Final = msgspec.json.Encoder().encode


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

    No field is looked at in Python: floats are written by msgspec, as a JSON object without its nulls, and all others
    are looked up in a cache of ready-made ``,name=value``.
    """
    table = SERIES[series]
    float_places = [place for place, kind in enumerate(table.fields.values()) if kind == "float"]
    other_places = [place for place, kind in enumerate(table.fields.values()) if kind != "float"]
    names = list(table.fields)
    floats_type: Any = msgspec.defstruct(
        "_Floats", [(names[place], float | None, None) for place in float_places], omit_defaults=True
    )
    row = row_type(series)
    floats, others = _picker(float_places), _picker(other_places)
    texts = [_Texts(names[place], table.fields[names[place]]) for place in other_places]
    heads = _Heads(series, table.tags)

    def encode_point(point: Point) -> str | None:
        _, tags, time_ns, fields = point
        msgspec.convert(fields, row)
        head = heads[tags]
        numbers = _encode_json(floats_type(*floats(fields))).translate(_JSON_TO_LINE, b'"}').decode()
        rest = "".join(map(getitem, texts, others(fields)))
        if type(time_ns) is not int or not MIN_TIME_NS <= time_ns <= MAX_TIME_NS:
            raise ValueError("not a time in nanoseconds")
        if numbers == " ":  # no float at all
            return f"{head} {rest[1:]} {time_ns}" if rest else None
        return f"{head}{numbers}{rest} {time_ns}"

    return encode_point


def _picker(places: Sequence[int]) -> Callable[[Sequence[FieldValue]], tuple[FieldValue, ...]]:
    """The values at `places`, as a tuple also where they are fewer than two."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda fields: tuple(fields[place] for place in places)


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
