"""The Wi-Fi probes: texts that were never printed, what a sample costs, and an `iw` that hangs.

    python -m bench.wifi --inputs 100000 --samples 200 --rounds 100

`iw` is a small C program that prints what a driver's `iw` prints: its price is that of starting five programs and
reading them, without a kernel's radio. That of starting the real `iw` stands beside it where it is installed. A round
is one run of a hanging wifi_link and a hanging wifi_scan beside eight light probes. Exit 1 when a target is missed.
"""

import argparse
import asyncio
import logging
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from agent import command
from agent.clock import SystemClock
from agent.config import Job
from agent.facts import Facts
from agent.probe import Context, Probe, Settings
from agent.probes import PROBES, wifi_link
from agent.probes.wifi_link import WifiLinkSettings
from agent.probes.wifi_scan import WifiScanSettings
from agent.runner import Runner
from agent.wifi.join import Association
from contract.record import Record
from contract.values import Dns, Values
from tests.agent.supplicant import AP, DATA, recorded
from tests.agent.test_command import descriptors, left
from tests.agent.wifi.fake_iw import FORKS, FakeIw
from tests.agent.wifi.families import NAMES, OUTPUTS, text
from tests.agent.wifi.reading import Texts, read

SAMPLE_MS: Final = 15.0
LATE_S: Final = 1.0
CROWD: Final = 150
"""Networks of a crowded place."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.getLogger("agent").setLevel(logging.ERROR)
    missed = [
        *mutated(arguments.inputs, random.Random(arguments.seed)),
        *events(arguments.inputs, random.Random(arguments.seed)),
        *asyncio.run(cost(arguments.samples)),
        *asyncio.run(hung(arguments.rounds)),
    ]
    for line in missed:
        print(f"missed: {line}")
    return 1 if missed else 0


# Texts that were never printed


def mutated(inputs: int, chance: random.Random) -> Iterator[str]:
    """Parse every one of them, and check the values against the contract's bounds."""
    families = {family: Texts(*(text(family, output) for output in OUTPUTS)) for family in NAMES}
    started_s, wrong = time.process_time(), 0
    for _ in range(inputs):
        whole = families[chance.choice(NAMES)]
        texts = whole._replace(**{output: _mutate(getattr(whole, output), chance) for output in OUTPUTS})
        try:
            for values in read(texts):
                msgspec.convert(msgspec.to_builtins(values), type(values))
        except Exception as error:
            wrong += 1
            print(f"{type(error).__name__}: {error}")
    each_us = (time.process_time() - started_s) / max(1, inputs) * 1e6
    print(f"mutated inputs: {inputs} sets of {len(OUTPUTS)} texts, {wrong} exceptions, {each_us:.0f} us a set")
    if wrong:
        yield f"{wrong} exceptions in {inputs} mutated inputs"


def events(inputs: int, chance: random.Random) -> Iterator[str]:
    """Follow whole recorded stories of the supplicant, their lines flipped, cut, doubled and in any order."""
    stories = ["\n".join(event.text for event in recorded(file.stem)) for file in sorted(DATA.glob("*.events"))]
    started_s, wrong, happenings = time.process_time(), 0, 0
    for _ in range(inputs):
        association = Association()
        association.sync(chance.choice((None, AP)))
        try:
            for at_s, line in enumerate(_mutate(chance.choice(stories), chance).split("\n")):
                happening = association.feed(line, float(at_s))
                if happening is not None:
                    happenings += 1
                    msgspec.convert(msgspec.to_builtins(happening.values), type(happening.values))
        except Exception as error:
            wrong += 1
            print(f"{type(error).__name__}: {error}")
    each_us = (time.process_time() - started_s) / max(1, inputs) * 1e6
    print(f"mutated events: {inputs} stories, {happenings} happenings, {wrong} exceptions, {each_us:.0f} us a story")
    if wrong:
        yield f"{wrong} exceptions in {inputs} stories of mutated events"


def _mutate(whole: str, chance: random.Random) -> str:
    """A few flipped bytes, then perhaps a cut, a line twice, or one in another's place."""
    raw = bytearray(whole.encode())
    for _ in range(chance.randrange(8) if raw else 0):
        raw[chance.randrange(len(raw))] = chance.randrange(256)
    rows = raw.decode("utf-8", "replace").split("\n")
    match chance.randrange(4):
        case 0:
            rows.insert(chance.randrange(len(rows) + 1), chance.choice(rows))
        case 1:
            chance.shuffle(rows)
        case 2:
            joined = "\n".join(rows)
            return joined[: chance.randrange(len(joined) + 1)]
    return "\n".join(rows)


# What a sample costs


