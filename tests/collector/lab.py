"""A collector for tests: its files, a real broker where one is wanted, an agent that only speaks MQTT."""

import asyncio
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from collector import config
from collector.main import Collector
from contract import topics
from contract.codec import decode_ack, encode
from contract.messages import Ack, Batch, BatchId, Job, Status
from contract.record import RECORDS, Record
from contract.values import Latency
from store.interface import Store

AGENT = "box-0001"
OUTBOX = UUID(int=11)

SITES = """
[venues.old-hall]
name = { zh = "旧馆", en = "Old hall" }
type = "library"
[venues.hall]
name = { zh = "馆", en = "Hall" }
type = "library"
[[sites]]
agent = "box-0001"
interface = "wlan0"
from = 2020-01-01
venue = "hall"
network = "wifi"
[[sites]]
agent = "box-0002"
interface = "wlan0"
from = 2020-01-01
venue = "hall"
network = "wifi"
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def now() -> datetime:
    return datetime.now(UTC)


def record(slot: datetime | None = None, **changes: Any) -> Record:
    """A sound one; every call without a slot gets the next microsecond."""
    record.count = getattr(record, "count", 0) + 1  # type: ignore[attr-defined]
    slot = slot or now() - timedelta(minutes=1) + timedelta(microseconds=record.count)  # type: ignore[attr-defined]
    fields: dict[str, Any] = {
        "target": "core",
        "interface": "wlan0",
        "slot": slot,
        "started_at": slot,
        "duration_s": 3.0,
        "outcome": "ok",
        "values": Latency(method="icmp", sent=60, received=60, loss_ratio=0.0, rtt_p50_ms=2.5),
    }
    return RECORDS["latency"](**fields | changes)


def batch(number: int, records: list[Record], agent: str = AGENT, outbox: UUID = OUTBOX) -> Batch:
    return Batch(
        agent=agent, outbox=outbox, batch=number, boot=outbox, sent_at=now(), config_version=1, records=records
    )


def status(session: int = 1, *jobs: Job, online: bool = True, outbox: UUID = OUTBOX) -> Status:
    return Status(online=online, session=session, version="0.1", config_version=1, outbox=outbox, jobs=list(jobs))


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until it holds.

    :raises TimeoutError: when it does not.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not become true")
        await asyncio.sleep(0.01)


class Mosquitto:
    """A broker on a free port; ended by its own process, and startable again on the same port."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        user = ["user root"] if os.geteuid() == 0 else []
        self._config.write_text(
            "\n".join([f"listener {self.port} 127.0.0.1", "allow_anonymous true", "persistence false", *user, *lines])
            + "\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        path = f"{os.environ.get('PATH', '')}:/usr/sbin"
        self._process = subprocess.Popen(
            ["mosquitto", "-c", str(self._config)], env={**os.environ, "PATH": path}, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        raise RuntimeError("mosquitto did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


def write_files(folder: Path, broker_port: int, *, http_port: int = 0, limits: str = "", store: str = "") -> Path:
    """The collector's two files."""
    (folder / "sites.toml").write_text(SITES)
    file = folder / "collector.toml"
    store = store or f'engine = "sqlite"\npath = "{folder}/store.db"'
    file.write_text(
        f'[mqtt]\nhost = "127.0.0.1"\nport = {broker_port}\ntls = false\n[store]\n{store}\n'
        f"[web]\nport = {http_port or free_port()}\n[limits]\n{limits}\n"
    )
    return file


@contextlib.asynccontextmanager
async def running(folder: Path, broker_port: int, store: Store, limits: str = "") -> AsyncIterator[Collector]:
    """A collector in this process, with the broker, on `store`."""
    collector = Collector(config.load(write_files(folder, broker_port, limits=limits)), store)
    task = asyncio.create_task(collector.run(), name="collector under test")
    try:
        await until(lambda: collector.state.broker.up or task.done())
        yield collector
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Box:
    """An agent as the broker sees it."""

    def __init__(self, client: aiomqtt.Client, name: str) -> None:
        self._client = client
        self.name = name
        self.acks: list[Ack] = []

    async def send(self, number: int, payload: bytes | Batch, *, outbox: UUID = OUTBOX, as_agent: str = "") -> None:
        """Publish on the records topic, with Correlation Data."""
        properties = Properties(PacketTypes.PUBLISH)
        properties.CorrelationData = BatchId(outbox, number).encode()
        payload = payload if isinstance(payload, bytes) else encode(payload)
        await self._client.publish(topics.up(as_agent or self.name, "records"), payload, qos=1, properties=properties)

    async def tell(self, told: Status) -> None:
        await self._client.publish(topics.up(self.name, "status"), encode(told), qos=1, retain=True)

    async def answer(self, number: int | None, seconds: float = 20.0) -> Ack:
        """The next answer to a batch; None: to a birth."""
        await until(lambda: any(ack.batch == number for ack in self.acks), seconds)
        ack = next(ack for ack in self.acks if ack.batch == number)
        self.acks.remove(ack)
        return ack

    async def listen(self) -> None:
        async for message in self._client.messages:
            assert isinstance(message.payload, bytes)
            self.acks.append(decode_ack(message.payload))


@contextlib.asynccontextmanager
async def box(port: int, name: str = AGENT) -> AsyncIterator[Box]:
    """An agent that is connected and hears its answers."""
    async with aiomqtt.Client(
        "127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5, identifier=f"test-{name}"
    ) as client:
        await client.subscribe(topics.down(name, "ack"), qos=0)
        found = Box(client, name)
        listener = asyncio.create_task(found.listen(), name=f"{name} listens")
        try:
            yield found
        finally:
            listener.cancel()
            with contextlib.suppress(asyncio.CancelledError, aiomqtt.MqttError):
                await listener
