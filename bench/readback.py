"""Everything that a store holds, read with the store's own tools and none of the project's reading code."""

import csv
import io
import sqlite3
import urllib.parse
import urllib.request
from collections import defaultdict
from contextlib import closing
from pathlib import Path

from bench.source import identity
from bench.truth import Id, Stored
from contract.series import RAW, RAW_SERIES, FieldValue

SPOILER = "spoiler"
"""Value of the tag `agent` of what the harness itself wrote."""


def from_influx(url: str) -> dict[Id, list[Stored]]:
    """Every raw point of an influxd 1.x, by the record that it tells of."""
    points: dict[Id, list[Stored]] = defaultdict(list)
    for series, declared in RAW_SERIES.items():
        query = urllib.parse.urlencode({"db": RAW, "epoch": "ns", "q": f'SELECT * FROM "{series}"'})
        request = urllib.request.Request(f"{url}/query?{query}", headers={"Accept": "application/csv"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            rows = csv.DictReader(io.StringIO(answer.read().decode(), newline=""))
            for row in rows:
                if row["agent"] == SPOILER:
                    continue
                fields = {name: _typed(row[name], kind) for name, kind in declared.fields.items() if row.get(name)}
                _collect(points, series, int(row["time"]), row, fields)
    return dict(points)


def from_sqlite(path: Path) -> dict[Id, list[Stored]]:
    """Every raw point of the embedded store's file."""
    points: dict[Id, list[Stored]] = defaultdict(list)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as database:
        database.row_factory = sqlite3.Row
        for series, declared in RAW_SERIES.items():
            for row in database.execute(f'SELECT * FROM "{series}"'):
                columns = dict(row)
                fields = {name: columns[name] for name in declared.fields if columns.get(name) is not None}
                _collect(points, series, int(columns["time"]), columns, fields)
    return dict(points)


def _collect(
    points: dict[Id, list[Stored]], series: str, time_ns: int, row: dict[str, str], fields: dict[str, FieldValue]
) -> None:
    who = identity(fields.get("detail"))
    tags = {tag: row[tag] for tag in RAW_SERIES[series].tags if row.get(tag)}
    # A point without a readable identity was never submitted, whatever it is.
    points[who or (f"{series} {tags}", time_ns)].append(Stored(series, time_ns, tags, fields))


def _typed(text: str, kind: str) -> FieldValue:
    if kind == "str":
        return text
    return int(text) if kind == "int" else float(text)
