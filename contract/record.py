"""The Record: what one scheduled slot ended in. The one type that travels from the runner to the store.

Outcomes:

- `ok`: measured; the values count.
- `failed`: the network's fault; counts against the network. Values measured before the failure are kept.
- `invalid`: our own fault (CPU-limited, clock stepped, wrong interface, ...); excluded and printed.
- `skipped`: deliberately not run.
"""

from typing import Annotated, Final, cast

import msgspec
from msgspec import Meta, Struct

from contract.fields import Interface, Seconds, Slug, Text, Time
from contract.values import VALUES, Values
from contract.vocabulary import REASONS, ClockState, Flag, Outcome, Reason

NO_TARGET: Final = "-"
"""The target of a probe that has none."""

Target = Annotated[str, Meta(pattern=r"^(-|[a-z0-9][a-z0-9._-]{0,62})$")]

_LEGAL: Final = {("ok", None)} | {(outcome, reason) for outcome, reasons in REASONS.items() for reason in reasons}
"""Every outcome with each of its reasons."""

_MAX_SOUND: Final = 10_000
_sound: set[tuple[str, str, str | None, str | None]] = set()
"""Names of series that were checked: the same few come again and again, and patterns cost more than all the rest."""


class _Names(Struct):
    """What makes a series of its probe, with the patterns that it must keep."""

    target: Target
    interface: Interface
    provider: Slug | None
    resolver: Slug | None


class Record(Struct, tag_field="probe", kw_only=True, gc=False):
    """One slot of one job. Make one with the class of its probe: ``RECORDS["latency"](...)``.

    :raises ValueError: when outcome and reason do not fit together, or a name does not keep its pattern.
    """

    target: str
    """Name of the job's target in the agent's configuration, never a raw URL; ``-`` where there is none."""
    interface: str
    provider: str | None = None
    resolver: str | None = None
    slot: Time
    """The scheduled time, UTC; part of the point's identity."""
    started_at: Time
    duration_s: Seconds
    """Monotonic."""
    outcome: Outcome
    reason: Reason | None = None
    """Null exactly when `ok`."""
    detail: Text | None = None
    flags: Annotated[list[Flag], Meta(max_length=16)] = []
    clock: ClockState = "synced"
    values: Values | None = None
    """The probe's own struct; null when nothing was measured."""

    def __post_init__(self) -> None:
        if (self.outcome, self.reason) not in _LEGAL:
            if self.outcome == "ok":
                raise ValueError(f"reason must be null when outcome is ok, not {self.reason!r}")
            raise ValueError(f"reason {self.reason!r} does not belong to outcome {self.outcome!r}")
        names = self.target, self.interface, self.provider, self.resolver
        if names not in _sound:
            _check(names)

    @property
    def probe(self) -> str:
        """Name of the probe, the tag on the wire."""
        return str(self.__struct_config__.tag)


def _check(names: tuple[str, str, str | None, str | None]) -> None:
    """:raises ValueError: when one does not keep its pattern."""
    msgspec.convert(dict(zip(_Names.__struct_fields__, names, strict=True)), _Names)
    if len(_sound) >= _MAX_SOUND:
        _sound.clear()
    _sound.add(names)


def _record_class(probe: str, values: type[Values]) -> type[Record]:
    fields = [("values", values | None, None)]
    kind = msgspec.defstruct(f"{values.__name__}Record", fields, bases=(Record,), tag=probe, kw_only=True)
    return cast(type[Record], kind)


RECORDS: Final[dict[str, type[Record]]] = {probe: _record_class(probe, values) for probe, values in VALUES.items()}
"""The record class of every probe: a Record whose `values` is that probe's struct."""
