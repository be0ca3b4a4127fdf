"""Do the report's 95 % intervals hold what they say? 2,000 weeks of made-up venues for each kind of interval.

Every draw has a truth of its own: a venue with its own rate, level and noise, as many tests as the default schedule
makes in a week, days that differ more than hours of one day do. An interval that is honest holds the truth in 93 to
97 % of them.

    python -m bench.statistics [--draws 2000] [--seed 1]
"""

import argparse
import sys
import time
from collections.abc import Callable
from datetime import date, timedelta
from functools import cache
from typing import Final

import numpy as np
from scipy.special import ndtri

from perception import profiles
from perception.scoring.ppi import ppi
from perception.sketch import Sketch
from perception.statistics.change import change
from perception.statistics.intervals import Interval, around, mean, order_stat_ci, wilson
from perception.statistics.upgrade import effect, windows

LOW: Final = 0.93
HIGH: Final = 0.97
DAYS: Final = 7
HOURS: Final = 24
SKETCH_RATIO: Final = 0.01

Random = np.random.Generator
Draw = Callable[[Random], bool]
"""Makes a week and says whether its interval holds the truth."""


def holds(interval: Interval, truth: float) -> bool:
    """An end that is not known bounds nothing."""
    lo, hi = interval
    return (lo is None or lo <= truth) and (hi is None or truth <= hi)


def ratio(random: Random) -> bool:
    """Wilson: joins, pages, five-minute slots of one week; 50 to 2,016 tests, 80 to 99.5 % of them ok."""
    n = int(np.exp(random.uniform(np.log(50), np.log(2016))))
    truth = random.uniform(0.80, 0.995)
    return holds(wilson(int(random.binomial(n, truth)), n), truth)


def quantile(random: Random) -> bool:
    """Order statistics: p50, p90 or p95 of times (log-normal)."""
    q = float(random.choice([0.5, 0.9, 0.95]))
    n = int(random.choice(_TESTS) * random.uniform(0.9, 1))
    values = np.exp(random.normal(3, 0.5, n))
    truth = float(np.exp(3 + 0.5 * _Z[q]))
    return holds(order_stat_ci(n, q).among(values.tolist()), truth)


_TESTS: Final = [84, 168, 2016, 8064, 10_080]
"""Of a week by the default schedule: throughput in opening hours, joins or videos, pages, names, round trips; up to a
tenth of them may be missing."""
_Z: Final = {0.5: 0.0, 0.9: 1.2815515655446004, 0.95: 1.6448536269514722}


def quantile_with_failures(random: Random) -> bool:
    """The same where 0 to 8 % of the tests fail and count as +infinity."""
    q = float(random.choice([0.5, 0.9]))
    n, failing = int(random.integers(50, 2000)), random.uniform(0, 0.08)
    failed = int(random.binomial(n, failing))
    values = np.exp(random.normal(3, 0.5, n - failed))
    truth = float(np.exp(3 + 0.5 * _normal_quantile(q / (1 - failing))))
    return holds(order_stat_ci(n, q).among(values.tolist(), failed), truth)


def _normal_quantile(p: float) -> float:
    return float(ndtri(p))


def score(random: Random) -> bool:
    """Student over days: the week's mean of seven day scores, of four to seven days that gave one."""
    truth, spread = random.uniform(60, 95), random.uniform(0.5, 4)
    days = random.normal(truth, spread, int(random.integers(4, 8))).tolist()
    return holds(around(mean(days), days), truth)


def index(random: Random) -> bool:
    """Student over days, of the index itself: days with their own round trips, rates and loss, scored by the profile;
    the truth is the mean over 2,000 such days."""
    typical_ms = float(random.choice([15, 30, 45, 60]))
    days = [_day(random, typical_ms) for _ in range(DAYS)]
    return holds(around(mean(days), days), _true_index(typical_ms))


@cache
def _true_index(typical_ms: float) -> float:
    random = np.random.Generator(np.random.PCG64(round(typical_ms)))
    return mean([_day(random, typical_ms) for _ in range(2000)])


_PROFILE: Final = profiles.named("wifi-public-2026")
_REST: Final = {
    "access_success_ratio": 0.97, "online_ms": 4700.0, "good_signal_ratio": 0.88, "availability_ratio": 0.995,
    "rt_pdv_p95_ms": 14.0, "working_rise_ms": 60.0, "dns_rtt_ms": 24.0, "web_success_ratio": 0.99,
    "video_start_s": 1.2, "video_stall_ratio": 0.004, "video_success_ratio": 1.0,
}  # fmt: skip


