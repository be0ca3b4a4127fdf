"""Runs in the virtual machine of the power-cut test: an agent's publisher and its outbox on /disk, without a broker.

Each line on the console begins with `@`:

- `outbox UUID`, `degraded BOOL`, `check RESULT`, `held NUMBER FINGERPRINT` ..., `ready`: what the start found
- `record NUMBER FINGERPRINT`: about to be handed to the outbox
- `committing`, then `committed NUMBER ...`: around a transaction that inserts records

Environment: HOLD_S; SYNCHRONOUS, a planted fault: SQLite's setting instead of the one that the agent asks for.
"""

import asyncio
import logging
import os
import random
import re
import sqlite3
import sys
import termios
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

FOLDER = Path("/disk/outbox")
EVERY_S = (0.1, 0.4)
"""Between records, at random."""


class Planted(sqlite3.Connection):
    """Asks for another `synchronous` than the agent does."""

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        setting = rf"\g<1>{os.environ['SYNCHRONOUS']}"
        return super().execute(re.sub(r"(PRAGMA synchronous *= *)\w+", setting, sql), *arguments)


connect = sqlite3.connect
if "SYNCHRONOUS" in os.environ:
    sqlite3.connect = lambda *arguments, **options: connect(*arguments, factory=Planted, **options)  # type: ignore[assignment]

from agent.clock import SystemClock, utc  # noqa: E402
from agent.config import Mqtt, OutboxLimits  # noqa: E402
from agent.facts import Facts  # noqa: E402
from agent.outbox import Outbox  # noqa: E402
from agent.outbox_file import Changes, OutboxFile, Report  # noqa: E402
from agent.publisher import Publisher  # noqa: E402
from agent.timekeeper import Timekeeper, default_sources  # noqa: E402
from contract.codec import encode  # noqa: E402
from contract.record import RECORDS, Record  # noqa: E402
from contract.values import Latency  # noqa: E402


def say(*words: object) -> None:
    """One line; returns when the serial port has sent it."""
    os.write(1, " ".join(["@", *map(str, words), "\n"]).encode())
    termios.tcdrain(1)


def number_of(content: bytes) -> int:
    return int(msgspec.json.decode(content)["values"]["sent"])


class SpokenFile(OutboxFile):
    """The agent's file, saying what it commits."""

    def commit(self, changes: Changes) -> Report:
        numbers = [number_of(row.content) for row in changes.insert]
        if numbers:
            say("committing")
        report = super().commit(changes)
        if numbers and report.inserted:
            say("committed", *numbers)
        return report


def tell_held(facts: Facts) -> int:
    """Say what is on the disk, read by a connection of its own; the highest number."""
    with connect(FOLDER / "outbox.db") as db:
        say("outbox", *db.execute("SELECT json_extract(value, '$') FROM memo WHERE name = 'outbox'").fetchone())
        say("degraded", facts.degraded)
        say("check", *db.execute("PRAGMA quick_check").fetchone())
        highest = 0
        for (content,) in db.execute("SELECT content FROM kept ORDER BY id"):
            number = number_of(content)
            say("held", number, crc32(content))
            highest = max(highest, number)
    db.close()
    return highest


def sample(number: int, clock: SystemClock) -> Record:
    now = utc(clock.wall())
    values = Latency(method="icmp", sent=number, received=number, loss_ratio=0.0, rtt_p50_ms=random.uniform(1, 50))
    return RECORDS["latency"](
        target="core", interface="eth0", slot=now, started_at=now, duration_s=1.0, outcome="ok", values=values
    )


async def measure(publisher: Publisher, clock: SystemClock, number: int) -> None:
    while True:
        number += 1
        record = sample(number, clock)
        say("record", number, crc32(encode(record)))
        publisher.submit(record, clock.boot())
        await clock.sleep(random.uniform(*EVERY_S))


async def main() -> None:
    clock, facts = SystemClock(), Facts()
    limits = OutboxLimits(hold_s=float(os.environ["HOLD_S"]))
    outbox = await Outbox.open(FOLDER, agent="venue-01", limits=limits, clock=clock, facts=facts)
    publisher = Publisher(
        Mqtt(host="127.0.0.1", port=1883, tls=False),
        agent="venue-01",
        outbox=outbox,
        timekeeper=Timekeeper(clock, default_sources(), facts),
        facts=facts,
        clock=clock,
    )
    number = tell_held(facts)
    say("ready")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(publisher.run(), name="publisher")
        tasks.create_task(measure(publisher, clock, number), name="measure")


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR, format="%(name)s: %(message)s")
    sys.modules["agent.outbox"].OutboxFile = SpokenFile  # type: ignore[attr-defined]
    asyncio.run(main())
