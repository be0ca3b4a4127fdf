"""Targets that were down for everybody: their hour is the target's fault, and no venue's."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from perception.scores.samples import Role
from perception.stored import Row

MIN_VENUES: Final = 3
"""Fewer venues that miss a target may each have a fault of their own."""
DOWN_RATIO: Final = 0.5
"""A target is down where so much of the hour failed."""
GOOD_RATIO: Final = 0.75
"""Another one was there where so much succeeded."""
_BEYOND: Final = {
    "core": ("core", "internet", "service"),
    "internet": ("internet",),
    "service": ("service", "internet"),
}
"""By role, the roles of targets that lie behind the same segments or farther: where they answer, the way was good."""

Missed = set[tuple[str, str, str]]
"""Venue, probe and target."""


def everywhere_down(rows: Sequence[Row], role: Role) -> Missed:
    """Of one hour's rows: where a target failed that failed at three venues or more, each with another target behind
    the same segment in reach. A venue where nothing else answered has an outage of its own: it is not in."""
    good: dict[str, set[tuple[str, str]]] = defaultdict(set)
    failed: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if not row.attempted or row.target == "-":
            continue
        kind = role(row.agent, row.target)
        if row.ok >= GOOD_RATIO * row.attempted:
            good[row.venue].add((kind, row.target))
        elif row.failed >= DOWN_RATIO * row.attempted and kind in _BEYOND:
            failed[row.network, row.probe, row.target].append(row)
    missed: Missed = set()
    for (_, probe, target), them in failed.items():
        venues = {
            row.venue
            for row in them
            if any(
                kind in _BEYOND[role(row.agent, target)] and other != target for kind, other in good.get(row.venue, ())
            )
        }
        if len(venues) >= MIN_VENUES:
            missed |= {(venue, probe, target) for venue in venues}
    return missed
