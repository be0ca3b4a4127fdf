"""Before and after an upgrade: is the effect found where there was one, and claimed where there was none?

python -m bench.upgrade [--seeds 1-5] [--workers 2]

Four weeks before, the week of the upgrade, four weeks after, of the simulated Wi-Fi venues; the index (PPI) and the
mean signal of every day from four of its hours, judged as the report does. A venue whose signal was good before has
nothing to gain in the index: there the signal alone tells that its radio was renewed. Each venue that was not upgraded
is asked about as if it had been, with venues of its own type that were not either beside it.
"""

import argparse
import time
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Final, NamedTuple

from bench.district import HOUR_MS, START_MINUTE, agents_of, block
from perception import profiles
from perception.report.sections.upgrades import LEAST_DB
from perception.rollups.roll import LocalHour
from perception.scores.samples import METRICS, Venue
from perception.scores.score import score
from perception.statistics.upgrade import LEAST_POINTS, effect, windows
from simulator import district
from simulator.world import World

WEEKS: Final = 9
UPGRADE_WEEK: Final = 4
WEEK_MINUTES: Final = 7 * 24 * 60
FIRST_MINUTE: Final = START_MINUTE - UPGRADE_WEEK * WEEK_MINUTES
"""Monday, 12 October 2026: no public holiday until the end."""
HOURS: Final = range(3, WEEKS * 7 * 24, 6)
"""03:00, 09:00, 15:00 and 21:00."""
VENUES: Final = 40
CONTROLS: Final = 3
ZONE: Final = timezone(timedelta(hours=8))
PROFILES: Final = {True: "wifi-public-2026", False: "wifi-observe-2026"}
"""By whether a venue's agents join."""


class Days(NamedTuple):
    """Values of local days, by venue."""

    points: dict[str, dict[date, float]]
    """The index."""
    signal_dbm: dict[str, dict[date, float]]


def days(place: district.District) -> Days:
    """The index and the signal of each day."""
    known = {joins: profiles.named(name) for joins, name in PROFILES.items()}
    types = {venue.slug: venue.type for venue in place.venues}
    probes = tuple(METRICS)
    agents = agents_of(World(place), probes)
    seen: dict[tuple[str, date], Venue] = defaultdict(Venue)
    signal: dict[tuple[str, date], list[float]] = defaultdict(lambda: [0.0, 0.0])

    def local(venue: str, network: str, hour_ns: int) -> LocalHour:
        at = datetime.fromtimestamp(hour_ns // 10**9, UTC).astimezone(ZONE)
        busy = known[True].busy_idle.is_busy(types[venue], at.weekday(), at.hour * 60 + 30)
        return LocalHour(int(busy), at.hour, at.isoweekday())

    for hour in HOURS:
        for rolled in block(place, agents, FIRST_MINUTE * 60_000 + hour * HOUR_MS, 1, probes, local=local):
            day = datetime.fromtimestamp(rolled.time_ns // 10**9, UTC).astimezone(ZONE).date()
            for row in rolled.rows:
                seen[row.venue, day].add(row, _role, day.toordinal())
                if row.probe == "wifi_link":
                    metric = row.metric("rssi_dbm")
                    signal[row.venue, day][0] += metric.total
                    signal[row.venue, day][1] += metric.n
    signals: dict[str, dict[date, float]] = defaultdict(dict)
    for (slug, day), (total_dbm, n) in signal.items():
        if n:
            signals[slug][day] = total_dbm / n
    found: dict[str, dict[date, float]] = defaultdict(dict)
    for (slug, day), venue in seen.items():
        _, rated = score(venue, known[venue.joins], "day")
        if rated.score is not None:
            found[slug][day] = rated.score
    return Days(found, signals)


def _role(agent: str, target: str) -> str:
    return target if target in ("gateway", "core") else "service" if target == "gov-portal" else "internet"


def run(seed: int) -> Counter[tuple[bool, str, str]]:
    """Answers of one seed, by whether the venue was upgraded and what was judged."""
    upgraded_minute = FIRST_MINUTE + UPGRADE_WEEK * WEEK_MINUTES + 24 * 60
    place = district.build(seed, VENUES + 12, VENUES + 12, upgraded_minute)
    wifi = [venue for venue in place.venues if venue.network == "wifi"]
    place = district.District(seed, wifi, [box for box in place.boxes if box.venue.network == "wifi"])
    values = days(place)
    first = datetime.fromtimestamp(FIRST_MINUTE * 60, UTC).astimezone(ZONE).date()
    cut_over = datetime.fromtimestamp(upgraded_minute * 60, UTC).astimezone(ZONE).date()
    found = windows(cut_over, first + timedelta(days=WEEKS * 7 - 1))
    answers: Counter[tuple[bool, str, str]] = Counter()
    for venue in wifi:
        others = [v for v in wifi if v.type == venue.type and v.upgraded_minute is None and v is not venue]
        index, signal = (
            effect(found, of[venue.slug], [of[other.slug] for other in others[:CONTROLS]], least=least).answer
            for of, least in ((values.points, LEAST_POINTS), (values.signal_dbm, LEAST_DB))
        )
        either = next((answer for answer in ("better", "worse") if answer in (index, signal)), index)
        for what, answer in (("index", index), ("signal", signal), ("either", either)):
            answers[venue.upgraded_minute is not None, what, answer] += 1
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", default="1-5", metavar="N-N")
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    first, _, last = chosen.seeds.partition("-")
    began_s, total = time.monotonic(), Counter[tuple[bool, str, str]]()
    with ProcessPoolExecutor(chosen.workers) as pool:
        for answers in pool.map(run, range(int(first), int(last or first) + 1)):
            total += answers
            print(dict(answers), flush=True)
    for what in ("index", "signal", "either"):
        for was, which in ((True, "upgraded"), (False, "not upgraded")):
            n = sum(count for (upgraded, of, _), count in total.items() if (upgraded, of) == (was, what))
            better, worse = total[was, what, "better"], total[was, what, "worse"]
            print(f"{what}, {which}: {n} venues, better {better} ({better / n:.1%}), worse {worse} ({worse / n:.1%})")
    print(f"seeds {chosen.seeds}, {time.monotonic() - began_s:.0f} s")


if __name__ == "__main__":
    main()
