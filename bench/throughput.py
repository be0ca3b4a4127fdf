"""Throughput and working latency against known truth, beside iperf3 in the same run.

    python -m bench.throughput                    all parts: accuracy change cost backlog
    python -m bench.throughput --only accuracy --runs 3

The real `wanggan reflector run` and the real probe in network namespaces: token buckets on a cable below 1 ms, the
laboratory's relay for 40 ms; medians. Needs root. Exit 1 when a target is missed.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.network import relay as line_lab
from tests.network.namespaces import Namespace, cable
from tests.network.priority import ahead
from tests.network.relay import relay
from tests.network.shape import Shaper, shape, truth_mbps

SERVER: Final = "10.77.0.2"
CABLE_MBIT: Final = (20, 100, 300, 900)
RELAY_MBIT: Final = (20, 100, 300)
WITHIN: Final = 0.015
PEER_WITHIN: Final = 0.01
CPU_S_PER_GB: Final = 0.5
CEILING_MBPS: Final = 5000
HWM_MB: Final = 50
LATENCY_SHARE: Final = 0.05
LATENCY_MS: Final = 5.0


class Pair(NamedTuple):
    """Both directions."""

    down: float
    up: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--probe", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.probe is not None:
        return asyncio.run(_probe(arguments.probe))
    if os.geteuid() != 0:
        print("bench.throughput: network namespaces need root", file=sys.stderr)
        return 2
    missed: list[str] = []
    with ahead():
        for name in arguments.only or PARTS:
            print(f"\n## {name}\n", flush=True)
            missed += PARTS[name](arguments.runs)
    for line in missed:
        print(f"missed: {line}")
    return 1 if missed else 0


async def _probe(settings: list[str]) -> int:
    """In the agent's namespace: one probe and what it cost this process, start and imports left out."""
    from agent import once

    plan = once.plan("throughput", None, once.Wish(server=SERVER, interface="v0", settings=settings))
    cpu_s = time.process_time()
    record = await once.measure(plan)
    from contract.codec import encode

    plain = json.loads(encode(record))
    plain["cpu_s"] = time.process_time() - cpu_s
    plain["hwm_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps(plain))
    return 0


def ours(here: Namespace, *settings: str, core: int | None = None) -> dict[str, Any]:
    """The record of one probe, with `cpu_s` and `hwm_mb` beside."""
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    out = here.run(*pinned, sys.executable, "-m", "bench.throughput", "--probe", *settings)
    record: dict[str, Any] = json.loads(out)
    return record


def iperf3(here: Namespace, *words: str, core: int | None = None) -> tuple[float, float]:
    """Receiver's Mbit/s, and the client's CPU seconds per gigabyte."""
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    end = json.loads(here.run(*pinned, "iperf3", "-c", SERVER, "-J", "-P", "4", *words))["end"]
    received = end["sum_received"]
    cpu_s = end["cpu_utilization_percent"]["host_total"] / 100 * received["seconds"]
    return received["bits_per_second"] / 1e6, cpu_s / received["bytes"] * 1e9


def peer(here: Namespace) -> Pair:
    return Pair(iperf3(here, "-t", "3", "-O", "1", "-R")[0], iperf3(here, "-t", "3", "-O", "1")[0])


@contextlib.contextmanager
def servers(there: Namespace, core: int | None = None) -> Iterator[int]:
    """Reflector and iperf3; the reflector's process id."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "reflector.toml"
        file.write_text(
            "open = true\n[limits]\ncapacity_mbps = 500000\nper_test_mbps = 100000\npause_s = 0\n"
            "bytes_per_day = 1000000000000\nstamp_packets_per_s = 1000\n"
        )
        pinned = [] if core is None else ["taskset", "-c", str(core)]
        command = [
            *pinned,
            sys.executable,
            "-m",
            "wanggan",
            "reflector",
            "run",
            "--config",
            str(file),
            "--listen",
            SERVER,
        ]
        program = there.start(*command, ready="listening")
        other = there.start(*pinned, "iperf3", "-s", "--forceflush", ready="listening")
        try:
            yield program.pid
        finally:
            program.stop()
            other.stop()


def rates(record: dict[str, Any]) -> Pair:
    values = record["values"] or {}
    return Pair(values.get("down_mbps") or 0.0, values.get("up_mbps") or 0.0)


def median(pairs: list[Pair]) -> Pair:
    return Pair(statistics.median(p.down for p in pairs), statistics.median(p.up for p in pairs))


def accuracy(runs: int) -> list[str]:
    """Against the shaped rate and iperf3."""
    print("| path | true Mbit/s | down | up | iperf3 down | up | flags, outcomes |")
    print("|---|---|---|---|---|---|---|")
    missed: list[str] = []
    for mbit in CABLE_MBIT:
        with cable() as (here, there):
            for space in (here, there):
                space.pin("cubic")
            shape(here, there, rate_mbps=mbit)
            missed += _compare(here, there, f"{mbit} Mbit/s, < 1 ms", truth_mbps(mbit), runs)
    for mbit in RELAY_MBIT:
        with relay(delay_ms=20, rate_mbps=mbit) as line:
            missed += _compare(line.here, line.there, f"{mbit} Mbit/s, 40 ms", line_lab.truth_mbps(mbit), runs)
    return missed


def _compare(here: Namespace, there: Namespace, name: str, truth: float, runs: int) -> list[str]:
    with servers(there):
        mine: list[dict[str, Any]] = []
        theirs: list[Pair] = []
        for _ in range(runs):
            mine.append(ours(here, "max_bytes=400000000"))
            theirs.append(peer(here))
    found, other = median([rates(record) for record in mine]), median(theirs)
    said = sorted({flag for record in mine for flag in record["flags"]} | {r["reason"] or "ok" for r in mine})
    cells = [f"{x:.2f} ({x / truth - 1:+.2%})" for x in (*found, *other)]
    print(f"| {name} | {truth:.2f} | {' | '.join(cells)} | {', '.join(said)} |", flush=True)
    missed = []
    for way, value, its in (("down", found.down, other.down), ("up", found.up, other.up)):
        off, its_off = abs(value / truth - 1), abs(its / truth - 1)
        if off > WITHIN or off > max(PEER_WITHIN, its_off):
            missed.append(f"{name} {way}: off by {off:.2%}, iperf3 by {its_off:.2%}")
    return missed


def change(runs: int) -> list[str]:
    """The shape changes to a rate drawn at random between two tests."""
    print("| drawn Mbit/s | true | down | up |")
    print("|---|---|---|---|")
    missed = []
    with cable() as (here, there):
        shapers = shape(here, there, rate_mbps=100)
        with servers(there):
            ours(here)
            for _ in range(runs):
                drawn = round(random.uniform(15, 400), 1)
                for shaper in shapers:
                    shaper.change(drawn)
                truth = truth_mbps(drawn)
                found = median([rates(ours(here, "max_bytes=400000000")) for _ in range(3)])
                cells = [f"{x:.2f} ({x / truth - 1:+.2%})" for x in found]
                print(f"| {drawn} | {truth:.2f} | {' | '.join(cells)} |", flush=True)
                missed += [f"changed to {drawn}: {x:.2f}" for x in found if abs(x / truth - 1) > WITHIN]
    return missed


def cost(runs: int) -> list[str]:
    """CPU per gigabyte, one-core ceiling and memory, unshaped, agent and server on a core each."""
    mine, theirs, ceilings, memory = [], [], [], []
    with cable() as (here, there), servers(there, core=1):
        for _ in range(runs):
            record = ours(here, "max_bytes=400000000", core=0)
            moved = record["values"]["down_bytes"] + record["values"]["up_bytes"]
            mine.append(record["cpu_s"] / moved * 1e9)
            ceilings.append(record["values"]["down_mbps"])
            memory.append(record["hwm_mb"])
            theirs.append(statistics.mean(iperf3(here, "-n", "400M", *way, core=0)[1] for way in (("-R",), ())))
    cpu, other = statistics.median(mine), statistics.median(theirs)
    ceiling, most = statistics.median(ceilings), max(memory)
    print("| what | ours | iperf3 in the same run |")
    print("|---|---|---|")
    print(f"| CPU s/GB, both directions, idle round trips included | {cpu:.3f} | {other:.3f} |")
    print(f"| download on one core, Mbit/s | {ceiling:.0f} | |")
    print(f"| agent's process at its highest, MB | {most:.1f} | |", flush=True)
    missed = []
    if cpu > CPU_S_PER_GB or cpu > 2 * other:
        missed.append(f"CPU {cpu:.3f} s/GB, iperf3 {other:.3f}")
    if ceiling < CEILING_MBPS:
        missed.append(f"one core carries {ceiling:.0f} Mbit/s")
    if most > HWM_MB:
        missed.append(f"memory {most:.1f} MB")
    return missed


def backlog(runs: int) -> list[str]:
    """Working latency against the shaper's own queue, 8 cubic flows at 20 Mbit/s."""
    print("| queue | direction | loaded p50 ms | queue's median + idle ms | off |")
    print("|---|---|---|---|---|")
    missed = []
    for queue_ms in (50, 400):
        with cable() as (here, there):
            for space in (here, there):
                space.pin("cubic")
            up = Shaper(here, 20, latency_ms=queue_ms)
            down = Shaper(there, 20, latency_ms=queue_ms)
            with servers(there):
                for way, shaper in (("down", down), ("up", up)):
                    offs = [_loaded(here, way, shaper) for _ in range(runs)]
                    off = sorted(offs, key=lambda pair: abs(pair[0] - pair[1]))[len(offs) // 2]
                    print(
                        f"| {queue_ms} ms | {way} | {off[0]:.1f} | {off[1]:.1f} | {off[0] - off[1]:+.1f} |", flush=True
                    )
                    if abs(off[0] - off[1]) > max(LATENCY_MS, LATENCY_SHARE * off[1]):
                        missed.append(f"{queue_ms} ms {way}: {off[0]:.1f} against {off[1]:.1f} ms")
    return missed


def _loaded(here: Namespace, way: str, shaper: Shaper) -> tuple[float, float]:
    """Loaded median round trip of one working test, and what the queue's backlog says."""
    seen: list[tuple[float, float]] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.append((time.monotonic(), shaper.backlog().delay_ms))
            time.sleep(0.05)

    looker = threading.Thread(target=look)
    looker.start()
    record = ours(here, "mode=working", "seconds=8")
    stop.set()
    looker.join()
    values = record["values"]
    # The loaded phase of this direction: the queue is filled for 8 s, of which the first 3 do not count.
    filled = [at for at, ms in seen if ms > 2]
    phase = [ms for at, ms in seen if filled[0] + 3 <= at <= filled[-1] - 0.2]
    return values[f"loaded_{way}_rtt_p50_ms"], statistics.median(phase) + values["idle_rtt_p50_ms"]


PARTS: Final[dict[str, Callable[[int], list[str]]]] = {
    "accuracy": accuracy, "change": change, "cost": cost, "backlog": backlog
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
