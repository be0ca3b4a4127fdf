"""A led join to the end: a supplicant that replays, and a real DHCP server, resolver and reflector behind it."""

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent import config, once
from agent.clock import SystemClock
from agent.config import ConfigError
from agent.facts import Facts
from agent.probe import Context, Failure, Target
from agent.probes import wifi_join
from agent.probes.wifi_join import WifiJoinSettings
from agent.wifi.watch import Watch, Wifi
from contract.values import WifiJoin
from tests.agent.lab import Namespace, cable
from tests.agent.supplicant import AP, recorded, supplicant
from tests.agent.test_portal import EMPTY, TO_LOGIN, reflector, saying
from tests.reflector.site import PORTAL_KEY

CONFIG = """
agent = "lib-01"
state = "state"
interface = "v0"
[mqtt]
host = "127.0.0.1"
tls = false
[wifi]
manager = "{manager}"
control = "{folder}"
[targets.check]
role = "core"
host = "check.test"
port = {port}
key_file = "portal.key"
[[jobs]]
probe = "wifi_join"
target = "check"
period_s = 3600
"""


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    (tmp_path / "portal.key").write_bytes(PORTAL_KEY + b"\n")
    (tmp_path / "portal.key").chmod(0o600)
    return str(tmp_path / "portal.key")


async def join(folder: Path, port: int, **settings: Any) -> tuple[WifiJoin, str | None]:
    """A join with a recorded PSK handshake, on loopback behind it; the values, and the reason of a failure."""
    clock = SystemClock()
    watch = Watch("lo", Wifi(manager="wpa", control=str(folder)), clock, lambda *_: None)
    context = Context(
        agent="lib-01",
        interface="lo",
        clock=clock,
        facts=Facts(),
        timeout_s=60.0,
        target=Target(role="core", host="localhost", port=port, key_file=str(folder / "portal.key")),
        watch=watch,
    )
    task = asyncio.create_task(watch.run(), name="watch")
    try:
        return await wifi_join.measure(WifiJoinSettings(**({"dhcp": "other"} | settings)), context), None
    except Failure as failure:
        return context.values or WifiJoin(), failure.reason  # type: ignore[return-value]
    finally:
        task.cancel()


async def test_online_from_the_request_to_the_first_byte(tmp_path: Path, key_file: str) -> None:
    async with reflector() as port, supplicant(tmp_path, "lo") as fake:
        fake.plays["RECONNECT"], fake.speed = recorded("psk"), 20.0
        values, reason = await join(tmp_path, port)
        assert fake.bssid == AP
        assert fake.commands.count("DISCONNECT") == 1, "it stays: others use this radio"
    assert reason is None
    stages = [values.scan_ms, values.auth_ms, values.assoc_ms, values.handshake_ms, values.first_dns_ms]
    stages += [values.first_byte_ms]
    assert all(ms is not None and ms > 0 for ms in stages), values
    assert values.online_ms is not None
    assert sum(ms for ms in stages if ms is not None) <= values.online_ms + 1
    assert (values.eap_ms, values.dhcp_ms, values.failed_stage, values.bssid) == (None, None, None, AP)


async def test_a_radio_that_only_joins_leaves_again(tmp_path: Path, key_file: str) -> None:
    async with reflector() as port, supplicant(tmp_path, "lo") as fake:
        fake.plays["RECONNECT"], fake.speed = recorded("psk"), 50.0
        values, reason = await join(tmp_path, port, leave=True)
        assert (reason, values.online_ms is not None) == (None, True)
        orders = [word for word in fake.commands if word != "STATUS"]
        assert (orders[-2:], fake.bssid) == (["RECONNECT", "DISCONNECT"], None)


@pytest.mark.parametrize(
    ("answer", "stage", "reason"),
    [(TO_LOGIN, "portal", "portal"), (EMPTY, "portal", "portal"), (b"rubbish\r\n\r\n", "internet", "http_status")],
)
async def test_what_stands_behind_the_radio(
    tmp_path: Path, key_file: str, answer: bytes, stage: str, reason: str
) -> None:
    async with saying(answer) as port, supplicant(tmp_path, "lo") as fake:
        fake.plays["RECONNECT"], fake.speed = recorded("psk"), 50.0
        values, found = await join(tmp_path, port)
    assert (values.failed_stage, found) == (stage, reason)
    assert values.handshake_ms is not None, "what went well is kept"
    assert (values.first_byte_ms, values.online_ms) == (None, None)


async def test_nobody_at_the_check_url(tmp_path: Path, key_file: str, unused_tcp_port: int) -> None:
    async with supplicant(tmp_path, "lo") as fake:
        fake.plays["RECONNECT"], fake.speed = recorded("psk"), 50.0
        values, reason = await join(tmp_path, unused_tcp_port)
    assert (values.failed_stage, reason) == ("internet", "refused")


