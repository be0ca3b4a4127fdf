"""A sketch of a distribution: quantiles within 1 % from logarithmic buckets that add.

DDSketch (Masson, Rim, Lee, VLDB 2019) with a fixed layout, so that any two sketches add and a stored one is one short
string. Exact where it matters to a verdict: zeros have a bucket of their own, failures stand above every number.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

ACCURACY_RATIO: Final = 0.01
"""A quantile is within this share of the exact one (both of the same sign)."""

SMALLEST: Final = 1e-6
"""Magnitudes below it count as zero: far below the resolution of everything that is measured (a nanosecond in ms)."""

LARGEST: Final = 1e15
"""Magnitudes above it are refused: no measured unit comes near."""

_LN_GAMMA: Final = math.log((1 + ACCURACY_RATIO) / (1 - ACCURACY_RATIO))
_MIDDLE: Final = SMALLEST * (1 - ACCURACY_RATIO)
"""A bucket (low, gamma*low] is answered by gamma*low*(1 - accuracy): equally far, in ratio, from both ends."""
_LARGEST_KEY: Final = 1 + math.ceil(math.log(LARGEST / SMALLEST) / _LN_GAMMA)


def keys(values: ArrayLike) -> NDArray[np.int64]:
    """The bucket of each value: 0 for zero, ordered as the values are, negative for negative ones.

    :raises ValueError: for a value that is not finite or beyond :data:`LARGEST`.
    """
    numbers = np.asarray(values, dtype=np.float64)
    size = np.abs(numbers)
    if not np.all(size <= LARGEST):  # also false for NaN
        raise ValueError(f"a sketch takes finite numbers up to {LARGEST:g}; failures are counted apart")
    bucket = 1 + np.ceil(np.log(np.maximum(size, SMALLEST) / SMALLEST) / _LN_GAMMA)
    return np.where(size < SMALLEST, 0, np.copysign(bucket, numbers)).astype(np.int64)


def value_of(key: int) -> float:
    """The number that stands for a bucket."""
    if key == 0:
        return 0.0
    return math.copysign(_MIDDLE * math.exp((abs(key) - 1) * _LN_GAMMA), key)


class Sketch:
    """Counts of values per bucket, and of failures. Immutable; `+` adds two."""

    __slots__ = ("buckets", "failures")

    def __init__(self, buckets: Mapping[int, int], failures: int = 0) -> None:
        if failures < 0 or any(count <= 0 for count in buckets.values()):
            raise ValueError("counts of a sketch are positive")
        self.buckets = dict(sorted(buckets.items()))
        """Count per bucket (:func:`keys`), ascending."""
        self.failures = failures
        """Attempts that gave no value: +infinity in every quantile."""

    @classmethod
    def of(cls, values: ArrayLike, failures: int = 0) -> Self:
        """The sketch of some values.

        :raises ValueError: for a value that is not finite or beyond :data:`LARGEST`.
        """
        found, counts = np.unique(keys(values), return_counts=True)
        return cls(dict(zip(found.tolist(), counts.tolist(), strict=True)), failures)

    @classmethod
    def total(cls, sketches: Iterable["Sketch"]) -> Self:
        """The sum of many, in one pass."""
        buckets: Counter[int] = Counter()
        failures = 0
        for one in sketches:
            for key, count in one.buckets.items():
                buckets[key] += count
            failures += one.failures
        return cls(buckets, failures)

    @property
    def count(self) -> int:
        """Values and failures."""
        return sum(self.buckets.values()) + self.failures

    def __add__(self, other: "Sketch") -> "Sketch":
        return Sketch.total((self, other))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sketch):
            return NotImplemented
        return self.buckets == other.buckets and self.failures == other.failures

    def __hash__(self) -> int:
        return hash(self.encode())

    def __repr__(self) -> str:
        return f"Sketch.decode({self.encode()!r})"

    def quantile(self, p: float) -> float | None:
        """The quantile by the rule of :func:`perception.statistics.quantiles.quantile`; None of nothing.

        Without failures linear between ranks (type 7), with any of them nearest rank, where +infinity is a failure.

        :raises ValueError: when `p` is not within 0 and 1.
        """
        if not 0 <= p <= 1:
            raise ValueError(f"a quantile is asked at 0 to 1, not at {p!r}")
        count = self.count
        if count == 0:
            return None
        if self.failures:
            return self._at(max(0, math.ceil(p * count - 1e-9) - 1))
        place = p * (count - 1)
        below = math.floor(place)
        low = self._at(below)
        return low if place == below else low + (place - below) * (self._at(below + 1) - low)

    def _at(self, rank: int) -> float:
        """The value of a rank, counted from 0."""
        seen = 0
        for key, count in self.buckets.items():
            seen += count
            if rank < seen:
                return value_of(key)
        return math.inf

    def encode(self) -> str:
        """One string: failures, then ``bucket:count`` ascending; a count of 1 is left out. ``3;0:12,690,691:4``."""
        parts = (str(key) if count == 1 else f"{key}:{count}" for key, count in self.buckets.items())
        return f"{self.failures};{','.join(parts)}"

    @classmethod
    def decode(cls, text: str) -> Self:
        """What :meth:`encode` wrote.

        :raises ValueError: when it is something else.
        """
        failures, _, listed = text.partition(";")
        try:
            buckets: dict[int, int] = {}
            for part in listed.split(",") if listed else ():
                key, _, count = part.partition(":")
                buckets[int(key)] = int(count) if count else 1
            made = cls(buckets, int(failures))
        except ValueError as error:
            raise ValueError(f"no sketch: {text[:40]!r} ({str(error)[:80]})") from None
        # Ascending, once each, no digit that is not needed: there is one way to write a sketch.
        if made.encode() != text or (buckets and max(map(abs, buckets)) > _LARGEST_KEY):
            raise ValueError(f"no sketch: {text[:40]!r} (expected like 3;0:12,690,691:4)")
        return made


def add_encoded(buckets: dict[int, int], text: str) -> int:
    """Add an encoded sketch's counts to `buckets`; its failures. What :meth:`Sketch.decode` and `+` do, several times
    as fast, for whoever adds very many that came from a store of our own.

    :raises ValueError: when the text is no sketch; `buckets` may hold part of it then.
    """
    failures, separator, listed = text.partition(";")
    if not separator:
        raise ValueError(f"no sketch: {text[:40]!r}")
    if listed:
        for part in listed.split(","):
            key, _, count = part.partition(":")
            bucket = int(key)
            buckets[bucket] = buckets.get(bucket, 0) + (int(count) if count else 1)
    return int(failures)
