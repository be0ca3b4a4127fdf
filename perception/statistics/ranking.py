"""Ranking with intervals: tiers (分档) of venues that cannot be told apart, and how far a rank may be off."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perception.statistics.intervals import Interval, wilson

DRAWS: Final = 2000
DAYS: Final = 7


class Ranked(NamedTuple):
    """A venue that is ranked: it has a score and an interval."""

    venue: str
    score: float
    lo: float
    hi: float


def tiers(venues: Sequence[Ranked]) -> list[list[str]]:
    """Venues by score (ties: by name), in tiers: a venue is in the tier unless its `hi` is below the `lo` of the tier's
    leader; then it leads the next."""
    found: list[list[str]] = []
    leader_lo = 0.0
    for venue in sorted(venues, key=lambda one: (-one.score, one.venue)):
        if not found or venue.hi < leader_lo:
            found.append([])
            leader_lo = venue.lo
        found[-1].append(venue.venue)
    return found


def by_pass_ratio(passed: Mapping[str, tuple[int, int]]) -> list[str]:
    """Venues by the lower end of Wilson's interval of (passed, attempted); ties by name, nothing attempted last."""

    def key(venue: str) -> tuple[float, str]:
        lo = wilson(*passed[venue]).lo
        return (1.0 if lo is None else -lo, venue)

    return sorted(passed, key=key)


def seed(venue: str, week: str, profile_sha: str) -> int:
    """Of a venue's draws, so that the same data give the same interval: `week` as 2026-W47."""
    return int.from_bytes(hashlib.sha256(f"{venue}|{week}|{profile_sha}".encode()).digest()[:8], "big")


def rank_intervals(days: Mapping[str, Sequence[float]], week: str, profile_sha: str) -> dict[str, Interval]:
    """Between which ranks (1 is best) each venue lies in 90 % of 2,000 draws of 7 days with replacement.

    `days` are each venue's day scores; a day's tests are drawn together. Venues without a day are left out.
    """
    venues = [venue for venue in sorted(days) if days[venue]]
    if not venues:
        return {}
    scores = np.array([_drawn(days[venue], seed(venue, week, profile_sha)) for venue in venues])
    # A venue's rank in a draw: one more than the venues that are better in it.
    ordered = np.sort(scores, axis=0)
    ranks = np.empty_like(scores)
    for draw in range(DRAWS):
        better = len(venues) - np.searchsorted(ordered[:, draw], scores[:, draw], side="right")
        ranks[:, draw] = better + 1
    ends = np.quantile(ranks, (0.05, 0.95), axis=1)
    return {venue: Interval(float(lo), float(hi)) for venue, lo, hi in zip(venues, *ends, strict=True)}


def _drawn(days: Sequence[float], seed: int) -> NDArray[np.float64]:
    """The mean of each draw."""
    random = np.random.Generator(np.random.PCG64(seed))
    drawn = random.integers(0, len(days), (DRAWS, DAYS))
    return np.asarray(np.asarray(days, np.float64)[drawn].mean(axis=1))
