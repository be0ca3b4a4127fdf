"""QoO, Quality of Outcome (draft-ietf-ippm-qoo): how near an application is to perfect, 0-100.

ROP is the requirement for optimal performance (100 at or below it), CPUP the conditions at the point of unacceptable
performance (0 at or above it). The application figures in the profiles are our own choice (自定).
"""

from collections.abc import Mapping
from typing import NamedTuple

from perception.scoring.primitives import clamp


class Span(NamedTuple):
    """From perfect to useless."""

    rop: float
    cpup: float
    """Above `rop`."""


class Requirement(NamedTuple):
    """What an application needs; a part that is None is not asked for."""

    rtt_ms: Mapping[float, Span] = {}
    """By percentile, 0-100."""
    loss_ratio: Span | None = None
    down_mbps: float | None = None


class Qoo(NamedTuple):
    """The score is the worst part; a part is None when it is not asked for, or was not measured (then so is the
    score)."""

    score: float | None
    latency: float | None
    loss: float | None
    throughput: float | None


def qoo(
    requirement: Requirement,
    *,
    rtt_ms: Mapping[float, float | None],
    loss_ratio: float | None,
    down_mbps: float | None,
) -> Qoo:
    """`rtt_ms` by percentile; those that the requirement names are read."""
    asked: list[float | None] = []
    latency = loss = throughput = None
    if requirement.rtt_ms:
        parts = [_part(rtt_ms.get(percentile), span) for percentile, span in requirement.rtt_ms.items()]
        latency = _least(parts)
        asked.append(latency)
    if requirement.loss_ratio is not None:
        loss = _part(loss_ratio, requirement.loss_ratio)
        asked.append(loss)
    if requirement.down_mbps is not None:
        throughput = None if down_mbps is None else 100.0 * (down_mbps >= requirement.down_mbps)
        asked.append(throughput)
    return Qoo(_least(asked), latency, loss, throughput)


def _part(measured: float | None, span: Span) -> float | None:
    if measured is None:
        return None
    return 100 * clamp(1 - (measured - span.rop) / (span.cpup - span.rop), 0, 1)


def _least(parts: list[float | None]) -> float | None:
    """The worst; None when one is unknown, or there is none."""
    known = [part for part in parts if part is not None]
    return min(known) if known and len(known) == len(parts) else None
