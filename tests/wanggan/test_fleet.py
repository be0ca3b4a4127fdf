"""`wanggan fleet`: authority, bundles, and a real broker with the shipped configuration and rights."""

import asyncio
import contextlib
import json
import os
import re
import ssl
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from agent import bundle, certificate, config
from agent.config import ConfigError
from collector.enrolment.authority import Authority
from collector.enrolment.bundle import pack
from tests.wanggan.enrolled import ROOT, Fleet, serving, welcome

A, B = "box-a", "box-b"
WITH_WILL = 4
"""MQTT 5: disconnect, and publish the will."""
QUIET_S = 0.5
"""Nothing arrives in this long: whatever was to come has come, for a marker sent after it did."""


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two agents and their broker."""
    found = Fleet(tmp_path_factory.mktemp("fleet"), A, B)
    with serving(found):
        yield found


async def heard(client: aiomqtt.Client, last: str) -> list[str]:
    """Topics of what has arrived, up to the marker `last`."""
    topics = []
    async with asyncio.timeout(20):
        async for message in client.messages:
            topics.append(message.topic.value)
            if topics[-1] == last:
                break
    return topics


# At the broker, by delivery


async def test_an_agent_says_its_own_and_hears_its_own(enrolled: Fleet) -> None:
    async with enrolled.client("collector") as collector, enrolled.client(A) as a:
        await collector.subscribe("wanggan/1/up/#")
        await a.subscribe("wanggan/1/down/+/#")
        await a.publish(f"wanggan/1/up/{A}/records", b"1", qos=1)
        assert await heard(collector, f"wanggan/1/up/{A}/records") == [f"wanggan/1/up/{A}/records"]
        for agent in (B, "all", A):
            await collector.publish(f"wanggan/1/down/{agent}/suppress", b"1", qos=1)
        own = f"wanggan/1/down/{A}/suppress"
        assert await heard(a, own) == ["wanggan/1/down/all/suppress", own]


async def test_an_agent_cannot_speak_for_another(enrolled: Fleet) -> None:
    async with enrolled.client("collector") as collector, enrolled.client(A) as a:
        await collector.subscribe("#")
        for topic in (f"up/{B}/records", f"up/{B}/status", f"down/{B}/ack", f"down/{A}/ack", "down/all/suppress"):
            for qos in (0, 1):
                await asyncio.wait_for(_publish(a, f"wanggan/1/{topic}", qos), 20)
        await a.publish(f"wanggan/1/up/{A}/reply", b"1", qos=1)
        assert await heard(collector, f"wanggan/1/up/{A}/reply") == [f"wanggan/1/up/{A}/reply"]


async def test_an_agent_cannot_die_for_another(enrolled: Fleet) -> None:
    async with enrolled.client("collector") as collector:
        await collector.subscribe("wanggan/1/up/#")
        for topic in (f"wanggan/1/up/{B}/status", f"wanggan/1/up/{A}/reply"):
            will = aiomqtt.Will(topic, b"gone", qos=1)
            with contextlib.suppress(aiomqtt.MqttError):
                async with enrolled.client(A, will=will) as a:
                    a._client.disconnect(reasoncode=ReasonCode(PacketTypes.DISCONNECT, identifier=WITH_WILL))
        assert await heard(collector, f"wanggan/1/up/{A}/reply") == [f"wanggan/1/up/{A}/reply"]


async def test_a_client_id_takes_nobody_s_place(enrolled: Fleet) -> None:
    async with enrolled.client("collector") as collector, enrolled.client(B) as b:
        await b.subscribe(f"wanggan/1/down/{B}/ack")
        async with enrolled.client(A, client_id=B) as a:
            await a.subscribe(f"wanggan/1/down/{B}/ack")
            await collector.publish(f"wanggan/1/down/{B}/ack", b"for b", qos=1)
            assert await heard(b, f"wanggan/1/down/{B}/ack") == [f"wanggan/1/down/{B}/ack"]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(aiter(a.messages)), QUIET_S)


async def test_perception_reads_who_is_there_and_no_more(enrolled: Fleet) -> None:
    async with enrolled.client("perception") as perception, enrolled.client(A) as a:
        await perception.subscribe("wanggan/1/#")
        await _publish(perception, f"wanggan/1/down/{A}/command", 1)
        await a.publish(f"wanggan/1/up/{A}/records", b"1", qos=1)
        await a.publish(f"wanggan/1/up/{A}/status", b"1", qos=1)
        assert await heard(perception, f"wanggan/1/up/{A}/status") == [f"wanggan/1/up/{A}/status"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_stranger_does_not_get_in(enrolled: Fleet, tmp_path: Path, version: ssl.TLSVersion) -> None:
    """Without a certificate, and with one of another authority that has the name of ours."""
    others = Authority.create(tmp_path / "others", datetime.now(UTC).replace(microsecond=0))
    made = others.issue(A, "agent", datetime.now(UTC))
    (tmp_path / "own.pem").write_bytes(made.certificate + made.key)
    for chain in (None, tmp_path / "own.pem"):
        context = ssl.create_default_context(cafile=str(enrolled.folder / "authority/ca.pem"))
        context.maximum_version = version
        if chain is not None:
            context.load_cert_chain(chain)
        assert not await welcome(enrolled.port, context)
    assert await welcome(enrolled.port, enrolled.tls(A))


async def test_a_revoked_agent_is_refused_and_others_are_not(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, A, B)
    with serving(fleet) as broker:
        assert await welcome(fleet.port, fleet.tls(A))
        async with fleet.client(A, client_id="stays") as open_before:
            assert fleet.run("revoke", A) == 0
            broker.reload()
            async with asyncio.timeout(20):
                while await welcome(fleet.port, fleet.tls(A)):
                    await asyncio.sleep(0.05)
            broker.stop()
            broker.start()
            with pytest.raises(aiomqtt.MqttError):
                await anext(aiter(open_before.messages))
        assert not await welcome(fleet.port, fleet.tls(A))
        assert await welcome(fleet.port, fleet.tls(B))
        # Enrolled again it has another certificate, and that one is good.
        assert fleet.run("enrol", A, "--out", str(tmp_path / "bundles")) == 0
        assert await welcome(fleet.port, fleet.tls(A))
        assert fleet.run("revoke", A) == 0
        assert fleet.run("revoke", A) == 1


async def _publish(client: aiomqtt.Client, topic: str, qos: int) -> None:
    """Whether the broker says that it refuses does not matter here."""
    with contextlib.suppress(aiomqtt.MqttError):
        await client.publish(topic, b"hostile", qos=qos, timeout=10)


# Files


def test_a_bundle_is_taken_and_readable_by_its_owner_alone(enrolled: Fleet, tmp_path: Path) -> None:
    assert stat.S_IMODE(enrolled.bundle(A).stat().st_mode) == 0o600
    settled = bundle.install(enrolled.bundle(A), tmp_path / "etc")
    assert (settled.agent, settled.interface, settled.mqtt.port) == (A, "lo", enrolled.port)
    assert settled.hours.open == {"mon": ["09:00-21:00"]}
    for file in (tmp_path / "etc").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    expires_at = certificate.expires_at(tmp_path / "etc/agent.pem")
    assert expires_at is not None
    assert timedelta(days=729) < expires_at - datetime.now(UTC) < timedelta(days=731)


def test_secrets_of_the_authority_are_private(enrolled: Fleet) -> None:
    for file in (enrolled.folder / "authority").rglob("*"):
        if file.suffix in (".key", ".jsonl") or file.is_dir():
            assert file.stat().st_mode & 0o077 == 0, file


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"../evil": b""}, "'../evil' does not belong"),
        ({"/etc/passwd": b""}, "does not belong"),
        ({"agent.pem": b""}, "agent.toml is missing"),
        ({"agent.toml": b"agent = 1"}, "mqtt: missing"),
        ({"agent.toml": b"x" * 2**21}, "does not belong"),
        ({f"f{n}": b"" for n in range(30)}, "does not belong"),
    ],
)
def test_a_bad_bundle_changes_nothing(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "agent.toml").write_text("old")
    bad = tmp_path / "bad.tar"
    bad.write_bytes(pack(files, datetime.now(UTC)))
    with pytest.raises(ConfigError, match=words):
        bundle.install(bad, folder)
    assert [(file.name, file.read_text()) for file in folder.iterdir()] == [("agent.toml", "old")]


def test_links_and_other_files_are_no_bundle(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        entry = tarfile.TarInfo("agent.toml")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/shadow"
        tar.addfile(entry)
    (tmp_path / "text.tar").write_text("hello")
    for name in ("link.tar", "text.tar", "missing.tar"):
        with pytest.raises(ConfigError, match=name):
            bundle.install(tmp_path / name, tmp_path / "etc")


def test_a_certificate_s_end_is_read_or_unknown(tmp_path: Path) -> None:
    now = datetime(2049, 1, 1, tzinfo=UTC)  # its end is beyond 2050: another form of time
    made = Authority.create(tmp_path / "authority", now).issue("box-a", "agent", now)
    whole = tmp_path / "whole.pem"
    whole.write_bytes(made.certificate)
    assert certificate.expires_at(whole) == now + timedelta(days=730)
    for number, data in enumerate([b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\xff"]):
        broken = tmp_path / f"{number}.pem"
        broken.write_bytes(data)
        assert certificate.expires_at(broken) is None
    assert certificate.expires_at(tmp_path / "missing") is None


# The command


def test_the_list_tells_who_is_enrolled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fleet = Fleet(tmp_path, A, B)
    (tmp_path / "sites.toml").write_text((tmp_path / "sites.toml").read_text().replace(f'"{B}"', '"box-c"'))
    fleet.run("revoke", A)
    capsys.readouterr()
    assert fleet.run("list", "--json") == 0
    told = {member["name"]: member["state"] for member in json.loads(capsys.readouterr().out)}
    assert told == {
        "broker": "server", "collector": "server", "perception": "server",
        A: "revoked", B: "unregistered", "box-c": "not enrolled",
    }  # fmt: skip
    assert fleet.run("show", A) == 0
    assert "revoked" in capsys.readouterr().out
    assert fleet.run("show", "nobody") == 1


def test_a_certificate_near_its_end_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fleet = Fleet(tmp_path, A)
    ledger = tmp_path / "authority/ledger.jsonl"
    soon = (datetime.now(UTC) + timedelta(days=59)).isoformat()
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    ledger.write_text("".join(json.dumps(line | {"expires_at": soon}) + "\n" for line in lines))
    capsys.readouterr()
    assert fleet.run("list", "--json") == 0
    assert {member["state"] for member in json.loads(capsys.readouterr().out)} == {"expiring"}
    # `init` renews the servers' then.
    assert fleet.run("init") == 0
    capsys.readouterr()
    assert fleet.run("list", "--json") == 0
    told = {member["name"]: member["state"] for member in json.loads(capsys.readouterr().out)}
    assert told == {"broker": "server", "collector": "server", "perception": "server", A: "expiring"}


def test_what_stands_in_the_way_is_told_with_the_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fleet = Fleet(tmp_path, A, jobs='[targets.gateway]\nrole = "gateway"\nhost = "192.0.2.1"\n')
    for words, told in (
        (("enrol", "box-x"), "has no site now"),
        (("enrol", A), "--renew"),
    ):
        assert fleet.run(*words) == 2
        assert told in capsys.readouterr().err
    issued = (tmp_path / "authority/ledger.jsonl").read_text()
    for jobs, told in (
        ('[targets.gateway]\nrole = "gateway"\nhost = "${gateway}"\n', "add --set gateway=..."),
        ("version = 2\n", "version: remove it"),
        ("[[jobs]]\nprobe = 'laetncy'\nperiod_s = 60\n", "the agent would refuse it: agent.toml: jobs[0].probe"),
        ("[[jobs]\n", "jobs.toml"),
    ):
        (tmp_path / "jobs.toml").write_text(jobs)
        assert fleet.run("enrol", A, "--renew") == 2
        assert told in capsys.readouterr().err
    assert (tmp_path / "authority/ledger.jsonl").read_text() == issued
    (tmp_path / "authority/ledger.jsonl").write_text(issued + "{\n")
    assert fleet.run("list") == 2
    assert "line 5 is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["all", "broker", "collector", "perception"])
def test_no_agent_has_the_name_of_a_server(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fleet = Fleet(tmp_path)
    sites = tmp_path / "sites.toml"
    sites.write_text(sites.read_text() + f'[[sites]]\nagent = "{name}"\ninterface = "lo"\nfrom = 2020-01-01\n'
                     'venue = "hall"\nnetwork = "wifi"\n')  # fmt: skip
    assert fleet.run("enrol", name) == 2
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("network", ["wifi", "gov"])
def test_the_shipped_example_enrols(network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`fleet.example.toml` with the example register and the shipped jobs, keys of a reflector included."""
    agent = {"wifi": "box-0007", "gov": "node-01"}[network]
    (tmp_path / "fleet.toml").write_text((ROOT / "deploy/fleet.example.toml").read_text())
    (tmp_path / "sites.toml").write_text((ROOT / "deploy/sites.example.toml").read_text())
    (tmp_path / "jobs").symlink_to(ROOT / "deploy/jobs")
    fleet = Fleet.__new__(Fleet)
    fleet.config = tmp_path / "fleet.toml"
    assert fleet.run("init") == 0
    assert fleet.run("enrol", agent, "--set", "gateway=192.0.2.1") == 2
    # The error has the command that makes what is missing.
    command = re.search(r"portal_key_file: .*: (\(umask 077; .*\))$", capsys.readouterr().err.strip())
    assert command is not None
    subprocess.run(["sh", "-c", command[1]], check=True, timeout=10)
    assert (tmp_path / "portal.key").stat().st_mode & 0o077 == 0
    assert fleet.run("enrol", agent, "--out", str(tmp_path), "--set", "gateway=192.0.2.1") == 0
    settled = bundle.install(tmp_path / f"{agent}.tar", tmp_path / "etc")
    assert settled.targets["gateway"].host == "192.0.2.1"
    assert settled.targets["core"].key() in (tmp_path / "keys.toml").read_bytes()
    assert (tmp_path / "keys.toml").stat().st_mode & 0o077 == 0
    # The reflector takes the keys as they are.
    from reflector.config import keys
    from reflector.config import load as load_reflector

    (tmp_path / "reflector.toml").write_text('keys_file = "keys.toml"\n')
    assert list(keys(load_reflector(tmp_path / "reflector.toml")) or ()) == [agent]


def test_the_box_starts_the_service_of_its_profile(
    enrolled: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemctl as a script that writes down what it is asked."""
    from agent import commands

    asked = tmp_path / "asked"
    script = tmp_path / "bin/systemctl"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    words = ["install", str(enrolled.bundle(A)), "--to", str(tmp_path / "etc")]
    assert commands.main([*words, "--start"]) == 0
    assert asked.read_text().splitlines() == [
        "disable --now wanggan-agent-wifi.service",
        "enable wanggan-agent.service",
        "restart wanggan-agent.service",
    ]
    script.write_text("#!/bin/sh\nexit 1\n")
    assert commands.main([*words, "--start"]) == 1
    assert config.load(tmp_path / "etc/agent.toml").agent == A
