"""Round trips and losses against known truth, beside ping, irtt and icmplib in the same run.

    python -m bench.latency                    all parts: idle busy loss
    python -m bench.latency --only busy

The laboratory's relay makes a path of 20 ms and counts what it loses. Needs root. Exit 1 when a target is missed.
"""

import argparse
import asyncio
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, NamedTuple

from contract.throughput import PORT
from tests.network.namespaces import Namespace
from tests.network.priority import ahead
from tests.network.relay import Line, Way, relay

SERVER: Final = "10.77.0.2"
PACKETS: Final = 200
INTERVAL_MS: Final = 20
WITHIN_MS: Final = 0.2
SD_MS: Final = 0.3
BURNERS: Final = 3
LOSSES: Final = (0.001, 0.01, 0.05)
LOSS_PACKETS: Final = 3000
ICMPLIB: Final = (
    "import icmplib, json, time\n"
    "before = time.process_time()\n"
    f"h = icmplib.ping('{SERVER}', count={PACKETS}, interval={INTERVAL_MS / 1000}, timeout=1)\n"
    f"cpu_ms = (time.process_time() - before) * 1000 / {PACKETS}\n"
    "print(json.dumps({'rtts': h.rtts, 'cpu_ms': cpu_ms}))\n"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--train", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        return asyncio.run(_train(*arguments.train))
    if os.geteuid() != 0:
        print("bench.latency: network namespaces need root", file=sys.stderr)
        return 2
    missed: list[str] = []
    for name in arguments.only or PARTS:
        print(f"\n## {name}\n", flush=True)
        missed += PARTS[name](arguments.runs)
    for line in missed:
        print(f"missed: {line}")
    return 1 if missed else 0


async def _train(method: str, packets: str, interval_ms: str) -> int:
    """In the agent's namespace: one train; its round trips, and its losses by direction."""
    from agent import icmp, stamp
    from agent.clock import SystemClock
    from agent.facts import Facts
    from agent.probe import Context
    from agent.train import Train

    train = Train(0)
    context = Context(agent="bench", interface="v0", clock=SystemClock(), facts=Facts(), timeout_s=600)
    rhythm = {"packets": int(packets), "interval_s": float(interval_ms) / 1000, "late_s": 1.0}
    before_s = time.process_time()
    if method == "icmp":
        await icmp.echo(SERVER, train, context, payload_bytes=44, **rhythm)
    else:
        await stamp.reflect(SERVER, PORT, train, context, **rhythm)
    cpu_ms = (time.process_time() - before_s) * 1000 / int(packets)
    unanswered = set(train._trailers) - set(train._numbers.values())
    print(
        json.dumps(
            {
                "rtts": train.rtts_ms(),
                "cpu_ms": cpu_ms,
                "sent": train.sent,
                "lost": train.lost,
                "trailers_lost": len(unanswered),
            }
        )
    )
    return 0


class Spread(NamedTuple):
    """Of one train."""

    p50_ms: float
    p99_ms: float
    sd_ms: float
    cpu_ms: float
    """Of the sender, for each packet: of a Python program without its start."""


def spread(rtts: list[float], cpu_ms: float) -> Spread:
    return Spread(statistics.median(rtts), statistics.quantiles(rtts, n=100)[98], statistics.stdev(rtts), cpu_ms)


def ours(here: Namespace, method: str) -> Spread:
    out = here.run(sys.executable, "-m", "bench.latency", "--train", method, str(PACKETS), str(INTERVAL_MS))
    found = json.loads(out)
    return spread(found["rtts"], found["cpu_ms"])


def ping(here: Namespace, *before: str) -> Spread:
    """From its own lines."""
    command = (*before, "ping", "-n", "-c", str(PACKETS), "-i", str(INTERVAL_MS / 1000), "-s", "44", SERVER)
    out, cpu_ms = _with_cpu(here, *command)
    return spread([float(found) for found in re.findall(r"time=([\d.]+) ms", out)], cpu_ms)


def irtt(here: Namespace) -> Spread:
    """It subtracts what its server says that it kept the packet, as we do."""
    duration_ms = PACKETS * INTERVAL_MS
    command = ("irtt", "client", "-i", f"{INTERVAL_MS}ms", "-d", f"{duration_ms}ms", "-o", "-", "-Q", SERVER)
    out, cpu_ms = _with_cpu(here, *command)
    trips = json.loads(out)["round_trips"]
    return spread([trip["delay"]["rtt"] / 1e6 for trip in trips if "rtt" in trip["delay"]], cpu_ms)


def icmplib(here: Namespace) -> Spread:
    found = json.loads(here.run(sys.executable, "-c", ICMPLIB))
    return spread(found["rtts"], found["cpu_ms"])


def _with_cpu(here: Namespace, *command: str) -> tuple[str, float]:
    before = os.times()
    out = here.run(*command)
    after = os.times()
    used_s = after.children_user - before.children_user + after.children_system - before.children_system
    return out, used_s * 1000 / PACKETS


WHO: Final[dict[str, Callable[[Namespace], Spread]]] = {
    "our STAMP": lambda here: ours(here, "stamp"),
    "our ICMP": lambda here: ours(here, "icmp"),
    "ping": ping,
    "irtt": irtt,
    "icmplib": icmplib,
    "the laboratory: ping ahead of all others": lambda here: ping(here, "chrt", "-f", "20"),
}


@contextmanager
def path(up: Way, down: Way) -> Iterator[Line]:
    """A line with a reflector and an irtt server at its end. All of them run ahead of a busy machine, as they would on
    machines of their own; who measures does not."""
    with ExitStack() as stack:
        with ahead():
            line = stack.enter_context(relay(up=up, down=down))
            command = (sys.executable, "-m", "wanggan", "reflector", "run", "--open", "--listen", SERVER)
            line.there.start(*command, ready="listening")
            line.there.start("irtt", "server", "-b", SERVER, ready="starting")
        yield line


def _spreads(runs: int) -> dict[str, Spread]:
    """The medians of so many runs; in each, everybody once."""
    several: dict[str, list[Spread]] = {name: [] for name in WHO}
    with path(Way(delay_ms=10), Way(delay_ms=10)) as line:
        line.here.sysctl("net.ipv4.ping_group_range", "0 2147483647")
        for _ in range(runs):
            for name, measure in WHO.items():
                several[name].append(measure(line.here))
    found = {name: Spread(*map(statistics.median, zip(*spreads, strict=True))) for name, spreads in several.items()}
    print("| who | p50 ms | p99 ms | sd ms | CPU ms a packet |")
    print("|---|---|---|---|---|")
    for name, one in found.items():
        print(f"| {name} | {one.p50_ms:.3f} | {one.p99_ms:.3f} | {one.sd_ms:.3f} | {one.cpu_ms:.2f} |", flush=True)
    return found


def idle(runs: int) -> list[str]:
    """The machine is idle."""
    found = _spreads(runs)
    truth = found["ping"].p50_ms
    return [
        f"{name}: p50 {found[name].p50_ms:.3f} ms, ping's {truth:.3f}"
        for name in ("our STAMP", "our ICMP")
        if abs(found[name].p50_ms - truth) > WITHIN_MS
    ]


def busy(runs: int) -> list[str]:
    """Three programs burn the two cores."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BURNERS)]
    try:
        found = _spreads(runs)
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    peers = min(found["irtt"].sd_ms, found["icmplib"].sd_ms)
    return [
        f"{name}: sd {found[name].sd_ms:.3f} ms, the better peer's {peers:.3f}"
        for name in ("our STAMP", "our ICMP")
        if found[name].sd_ms > SD_MS or found[name].sd_ms > peers
    ]


def loss(runs: int) -> list[str]:
    """Packets lost by chance in each direction, against the relay's own counts.

    In about one of 200 runs at 5 % the train's end and the first trailer are lost on different ways; then our counts
    are null, as they should be, and another run takes its place.
    """
    print("| injected | sent | lost up: ours, injector's | lost down: ours, injector's |")
    print("|---|---|---|---|")
    missed = []
    for ratio in LOSSES:
        known = 0
        for seed in itertools.count(1):
            mine, told, trailers = _count_loss(ratio, seed)
            up, down = mine or ("null", "null")
            print(f"| {ratio:.1%} | {LOSS_PACKETS} | {up}, {told[0]} | {down}, {told[1]} |", flush=True)
            if mine is None and seed <= 2 * runs:
                continue
            known += 1
            # Trailers that were lost are in the injector's counts and not in the train's.
            more = [its - own for its, own in zip(told, mine or (0, 0), strict=True)]
            if mine is None or min(more) < 0 or sum(more) != trailers:
                missed.append(f"{ratio:.1%}, seed {seed}: {mine} against {told}")
            if known == runs:
                break
    return missed


def _count_loss(ratio: float, seed: int) -> tuple[list[int] | None, tuple[int, int], int]:
    """Our counts, the injector's, and how many trailers were lost."""
    up = Way(delay_ms=10, loss_ratio=ratio, port=PORT, only=True, seed=seed)
    down = Way(delay_ms=10, loss_ratio=ratio, port=PORT, only=True, seed=seed + 50)
    with path(up, down) as line:
        command = (sys.executable, "-m", "bench.latency", "--train", "stamp", str(LOSS_PACKETS), "6")
        found = json.loads(line.here.run(*command, timeout_s=120))
        told = line.up.state().matching.lost, line.down.state().matching.lost
    return found["lost"], told, found["trailers_lost"]


PARTS: Final[dict[str, Callable[[int], list[str]]]] = {"idle": idle, "busy": busy, "loss": loss}


if __name__ == "__main__":
    sys.exit(main())
