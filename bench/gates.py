"""Validity gates on clean runs: how often a test that nothing disturbs is called invalid, or somebody else's traffic.

    python -m bench.gates                 200 tests, some 20 minutes
    python -m bench.gates --runs 20

The real reflector and the real probes in network namespaces, each test on another line: a rate between 20 and 300
Mbit/s by token buckets, or by the laboratory's relay with 5 to 40 ms; throughput in its modes, and video. Needs root.
Exit 1 when more than 1 % are flagged or invalid.
"""

import argparse
import collections
import contextlib
import os
import random
import sys
from collections.abc import Iterator
from typing import Any, Final

from bench.throughput import SERVER, servers
from tests.network.namespaces import Namespace, cable
from tests.network.priority import ahead
from tests.network.relay import relay
from tests.network.shape import shape

ALLOWED: Final = 0.01
PER_LINE: Final = 10
CAUTIONS: Final = ("cross_traffic",)
KINDS: Final = (
    ("throughput", "mode=quick", "max_bytes=400000000"),
    ("throughput", "mode=quick"),
    ("throughput", "mode=working", "seconds=4", "max_bytes=400000000"),
    ("video", "duration_s=4"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("bench.gates: network namespaces need root", file=sys.stderr)
        return 2
    drawn = random.Random(arguments.seed)
    alarms: list[str] = []
    outcomes: collections.Counter[str] = collections.Counter()
    done = 0
    with ahead():
        while done < arguments.runs:
            rate_mbps = round(drawn.uniform(20, 300), 1)
            delay_ms = drawn.choice((0.0, 0.0, drawn.uniform(2.5, 20)))
            with line(rate_mbps, delay_ms) as (here, there), servers(there):
                for _ in range(min(PER_LINE, arguments.runs - done)):
                    probe, *settings = KINDS[done % len(KINDS)]
                    record = measure(here, probe, settings)
                    said = [record["reason"]] if record["outcome"] != "ok" else []
                    said += [flag for flag in record["flags"] if flag in CAUTIONS]
                    outcomes[" ".join([probe, *(said or ["clean"])])] += 1
                    if said:
                        what = f"{probe} {settings} at {rate_mbps} Mbit/s, {delay_ms:.1f} ms: {said} {record['detail']}"
                        alarms.append(what)
                        print(what, flush=True)
                    done += 1
            print(f"{done} of {arguments.runs}, {len(alarms)} false alarms", file=sys.stderr, flush=True)
    print("| what was said | tests |\n|---|---|")
    for what, count in sorted(outcomes.items()):
        print(f"| {what} | {count} |")
    print(f"\n{len(alarms)} of {done} clean tests raised an alarm ({len(alarms) / done:.1%}, at most {ALLOWED:.0%})")
    return 1 if len(alarms) > ALLOWED * done else 0


@contextlib.contextmanager
def line(rate_mbps: float, delay_ms: float) -> Iterator[tuple[Namespace, Namespace]]:
    """Two namespaces at the ends of a line of this rate both ways, and this delay each way."""
    if delay_ms:
        with relay(delay_ms=delay_ms, rate_mbps=rate_mbps) as ends:
            yield ends.here, ends.there
    else:
        with cable() as (here, there):
            for space in (here, there):
                space.pin("cubic")
            shape(here, there, rate_mbps=rate_mbps)
            yield here, there


def measure(here: Namespace, probe: str, settings: list[str]) -> dict[str, Any]:
    """One record."""
    words = [word for setting in settings for word in ("--set", setting)]
    return here.once(probe, "--server", SERVER, "--interface", "v0", *words, tries=1)


if __name__ == "__main__":
    sys.exit(main())
