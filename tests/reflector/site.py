"""The reflector's HTTP side on a free port, with everything that stands behind it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from contract.throughput import Hello
from reflector import admission
from reflector.admission import Admission, Limits
from reflector.connections import Connections
from reflector.counts import Counts
from reflector.load import Load
from reflector.ndt7 import Ndt7
from reflector.status import Reporter
from reflector.web import Web, application

PORTAL_KEY = b"the portal key"
NONCE = "n" * 24


class Site:
    """:attr:`web` serves; the rest is what it stands on."""

    def __init__(
        self,
        limits: Limits,
        keys: Mapping[str, tuple[bytes, ...]] | None,
        *,
        portal_key: bytes | None,
        total: int,
        ndt_s: float | None,
        host: str,
    ) -> None:
        self.counts = Counts()
        self.connections = Connections(total, limits.connections, self.counts)
        self.admission = Admission(limits, keys, counts=self.counts, now=time.monotonic)
        self.load = Load()
        services = {"UDP": 8862, "HTTP": 8863, "NDT7": 8863 if ndt_s else None}
        self.reporter = Reporter(
            admission=self.admission,
            connections=self.connections,
            counts=self.counts,
            load=self.load,
            services=services,
        )
        ndt7 = Ndt7(self.admission, self.counts, duration_s=ndt_s) if ndt_s else None
        app = application(
            admission=self.admission, counts=self.counts, reporter=self.reporter, portal_key=portal_key, ndt7=ndt7
        )
        self.web = Web(host, 0, app, self.connections)

    def video(self, agent: str = "lib-01", *, byte_cap: int = 25_000_000) -> admission.Test:
        """An admitted video test."""
        hello = Hello(agent=agent, direction="video", duration_s=12.0, streams=1, byte_cap=byte_cap)
        test = self.admission.admit(hello, NONCE, "127.0.0.1")
        assert isinstance(test, admission.Test), test
        return test


@asynccontextmanager
async def serving(
    limits: Limits | None = None,
    keys: Mapping[str, tuple[bytes, ...]] | None = None,
    *,
    portal_key: bytes | None = PORTAL_KEY,
    total: int = 256,
    ndt_s: float | None = None,
    host: str = "127.0.0.1",
) -> AsyncIterator[Site]:
    site = Site(limits or Limits(pause_s=0), keys, portal_key=portal_key, total=total, ndt_s=ndt_s, host=host)
    site.web.open()
    tasks = [asyncio.create_task(site.web.run(), name="web"), asyncio.create_task(site.load.run(), name="load")]
    try:
        yield site
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task


class Answer:
    """One HTTP answer, read to the end of the connection."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1]) if raw else 0
        self.fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}


async def ask(site: Site, path: str, *fields: str, method: str = "GET", host: str = "reflector.test:8863") -> Answer:
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *fields]
    return Answer(await say(site, ("\r\n".join(head) + "\r\n\r\n").encode()))


async def say(site: Site, raw: bytes, timeout_s: float = 10.0) -> bytes:
    """Send `raw` and read until the server closes; empty when it resets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.web.port)
    try:
        writer.write(raw)
        async with asyncio.timeout(timeout_s):
            with contextlib.suppress(ConnectionError):
                return await reader.read()
            return b""
    finally:
        writer.transport.abort()


async def settle(site: Site, connections: int = 0) -> None:
    """Return when so many are open."""
    for _ in range(500):
        if site.connections.open == connections:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{site.connections.open} connections open, not {connections}")


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
