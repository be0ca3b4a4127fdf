"""The last hour as a small line: gaps where nothing was measured, ticks where it failed. Pure geometry."""

import itertools
from collections.abc import Sequence
from typing import Final, NamedTuple

WIDTH: Final = 120
HEIGHT: Final = 28
_TOP: Final = 2.0
_FLOOR: Final = 23.0
"""Below it is the lane of the ticks."""


class Slot(NamedTuple):
    """One slot of the last hour."""

    at_s: float
    """Seconds since 1970."""
    value: float | None
    """None where it was not ok."""
    outcome: str


class Sparkline(NamedTuple):
    """Paths for one SVG of WIDTH x HEIGHT; empty where there is nothing to draw."""

    line: str
    dots: str
    """Values without a neighbour to draw a line to."""
    ticks: str
    """Slots that failed."""
    low: float | None
    high: float | None
    failed: int
    """Number of slots that failed."""


def draw(hour: Sequence[Slot], start_s: float, end_s: float, period_s: float | None) -> Sparkline:
    """Draw the slots of [start, end].

    Two values are joined only when they are neighbours: every slot between them has a value, and no more than 2.5
    periods passed. The scale starts at zero for values that are never negative, so that a quiet line looks quiet.
    """
    slots = [slot for slot in hour if start_s <= slot.at_s <= end_s]
    values = [slot.value for slot in slots if slot.value is not None]
    low, high = (min(values), max(values)) if values else (None, None)
    gap_s = 2.5 * (period_s or _usual_gap_s(slots))
    bottom = 0.0 if low is None or low >= 0 else low - 0.15 * ((high or 0.0) - low) - 1.0
    span = ((high or 0.0) - bottom) * 1.05 or 1.0

    line: list[str] = []
    dots: list[str] = []
    ticks: list[str] = []
    run: list[str] = []
    last_s = 0.0

    def end_run() -> None:
        if len(run) == 1:
            dots.append(f"M{run[0]}h0")
        elif run:
            line.append("M" + "L".join(run))
        run.clear()

    for at, value, outcome in slots:
        x = (at - start_s) / (end_s - start_s) * WIDTH
        if value is None:
            end_run()
            if outcome == "failed":
                ticks.append(f"M{x:.1f} {HEIGHT - 4}v4")
            continue
        if run and at - last_s > gap_s:
            end_run()
        run.append(f"{x:.1f} {_FLOOR - (value - bottom) / span * (_FLOOR - _TOP):.1f}")
        last_s = at
    end_run()
    return Sparkline("".join(line), "".join(dots), "".join(ticks), low, high, len(ticks))


def _usual_gap_s(slots: Sequence[Slot]) -> float:
    """The median distance of slots, for a job whose period was not announced."""
    gaps = sorted(later.at_s - earlier.at_s for earlier, later in itertools.pairwise(slots))
    return gaps[len(gaps) // 2] if gaps else 60.0
