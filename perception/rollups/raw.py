"""Raw points of one probe as columns of numbers."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contract.series import METRICS
from store.interface import Block, Store

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

OUTCOMES: Final = {"ok": 0, "failed": 1, "invalid": 2, "skipped": 3}

LABEL: Final = {
    "latency": "method",
    "portal": "state",
    "wifi_join": "failed_stage",
    "wifi_event": "kind",
}
"""The one text of a probe's values that its rows are told apart by."""


def fields(probe: str) -> list[str]:
    """What has to be read of a raw series."""
    label = LABEL.get(probe)
    return ["outcome", "reason", *([label] if label else []), *METRICS[probe]]


@dataclass(frozen=True)
class Raw:
    """Rows of one probe. Text stands as a number: its place in a list."""

    tags: list[tuple[str, ...]]
    """Every series in the order of :data:`contract.series.RECORD_TAGS`."""
    series: Ints
    """Of each row, the place in `tags`."""
    time_ns: Ints
    outcome: Ints
    """As in :data:`OUTCOMES`."""
    words: list[str]
    """Every reason and label, the first of them ``""`` for none."""
    reason: Ints
    label: Ints
    values: dict[str, Floats]
    """Of each metric, NaN where it was not measured."""

    def __len__(self) -> int:
        return len(self.series)


class Reader:
    """Blocks of rows become :class:`Raw`, so that no more than one block ever stands in Python's own objects."""

    def __init__(self, probe: str) -> None:
        self.probe = probe
        self._label = LABEL.get(probe)
        self._tags: dict[tuple[str, ...], int] = {}
        self._words: dict[object, int] = {None: 0, "": 0}
        self._blocks: list[tuple[Ints, ...]] = []
        self._values: list[dict[str, Floats]] = []

    def take(self, block: Block) -> None:
        """Add some rows."""
        size = len(block.time_ns)
        none = np.zeros(size, np.int64)
        self._blocks.append(
            (
                _places(self._tags, zip(*block.tags, strict=True), size),
                np.fromiter(block.time_ns, np.int64, size),
                np.fromiter(map(OUTCOMES.__getitem__, block.fields["outcome"]), np.int64, size),  # type: ignore[arg-type]
                _places(self._words, block.fields["reason"], size),
                _places(self._words, block.fields[self._label], size) if self._label else none,
            )
        )
        self._values.append({name: np.array(block.fields[name], np.float64) for name in METRICS[self.probe]})

    def raw(self) -> Raw:
        """Everything that was taken."""
        empty = np.zeros(0, np.int64)
        columns = [np.concatenate(column) for column in zip(*self._blocks, strict=True)] or [empty] * 5
        series, time_ns, outcome, reason, label = columns
        words = {place: word for word, place in reversed(self._words.items())} | {0: ""}
        return Raw(
            tags=list(self._tags),
            series=series,
            time_ns=time_ns,
            outcome=outcome,
            words=[str(words[place]) for place in range(len(words))],
            reason=reason,
            label=label,
            values={
                name: np.concatenate([values[name] for values in self._values] or [np.zeros(0)])
                for name in METRICS[self.probe]
            },
        )


def _places(known: dict[object, int] | dict[tuple[str, ...], int], keys: Iterable[object], size: int) -> Ints:
    """The place of each key; a new one gets the next."""
    places: dict[object, int] = known  # type: ignore[assignment]
    next_place = max(places.values(), default=-1) + 1
    found = []
    for key in keys:
        place = places.get(key)
        if place is None:
            place = places[key] = next_place
            next_place += 1
        found.append(place)
    return np.array(found, np.int64).reshape(size)


async def read(store: Store, probe: str, start_ns: int, end_ns: int, *, agent: str | None = None) -> Raw:
    """The window's rows of all agents, or of one.

    :raises StoreError: when they cannot be read.
    """
    reader = Reader(probe)
    where = None if agent is None else {"agent": agent}
    blocks: AsyncIterator[Block] = store.columns(probe, fields(probe), start_ns, end_ns, where=where)
    async for block in blocks:
        reader.take(block)
    return reader.raw()
