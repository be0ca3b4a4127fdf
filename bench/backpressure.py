"""The database is gone for minutes: the collector stays small, nothing is lost, and it catches up.

    python -m bench.backpressure --seconds 300 --how frozen

200 agents (the real outbox and publisher, no probes; 100 in a process), each ten times as busy as the default schedule,
through mosquitto and the real collector into influxd, which is killed, or frozen so that it accepts connections and
never answers. Exit 1 when a target is missed or a record is lost.
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, Literal, get_args

from bench.lab import Lab, Size

How = Literal["frozen", "killed"]
MB: Final = 10**6
RSS_MB: Final = 120.0
CAUGHT_UP_S: Final = 180.0


async def measure(folder: Path, *, agents: int, rate: float, seconds: float, how: How) -> dict[str, Any]:
    """The figures of one outage."""
    size = Size(agents=agents, processes=2, rate=rate, kills=0, speed=1.0)
    async with Lab(folder, engine="influx", size=size, seed=0) as lab:
        assert lab.influx is not None
        await lab.start()
        await asyncio.sleep(10)
        before_mb = lab.collector.rss_bytes() / MB
        peaks = [before_mb]
        watch = asyncio.create_task(_watch(lab, peaks), name="memory")
        if how == "killed":
            lab.influx.kill()
        else:
            lab.influx.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        backlog = lab.waiting()
        if how == "killed":
            await lab.influx.start()
        else:
            lab.influx.signal(signal.SIGCONT)
        returned = time.monotonic()
        quiet = 0
        while quiet < 5 and time.monotonic() - returned < 3 * CAUGHT_UP_S:
            quiet = quiet + 1 if lab.waiting() <= 2 * rate else 0
            await asyncio.sleep(0.2)
        caught_up_s = time.monotonic() - returned
        watch.cancel()
        peak_mb = max(peaks)
        outcome = await lab.finish("backpressure", drain_s=CAUGHT_UP_S)
    faults = [*(f"{count} {kind}" for kind, count in outcome.verdict.faults.items()), *outcome.complaints]
    return {
        "outage_s": seconds,
        "how": how,
        "agents": agents,
        "rate": rate,
        "submitted": outcome.verdict.submitted,
        "points": outcome.verdict.points,
        "backlog": backlog,
        "rss_before_mb": round(before_mb, 1),
        "rss_peak_mb": round(peak_mb, 1),
        "caught_up_s": round(caught_up_s, 1),
        "faults": faults,
        "missed": [
            *(["rss_peak_mb"] if peak_mb > RSS_MB else []),
            *(["caught_up_s"] if caught_up_s > CAUGHT_UP_S else []),
            *(["nothing lost"] if faults else []),
        ],
    }


async def _watch(lab: Lab, peaks: list[float]) -> None:
    while True:
        peaks.append(lab.collector.rss_bytes() / MB)
        await asyncio.sleep(0.25)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.backpressure", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of outage (the design's figure: 300)")
    parser.add_argument("--agents", type=int, default=200)
    parser.add_argument("--rate", type=float, default=200.0, help="records a second of all agents")
    parser.add_argument("--how", choices=get_args(How), default="frozen")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="backpressure-", dir="/var/tmp") as folder:
        figures = asyncio.run(
            measure(
                Path(folder),
                agents=arguments.agents,
                rate=arguments.rate,
                seconds=arguments.seconds,
                how=arguments.how,
            )
        )
    targets = {"rss_peak_mb": RSS_MB, "caught_up_s": CAUGHT_UP_S}
    for name, value in figures.items():
        print(f"{name:16} {value}" + (f"   (at most {targets[name]:g})" if name in targets else ""))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if figures["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
