"""Wires the parts of the agent together; holds no logic of its own."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

from agent import certificate, health
from agent.clock import SystemClock
from agent.config import Config
from agent.facts import Facts
from agent.outbox import OnFinal, Outbox
from agent.probes import PROBES
from agent.publisher import Publisher
from agent.runner import Runner, Submit
from agent.timekeeper import Timekeeper, default_sources
from agent.uplinks import Course, Uplinks
from agent.wifi.watch import Watch
from contract.fields import CERT_ALARM_DAYS
from contract.record import Record

ANSWER_S: Final = 20.0
"""How long one round waits for the collector's answers after its last measurement."""

log = logging.getLogger(__name__)


class Result(NamedTuple):
    """A record of one round and whether the collector said `stored`."""

    record: Record
    stored: bool


def run(config: Config) -> None:
    """Measure on schedule until SIGTERM or Ctrl-C; then commit what waits and say goodbye."""
    with asyncio.Runner() as loop:
        if not loop.run(_run(config)):
            # A probe would not end, and the loop would wait for it for ever. Everything is committed by now.
            sys.stderr.flush()
            os._exit(0)


def run_once(config: Config) -> list[Result]:
    """Every job once, now. What has no answer in time is committed, and sent by the next run."""
    return asyncio.run(_run_once(config))


async def _run(config: Config) -> bool:
    """Whether every probe ended when it was told to."""
    stop = _stop_signal()
    facts = Facts(config_version=config.version)
    health.note_start(Path(config.state), facts)
    async with (
        _publishing(config, facts) as (publisher, tasks),
        _watching(config, publisher.submit, tasks) as watches,
    ):
        runner = _runner(config, facts, publisher.submit, watches)
        measuring = tasks.create_task(runner.run(), name="runner")
        await stop.wait()
        log.info("stopping")
        await _end(measuring)
    health.note_clean_end(Path(config.state))
    return await runner.ended()


async def _run_once(config: Config) -> list[Result]:
    stop = _stop_signal()
    facts = Facts(config_version=config.version)
    records: list[Record] = []
    stored: set[_Key] = set()

    def on_final(record: Record, final: str) -> None:
        if final == "stored":
            stored.add(_key(record))

    async with _publishing(config, facts, on_final) as (publisher, tasks):

        def submit(record: Record, boot_s: float) -> None:
            records.append(record)
            publisher.submit(record, boot_s)

        async def measure_and_wait() -> None:
            async with _watching(config, submit, tasks) as watches:
                await _runner(config, facts, submit, watches).once()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_S):
                    await publisher.idle()

        whole = tasks.create_task(measure_and_wait(), name="one round")
        stopping = tasks.create_task(stop.wait(), name="stop")
        await asyncio.wait({whole, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await _end(whole)
        await _end(stopping)
    return [Result(record, _key(record) in stored) for record in records]


@contextlib.asynccontextmanager
async def _publishing(
    config: Config, facts: Facts, on_final: OnFinal | None = None
) -> AsyncIterator[tuple[Publisher, asyncio.TaskGroup]]:
    """The publisher at work, and the program's one task group; both end with the block, the publisher last."""
    clock = SystemClock()
    _note_certificate(config, facts)
    outbox = await Outbox.open(Path(config.state), agent=config.agent, limits=config.outbox, clock=clock, facts=facts)
    publisher = Publisher(
        config.mqtt,
        agent=config.agent,
        outbox=outbox,
        timekeeper=Timekeeper(clock, sources=default_sources(), facts=facts),
        facts=facts,
        clock=clock,
        jobs=config.announced(),
        config_version=config.version,
        version=version("wanggan"),
        on_final=on_final,
    )
    async with asyncio.TaskGroup() as tasks:
        publishing = tasks.create_task(publisher.run(), name="publisher")
        watching = tasks.create_task(health.watch_loop(facts), name="loop lag")
        yield publisher, tasks
        await _end(watching)
        await _end(publishing)


@contextlib.asynccontextmanager
async def _watching(config: Config, submit: Submit, tasks: asyncio.TaskGroup) -> AsyncIterator[dict[str, Watch]]:
    """The watches of the radios at work, by interface; they end with the block."""
    watches = {name: Watch(name, config.wifi, SystemClock(), submit) for name in config.watched()}
    running = [tasks.create_task(watch.run(), name=f"watch {name}") for name, watch in watches.items()]
    try:
        yield watches
    finally:
        for task in running:
            await _end(task)


def _note_certificate(config: Config, facts: Facts) -> None:
    """Keep when our certificate ends in `facts`; a near end is a matter for people."""
    if config.mqtt.cert_file is None:
        return
    expires_at = certificate.expires_at(Path(config.mqtt.cert_file))
    if expires_at is None:
        log.warning("mqtt.cert_file: %s: cannot tell when it expires", config.mqtt.cert_file)
        return
    facts.cert_expires_s = expires_at.timestamp()
    if (expires_at - datetime.now(UTC)).days < CERT_ALARM_DAYS:
        log.warning("our certificate expires on %s; enrol this agent again", f"{expires_at:%Y-%m-%d}")


def _runner(config: Config, facts: Facts, submit: Submit, watches: dict[str, Watch]) -> Runner:
    clock = SystemClock()
    return Runner(
        config.agent,
        config.jobs,
        targets=config.targets,
        resolvers=config.resolvers,
        clock=clock,
        facts=facts,
        submit=submit,
        uplinks=Uplinks(config.uplinks, config.hours, clock=clock, folder=Path(config.state), plan=_plan(config)),
        hours=config.hours,
        watches=watches,
    )


def _plan(config: Config) -> list[Course]:
    """The heavy jobs, for the day's data budget."""
    return [
        Course(interface=job.interface, period_s=job.period_s, settings=job.settings)
        for job in config.jobs
        if PROBES[job.probe].heavy
    ]


async def _end(task: asyncio.Task[None] | asyncio.Task[bool]) -> None:
    task.cancel()
    await asyncio.wait({task})


def _stop_signal() -> asyncio.Event:
    """Set by SIGTERM and Ctrl-C."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


_Key = tuple[str, str, str, str | None, str | None, datetime]


def _key(record: Record) -> _Key:
    """What makes a record the same one, also when it was read back from disk."""
    return record.probe, record.target, record.interface, record.provider, record.resolver, record.slot