async def cost(samples: int) -> list[str]:
    """CPU of this process and of its children, in a quiet and in a crowded place."""
    missed = []
    with _tools() as folder:
        subprocess.run(["gcc", "-O2", "-o", folder / "iw", Path(__file__).with_name("fake_iw.c")], check=True)
        for place, networks in (("a quiet place", 5), ("a crowded place", CROWD)):
            _speak(folder, networks)
            own_ms, children_ms = await _cpu_ms(_sample(), samples)
            kilobytes = (folder / "scan_dump.txt").stat().st_size / 1000
            print(
                f"wifi_link in {place}, {networks} networks ({kilobytes:.0f} kB of results): "
                f"{own_ms + children_ms:.1f} ms of CPU a sample, {own_ms:.1f} ours, {children_ms:.1f} its children's"
            )
            if networks == 5 and own_ms + children_ms > SAMPLE_MS:
                missed.append(f"a sample costs {own_ms + children_ms:.1f} ms")
    real = shutil.which("iw", path="/usr/sbin:/sbin:/usr/bin")
    if real:
        _, start_ms = await _cpu_ms(lambda: command.run(real, "dev", "lo", "link", timeout_s=5.0), samples)
        print(f"the real iw, started once on an interface that is no radio: {start_ms:.1f} ms of CPU")
    return missed


def _speak(folder: Path, networks: int) -> None:
    """As ath9k does, with `networks` in the air."""
    first = text("ath9k", "scan").partition("\nBSS ")[0] + "\n"
    one = text("hwsim", "scan").partition("BSS 02:00:00:00:02:00")[2]
    others = [f"BSS 00:00:5e:00:{0x54 + n // 256:02x}:{n % 256:02x}{one}" for n in range(networks - 1)]
    answers = {
        "link": text("ath9k", "link"),
        "info": text("ath9k", "info"),
        "station_dump": text("ath9k", "station"),
        "survey_dump": text("ath9k", "survey"),
        "scan_dump": "".join([first, *others]),
    }
    for question, answer in answers.items():
        (folder / f"{question}.txt").write_text(answer)


def _sample() -> Callable[[], Awaitable[Values]]:
    facts = Facts()

    async def sample() -> Values:
        context = Context(agent="a", interface="lo", clock=SystemClock(), facts=facts, timeout_s=20.0)
        values = await wifi_link.measure(WifiLinkSettings(), context)
        assert values.stations == 31, "all five questions were answered"
        return values

    return sample


async def _cpu_ms(action: Callable[[], Awaitable[Any]], times: int) -> tuple[float, float]:
    """Of one `action`: ours, and that of children that were waited for."""
    await action()
    before = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    for _ in range(times):
        await action()
    after = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own, children = (
        (a.ru_utime + a.ru_stime - b.ru_utime - b.ru_stime) * 1000 / times for a, b in zip(after, before, strict=True)
    )
    return own, children


# An `iw` that hangs


async def hung(rounds: int) -> list[str]:
    """Others' delay, and what is left."""
    mark = os.environ["MARK"] = uuid.uuid4().hex
    late_s: list[float] = []
    ends: dict[str, int] = {}
    with _tools() as folder:
        iw = FakeIw(folder)
        for question in ("link", "scan dump"):
            iw.does(question, f"{FORKS} & trap '' TERM INT HUP; sleep 100 & wait")
        await command.run("true", timeout_s=5.0)
        before, rss_before = descriptors(), _rss_kb()
        for _ in range(rounds):
            for record in await _round():
                if record.probe == "dns":
                    late_s.append((record.started_at - record.slot).total_seconds())
                else:
                    end = f"{record.probe} {record.outcome}: {record.reason}"
                    ends[end] = ends.get(end, 0) + 1
        remaining, more = await left(mark), descriptors() - before
    print(
        f"hung iw: {rounds} rounds, {ends}; others late by at most {max(late_s):.3f} s, {len(remaining)} processes and "
        f"{more} descriptors left, {_rss_kb() - rss_before} kB of memory more"
    )
    missed = [f"others late by {max(late_s):.2f} s"] if max(late_s) > LATE_S else []
    if remaining or more:
        missed.append(f"left behind: {remaining}, {more} descriptors")
    return missed


async def _round() -> list[Record]:
    async def answer(settings: Settings, context: Context) -> Values:
        await asyncio.sleep(0.05)
        return Dns(answers=1)

    records: list[Record] = []
    jobs = [("wifi_link", WifiLinkSettings()), ("wifi_scan", WifiScanSettings()), *[("dns", Settings())] * 8]
    runner = Runner(
        "bench",
        [
            Job(probe=probe, target=f"t{n}", interface="lo", period_s=60.0, timeout_s=20.0, settings=settings)
            for n, (probe, settings) in enumerate(jobs)
        ],
        targets={},
        resolvers={},
        clock=SystemClock(),
        facts=Facts(),
        submit=lambda record, _: records.append(record),
        probes={**PROBES, "dns": Probe(settings=Settings, measure=answer, timeout_s=5.0)},
    )
    await runner.once()
    return records


@contextmanager
def _tools() -> Iterator[Path]:
    """A folder that is searched first for programs."""
    path = os.environ["PATH"]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PATH"] = f"{folder}{os.pathsep}{path}"
        command._found.pop("iw", None)
        try:
            yield Path(folder)
        finally:
            os.environ["PATH"] = path
            command._found.pop("iw", None)


def _rss_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


if __name__ == "__main__":
    sys.exit(main())
