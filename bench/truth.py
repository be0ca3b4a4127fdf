"""What must be in the store, written down where a SIGKILL cannot reach it, and the comparison with what is there."""

import math
import mmap
import os
import struct
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench.source import Source, stored_fields, time_ns
from contract.series import FieldValue

Id = tuple[str, int]
"""Agent and number of a record."""


class Journal:
    """One agent's own account: a line per event, each one write to the kernel, so that a killed process keeps it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def submitted(self, number: int) -> None:
        """Record `number` is about to be handed to the outbox."""
        self._line("submitted", [number])

    def settled(self, how: str, numbers: Iterable[int]) -> None:
        """These were answered for good, and the agent may forget them: how is `stored` or `rejected`."""
        self._line(how, numbers)

    def _line(self, event: str, numbers: Iterable[int]) -> None:
        os.write(self._file, f"{event} {time.time():.6f} {' '.join(map(str, numbers))}\n".encode())


@dataclass
class Account:
    """What one agent's journal says, with wall times in seconds."""

    submitted: dict[int, float] = field(default_factory=dict)
    stored: dict[int, float] = field(default_factory=dict)
    """Acknowledged as stored."""
    rejected: dict[int, float] = field(default_factory=dict)
    committed: set[int] = field(default_factory=set)
    """Found on the agent's disk after a kill or at the end."""
    removed: set[int] = field(default_factory=set)
    """Taken away by the scenario itself (a replaced file): nobody can ask for them."""
    kills: list[float] = field(default_factory=list)

    def unanswered(self, at: float) -> int:
        """Records that were handed over and had no final answer at that moment."""
        final = {**self.rejected, **self.stored}
        return sum(submitted <= at < final.get(number, math.inf) for number, submitted in self.submitted.items())

    @classmethod
    def read(cls, path: Path) -> "Account":
        account = cls()
        if not path.exists():
            return account
        for line in path.read_text().splitlines():
            event, at, *numbers = line.split()
            getattr(account, event).update((int(number), float(at)) for number in numbers)
        return account


class Stored(NamedTuple):
    """One point as the store itself gives it back."""

    series: str
    time_ns: int
    tags: dict[str, str]
    fields: dict[str, FieldValue]


@dataclass
class Verdict:
    """The comparison. Nothing was lost when `faults` is empty."""

    submitted: int = 0
    points: int = 0
    acknowledged: int = 0
    committed: int = 0
    rejected: int = 0
    lost_uncommitted: int = 0
    """Neither committed nor acknowledged when their process was killed: allowed, at most the last 10 s of each kill."""
    lost_per_kill: list[int] = field(default_factory=list)
    oldest_lost_s: float = 0.0
    """Greatest age at its kill of a record lost so."""
    faults: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def fault(self, kind: str, example: str) -> None:
        self.faults[kind] = self.faults.get(kind, 0) + 1
        if self.faults[kind] <= 5:
            self.examples.setdefault(kind, []).append(example)


def judge(
    sources: Mapping[str, Source],
    accounts: Mapping[str, Account],
    points: Mapping[Id, Sequence[Stored]],
    places: Mapping[str, Mapping[str, str]],
    *,
    hold_s: float,
    slack_s: float = 1.0,
    may_reject: Iterable[Id] = (),
) -> Verdict:
    """Compare the agents' accounts with the store, by value.

    `places` are each agent's `venue` and `network`, and further tags. A record that was neither committed nor
    acknowledged may be missing when it was handed over at most `hold_s` (and `slack_s` for the machine's own delays)
    before a kill of its agent.
    `may_reject` are the records that the scenario wants refused.
    """
    verdict = Verdict(points=sum(map(len, points.values())))
    allowed = set(may_reject)
    for agent, account in accounts.items():
        source = sources[agent]
        lost: Counter[float] = Counter()
        verdict.submitted += len(account.submitted)
        verdict.acknowledged += len(account.stored)
        verdict.committed += len(account.committed)
        verdict.rejected += len(account.rejected)
        for number, at in account.submitted.items():
            name = f"{agent}#{number}"
            found = points.get((agent, number), [])
            for point in found:
                for difference in _differences(source, number, point, places[agent]):
                    verdict.fault(*difference)
            if len(found) > 1:
                verdict.fault("duplicate", f"{name}: {[(p.series, p.time_ns, p.tags) for p in found]}")
            if number in account.rejected and (agent, number) not in allowed:
                verdict.fault("rejected", name)
            if found or number in account.removed or number in account.rejected:
                continue
            kill = min((kill for kill in account.kills if kill >= at), default=None)
            if number in account.stored:
                verdict.fault("acknowledged, not stored", f"{name}, acknowledged at {account.stored[number]:.3f}")
            elif number in account.committed:
                verdict.fault("committed, not stored", name)
            elif kill is None:
                verdict.fault("missing without a kill", name)
            elif kill - at > hold_s + slack_s:
                verdict.fault("lost, older than allowed", f"{name}, {kill - at:.2f} s before its kill")
            else:
                lost[kill] += 1
                verdict.oldest_lost_s = max(verdict.oldest_lost_s, kill - at)
        verdict.lost_per_kill += [lost[kill] for kill in account.kills]
        verdict.lost_uncommitted += lost.total()
    for agent, number in points:
        if agent not in accounts or number not in accounts[agent].submitted:
            verdict.fault("never submitted", f"{agent}#{number}")
    return verdict


def _differences(source: Source, number: int, point: Stored, place: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    record = source.record(number)
    name = f"{source.agent}#{number}"
    if point.time_ns != time_ns(record.slot):
        yield "another time", f"{name}: {(point.time_ns - time_ns(record.slot)) / 1e9:+.3f} s"
    tags = {
        "agent": source.agent,
        "target": record.target,
        "interface": record.interface,
        "provider": record.provider,
        "resolver": record.resolver,
        **place,
    }
    tags = {tag: value for tag, value in tags.items() if value}
    if point.series != record.probe or {tag: value for tag, value in point.tags.items() if value} != tags:
        yield "another series", f"{name}: {point.series} {point.tags}, not {record.probe} {tags}"
    fields = {key: value for key, value in point.fields.items() if value not in (None, "")}
    flags = [flag for flag in str(fields.pop("flags", "")).split(",") if flag not in ("", "replayed")]
    if flags:
        fields["flags"] = ",".join(flags)
    if fields != stored_fields(record):
        odd = {key for key in fields | stored_fields(record) if fields.get(key) != stored_fields(record).get(key)}
        yield "another value", f"{name}: {sorted(odd)}"


class Gauges:
    """Numbers of every agent in a shared file: batches in flight and records that wait, readable at any instant."""

    _ENTRY = struct.Struct("II")

    def __init__(self, path: Path, *, agents: int | None = None) -> None:
        """:param agents: makes the file, for so many; None opens the one that is there."""
        if agents is not None:
            path.write_bytes(bytes(agents * self._ENTRY.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    def put(self, agent: int, in_flight: int, waiting: int) -> None:
        self._ENTRY.pack_into(self._map, agent * self._ENTRY.size, in_flight, waiting)

    def in_flight(self, agents: Iterable[int]) -> int:
        return sum(self._get(agent)[0] for agent in agents)

    def waiting(self, agents: Iterable[int]) -> int:
        return sum(self._get(agent)[1] for agent in agents)

    def _get(self, agent: int) -> tuple[int, ...]:
        return self._ENTRY.unpack_from(self._map, agent * self._ENTRY.size)