async def test_no_access_point_in_the_air(tmp_path: Path, key_file: str) -> None:
    async with supplicant(tmp_path, "lo") as fake:
        fake.plays["RECONNECT"], fake.speed = recorded("not_found"), 5.0
        values, reason = await join(tmp_path, 9)
    assert (values.failed_stage, reason, values.scan_ms, values.bssid) == ("scan", "not_associated", None, None)


async def test_a_wrong_key(tmp_path: Path, key_file: str) -> None:
    async with supplicant(tmp_path, "lo") as fake:
        fake.plays["RECONNECT"], fake.speed = recorded("wrong_key"), 20.0
        values, reason = await join(tmp_path, 9)
    assert (values.failed_stage, reason, values.reason_code) == ("handshake", "auth_failed", 15)


async def test_no_supplicant_is_our_own_fault(tmp_path: Path, key_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wifi_join, "HEARD_S", 0.1)
    _, reason = await join(tmp_path, 9)
    assert reason == "internal"
    async with supplicant(tmp_path, "lo") as fake:
        fake.replies["RECONNECT"] = "FAIL\n"
        _, reason = await join(tmp_path, 9)
    assert reason == "internal"


def test_nobody_joins_where_somebody_else_leads(tmp_path: Path, key_file: str) -> None:
    text = CONFIG.format(manager="observe", folder=tmp_path, port=80)
    with pytest.raises(ConfigError, match="allow that with manager = 'wpa' in"):
        config.parse(text, tmp_path)
    settled = config.parse(text.replace('"observe"', '"wpa"'), tmp_path)
    assert settled.watched() == ["v0"]
    row = "probe = 'wifi_join'"
    assert row not in text
    with pytest.raises(ConfigError, match="once wifi_join: wifi_join leaves the network"):
        once.plan("wifi_join", None, once.Wish(server="192.0.2.1", interface="lo", key_file=key_file))


# With a real DHCP client and server


@contextmanager
def venue(folder: Path, *, dhcp: bool = True, resolves: bool = True) -> Iterator[tuple[Namespace, str]]:
    """A box without an address; behind its interface a DHCP server, a resolver and a reflector. Its configuration."""
    with cable() as (here, there):
        here.ip("addr", "flush", "dev", "v0")
        here.files(hosts="127.0.0.1 localhost\n", resolv="nameserver 10.77.0.2\n")
        if dhcp:
            words = [
                "--dhcp-range=10.77.0.50,10.77.0.59",
                "--dhcp-option=3,10.77.0.2",
                "--dhcp-authoritative",
                "--no-ping",
            ]
            words += ["--address=/check.test/10.77.0.2"] if resolves else ["--port=0"]
            there.start(
                "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file=",
                "--user=root", "--interface=v0", "--log-facility=-", "--log-dhcp", f"--dhcp-leasefile={folder}/leases",
                *words, ready="started",
            )  # fmt: skip
        server = there.start(sys.executable, "-u", "-m", "tests.agent.reflector", "10.77.0.2", "http")
        server.until(lambda: server.log.strip().isdigit())
        here.start(sys.executable, "-u", "-m", "tests.agent.supplicant", str(folder), "v0", "roam", ready="ready")
        (folder / "agent.toml").write_text(CONFIG.format(manager="wpa", folder=folder, port=server.log.strip()))
        yield here, str(folder / "agent.toml")


def test_a_lease_a_name_and_a_first_byte(tmp_path: Path, key_file: str) -> None:
    with venue(tmp_path) as (here, file):
        first = here.once("wifi_join", "--config", file)
        lease = (tmp_path / "leases").read_text()
        again = here.once("wifi_join", "--config", file)
    for record in (first, again):
        values = record["values"]
        assert record["outcome"] == "ok", record
        assert values["dhcp_ms"] > 0
        assert values["first_dns_ms"] > 0
        assert values["first_byte_ms"] > 0
        assert values["online_ms"] > values["scan_ms"] + values["dhcp_ms"]
    assert "10.77.0.5" in lease
    assert json.dumps(first).count(":5e:") == 1, "the access point's address and no other"


@pytest.mark.parametrize(
    ("network", "stage", "reason"),
    [({"dhcp": False}, "dhcp", "dhcp_failed"), ({"resolves": False}, "dns", "dns_failed")],
)
def test_what_a_network_may_lack(
    tmp_path: Path, key_file: str, network: dict[str, bool], stage: str, reason: str
) -> None:
    with venue(tmp_path, **network) as (here, file):
        record = here.once("wifi_join", "--config", file, "--set", "dhcp_s=3")
    assert (record["outcome"], record["reason"], record["values"]["failed_stage"]) == ("failed", reason, stage), record
