"""Line protocol: points as text that InfluxDB and its relatives take in.

Names come from :mod:`contract.series`, never from a point, and the declared type decides a value's form, so no input
can make a measurement, tag or field, or change a field's type.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from contract.series import SERIES, Series
from store.interface import Refusal
from store.point import MAX_TIME_NS, MIN_TIME_NS, Point, flaw, row_type, tag_flaw, text_flaw

_CACHED: Final = 20_000
"""Texts that a cache holds before it starts again: above the tag sets and the vocabulary of a large fleet."""

_SHORT: Final = 64
"""Characters of a string worth caching: above vocabulary and names, below free text."""

_numbers: Final = msgspec.json.Encoder().encode


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
        write = _writer(point.series)
        try:
            line = write(point)
        except (ValueError, TypeError, OverflowError):
            words = flaw(point)
            if words is None:
                raise
            refusals.append(Refusal(place, words))
            continue
        if line is not None:
            lines.append(line)
            places.append(place)
    return encoded


class _Cache(dict[Any, str]):
    """Texts made once. Emptied when full, so that hostile input cannot make it grow."""

    def keep(self, key: Any, text: str) -> str:
        if len(self) >= _CACHED:
            self.clear()
        self[key] = text
        return text


class _Strings(_Cache):
    """String field value -> quoted text."""

    def __missing__(self, value: str) -> str:
        words = text_flaw(value)
        if words is not None:
            raise ValueError(words)
        text = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return self.keep(value, text) if len(value) <= _SHORT else text


class _Heads(_Cache):
    """Tag values of one series -> measurement and tags. An empty tag is left out: the protocol cannot say it."""

    def __init__(self, series: Series) -> None:
        super().__init__()
        self._series = series

    def __missing__(self, tags: tuple[str, ...]) -> str:
        text = self._series.name
        for name, tag in zip(self._series.tags, tags, strict=True):
            words = tag_flaw(tag)
            if words is not None:
                raise ValueError(words)
            if tag:
                text += f",{name}={_escape(tag)}"
        return self.keep(tags, text)


def _escape(tag: str) -> str:
    return tag.replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")


@functools.cache
def _writer(name: str) -> Callable[[Point], str | None]:
    """The function that writes a point of one series; it raises ValueError or TypeError for a point with a flaw.

    It is compiled from the series: one f-string is several times faster than a loop over fields. Its source is made of
    names in :data:`contract.series.SERIES` (letters, digits and underscores) and of nothing else. For fields `sent`
    (int), `rtt_ms` (float) and `rcode` (str) it reads::

        def write(point):
            _, tags, time_ns, fields = point
            check(fields, row_type)
            v0, v1, v2, = fields
            n1, = numbers((v1,)).decode()[1:-1].split(",")
            text = f"{'' if v0 is None else f',sent={+v0}i'}..."
            ...
            line = f"{heads[tags]} {text[1:]} {time_ns:d}"
            return line if text else None
    """
    series = SERIES[name]
    values = [f"v{i}" for i in range(len(series.fields))]
    floats = [i for i, kind in enumerate(series.fields.values()) if kind == "float"]
    parts = []
    for i, (field, kind) in enumerate(series.fields.items()):
        # `+` makes 0 and 1 of booleans.
        value = {"float": f"{{n{i}}}", "int": f"{{+v{i}}}i", "str": f"{{strings[v{i}]}}"}[kind]
        parts.append(f"{{'' if v{i} is None else f',{field}={value}'}}")
    source = [
        "def write(point):",
        "    _, tags, time_ns, fields = point",
        "    check(fields, row_type)",
        f"    {', '.join(values)}, = fields",
        f'    text = f"{"".join(parts)}"',
        "    if not first <= time_ns <= last:",
        "        raise ValueError",
        '    line = f"{heads[tags]} {text[1:]} {time_ns:d}"',
        "    return line if text else None",
    ]
    if floats:
        # msgspec writes a row of floats an order of magnitude faster than repr(), shortest form as well.
        texts = ", ".join(f"n{i}" for i in floats)
        numbers = ", ".join(f"v{i}" for i in floats)
        source.insert(4, f'    {texts}, = numbers(({numbers},)).decode()[1:-1].split(",")')
    scope: dict[str, Any] = {
        "check": msgspec.convert,
        "row_type": row_type(name),
        "numbers": _numbers,
        "strings": _strings,
        "heads": _Heads(series),
        "first": MIN_TIME_NS,
        "last": MAX_TIME_NS,
    }
    exec("\n".join(source), scope)  # noqa: S102 - see above: names of our own table only
    write: Callable[[Point], str | None] = scope["write"]
    return write


_strings: Final = _Strings()