def _day(random: Random, typical_ms: float) -> float:
    rtt_ms = typical_ms * float(np.exp(random.normal(0, 0.2)))
    values = _REST | {
        "rtt_p50_ms": rtt_ms, "loss_ratio": float(random.gamma(2, 0.002)), "web_total_ms": 40 * rtt_ms,
        "down_mbps": float(np.exp(random.normal(3.7, 0.3))), "up_mbps": float(np.exp(random.normal(3, 0.3))),
    }  # fmt: skip
    found = ppi(_PROFILE, values).score
    if found is None:
        raise ValueError("a whole day has a score")
    return found


def week_on_week(random: Random) -> bool:
    """Student over the days' means of paired hours: two weeks of hours with their own day effects and daily course."""
    truth = random.uniform(-5, 5)
    course = 3 * np.sin(np.arange(HOURS) / HOURS * 2 * np.pi)
    weeks = [
        (course + random.normal(0, 1.5, (DAYS, 1)) + random.normal(80 + shift, 2, (DAYS, HOURS))).reshape(-1)
        for shift in (0.0, truth)
    ]
    return holds(change([dict(enumerate((weeks[1] - weeks[0]).tolist()))]).interval, truth)


def upgrade(random: Random) -> bool:
    """Student over weeks of the difference in differences: one to three controls, a change of the whole district that
    is not the upgrade's, and venues that drift by whole weeks, from not at all to as much as days differ."""
    truth, common, drift = random.uniform(-4, 8), random.normal(0, 3), random.uniform(0, 2)
    venue = _days(random, common + truth, drift)
    controls = [_days(random, common, drift) for _ in range(int(random.integers(1, 4)))]
    return holds(effect(_WINDOWS, venue, controls).interval, truth)


_CUT: Final = date(2026, 9, 9)
_WINDOWS: Final = windows(_CUT, date(2026, 10, 11))


def _days(random: Random, change: float, drift: float) -> dict[date, float]:
    first = date(2026, 8, 10)
    level, week_end, weeks = random.uniform(60, 90), random.normal(0, 3), random.normal(0, drift, 9)
    found = {}
    for n in range(63):
        day = first + timedelta(n)
        found[day] = level + weeks[n // DAYS] + (week_end if day.weekday() > 4 else 0) + random.normal(0, 2)
        found[day] += change if day > _CUT else 0
    return found


KINDS: Final[dict[str, Draw]] = {
    "ratio (Wilson)": ratio,
    "quantile (order statistics)": quantile,
    "quantile with failures": quantile_with_failures,
    "week's score (Student over 4 to 7 days)": score,
    "week's index, as the profile scores it": index,
    "week on week (Student over days)": week_on_week,
    "upgrade, difference in differences": upgrade,
}


def coverage(draw: Draw, draws: int, seed: int) -> float:
    """The share of weeks whose interval holds the truth."""
    random = np.random.Generator(np.random.PCG64(seed))
    return sum(draw(random) for _ in range(draws)) / draws


def sketch_error(draws: int, seed: int) -> float:
    """The largest relative error of a sketch's p50 and p95 over weeks of log-normal times added hour by hour."""
    random = np.random.Generator(np.random.PCG64(seed))
    worst = 0.0
    for _ in range(draws):
        hours = np.exp(random.normal(random.uniform(0, 6), random.uniform(0.1, 1.5), (168, 12)))
        week = Sketch.total([Sketch.of(hour) for hour in hours])
        for q in (0.5, 0.95):
            exact = float(np.quantile(hours, q))
            worst = max(worst, abs((week.quantile(q) or 0.0) - exact) / exact)
    return worst


def main() -> int:
    """0 when every kind keeps its promise."""
    parser = argparse.ArgumentParser(prog="python -m bench.statistics", description=__doc__)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    good = True
    for name, draw in KINDS.items():
        began = time.monotonic()
        share = coverage(draw, options.draws, options.seed)
        kept = LOW <= share <= HIGH
        good &= kept
        print(f"{name:<42} {share:7.2%}  {'' if kept else 'MISSED'}  ({time.monotonic() - began:.1f} s)", flush=True)
    error = sketch_error(max(1, options.draws // 40), options.seed)
    good &= error <= SKETCH_RATIO
    print(f"{'sketch, 168 hours added: worst error':<42} {error:7.2%}  {'' if error <= SKETCH_RATIO else 'MISSED'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
