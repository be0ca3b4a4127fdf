"""Verdicts against the simulator's truth: the default district, 60 faults of all kinds over two weeks.

python -m bench.verdicts [--seeds 1-5] [--faults 60] [--keep FOLDER] [--workers 2]

A fault is clear in an hour when what it affects is beyond its limit by a factor of 2 for half of it (bench.clear).
Precision and recall are of hours with clear faults; a false incident shares no hour with any fault of its venue.
`--keep` keeps the rolled hours of a seed in a file, so that a rule can be tried again in seconds.
"""

import argparse
import pickle
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from bench import clear
from bench.district import HOURS, START_MINUTE, Rolled, build, draw, hour_of, rolled
from perception import profiles
from perception.scoring.profile import Profile
from perception.stored import Row
from perception.verdicts.hour import Hour
from perception.verdicts.incidents import merged
from perception.verdicts.judge import judge
from perception.verdicts.verdict import SEGMENTS, Verdict
from simulator.district import District
from simulator.faults import SEGMENTS as INWARDS
from simulator.faults import Fault
from simulator.world import World

JOIN_HOURS: Final = 2
WEEK_HOURS: Final = 7 * 24
DAY: Final = 24


@dataclass
class Score:
    """Of one or more seeds."""

    clear: Counter[str] = field(default_factory=Counter)
    """Clear fault hours by the segment to blame."""
    found: Counter[str] = field(default_factory=Counter)
    """Of them, those whose verdict says so."""
    named: Counter[str] = field(default_factory=Counter)
    """Clear fault hours by the segment that the verdict names."""
    wrong: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(segment to blame and kind, verdict) where they differ."""
    false: Counter[str] = field(default_factory=Counter)
    """False incidents by segment, and confidence."""
    venue_weeks: float = 0.0

    def __iadd__(self, other: "Score") -> "Score":
        for name in ("clear", "found", "named", "wrong", "false"):
            getattr(self, name).update(getattr(other, name))
        self.venue_weeks += other.venue_weeks
        return self

    def without(self, segment: str) -> tuple[float, float]:
        """Precision and recall without one segment's hours (`""`: over all)."""
        found = sum(n for s, n in self.found.items() if s != segment)
        clear_hours = sum(n for s, n in self.clear.items() if s != segment)
        named = sum(n for s, n in self.named.items() if s != segment)
        return found / max(named, 1), found / max(clear_hours, 1)


def judged(place: District, hours: Sequence[Rolled], networks: dict[str, Profile]) -> list[Verdict]:
    """All hours, with the memory that the service takes from its store."""
    venues = {v.slug: v for v in place.venues}
    agents: dict[str, dict[str, frozenset[str]]] = defaultdict(dict)
    for box in place.boxes:
        network = venues[box.venue.slug].network
        agents[network][box.venue.slug] = agents[network].get(box.venue.slug, frozenset()) | {box.agent}
    found: list[Verdict] = []
    joins: dict[str, list[Row]] = defaultdict(list)
    answered: dict[tuple[str, str], list[int]] = defaultdict(list)
    rates: dict[tuple[str, int], list[float]] = defaultdict(list)
    for number, hour in enumerate(hours):
        lately = {key: sum(ok[-WEEK_HOURS:]) for key, ok in answered.items()}
        silent = frozenset(
            (agent, target)
            for (agent, target), ok in lately.items()
            if target == "gateway" and ok == 0 and lately.get((agent, "core"))
        )
        for network, profile in networks.items():
            usual = {venue: statistics.median(was) for (venue, at), was in rates.items() if at == number % DAY}
            found += judge(
                Hour(
                    time_ns=hour.time_ns,
                    network=network,
                    venues=agents[network],
                    rows=hour.rows,
                    role=_role,
                    limits=profile.verdict,
                    earlier_joins={venue: rows[::-1] for venue, rows in joins.items()},
                    silent=silent,
                    usual_down_mbps=usual,
                )
            )
        for row in hour.rows:
            if row.probe == "latency" and row.target in ("gateway", "core"):
                answered[row.agent, row.target].append(row.ok)
            elif row.probe == "wifi_join":
                joins[row.venue] = [*joins[row.venue], row][-JOIN_HOURS:]
            elif row.probe == "throughput" and (down := row.metric("down_mbps")).p50 is not None:
                rates[row.venue, number % DAY].append(down.p50)
    return found


def _role(agent: str, target: str) -> str:
    return target if target in ("gateway", "core") else "service" if target == "gov-portal" else "internet"


