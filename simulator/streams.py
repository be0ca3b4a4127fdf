"""Random numbers without a sequence: each is a function of the seed, a name, a place and a lane.

So order, parallelism and the size of a window do not matter: slot 17 of a job draws the same numbers whoever asks, in
whatever order. The function is the finaliser of SplitMix64, applied to the name's hash, the place and the lane.
"""

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_STRIDE: Final = np.uint64(0xD1B54A32D192ED03)


class Stream:
    """One name's numbers. A place is any integer (a slot's number, a minute); lanes are independent of each other."""

    def __init__(self, seed: int, *name: str) -> None:
        digest = hashlib.sha256("|".join((str(seed), *name)).encode()).digest()
        self._key = np.uint64(int.from_bytes(digest[:8], "big"))

    def uniform(self, places: Ints, lane: int = 0) -> Floats:
        """In (0, 1), one for each place."""
        return _unit(_mix(self._rows(places) + np.arange(lane + 1, lane + 2, dtype=np.uint64) * _STRIDE))

    def uniforms(self, places: Ints, lanes: int, first: int = 0) -> Floats:
        """In (0, 1), a row of `lanes` for each place."""
        offsets = np.arange(first + 1, first + 1 + lanes, dtype=np.uint64) * _STRIDE
        return _unit(_mix(self._rows(places)[:, None] + offsets))

    def normal(self, places: Ints, lane: int = 0) -> Floats:
        """Standard normal (Box-Muller)."""
        return np.asarray(
            np.sqrt(-2 * np.log(self.uniform(places, lane)))
            * np.cos(2 * np.pi * self.uniform(places, lane + 1_000_000))
        )

    def exponential(self, places: Ints, lane: int = 0) -> Floats:
        """Mean 1."""
        return np.asarray(-np.log(self.uniform(places, lane)))

    def smooth(self, minutes: Ints, scale: int, lane: int = 0) -> Floats:
        """A standard normal at every minute that changes over about `scale` minutes."""
        before = minutes // scale
        part = (minutes - before * scale) / scale
        part = part * part * (3 - 2 * part)
        knots, where = np.unique(before, return_inverse=True)
        first, second = self.normal(knots, lane)[where], self.normal(knots + 1, lane)[where]
        return np.asarray((first * (1 - part) + second * part) / np.sqrt((1 - part) ** 2 + part**2))

    def bursts(self, minutes: Ints, every: int, chance: float, longest: int, lane: int = 0) -> Floats:
        """In each window of `every` minutes, with `chance`, one burst of at most `longest` minutes: its height in
        (0, 1), and 0 outside."""
        block = minutes // every
        blocks, where = np.unique(block, return_inverse=True)
        draws = self.uniforms(blocks, 4, first=10_000 + 10 * lane)
        length = 1 + draws[:, 1] * (longest - 1)
        start = draws[:, 2] * (every - longest)
        inside = minutes - block * every
        on = (draws[:, 0] < chance)[where] & (inside >= start[where]) & (inside < (start + length)[where])
        return np.where(on, draws[:, 3][where], 0.0)

    def number(self, lane: int = 0) -> float:
        """One number in (0, 1)."""
        return float(self.uniform(np.zeros(1, np.int64), lane)[0])

    def between(self, low: float, high: float, lane: int = 0) -> float:
        """One number between two."""
        return low + (high - low) * self.number(lane)

    def _rows(self, places: Ints) -> NDArray[np.uint64]:
        return _mix(places.astype(np.uint64) * _GOLDEN + self._key)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _unit(x: NDArray[np.uint64]) -> Floats:
    return ((x >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
