"""The other end of the wire, in little: a real broker, and somebody who answers batches `stored`."""

import asyncio
import contextlib
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiomqtt
import msgspec

from contract import topics
from contract.codec import decode_batch, encode
from contract.messages import Ack, Status
from contract.record import Record
from contract.topics import agent_of


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def mosquitto(folder: Path) -> Iterator[int]:
    """A broker on loopback that lets everybody in; its port."""
    port = free_port()
    file = folder / "mosquitto.conf"
    file.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n")
    with subprocess.Popen(["mosquitto", "-c", str(file)], stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(200):
                with socket.socket() as sock:
                    if sock.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            yield port
        finally:
            process.terminate()


class Collector:
    """Everything that arrived."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.statuses: list[Status] = []
        self.arrived = asyncio.Event()

    async def serve(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            if str(message.topic).endswith("/status"):
                status = msgspec.json.decode(message.payload, type=Status)
                self.statuses.append(status)
                if status.online:
                    # Where no time service runs, nothing is sent before somebody has told the time.
                    ack = Ack(outbox=status.outbox, batch=None, at=datetime.now(UTC))
                    await client.publish(topics.down(agent_of(str(message.topic)), "ack"), encode(ack))
            else:
                batch = decode_batch(message.payload).batch
                self.records += batch.records
                ack = Ack(outbox=batch.outbox, batch=batch.batch, at=datetime.now(UTC), stored=len(batch.records))
                await client.publish(topics.down(batch.agent, "ack"), encode(ack))
            self.arrived.set()

    async def wait_for(self, count: int, seconds: float) -> None:
        """:raises TimeoutError: when fewer records came in time."""
        async with asyncio.timeout(seconds):
            while len(self.records) < count:
                self.arrived.clear()
                await self.arrived.wait()


@asynccontextmanager
async def collector(port: int, agent: str) -> AsyncIterator[Collector]:
    found = Collector()
    async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        for leaf in ("records", "status"):
            await client.subscribe(topics.up(agent, leaf), qos=1)
        serving = asyncio.create_task(found.serve(client))
        try:
            yield found
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
