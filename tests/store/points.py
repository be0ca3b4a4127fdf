"""Points for tests, by field name."""

import json
import random
import time
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

from contract.series import SERIES
from store.interface import Row
from store.point import Point

SECOND = 10**9

T0 = (int(time.time()) // 3600 - 30) * 3600 * SECOND
"""A full hour some 30 h ago, nanoseconds since 1970: within every retention, and 24 h after it are past as well."""

_HOSTILE = [
    "\x9b", "\u202e", "\u2067",
    "\n", "\r", "\t", "\0", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ud800", "\udfff", ",", " ", "=", '"', "'",
    "\\", "\\ ", "\\,", "#", "$v", "i", "1", "t", "a", "ok", "图", "é", "\u3000", "\u200b", "😀", ";", "--", "DROP",
]  # fmt: skip


def point(second: float = 0, series: str = "latency", tags: dict[str, Any] | None = None, **fields: Any) -> Point:
    """A point `second` after T0. Tags are those of one agent unless told, fields None unless told."""
    table = SERIES[series]
    known = {"agent": "a-1", "venue": "lib", "network": "wifi", "target": "core", "interface": "wlan0"} | (tags or {})
    assert set(fields) <= set(table.fields)
    return Point(
        series,
        tuple(known.get(name, "") for name in table.tags),
        T0 + int(second * SECOND),
        tuple(fields.get(name) for name in table.fields),
    )


def present(row: Row) -> dict[str, Any]:
    """The fields of `row` that are not null."""
    return {name: value for name, value in row.fields.items() if value is not None}


async def collected(rows: AsyncIterator[Row]) -> list[Row]:
    return [row async for row in rows]


def hostile(seed: int) -> str:
    """Text as an enemy would choose it."""
    dice = random.Random(seed)
    return "".join(dice.choice(_HOSTILE) for _ in range(dice.randrange(9)))


def ask(url: str, query: str, database: str) -> list[dict[str, Any]]:
    """Series that InfluxQL answers, past the store: what a test compares the store with."""
    form = urllib.parse.urlencode({"q": query, "db": database, "epoch": "ns"}).encode()
    with urllib.request.urlopen(f"{url}/query", data=form, timeout=10) as response:
        result = json.load(response)["results"][0]
    assert "error" not in result, result
    return list(result.get("series", []))


def post_line(url: str, database: str, line: str) -> None:
    """A line written past the encoder."""
    with urllib.request.urlopen(f"{url}/write?db={database}", data=line.encode(), timeout=10):
        pass
