"""Records to points: checked against the clock, joined with the site register by slot, in the stored order of fields.

This is the hot path: no branch per field, no conversion of times but integer arithmetic.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from contract.codec import Refused
from contract.record import Record
from contract.vocabulary import Later, Rejection
from store.point import Point
from store.records import to_point
from store.register import Register, Roll

AHEAD_US: Final = 300 * 10**6
"""A slot may be 5 min ahead of our clock; more is answered `later: clock_ahead`."""
OLD_US: Final = 30 * 86_400 * 10**6
"""A slot may be 30 days old (retention of raw points); more is `rejected: too_old`."""
MAX_AGENTS: Final = 20_000
MAX_LABELS: Final = 1_000
"""Series that are remembered of one agent."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_Identity = tuple[str, str, str | None, str | None]
"""Interface, target, provider and resolver: what tells an agent's series of one probe apart."""
_Labels = tuple[int, int, tuple[str, ...]]
"""From and before when, in microseconds since 1970, a series has these tags."""


class Rejected(NamedTuple):
    """A record that will never be stored."""

    place: int
    reason: Rejection
    refusal: str
    """The codec's name for it, or ours."""
    words: str


class Judgement(NamedTuple):
    """What is to become of a batch's records, by their index in it."""

    points: list[Point]
    indices: list[int]
    """Of each point's record."""
    rejected: list[Rejected]
    later: list[tuple[int, Later]]


class Judge:
    """Knows the register, and remembers the tags of every series that it has seen."""

    def __init__(self, register: Register) -> None:
        self._register = register
        self._roll: Roll = register.roll
        self._labels: dict[str, dict[_Identity, _Labels]] = {}
        """Of each agent."""

    def judge(self, agent: str, places: Iterable[Record | Refused], now_us: int) -> Judgement:
        """Every record of a batch of `agent`, seen at `now_us` (microseconds since 1970)."""
        labels = self._labels_of(agent)
        newest_us, oldest_us = now_us + AHEAD_US, now_us - OLD_US
        points: list[Point] = []
        indices: list[int] = []
        rejected: list[Rejected] = []
        later: list[tuple[int, Later]] = []
        for index, record in enumerate(places):
            if isinstance(record, Refused):
                if record.error.refusal == "unknown_probe":
                    later.append((index, "unknown_probe"))
                else:
                    rejected.append(Rejected(index, "invalid", record.error.refusal, str(record.error)))
                continue
            slot = record.slot
            slot_us = (slot - _EPOCH) // _MICROSECOND
            identity = (record.interface, record.target, record.provider, record.resolver)
            if record.clock == "none":
                rejected.append(
                    Rejected(index, "invalid", "clock_none", "the agent never knew the time of this record")
                )
            elif slot_us > newest_us:
                later.append((index, "clock_ahead"))
            elif slot_us < oldest_us:
                rejected.append(Rejected(index, "too_old", "too_old", f"slot {slot.isoformat()}"))
            elif (found := labels.get(identity)) is not None and found[0] <= slot_us < found[1]:
                points.append(to_point(record, found[2], slot_us * 1000))
                indices.append(index)
            elif (found := self._find(agent, identity, slot_us)) is not None:
                labels[identity] = found
                points.append(to_point(record, found[2], slot_us * 1000))
                indices.append(index)
            else:
                later.append((index, "unknown_agent"))
        return Judgement(points, indices, rejected, later)

    def _labels_of(self, agent: str) -> dict[_Identity, _Labels]:
        """What is remembered of it: nothing that an older register said, and not too much."""
        if self._roll is not self._register.roll or len(self._labels) > MAX_AGENTS:
            self._roll = self._register.roll
            self._labels.clear()
        labels = self._labels.setdefault(agent, {})
        if len(labels) > MAX_LABELS:
            labels.clear()
        return labels

    def _find(self, agent: str, identity: _Identity, slot_us: int) -> _Labels | None:
        interface, target, provider, resolver = identity
        span = self._roll.find(agent, interface, slot_us)
        if span is None:
            return None
        tags = (agent, span.venue, span.network, target, interface, provider or "", resolver or "")
        return span.start_us, span.end_us, tags
