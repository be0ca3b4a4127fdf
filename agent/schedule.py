"""When a job runs: slots on a grid, spread over the fleet, started with jitter.

A job's slots lie one period apart on boot time, which never steps; they are only labelled with wall time, so that a
clock step neither repeats a slot nor leaves one out. At start the grid is laid so that wall time mod period is the
job's phase: after a later step of the wall clock the labels move, the rhythm does not. The phase is a hash of who
measures what, so that a fleet never starts at minute 0 together, and a job keeps its phase over restarts.

Example: period 60 s, phase 17.25 s, started at 10:04:58: slots at 10:05:17.25, 10:06:17.25, ...; each run starts up to
3 s before or after its slot (5 % of the period).

An `agent` job has one slot more, at the moment of the start: a new start reports at once.
"""

import itertools
import random
from collections.abc import Iterator
from typing import Final, NamedTuple

from agent.clock import Clock
from agent.config import Job
from contract import schedule

JITTER_RATIO: Final = 0.05
AT_ONCE: Final = frozenset({"agent"})
"""Probes that also run at the very start."""


class Slot(NamedTuple):
    """One scheduled run, on boot time."""

    boot_s: float
    """The scheduled time: the record's identity."""
    start_s: float
    """When to start, jitter included."""


def phase_s(agent: str, job: Job) -> float:
    """The job's place within its period."""
    return schedule.phase_s(agent, job.key, job.period_s)


def slots(agent: str, job: Job, clock: Clock, jitter: random.Random) -> Iterator[Slot]:
    """The slots of `job` from now on, without end; the clock is read once, here."""
    boot_s, wall_s = clock.boot(), clock.wall()
    if job.probe in AT_ONCE:
        yield Slot(boot_s, boot_s)
    period_s = job.period_s
    # Half a millisecond of grace for the rounding of large floats; the extra slot above is never doubled.
    first_s = boot_s + (phase_s(agent, job) - wall_s) % period_s
    if first_s - boot_s < 0.0005:
        first_s += period_s
    for n in itertools.count():
        slot_s = first_s + n * period_s
        yield Slot(slot_s, max(boot_s, slot_s + jitter.uniform(-JITTER_RATIO, JITTER_RATIO) * period_s))


def label_s(boot_s: float, offset_s: float) -> float:
    """Wall time of a moment of boot time, to the millisecond; `offset_s` is wall minus boot time."""
    return round(boot_s + offset_s, 3)
