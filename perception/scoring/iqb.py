"""IQB, the Internet Quality Barometer of Measurement Lab: the share of use cases whose needs are met, 0-1.

Source: m-lab/iqb (Apache-2.0), the published thresholds and weights. Strict: a value equal to its threshold fails.
Our own choice (自定): a requirement without data is dropped with its weight.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple


class Requirement(NamedTuple):
    """What one use case needs of one value."""

    thr: float
    """Better than this: above for `down_mbps` and `up_mbps`, below for `rtt_ms` and `loss_ratio`."""
    w: float
    """Weight within the use case."""


UseCases = Mapping[str, Mapping[str, Requirement]]
"""Requirements by value, by use case."""

VALUES: Final = ("down_mbps", "up_mbps", "rtt_ms", "loss_ratio")
HIGHER_IS_BETTER: Final = frozenset({"down_mbps", "up_mbps"})


def _case(*rows: tuple[float, float]) -> dict[str, Requirement]:
    return {value: Requirement(*row) for value, row in zip(VALUES, rows, strict=True)}


PUBLISHED: Final[UseCases] = {
    "web": _case((10, 3), (10, 2), (100, 4), (0.01, 4)),
    "video_streaming": _case((25, 4), (10, 2), (100, 4), (0.01, 4)),
    "audio_streaming": _case((10, 4), (5, 1), (100, 3), (0.01, 4)),
    "video_conferencing": _case((25, 4), (25, 4), (50, 4), (0.005, 4)),
    "online_backup": _case((10, 4), (25, 4), (100, 2), (0.01, 4)),
    "gaming": _case((25, 4), (25, 4), (10, 5), (0.005, 4)),
}
"""M-Lab's table."""

Dataset = Mapping[str, float | None]
"""`down_mbps up_mbps rtt_ms loss_ratio`, each None where it was not measured."""


class Iqb(NamedTuple):
    """The score and each use case's, 0-1; None without data."""

    score: float | None
    use_cases: dict[str, float | None]


def iqb(
    datasets: Mapping[str, Dataset], weights: Mapping[str, float] | None = None, use_cases: UseCases = PUBLISHED
) -> Iqb:
    """The mean over use cases of the weighted share of requirements met, where data sets vote by weight (default 1)."""
    scores = {name: _use_case(needs, datasets, weights or {}) for name, needs in use_cases.items()}
    known = [score for score in scores.values() if score is not None]
    return Iqb(sum(known) / len(known) if known else None, scores)


def _use_case(
    needs: Mapping[str, Requirement], datasets: Mapping[str, Dataset], weights: Mapping[str, float]
) -> float | None:
    met = total = 0.0
    for value, need in needs.items():
        agreement = _agreement(value, need.thr, datasets, weights)
        if agreement is not None:
            met += need.w * agreement
            total += need.w
    return met / total if total else None


def _agreement(
    value: str, threshold: float, datasets: Mapping[str, Dataset], weights: Mapping[str, float]
) -> float | None:
    """The weighted share of data sets that meet it; None when none has the value."""
    met = total = 0.0
    for name, dataset in datasets.items():
        measured, weight = dataset.get(value), weights.get(name, 1.0)
        if measured is None or weight <= 0:
            continue
        total += weight
        met += weight * (measured > threshold if value in HIGHER_IS_BETTER else measured < threshold)
    return met / total if total else None
