"""Wires the servers of the reflector together; holds no logic of its own."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import Final, Protocol

from reflector import config as configuration
from reflector.admission import Admission
from reflector.config import Config, ConfigError
from reflector.connections import Connections
from reflector.counts import Counts
from reflector.load import Load
from reflector.ndt7 import Ndt7
from reflector.stamp import Stamp
from reflector.status import Reporter
from reflector.throughput import Throughput
from reflector.web import Web, application, portal_application

CONNECTIONS: Final = 1024
"""Open at once, of all servers together."""
DRAIN_S: Final = 20.0
"""What running tests get to end after the first SIGTERM."""


class _Server(Protocol):
    host: str
    port: int

    def open(self) -> None: ...

    async def run(self) -> None: ...


async def run(config: Config) -> int:
    """Serve until Ctrl-C or SIGTERM, then let running tests end; 1 when it could not listen."""
    reflector = Reflector(config)
    for name, server in reflector.servers.items():
        try:
            server.open()
        except OSError as error:
            said = f"cannot listen on {server.host} port {server.port} ({name}): {os.strerror(error.errno or 0)}"
            print(f"reflector: {said}", file=sys.stderr)
            return 1
        reflector.note_open(name)
    ports = ", ".join(f"{name} {server.port}" for name, server in reflector.servers.items())
    print(f"reflector: listening on {config.listen}: {ports}", file=sys.stderr, flush=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reflector.take_keys)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(server.run(), name=name) for name, server in reflector.servers.items()]
        tasks.append(group.create_task(reflector.load.run(), name="load"))
        await stop.wait()
        await reflector.drain()
        for task in tasks:
            task.cancel()
    return 0


class Reflector:
    """Everything that serves, and what it shares."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.counts = Counts()
        self.load = Load()
        limits = config.admission_limits()
        self.admission = Admission(limits, configuration.keys(config), counts=self.counts, now=time.monotonic)
        connections = Connections(CONNECTIONS, limits.connections, self.counts)
        self._reporter = Reporter(
            admission=self.admission, connections=connections, counts=self.counts, load=self.load, services={}
        )
        self._ndt7 = Ndt7(self.admission, self.counts) if limits.public_slots else None
        portal_key = configuration.portal_key(config)
        site = application(
            admission=self.admission,
            counts=self.counts,
            reporter=self._reporter,
            portal_key=portal_key,
            ndt7=self._ndt7,
        )
        self._throughput = Throughput(
            config.listen, config.port, admission=self.admission, connections=connections, counts=self.counts
        )
        self._http_port = config.http_port
        self._web = Web(config.listen, 0, site, connections)
        self._stamp = Stamp(config.listen, 0, counts=self.counts, packets_per_s=config.limits.stamp_packets_per_s)
        self.servers: dict[str, _Server] = {"TCP": self._throughput, "UDP": self._stamp, "HTTP": self._web}
        """In the order in which they open: the others' ports follow from the first."""
        if config.stamp_port is not None:
            packets_per_s = config.limits.stamp_packets_per_s
            stamp = Stamp(config.listen, config.stamp_port, counts=self.counts, packets_per_s=packets_per_s)
            self.servers["STAMP"] = stamp
        if config.portal_port is not None:
            self.servers["portal"] = Web(config.listen, config.portal_port, portal_application(portal_key), connections)

    def note_open(self, name: str) -> None:
        """A port is known now; what depends on it is told."""
        port = self.servers[name].port
        if name == "TCP":
            self._stamp.port = port
            self._web.port = port + 1 if self._http_port is None else self._http_port
        self._throughput.udp_port = self._stamp.port or None
        self._throughput.http_port = self._web.port or None
        services: dict[str, int | None] = {server: self.servers[server].port for server in self.servers}
        self._reporter.services = services | {"NDT7": self._web.port if self._ndt7 else None}

    def take_keys(self) -> None:
        """Read the agents' keys again; of a file that cannot be used none is taken. Tests that run go on."""
        try:
            self.admission.keys = configuration.keys(self._config)
        except ConfigError as error:
            print(f"reflector: keys not taken, the old ones hold: {error}", file=sys.stderr, flush=True)
        else:
            known = self.admission.keys
            taken = "no token asked for" if known is None else f"{len(known)} agents"
            print(f"reflector: keys read again: {taken}", file=sys.stderr, flush=True)

    async def drain(self) -> None:
        """Refuse new tests; return when none runs any more, or after :data:`DRAIN_S`."""
        self.admission.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while self.admission.running or self.admission.public_running:  # noqa: ASYNC110 - at the end only
                    await asyncio.sleep(0.1)
