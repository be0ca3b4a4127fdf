"""What the virtual player sees on shaped links: start, stalls, quality, data and what it costs the agent.

    python -m bench.video --runs 3

Two network namespaces, a token bucket between them, the real `wanggan reflector run` and `wanggan agent once video`;
medians. Beside each figure stands what the link itself implies. Exit 1 when a target is missed. Needs root.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from agent.player import FIRST_MBPS, SEGMENT_S
from contract.throughput import PORT
from tests.agent.lab import Namespace, cable

RATES_MBIT: Final = (0.3, 2.0, 20.0)
GOODPUT: Final = 1448 / 1514
START_S: Final = 0.2
"""How far off the start may be."""
MAX_MB: Final = 25.0
MAX_RSS_MIB: Final = 50.0


class Run(NamedTuple):
    """One session."""

    start_s: float
    stall_count: int
    stall_s: float
    mean_mbps: float
    switches: int
    moved_mb: float
    """Both directions, by the counters of the agent's interface."""
    rss_mib: float
    """Of the agent's process, at its highest."""
    cpu_s: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="sessions at each rate (default: %(default)s)")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("bench.video: network namespaces need root", file=sys.stderr)
        return 2
    print("| link | start (implied) | stalls | stalled | mean quality | switches | data | agent's memory | its CPU |")
    print("|---|---|---|---|---|---|---|---|---|")
    missed = []
    for mbit in RATES_MBIT:
        with _shaped(mbit) as here:
            runs = [_session(here) for _ in range(arguments.runs)]
        middle = Run(*(statistics.median(column) for column in zip(*runs, strict=True)))
        implied_s = FIRST_MBPS * SEGMENT_S / (mbit * GOODPUT)
        print(
            f"| {mbit:g} Mbit/s | {middle.start_s:.2f} s ({implied_s:.2f}) | {middle.stall_count:g} "
            f"| {middle.stall_s:.2f} s | {middle.mean_mbps:.2f} Mbit/s | {middle.switches:g} "
            f"| {middle.moved_mb:.1f} MB | {middle.rss_mib:.0f} MiB | {middle.cpu_s:.2f} s |",
            flush=True,
        )
        if abs(middle.start_s - implied_s) > START_S:
            missed.append(f"{mbit:g} Mbit/s: start is {middle.start_s - implied_s:+.2f} s off")
        if max(run.moved_mb for run in runs) > MAX_MB or max(run.rss_mib for run in runs) > MAX_RSS_MIB:
            missed.append(f"{mbit:g} Mbit/s: more data or memory than allowed")
    for text in missed:
        print(f"missed: {text}")
    return 1 if missed else 0


@contextlib.contextmanager
def _shaped(mbit: float) -> Iterator[Namespace]:
    """An agent's namespace behind the link, with a reflector at 10.77.0.2."""
    shape = [
        "tc",
        "qdisc",
        "add",
        "dev",
        "v0",
        "root",
        "tbf",
        "rate",
        f"{mbit}mbit",
        "burst",
        "5kb",
        "latency",
        "300ms",
    ]
    with cable() as (here, there), tempfile.TemporaryDirectory() as folder:
        there.run(*shape)
        file = Path(folder) / "reflector.toml"
        file.write_text('listen = "10.77.0.2"\nopen = true\n[limits]\npause_s = 0\n')
        command = there.argv(sys.executable, "-m", "wanggan", "reflector", "run", "--config", str(file))
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            try:
                said = process.stderr.readline()
                if "listening" not in said:
                    raise SystemExit(f"bench.video: {said}")
                yield here
            finally:
                process.kill()


def _session(here: Namespace) -> Run:
    words = ["once", "video", "--server", f"10.77.0.2:{PORT}", "--interface", "v0", "--json"]
    before = _counted(here)
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(here.argv(sys.executable, "-m", "agent", *words), stdout=said)
        _, process.returncode, usage = os.wait4(process.pid, 0)
        said.seek(0)
        record = json.load(said)
    if record["outcome"] != "ok":
        raise SystemExit(f"bench.video: {record['outcome']} {record['reason']}: {record['detail']}")
    values = record["values"]
    seen = [values[name] for name in ("start_s", "stall_count", "stall_s", "mean_mbps", "switches")]
    moved_mb = (_counted(here) - before) / 1e6
    return Run(*seen, moved_mb, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)


def _counted(here: Namespace) -> int:
    """Bytes of the agent's interface so far."""
    (link,) = json.loads(here.run("ip", "-json", "-stats", "link", "show", "dev", "v0"))
    return int(link["stats64"]["rx"]["bytes"]) + int(link["stats64"]["tx"]["bytes"])


if __name__ == "__main__":
    sys.exit(main())
