"""Round trips and losses against known truth, beside ping, irtt and icmplib in the same run.

    python -m bench.latency                    all parts: idle busy loss
    python -m bench.latency --only busy

The laboratory's relay makes a path of 20 ms and counts what it loses. Needs root. Exit 1 when a target is missed.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    "import icmplib, json\n"
    f"h = icmplib.ping('{SERVER}', count={PACKETS}, interval={INTERVAL_MS / 1000}, timeout=1)\n"
    "print(json.dumps(h.rtts))\n"
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
    trailers_lost = 0
    context = Context(agent="bench", interface="v0", clock=SystemClock(), facts=Facts(), timeout_s=600)
    rhythm = {"interval_s": float(interval_ms) / 1000, "late_s": 1.0}
    if method == "icmp":
        await icmp.echo(SERVER, train, context, packets=int(packets), payload_bytes=44, **rhythm)
    else:
        async with stamp.Stamp(SERVER, PORT, "v0") as session:
            await session.run(train, context, packets=int(packets), **rhythm)
            trailers_lost = len(session._sent_ns) - int(packets) - 1
    rtts = sorted(train._rtt_ms.values())
    print(json.dumps({"rtts": rtts, "sent": train.sent, "lost": train.lost, "trailers_lost": trailers_lost}))
    return 0


class Spread(NamedTuple):
    """Of one train."""

    p50_ms: float
    sd_ms: float


def spread(rtts: list[float]) -> Spread:
    return Spread(statistics.median(rtts), statistics.stdev(rtts))


def ours(here: Namespace, method: str) -> Spread:
    out = here.run(sys.executable, "-m", "bench.latency", "--train", method, str(PACKETS), str(INTERVAL_MS))
    return spread(json.loads(out)["rtts"])


def ping(here: Namespace) -> Spread:
    """From its own lines."""
    out = here.run("ping", "-c", str(PACKETS), "-i", str(INTERVAL_MS / 1000), "-s", "44", SERVER)
    return spread([float(found) for found in re.findall(r"time=([\d.]+) ms", out)])


def irtt(here: Namespace) -> Spread:
    duration_ms = PACKETS * INTERVAL_MS
    out = here.run("irtt", "client", "-i", f"{INTERVAL_MS}ms", "-d", f"{duration_ms}ms", "-o", "-", "-Q", SERVER)
    trips = json.loads(out)["round_trips"]
    return spread([trip["delay"]["rtt"] / 1e6 for trip in trips if "rtt" in trip["delay"]])


def icmplib(here: Namespace) -> Spread:
    return spread(json.loads(here.run(sys.executable, "-c", ICMPLIB)))


WHO: Final[dict[str, Callable[[Namespace], Spread]]] = {
    "our STAMP": lambda here: ours(here, "stamp"),
    "our ICMP": lambda here: ours(here, "icmp"),
    "ping": ping,
    "irtt": irtt,
    "icmplib": icmplib,
}


@contextmanager
def path(up: Way, down: Way) -> Iterator[Line]:
    """A line with a reflector and an irtt server at its end."""
    with ahead(), relay(up=up, down=down) as line:
        command = (sys.executable, "-m", "wanggan", "reflector", "run", "--open", "--listen", SERVER)
        line.there.start(*command, ready="listening")
        line.there.start("irtt", "server", "-b", SERVER, ready="starting")
        yield line


def _spreads(runs: int) -> dict[str, Spread]:
    with path(Way(delay_ms=10), Way(delay_ms=10)) as line:
        line.here.sysctl("net.ipv4.ping_group_range", "0 2147483647")
        found = {}
        for name, measure in WHO.items():
            several = [_at_usual_priority(measure, line.here) for _ in range(runs)]
            found[name] = Spread(
                statistics.median(s.p50_ms for s in several), statistics.median(s.sd_ms for s in several)
            )
    print("| who | p50 ms | sd ms |")
    print("|---|---|---|")
    for name, one in found.items():
        print(f"| {name} | {one.p50_ms:.3f} | {one.sd_ms:.3f} |", flush=True)
    return found


def _at_usual_priority(measure: Callable[[Namespace], Spread], here: Namespace) -> Spread:
    """Who measures is as any other program; only the laboratory itself runs ahead."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return measure(here)


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
    """Packets lost by chance in each direction, against the relay's own counts."""
    print("| injected | sent | lost up: ours, injector's | lost down: ours, injector's |")
    print("|---|---|---|---|")
    missed = []
    for ratio in LOSSES:
        for seed in range(1, runs + 1):
            up = Way(delay_ms=10, loss_ratio=ratio, port=PORT, only=True, seed=seed)
            with path(up, Way(delay_ms=10, loss_ratio=ratio, port=PORT, only=True, seed=seed + 50)) as line:
                out = line.here.run(
                    sys.executable, "-m", "bench.latency", "--train", "stamp", str(LOSS_PACKETS), "6", timeout_s=120
                )
                told = line.up.state().matching.lost, line.down.state().matching.lost
            found = json.loads(out)
            mine = tuple(found["lost"] or (-1, -1))
            # Trailers that were lost are in the injector's counts and not in the train's.
            more = [its - own for its, own in zip(told, mine, strict=True)]
            print(f"| {ratio:.1%} | {found['sent']} | {mine[0]}, {told[0]} | {mine[1]}, {told[1]} |", flush=True)
            if min(more) < 0 or sum(more) != found["trailers_lost"]:
                missed.append(f"{ratio:.1%}, seed {seed}: {mine} against {told}")
    return missed


PARTS: Final[dict[str, Callable[[int], list[str]]]] = {"idle": idle, "busy": busy, "loss": loss}


if __name__ == "__main__":
    sys.exit(main())
