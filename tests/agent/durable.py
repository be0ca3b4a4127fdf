"""What the tests of outbox and publisher share: records, a real broker, a collector that answers as the test says."""

import asyncio
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from contract.codec import decode_batch, encode
from contract.messages import Ack, Batch, BatchId
from contract.record import RECORDS, Record
from contract.values import VALUES

START = datetime.fromtimestamp(1_795_000_000, UTC)
"""Wall time of a FakeClock at its boot time 1000."""


def record(number: int, probe: str = "latency", *, slot: datetime | None = None, **fields: Any) -> Record:
    """A sound record that is known by its number: it is in its slot and its duration."""
    slot = slot or START + timedelta(seconds=number)
    values = {"latency": {"sent": number}}.get(probe, {})
    return RECORDS[probe](
        target="core" if probe in {"latency", "web", "throughput"} else "-",
        interface="lo",
        slot=slot,
        started_at=slot + timedelta(seconds=0.25),
        duration_s=float(number),
        **{"outcome": "ok", "values": VALUES[probe](**values)} | fields,
    )


def numbers(records: list[Record]) -> list[int]:
    return [int(record.duration_s) for record in records]


async def until(condition: Callable[[], Any], timeout_s: float = 20.0, what: str = "") -> None:
    """Wait in real time until `condition` holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what or condition}")
        await asyncio.sleep(0.01)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Broker:
    """mosquitto on a port of its own, which it keeps over restarts."""

    def __init__(self, folder: Path, *lines: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self._folder = folder
        self._config = folder / "mosquitto.conf"
        self.lines = lines
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        base = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", "persistence false"]
        if os.geteuid() == 0:
            base.append("user root")
        self._config.write_text("\n".join([*base, *self.lines]) + "\n")
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(["mosquitto", "-c", str(self._config)], stdout=log, stderr=log)
        await until(self._answers, what="mosquitto listens")

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


def stored(batch: Batch) -> Ack:
    return Ack(outbox=batch.outbox, batch=batch.batch, at=datetime.now(UTC), stored=len(batch.records))


def later(batch: Batch, reason: Any) -> Ack:
    return Ack(outbox=batch.outbox, batch=batch.batch, at=datetime.now(UTC), later=reason)


class Collector:
    """Answers every batch with what `script` makes of it; None is silence. Keeps what it answered `stored`."""

    def __init__(self, port: int, agent: str = "a01") -> None:
        self.script: Callable[[Batch], Ack | Awaitable[Ack | None] | None] = stored
        self.at: Callable[[], datetime | None] = lambda: datetime.now(UTC)
        """The time in answers to births; None leaves births unanswered."""
        self.stored: list[Record] = []
        self.batches: list[Batch] = []
        """Everything that came, in order."""
        self.payloads: dict[tuple[str, int], set[bytes]] = {}
        self.statuses: list[bytes] = []
        self.connected = False
        self._port = port
        self._agent = agent

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Collector"]:
        ready = asyncio.Event()
        task = asyncio.create_task(self._run(ready), name="collector")
        try:
            await asyncio.wait_for(ready.wait(), 10)
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self, ready: asyncio.Event) -> None:
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                async with aiomqtt.Client(
                    "127.0.0.1", self._port, username="collector", protocol=aiomqtt.ProtocolVersion.V5
                ) as client:
                    await client.subscribe("wanggan/1/up/+/records", qos=1)
                    await client.subscribe("wanggan/1/up/+/status", qos=1)
                    ready.set()
                    self.connected = True
                    async for message in client.messages:
                        await self._take(client, message)
            self.connected = False
            await asyncio.sleep(0.05)

    async def _take(self, client: aiomqtt.Client, message: aiomqtt.Message) -> None:
        assert isinstance(message.payload, bytes)
        if str(message.topic).endswith("/status"):
            self.statuses.append(message.payload)
            at = self.at()
            if at is not None and b'"online":true' in message.payload and not message.retain:
                outbox = decode_status_outbox(message.payload)
                await self._say(client, Ack(outbox=outbox, batch=None, at=at))
            return
        batch = decode_batch(message.payload).batch
        identity = BatchId.decode(message.properties.CorrelationData)
        assert identity == BatchId(batch.outbox, batch.batch)
        self.payloads.setdefault((str(batch.outbox), batch.batch), set()).add(message.payload)
        self.batches.append(batch)
        answer = self.script(batch)
        if isinstance(answer, Awaitable):
            answer = await answer
        if answer is None:
            return
        if answer.stored:
            rejected = {place for place, _ in answer.rejected}
            self.stored += [r for place, r in enumerate(batch.records) if place not in rejected]
        await self._say(client, answer)

    async def _say(self, client: aiomqtt.Client, ack: Ack) -> None:
        await client.publish(f"wanggan/1/down/{self._agent}/ack", encode(ack), qos=0)

    def sent(self, number: int) -> int:
        """How many batches with that record came."""
        return sum(number in numbers(batch.records) for batch in self.batches)


def decode_status_outbox(payload: bytes) -> Any:
    from contract.codec import decode_status

    return decode_status(payload).outbox


def properties(**values: Any) -> Properties:
    found = Properties(PacketTypes.PUBLISH)
    for name, value in values.items():
        setattr(found, name, value)
    return found
