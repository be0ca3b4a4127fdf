"""The connection: what it says when the broker does not want it, TLS, and a client of its own each time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import aiomqtt
import pytest
import trustme
from mqttium import BrokerDisconnectError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from collector.config import MqttSettings
from collector.mqtt import Connection, _why
from collector.state import State
from contract.messages import BatchId
from tests.collector.lab import Mosquitto, free_port, until


@contextlib.asynccontextmanager
async def connecting(settings: MqttSettings, name: str = "collector") -> AsyncIterator[State]:
    state = State(started_at=datetime.now(UTC))
    connection = Connection(settings, name, state, lambda *_: None)
    task = asyncio.create_task(connection.run(), name="connection under test")
    try:
        await until(lambda: state.broker.since is not None)
        yield state
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_nobody_there() -> None:
    async with connecting(MqttSettings(host="127.0.0.1", port=free_port(), tls=False)) as state:
        assert not state.broker.up
        assert state.broker.reason is not None
        assert "refused" in state.broker.reason.lower() or "connect" in state.broker.reason.lower()


async def test_a_wrong_password_is_named_and_not_told(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("")
    broker = Mosquitto(tmp_path, f"password_file {tmp_path}/passwd")
    config = tmp_path / "mosquitto.conf"
    config.write_text(config.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    broker.start()
    secret = tmp_path / "secret"
    secret.write_text("open sesame\n")
    try:
        settings = MqttSettings(host="127.0.0.1", port=broker.port, tls=False, user="collector", password_file=secret)
        async with connecting(settings) as state:
            assert state.broker.reason == (
                "the broker refuses the connection: not authorized; see mqtt.user and mqtt.password_file"
            )
    finally:
        broker.stop()


async def test_a_long_name_or_identity_is_not_kept(mosquitto: Mosquitto) -> None:
    state = State(started_at=datetime.now(UTC))
    heard: list[tuple[str, str, bytes, bytes | None]] = []
    settings = MqttSettings(host="127.0.0.1", port=mosquitto.port, tls=False)
    connection = Connection(settings, "collector", state, lambda *message: heard.append(message))
    task = asyncio.create_task(connection.run(), name="connection under test")
    try:
        await until(lambda: state.broker.up)
        async with aiomqtt.Client("127.0.0.1", mosquitto.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
            for name, size in (("x" * 60_000, 1), ("box-0001", 100), ("box-0001", 60_000)):
                properties = Properties(PacketTypes.PUBLISH)
                properties.CorrelationData = b"c" * size
                await client.publish(f"wanggan/1/up/{name}/records", b"p", qos=1, properties=properties)
            await until(lambda: len(heard) == 3)
        assert [len(message[3] or b"") for message in heard] == [1, 100, 0]
        assert list(connection._topics.values()) == [("box-0001", "records")]
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


HOSTILE = {
    "a response topic with a wildcard": b"\x08\x00\x03a/#",
    "an empty response topic": b"\x08\x00\x00",
    "an unknown payload format": b"\x01\x02",
    "too many user properties": b"\x26\x00\x00\x00\x00" * 1_025,
}


@pytest.mark.parametrize("properties", HOSTILE.values(), ids=HOSTILE)
async def test_a_retained_message_cannot_keep_us_away(properties: bytes, mosquitto: Mosquitto) -> None:
    """mosquitto passes these on; a client that ends the connection for them gets them again at every attempt."""
    identity = BatchId(UUID(int=1), 7).encode()
    properties += b"\x09" + _string(identity)
    topic = b"wanggan/1/up/box-0001/status"
    body = _string(topic) + b"\x00\x01" + _length(properties) + properties + b"{}"
    _, writer = await asyncio.open_connection("127.0.0.1", mosquitto.port)
    # CONNECT of MQTT 5 as "abc", then a retained PUBLISH at QoS 1
    writer.write(b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc" + b"\x33" + _length(body) + body)
    await writer.drain()
    state = State(started_at=datetime.now(UTC))
    heard: list[tuple[str, str, bytes, bytes | None]] = []
    settings = MqttSettings(host="127.0.0.1", port=mosquitto.port, tls=False)
    connection = Connection(settings, "collector", state, lambda *message: heard.append(message))
    task = asyncio.create_task(connection.run(), name="connection under test")
    try:
        await until(lambda: heard)
        assert heard == [("box-0001", "status", b"{}", identity)]
        await asyncio.sleep(0.3)
        assert state.broker.up
    finally:
        writer.close()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _string(text: bytes) -> bytes:
    return len(text).to_bytes(2) + text


def _length(data: bytes) -> bytes:
    """Variable Byte Integer."""
    size, out = len(data), b""
    while True:
        size, digit = divmod(size, 128)
        out += bytes([digit | 128 if size else digit])
        if not size:
            return out


async def test_two_collectors_with_one_name_do_not_fight_fast(mosquitto: Mosquitto) -> None:
    """Each throws the other off; mosquitto 2.0 does not say why, others do. The wait between attempts grows."""
    settings = MqttSettings(host="127.0.0.1", port=mosquitto.port, tls=False)
    async with connecting(settings) as first:
        await until(lambda: first.broker.up)
        async with connecting(settings):
            await until(lambda: first.broker.reason is not None)
    told = _why(BrokerDisconnectError(0x8E))
    assert told == "another client has taken our client id: every collector needs a `name` of its own"


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_broker(tmp_path: Path, ca: trustme.CA) -> Mosquitto:
    server = ca.issue_cert("localhost")
    server.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    server.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    lines = [f"{name} {tmp_path}/{file}" for name, file in
             (("certfile", "cert.pem"), ("keyfile", "key.pem"), ("cafile", "ca.pem"))]  # fmt: skip
    return Mosquitto(tmp_path, *lines, "require_certificate true", "use_identity_as_username true")


async def test_mutual_tls(tmp_path: Path, ca: trustme.CA, tls_broker: Mosquitto) -> None:
    tls_broker.start()
    try:
        own = ca.issue_cert("collector@wanggan.example", common_name="collector")
        own.private_key_pem.write_to_path(str(tmp_path / "own.key"))
        own.cert_chain_pems[0].write_to_path(str(tmp_path / "own.pem"))
        settings = MqttSettings(
            host="localhost", port=tls_broker.port, ca_file=tmp_path / "ca.pem",
            cert_file=tmp_path / "own.pem", key_file=tmp_path / "own.key",
        )  # fmt: skip
        async with connecting(settings) as state:
            await until(lambda: state.broker.up)
        other = trustme.CA()
        other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
        async with connecting(settings.model_copy(update={"ca_file": tmp_path / "other.pem"})) as state:
            assert not state.broker.up
            assert "certificate verify failed" in str(state.broker.reason)
        async with connecting(settings.model_copy(update={"host": "127.0.0.1"})) as state:
            assert not state.broker.up, "the name is checked"
    finally:
        tls_broker.stop()
