"""CPU that an MQTT client costs the collector: receive one batch and publish one QoS 0 acknowledgement.

    python -m bench.mqtt_clients            # aiomqtt, gmqtt and mqttium through a real mosquitto on the loopback

Nothing else is done with a message, so the figure is the client's own. The sender is a bare socket in another process.
Needs the clients that are compared: pip install aiomqtt gmqtt mqttium
"""

import argparse
import asyncio
import contextlib
import json
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from bench.programs import Broker

RECORD_BYTES = 640
"""A record in a batch of 100 that just fits 64 KiB."""
ACK = b'{"outbox":"11111111-2222-3333-4444-555555555555","batch":12345,"at":"2026-11-23T10:00:00Z","stored":10}'
CORRELATION = b'["11111111-2222-3333-4444-555555555555",12345]'
UP = "wanggan/1/up/+/records"
DOWN = "wanggan/1/down/bench/ack"


async def with_aiomqtt(port: int, count: int, qos: int) -> AsyncIterator[None]:
    import aiomqtt

    async with aiomqtt.Client("127.0.0.1", port, identifier="receiver", protocol=aiomqtt.ProtocolVersion.V5) as client:
        await client.subscribe(UP, qos=qos)
        yield
        received = 0
        async for message in client.messages:
            assert message.properties is not None
            assert message.properties.CorrelationData == CORRELATION
            await client.publish(DOWN, ACK)
            received += 1
            if received == count:
                break
        yield


async def with_gmqtt(port: int, count: int, qos: int) -> AsyncIterator[None]:
    import gmqtt

    client = gmqtt.Client("receiver", session_expiry_interval=0, receive_maximum=1000)
    received = 0
    done = asyncio.Event()

    def on_message(_: object, topic: str, payload: bytes, qos: int, properties: dict[str, object]) -> int:
        nonlocal received
        assert properties["correlation_data"] == [CORRELATION]
        client.publish(DOWN, ACK)
        received += 1
        if received == count:
            done.set()
        return 0

    client.on_message = on_message
    await client.connect("127.0.0.1", port, keepalive=30)
    client.subscribe(UP, qos=qos)
    yield
    await done.wait()
    yield
    await client.disconnect()


async def with_mqttium(port: int, count: int, qos: int) -> AsyncIterator[None]:
    from mqttium import MQTTProtocolVersion
    from mqttium.api import AsyncClient

    client = AsyncClient(
        "receiver",
        protocol=MQTTProtocolVersion.MQTTv5,
        message_delivery="callback",
        max_inbound_inflight=1000,
        max_write_queue_bytes=8 << 20,
    )
    received = 0
    done = asyncio.Event()

    def on_message(message: object) -> None:
        nonlocal received
        assert message.properties.get("correlation_data") == CORRELATION  # type: ignore[attr-defined]
        client.publish_nowait(DOWN, ACK)
        received += 1
        if received == count:
            done.set()

    client.on_message = on_message
    await client.connect("127.0.0.1", port)
    await client.subscribe(UP, qos=qos)
    yield
    await done.wait()
    yield
    await client.disconnect()


CLIENTS = {"aiomqtt": with_aiomqtt, "gmqtt": with_gmqtt, "mqttium": with_mqttium}


async def receive(name: str, port: int, count: int, qos: int) -> None:
    """Say ready, receive `count` messages, print the CPU of it."""
    steps = aiter(CLIENTS[name](port, count, qos))
    await anext(steps)
    print("ready", flush=True)
    started_s, began_s = time.process_time(), time.monotonic()
    await anext(steps)
    report = {
        "cpu_us": (time.process_time() - started_s) / count * 1e6,
        "per_s": count / (time.monotonic() - began_s),
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(report), flush=True)


def send(port: int, payload_bytes: int, count: int, rate: float) -> None:
    """`count` messages at QoS 1, at `rate` a second; 0 is as fast as the broker takes them."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(_packet(0x10, b"\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x06sender"))
        connection.recv(64)
        properties = b"\x09" + struct.pack("!H", len(CORRELATION)) + CORRELATION
        head = b"\x00\x1dwanggan/1/up/bench-01/records"
        body = bytes([len(properties)]) + properties + b"x" * payload_bytes
        began_s = time.monotonic()
        unanswered = 0
        for number in range(count):
            connection.sendall(_packet(0x32, head + struct.pack("!H", number % 60_000 + 1) + body))
            unanswered += 1
            while unanswered >= 100:
                # A PUBACK without properties has 4 bytes, or 6 with them; this broker sends 4.
                unanswered -= max(1, len(connection.recv(400)) // 4)
            if rate:
                time.sleep(max(0.0, began_s + number / rate - time.monotonic()))
        time.sleep(1)


def _packet(kind: int, body: bytes) -> bytes:
    length, left = b"", len(body)
    while True:
        left, digit = left >> 7, left & 0x7F
        length += bytes([digit | (0x80 if left else 0)])
        if not left:
            return bytes([kind]) + length + body


async def measure(name: str, records: int, count: int, rate: float, qos: int) -> dict[str, float]:
    """One client, one batch size."""
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder))
        broker.allow("topic readwrite #\n")
        await broker.start()
        try:
            argv = [
                sys.executable,
                "-m",
                "bench.mqtt_clients",
                "--receive",
                name,
                str(broker.port),
                str(count),
                str(qos),
            ]
            with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as receiver:
                assert receiver.stdout is not None
                assert receiver.stdout.readline() == "ready\n"
                await asyncio.sleep(0.3)
                size = str(records * RECORD_BYTES)
                argv = [
                    sys.executable,
                    "-m",
                    "bench.mqtt_clients",
                    "--send",
                    str(broker.port),
                    size,
                    str(count),
                    str(rate),
                ]
                with subprocess.Popen(argv):
                    report: dict[str, float] = json.loads(receiver.stdout.readline())
            return report
        finally:
            await broker.stop()


async def compare(names: list[str], count: int, qos: int) -> None:
    print(f"{'client':<10}{'records':>8}{'rate':>8}{'us/message':>12}{'messages/s':>12}{'MiB':>8}")
    for records in (1, 10, 100):
        for name in names:
            for rate in (500.0, 0.0):
                report = await measure(name, records, count if rate == 0 else min(count, 2500), rate, qos)
                told = f"{rate:.0f}/s" if rate else "flood"
                print(
                    f"{name:<10}{records:>8}{told:>8}{report['cpu_us']:>12.1f}{report['per_s']:>12.0f}{report['rss_mib']:>8.1f}",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.mqtt_clients", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--count", type=int, default=10_000, help="messages of a flood")
    parser.add_argument("--client", action="append", choices=CLIENTS)
    parser.add_argument("--qos", type=int, choices=(0, 1), default=0, help="of the subscription")
    parser.add_argument("--receive", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--send", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.receive:
        name, port, count, qos = arguments.receive
        asyncio.run(receive(name, int(port), int(count), int(qos)))
    elif arguments.send:
        port, size, count, rate = arguments.send
        with contextlib.suppress(ConnectionError):
            send(int(port), int(size), int(count), float(rate))
    else:
        asyncio.run(compare(arguments.client or list(CLIENTS), arguments.count, arguments.qos))


if __name__ == "__main__":
    main()
