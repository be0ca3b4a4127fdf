"""Quantiles of samples, failures included."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np


class Quantile(NamedTuple):
    """The answer and how it was found."""

    value: float | None
    """None of nothing, and where the quantile is a failure."""
    timeout: bool
    """Whether it is a failure (超时)."""
    method: Literal["linear", "nearest_rank"]

    @property
    def or_infinity(self) -> float | None:
        """The value, +infinity for a failure, None of nothing: as scores take it."""
        return math.inf if self.timeout else self.value


def quantile(values: Sequence[float], q: float, failed: int = 0) -> Quantile:
    """The quantile `q` (0-1) of `values` and of `failed` tests that took for ever.

    Without failures linear between ranks (Hyndman and Fan's type 7); with any of them the value at rank
    ceil(q*n - 1e-9), since nothing lies between a time and infinity.

    :raises ValueError: when `q` is not within 0 and 1.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"q: a quantile is asked at 0 to 1, not at {q!r}")
    n = len(values) + failed
    if n == 0:
        return Quantile(None, False, "linear")
    if not failed:
        return Quantile(float(np.quantile(np.asarray(values, np.float64), q)), False, "linear")
    rank = max(1, math.ceil(q * n - 1e-9))
    if rank > len(values):
        return Quantile(None, True, "nearest_rank")
    return Quantile(sorted(values)[rank - 1], False, "nearest_rank")


def eighty_eighty(units: Mapping[str, Sequence[float]]) -> tuple[float | None, dict[str, float | None]]:
    """The rate that 80 % of units have 80 % of the time (80/80, 自定): p20 over units of each unit's p20."""
    each = {unit: quantile(rates, 0.2).value for unit, rates in units.items()}
    return quantile([rate for rate in each.values() if rate is not None], 0.2).value, each
