"""The seam between the runner and its probes.

A probe is one async function: it gets its own settings and a Context and returns its values, or raises
:class:`Failure`. It knows nothing of times, records, batches or other probes; the runner adds those.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from msgspec import Struct

from agent.clock import Clock
from agent.facts import Facts
from contract.values import Values
from contract.vocabulary import Flag, Reason


class Failure(Exception):
    """A slot that did not end `ok`. The runner takes the outcome from the reason.

    `values` are what was measured before it failed; they are kept.
    """

    def __init__(self, reason: Reason, detail: str | None = None, values: Values | None = None) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason: Reason = reason
        self.detail = detail
        self.values = values


class Context(Struct, kw_only=True):
    """What a probe may use. One object per run."""

    interface: str
    """Bind every socket to it."""
    clock: Clock
    facts: Facts
    timeout_s: float
    """The runner ends the probe then; its own network time-outs end earlier."""
    flags: list[Flag] = []
    """The probe adds its cautions here."""


class Settings(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """What every probe's own settings have in common: a probe subclasses it, unknown keys are errors."""


class Probe(NamedTuple):
    """One entry of :data:`agent.probes.PROBES`."""

    settings: type[Settings]
    measure: Callable[[Any, Context], Awaitable[Values]]
    timeout_s: float
    """Deadline of one run unless the job sets its own."""
    heavy: bool = False
    """Heavy probes (throughput, video) run one at a time per uplink; at most four light ones run beside it."""