def clear_hours(
    place: District, faults: Sequence[Fault], networks: dict[str, Profile], hours: int
) -> dict[tuple[str, int], list[Fault]]:
    """Faults by venue and hour in which they are clear."""
    world = World(place, faults)
    venues = {v.slug: v for v in place.venues}
    found: dict[tuple[str, int], list[Fault]] = defaultdict(list)
    for fault in faults:
        venue = venues[fault.venue]
        first, last = fault.start_minute // 60, -(-fault.end_minute // 60)
        state = world.state(venue, np.arange(first * 60, last * 60, dtype=np.int64))
        beyond = clear.minutes(fault, state, venue, networks[venue.network].verdict).reshape(-1, 60).sum(axis=1)
        for hour in np.flatnonzero(beyond >= clear.MINUTES).tolist():
            if 0 <= (number := first - START_MINUTE // 60 + hour) < hours:
                found[venue.slug, number].append(fault)
    return found


def compare(
    verdicts: Sequence[Verdict],
    faults: Sequence[Fault],
    clear_of: dict[tuple[str, int], list[Fault]],
    venue_weeks: float,
) -> Score:
    """Verdicts against the truth."""
    score = Score(venue_weeks=venue_weeks)
    said = {(verdict.venue, hour_of(verdict.time_ns)): verdict for verdict in verdicts}
    for place, wrong in clear_of.items():
        verdict = said[place]
        right = sorted({fault.segment for fault in wrong}, key=INWARDS.index)
        truth = verdict.segment if verdict.segment in right else right[0]
        score.clear[truth] += 1
        if verdict.blames:
            score.named[verdict.segment] += 1
        if verdict.segment == truth:
            score.found[truth] += 1
        else:
            kinds = "+".join(sorted({fault.kind for fault in wrong}))
            score.wrong[f"{truth} {kinds}", f"{verdict.segment} rule {verdict.rule}"] += 1
    touched = {
        (fault.venue, hour)
        for fault in faults
        for hour in range(fault.start_minute // 60 - START_MINUTE // 60,
                          -(-fault.end_minute // 60) - START_MINUTE // 60)
    }  # fmt: skip
    for group in merged(verdicts):
        if not any((verdict.venue, hour_of(verdict.time_ns)) in touched for verdict in group):
            score.false[f"{group[0].segment} rule {group[0].rule} {max(v.confidence for v in group)}"] += 1
    return score


def run(seed: int, number: int, keep: Path | None) -> Score:
    """One seed."""
    place = build(seed)
    faults = draw(place, number)
    networks = {"wifi": profiles.named("wifi-public-2026"), "gov": profiles.named("gov-node-2026")}
    file = None if keep is None else keep / f"seed{seed}-{number}.pickle"
    if file is not None and file.exists():
        hours: list[Rolled] = pickle.loads(file.read_bytes())
    else:
        hours = list(rolled(World(place, faults)))
        if file is not None:
            file.write_bytes(pickle.dumps(hours))
    verdicts = judged(place, hours, networks)
    return compare(
        verdicts, faults, clear_hours(place, faults, networks, len(hours)), len(place.venues) * HOURS / WEEK_HOURS
    )


def report(score: Score, title: str) -> str:
    """As lines of text."""
    lines = [title, f"{'segment':>10} {'clear':>7} {'precision':>10} {'recall':>8}"]
    for segment in SEGMENTS:
        hours, named, found = score.clear[segment], score.named[segment], score.found[segment]
        if hours or named:
            lines.append(f"{segment:>10} {hours:7} {found / max(named, 1):10.3f} {found / max(hours, 1):8.3f}")
    for name, left_out in (("all", ""), ("no target", "target")):
        precision, recall = score.without(left_out)
        hours = sum(n for s, n in score.clear.items() if s != left_out)
        lines.append(f"{name:>10} {hours:7} {precision:10.3f} {recall:8.3f}")
    total = score.false.total()
    lines.append(f"false incidents: {total} in {score.venue_weeks:g} venue-weeks, "
                 f"{10 * total / score.venue_weeks:.2f} per 10")  # fmt: skip
    lines += [f"  {n:5} x {what}" for what, n in score.false.most_common(8)]
    lines += [f"  {n:5} x {truth} -> {verdict}" for (truth, verdict), n in score.wrong.most_common(25)]
    return "\n".join(lines)


def _seeds(text: str) -> list[int]:
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=_seeds, default=_seeds("1-5"), metavar="N-N")
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--workers", type=int, default=2)
    found = parser.parse_args()
    if found.keep is not None:
        found.keep.mkdir(parents=True, exist_ok=True)
    began_s, total = time.monotonic(), Score()
    with ProcessPoolExecutor(found.workers) as pool:
        tasks = {seed: pool.submit(run, seed, found.faults, found.keep) for seed in found.seeds}
        for seed, task in tasks.items():
            score = task.result()
            total += score
            precision, recall = score.without("")
            print(f"seed {seed}: precision {precision:.3f}, recall {recall:.3f}, "
                  f"{score.false.total()} false incidents", flush=True)  # fmt: skip
    print(report(total, f"seeds {found.seeds}, {found.faults} faults, {time.monotonic() - began_s:.0f} s"))


if __name__ == "__main__":
    main()
