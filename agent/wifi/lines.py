"""What `iw` prints, read line by line: a key, a colon, a value. Nothing here raises, whatever the text.

A line without its end is left out: a cut number is another number.
"""

import re
from collections.abc import Iterator
from typing import Final

_NUMBER: Final = re.compile(r"([-+]?[0-9]{1,18}(?:\.[0-9]{1,9})?)(?=\s|$)")
_LOWEST_DBM: Final = -127.0
"""What drivers report below it, and from 0 up, means that they do not know: -256, -128, 0, 9999."""


def whole(text: str) -> Iterator[str]:
    """The lines of `text` that have their end."""
    return iter(text.split("\n")[:-1])


def fields(text: str) -> dict[str, str]:
    """Values by their keys in lower case; of equal keys the first."""
    found: dict[str, str] = {}
    for line in whole(text):
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(_key(key), value.strip())
    return found


def nested(text: str) -> dict[tuple[str, str], str]:
    """The same with the section in front that a key stands in: the last line with one tab, which has none itself."""
    found: dict[tuple[str, str], str] = {}
    section = ""
    for line in whole(text):
        key, colon, value = line.partition(":")
        inner = line.startswith("\t\t")
        if not inner:
            section = _key(key)
        if colon:
            found.setdefault((section if inner else "", _key(key)), value.strip())
    return found


def blocks(text: str, head: re.Pattern[str]) -> list[tuple[re.Match[str], str]]:
    """`text` cut at every line that `head` (multi-line, anchored) matches: the match and what follows it."""
    heads = list(head.finditer(text))
    ends = [match.start() for match in heads[1:]] + [len(text)]
    return [(match, text[match.end() : end]) for match, end in zip(heads, ends, strict=False)]


def number(text: str | None) -> float | None:
    """The number that `text` begins with, as a word of its own."""
    match = _NUMBER.match(text or "")
    return float(match[1]) if match else None


def count(text: str | None) -> int | None:
    """The same without its fraction; None when it is negative."""
    match = _NUMBER.match(text or "")
    found = int(match[1].partition(".")[0]) if match else -1
    return found if found >= 0 else None


def dbm(text: str | None) -> float | None:
    """A level; None for the values by which drivers say that they do not know."""
    level = number(text)
    return level if level is not None and _LOWEST_DBM <= level < 0 else None


def _key(text: str) -> str:
    return text.strip(" \t*").lower()
