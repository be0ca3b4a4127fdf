"""A simulated district with faults drawn at random, rolled up in process: what verdicts and statistics are judged by.

No store: an hour's records go straight into the pure rollup. Records that come late (`replayed`) are left out, as they
are when an hour closes.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from contract.record import Record
from contract.series import METRICS
from perception.rollups.raw import LABEL, Reader
from perception.rollups.roll import HOUR_NS, Facts, LocalHour, Tags, roll
from perception.stored import Row
from simulator import district
from simulator.district import Box, District
from simulator.faults import KINDS, Fault
from simulator.schedule import jobs, slots
from simulator.virtual import VirtualAgent
from simulator.world import World
from store.interface import Block

START_MINUTE: Final = 1_794_153_600 // 60
"""Monday, 9 November 2026, 00:00 in Shanghai."""
HOURS: Final = 14 * 24
HOUR_MS: Final = 3_600_000
BLOCK_HOURS: Final = 6
PROBES: Final = ("latency", "dns", "web", "portal", "wifi_link", "wifi_join", "throughput")
"""What verdicts read."""
EVERYWHERE: Final = frozenset({"target_down"})
"""A target is one for everybody."""
SHARED_RATIO: Final = 1 / 3
"""Of the exits that go down, those that all venues of a network use."""


def build(seed: int, venues: int = 52) -> District:
    """The default district, or a smaller one, with its upgrades in the middle of two weeks."""
    return district.build(seed, venues, venues, START_MINUTE + HOURS * 30)


def draw(place: District, number: int, hours: int = HOURS, warm_hours: int = 24) -> list[Fault]:
    """So many faults of all kinds, anywhere, of any strength, over 1 to 12 hours; none in the first `warm_hours`."""
    chance = np.random.default_rng([place.seed, 20261126])
    kinds = list(KINDS)
    names = [kinds[k] for _ in range(-(-number // len(kinds))) for k in chance.permutation(len(kinds))][:number]
    found: list[Fault] = []
    for kind in names:
        length = int(chance.integers(60, 12 * 60 + 1))
        start = START_MINUTE + int(chance.integers(warm_hours * 60, hours * 60 - length))
        strength = float(chance.uniform())
        fitting = [v for v in place.venues if v.network == "wifi" or not KINDS[kind].wifi_only]
        here = fitting[int(chance.integers(len(fitting)))]
        target = ("core", "internet", "news", "search")[int(chance.integers(4))]
        shared = kind == "upstream_outage" and chance.uniform() < SHARED_RATIO
        if kind in EVERYWHERE:
            where = fitting
        elif shared:
            where = [v for v in fitting if v.network == here.network]
        else:
            where = [here]
        found += [Fault(kind, v.slug, start, start + length, strength, target) for v in where]
    return found


@dataclass(frozen=True)
class Rolled:
    """One hour's rows."""

    time_ns: int
    rows: list[Row]


def rolled(world: World, hours: int = HOURS, probes: Sequence[str] = PROBES, *, late: bool = False) -> Iterator[Rolled]:
    """Hour after hour, all agents together. `late` takes what came late, too."""
    agents = agents_of(world, probes)
    for first in range(0, hours, BLOCK_HOURS):
        begin_ms = START_MINUTE * 60_000 + first * HOUR_MS
        yield from block(world.district, agents, begin_ms, min(BLOCK_HOURS, hours - first), probes, late=late)


def agents_of(world: World, probes: Sequence[str]) -> list[VirtualAgent]:
    """All of them, with the jobs of some probes alone."""
    agents = [VirtualAgent(world, box) for box in world.district.boxes]
    for agent in agents:
        agent.jobs = [job for job in agent.jobs if job.probe in probes]
    return agents


def block(
    place: District,
    agents: Sequence[VirtualAgent],
    begin_ms: int,
    hours: int,
    probes: Sequence[str],
    *,
    late: bool = False,
    local: Callable[[str, str, int], LocalHour] | None = None,
) -> Iterator[Rolled]:
    """Some hours in a row. `local` by venue, network and hour (ns): who reads busy hours tells them."""
    readers: dict[tuple[int, str], Reader] = {}
    for agent in agents:
        for (hour, probe), records in _split(agent, begin_ms, hours, probes, late).items():
            reader = readers.setdefault((hour, probe), Reader(probe))
            reader.take(_block(probe, agent.box, records))
    for hour in range(hours):
        start_ms = begin_ms + hour * HOUR_MS
        hour_ns = start_ms * 10**6
        facts = Facts(
            hour_ns=hour_ns,
            local=(lambda venue, network: _LOCAL) if local is None else partial(_local, local, hour_ns),
            expected=_expected(place, start_ms, probes),
            is_gateway=lambda agent, target: target == "gateway",
        )
        raw = {probe: readers.get((hour, probe), Reader(probe)).raw() for probe in probes}
        yield Rolled(hour_ns, [Row.of(point) for probe in probes for point in roll(probe, raw[probe], facts)])


def _local(local: Callable[[str, str, int], LocalHour], hour_ns: int, venue: str, network: str) -> LocalHour:
    return local(venue, network, hour_ns)


_LOCAL: Final = LocalHour(busy=0, hour=0, dow=1)
"""No verdict reads it."""


def _split(
    agent: VirtualAgent, begin_ms: int, hours: int, probes: Sequence[str], late: bool
) -> dict[tuple[int, str], list[Record]]:
    found: dict[tuple[int, str], list[Record]] = defaultdict(list)
    begin_s = begin_ms // 1000
    for record in agent.records(begin_ms, begin_ms + hours * HOUR_MS):
        if record.clock == "none" or record.probe not in probes or (not late and "replayed" in record.flags):
            continue
        found[int(record.slot.timestamp() - begin_s) // 3600, record.probe].append(record)
    return found


def _block(probe: str, box: Box, records: Sequence[Record]) -> Block:
    labels = LABEL.get(probe)
    values: list[Any] = [record.values for record in records]
    fields: dict[str, Sequence[Any]] = {
        "outcome": [record.outcome for record in records],
        "reason": [record.reason for record in records],
    }
    for name in (*METRICS[probe], *([labels] if labels else [])):
        fields[name] = [None if value is None else getattr(value, name) for value in values]
    size = len(records)
    return Block(
        [round(record.slot.timestamp() * 1000) * 10**6 for record in records],
        (
            [box.agent] * size,
            [box.venue.slug] * size,
            [box.venue.network] * size,
            [record.target for record in records],
            [box.interface] * size,
            [record.provider or "" for record in records],
            [record.resolver or "" for record in records],
        ),
        fields,
    )


def _expected(place: District, start_ms: int, probes: Sequence[str]) -> dict[str, dict[Tags, int]]:
    found: dict[str, dict[Tags, int]] = {probe: defaultdict(int) for probe in probes}
    for box in place.boxes:
        for job in jobs(box):
            if job.probe in probes:
                tags = (
                    box.agent,
                    box.venue.slug,
                    box.venue.network,
                    job.target,
                    job.provider or "",
                    job.resolver or "",
                )
                found[job.probe][tags] += len(slots(box, job, start_ms, start_ms + HOUR_MS)[0])
    return found


def hour_of(time_ns: int) -> int:
    """Its number since the start."""
    return time_ns // HOUR_NS - START_MINUTE // 60
