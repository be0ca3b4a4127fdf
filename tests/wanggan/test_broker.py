"""Both brokers of `wanggan up`, running: what the contract needs of them works, and strangers stay outside."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from contract import topics
from contract.messages import MAX_BYTES
from wanggan import broker
from wanggan.network import free_port, taken

PASSWORDS = {"local": "agent's own", "collector": 'quoted "too" \\'}


@pytest.fixture(params=["mosquitto", "the embedded broker"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def port(kind: str, tmp_path: Path) -> Iterator[int]:
    number = free_port()
    chosen = broker.choose(tmp_path, number, PASSWORDS, agent="local", embedded=kind != "mosquitto")
    assert chosen.name == kind
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(chosen.argv, stderr=log, stdout=log) as process:
        try:
            deadline = time.monotonic() + 20
            while not taken(broker.HOST, number) and time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.02)
            assert process.poll() is None, (tmp_path / "log").read_text()
            yield number
        finally:
            process.terminate()
            process.wait(10)


def client(port: int, user: str, password: str | None = None, **more: object) -> aiomqtt.Client:
    return aiomqtt.Client(
        broker.HOST, port, username=user, password=PASSWORDS[user] if password is None else password, timeout=3,
        identifier=user, protocol=aiomqtt.ProtocolVersion.V5, **more,  # type: ignore[arg-type]
    )  # fmt: skip


async def next_message(subscriber: aiomqtt.Client) -> aiomqtt.Message:
    return await asyncio.wait_for(anext(subscriber.messages), 10)


async def test_a_full_batch_arrives_with_its_identity_and_is_answered(port: int) -> None:
    identity = Properties(PacketTypes.PUBLISH)
    identity.CorrelationData = b'["o",1]'
    async with client(port, "collector") as collector, client(port, "local") as agent:
        await collector.subscribe(topics.up("+", "records"), qos=1)
        await agent.subscribe(topics.down("local", "#"), qos=1)
        await agent.publish(topics.up("local", "records"), b"r" * MAX_BYTES, qos=1, properties=identity)
        received = await next_message(collector)
        assert (len(received.payload), received.properties.CorrelationData) == (MAX_BYTES, b'["o",1]')  # type: ignore[arg-type, union-attr]
        await collector.publish(topics.down("local", "ack"), b"{}", qos=0)
        assert (await next_message(agent)).topic.value == topics.down("local", "ack")


async def test_a_status_is_retained_and_the_last_will_comes(port: int) -> None:
    status = topics.up("local", "status")
    agent = client(port, "local", will=aiomqtt.Will(status, b"offline", 1, retain=True))
    await agent.__aenter__()
    await agent.publish(status, b"online", qos=1, retain=True)
    async with client(port, "collector") as collector:
        await collector.subscribe(topics.up("+", "status"), qos=1)
        received = await next_message(collector)
        assert (received.payload, received.retain) == (b"online", True)
        agent._client._sock_close()  # as if killed: no DISCONNECT
        assert (await next_message(collector)).payload == b"offline"


@pytest.mark.parametrize(("user", "password"), [("local", "wrong"), ("nobody", "")])
async def test_strangers_stay_outside(port: int, user: str, password: str) -> None:
    with pytest.raises(aiomqtt.MqttError):
        async with client(port, user, password):
            pass


def test_no_secret_is_in_the_arguments_or_readable_by_others(kind: str, tmp_path: Path) -> None:
    chosen = broker.choose(tmp_path, 1, PASSWORDS, agent="local", embedded=kind != "mosquitto")
    assert not any(password in " ".join(chosen.argv) for password in PASSWORDS.values())
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("kind", ["mosquitto"], indirect=True)
async def test_an_agent_cannot_speak_as_the_collector(port: int) -> None:
    async with client(port, "collector") as collector, client(port, "local") as agent:
        await collector.subscribe(f"{topics.ROOT}/#", qos=1)
        await agent.publish(topics.up("other", "records"), b"forged", qos=1)
        await agent.publish(topics.down("local", "ack"), b"forged", qos=1)
        await agent.publish(topics.up("local", "records"), b"own", qos=1)
        assert (await next_message(collector)).payload == b"own"


def test_mosquitto_is_found_where_path_does_not_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert broker.find_mosquitto() == shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
