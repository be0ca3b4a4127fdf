"""Wires the collector: one task group, every part in it. `main` only wires."""

import asyncio
import gc
import logging
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Final

from collector.config import Settings
from collector.deadletters import DeadLetters
from collector.fleet import Fleet
from collector.ingest import Ingest, Timing
from collector.limits import Limits
from collector.mqtt import Connection
from collector.points import Judge
from collector.state import State
from collector.web import serve
from store.interface import Store
from store.register import Register
from store.settings import open_store
from store.tables import ConfigError

log = logging.getLogger(__name__)

REGISTER_S: Final = 2.0
"""The register's file is looked at so often."""
MINUTE_S: Final = 60.0
MIB: Final = 2**20
GC_YOUNG: Final = 100_000
"""New containers until Python looks for circles; 700 is its default."""


class Collector:
    """Every part of one collector, connected to each other."""

    def __init__(self, settings: Settings, store: Store) -> None:
        """:raises ConfigError: when a file that the settings name cannot be used."""
        self.settings = settings
        self.store = store
        self.state = State(started_at=datetime.now(UTC))
        self.register = Register(settings.sites)
        limits = settings.limits
        try:
            dead_letters = DeadLetters(settings.state, limits.dead_letters_mib * MIB)
        except OSError as error:
            raise ConfigError(f"state: {settings.state}: {error.strerror}; it must be a folder of ours") from error
        try:
            self.connection = Connection(settings.mqtt, settings.name, self.state, self._route)
        except OSError as error:
            raise ConfigError(f"mqtt: a certificate, key or password cannot be used: {error}") from error
        self.fleet = Fleet(
            self.state,
            self.register,
            store,
            publish=self.connection.publish,
            note=lambda points: self.ingest.note(points),
            wall=time.time,
        )
        self.ingest = Ingest(
            name=settings.name,
            state=self.state,
            store=store,
            judge=Judge(self.register),
            fleet=self.fleet,
            limits=Limits(limits.messages_per_s, limits.burst, now=time.monotonic),
            dead_letters=dead_letters,
            publish=self.connection.publish,
            queue_bytes=limits.queue_mib * MIB,
            timing=Timing(linger_s=limits.linger_ms / 1000),
        )
        self._statuses = Limits(limits.messages_per_s, limits.burst, now=time.monotonic)

    def _route(self, agent: str, leaf: str, payload: bytes, correlation: bytes | None) -> None:
        if leaf == "records":
            self.ingest.take(agent, payload, correlation)
        elif self.fleet.agent(agent) is None:  # before anything is remembered of it
            self.state.counters["refused.unknown_sender"] += 1
        elif not self._statuses.allow(agent):
            self.state.counters["refused.rate_limited"] += 1
        elif leaf == "status":
            self.fleet.take_status(agent, payload)
        elif leaf == "reply":
            self.state.counters["replies"] += 1

    async def run(self) -> None:
        """Everything, until cancelled."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, changed.set)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.connection.run(), name="broker")
                group.create_task(self.ingest.run(), name="ingest")
                group.create_task(self.fleet.run(), name="fleet")
                group.create_task(self._watch_register(changed), name="register")
                group.create_task(self._every_minute(), name="minute")
                group.create_task(serve(self.settings.web, self.state, self.store, self.register), name="web")
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            await self.store.close()

    async def _watch_register(self, changed: asyncio.Event) -> None:
        """Take the register's file when it changes, or when SIGHUP says so."""
        with ThreadPoolExecutor(1, thread_name_prefix="register") as disk:
            while True:
                try:
                    async with asyncio.timeout(REGISTER_S):
                        await changed.wait()
                except TimeoutError:
                    force = False
                else:
                    force = True
                    changed.clear()
                refresh = partial(self.register.refresh, force=force)
                if await asyncio.get_running_loop().run_in_executor(disk, refresh):
                    self.fleet.register_changed()
                self.state.alarm("register", self.register.broken)

    async def _every_minute(self) -> None:
        day = datetime.now(UTC).date()
        while True:
            await asyncio.sleep(MINUTE_S - time.time() % MINUTE_S)
            self.ingest.minute()
            if (today := datetime.now(UTC).date()) != day:
                day = today
                self.fleet.repeat_jobs()
            await asyncio.sleep(1)


async def run(settings: Settings) -> None:
    """Run a collector until SIGTERM or SIGINT.

    :raises ConfigError: when a file that the settings name cannot be used.
    :raises StoreMisconfigured: when a secret of the store cannot be read.
    """
    collector = Collector(settings, open_store(settings.store))
    # Records become points and are gone again, and nothing refers in circles: looking for circles that often, Python
    # would spend a fifth of the time on it.
    gc.freeze()
    gc.set_threshold(GC_YOUNG)
    task = asyncio.create_task(collector.run(), name="collector")
    loop = asyncio.get_running_loop()
    stopping = False

    def stop() -> None:
        nonlocal stopping
        stopping = True
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    log.info("collector %s starts", settings.name)
    try:
        await task
    except asyncio.CancelledError:
        if not stopping:
            raise
    log.info("collector %s has stopped", settings.name)
