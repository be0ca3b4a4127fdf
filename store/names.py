"""Identifiers for queries, taken from the table of series and from nowhere else.

SQLite reads an unknown quoted name as text, and InfluxDB answers an unknown one with nothing: both look like silence.
"""

from collections.abc import Sequence

from contract.series import Series


def quoted(name: str) -> str:
    """An identifier, as SQL and InfluxQL write it; unquoted, some of our names are keywords."""
    return f'"{name}"'


def tag(series: Series, name: str) -> str:
    """:raises KeyError: when the series has no such tag."""
    if name not in series.tags:
        raise KeyError(f"{series.name} has no tag {name!r}, only {', '.join(series.tags)}")
    return quoted(name)


def fields(series: Series, names: Sequence[str]) -> Sequence[str]:
    """The same names, after a look that they exist.

    :raises KeyError: when the series has no such field.
    """
    for name in names:
        if name not in series.fields:
            raise KeyError(f"{series.name} has no field {name!r}")
    return names


def number(series: Series, name: str) -> str:
    """:raises KeyError: when the series has no such field, or when it is text."""
    if series.fields.get(name, "str") == "str":
        raise KeyError(f"{series.name} has no numeric field {name!r}")
    return quoted(name)
