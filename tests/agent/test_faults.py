"""Faults of the network between agent and server, probe by probe: each is real, each has its outcome and reason.

What a server itself does wrong (refuses, resets, stalls, shows a wrong certificate, keeps silent) stands beside its
probe: test_dns, test_web, test_iperf3, test_ookla, test_latency, test_path.
"""

import json
from typing import Any

import pytest

from tests.agent.lab import when
from tests.network.features import needs
from tests.network.namespaces import Namespace, cable
from tests.network.relay import relay

pytestmark = needs("tun")

DNS = ("dns", "--target", "www.test", "--server")
DNS_TCP = ("dns", "--set", "transport=tcp", "--target", "www.test", "--server")
WEB = ("web", "--target")
PATH = ("path", "--target")
IPERF3 = ("throughput", "--provider", "iperf3", "--server")
PROBES = {"dns": DNS, "dns tcp": DNS_TCP, "web": WEB, "path": PATH, "iperf3": IPERF3}
ALL = pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)


def measure(space: Namespace, probe: tuple[str, ...], address: str) -> dict[str, Any]:
    where = f"http://{address}/" if probe is WEB else address
    return space.once(*probe, where, "--interface", "v0")


def end(record: dict[str, Any]) -> tuple[str, str]:
    return record["outcome"], record["reason"]


@ALL
@pytest.mark.parametrize("kind", ["unreachable", "prohibit"])
def test_a_router_knows_no_way(probe: tuple[str, ...], kind: str) -> None:
    with relay(delay_ms=2, congestion_control=None) as line:
        line.here.ip("route", "add", "10.88.0.0/24", "via", "10.77.0.2")
        line.there.sysctl("net.ipv4.ip_forward", "1")
        line.there.sysctl("net.ipv4.icmp_ratelimit", "0")
        line.there.ip("route", "add", kind, "10.88.0.0/24")
        record = measure(line.here, probe, "10.88.0.1")
    assert end(record) == ("failed", "unreachable"), record
    assert record["duration_s"] < 3


def drop(space: Namespace, hook: str, what: str) -> None:
    """What enters by (`input`) or leaves by (`output`) this namespace's firewall, counted before it is dropped."""
    space.nft(
        f"add table ip f; add counter ip f seen; add chain ip f c {{ type filter hook {hook} priority 0; }};"
        f"add rule ip f c {what} counter name seen drop"
    )


def dropped(space: Namespace) -> int:
    found = json.loads(space.nft("list counter ip f seen"))["nftables"]
    return sum(entry["counter"]["packets"] for entry in found if "counter" in entry)


@pytest.mark.parametrize("probe", [DNS, PATH], ids=["dns", "path"])
def test_our_own_host_lets_nothing_out(probe: tuple[str, ...]) -> None:
    """Of a TCP connection Linux does not say it: that is a `timeout`."""
    with cable() as (here, _):
        drop(here, "output", "meta l4proto udp")
        record = measure(here, probe, "10.77.0.2")
    assert end(record) == ("invalid", "no_permission"), record


@ALL
@pytest.mark.parametrize("fault", ["deleted", "unplugged"])
def test_the_interface_goes_away_in_the_middle(probe: tuple[str, ...], fault: str) -> None:
    """Whatever is asked there, nobody answers: the probe waits when it happens."""
    with cable() as (here, there):
        drop(there, "input", "meta l4proto { tcp, udp }")

        def lose() -> None:
            if fault == "deleted":
                here.ip("link", "del", "v0")
            else:
                there.ip("link", "set", "v0", "down")

        with when(lambda: dropped(there) > 0, lose):
            record = measure(here, probe, "10.77.0.2")
    assert end(record) == ("failed", "no_link"), record


@pytest.mark.parametrize("probe", [WEB, PATH, IPERF3], ids=["web", "path", "iperf3"])
def test_the_name_server_is_silent(probe: tuple[str, ...]) -> None:
    with cable() as (here, there):
        drop(there, "input", "udp dport 53")
        here.files(hosts="127.0.0.1 localhost\n", resolv="nameserver 10.77.0.2\n")
        record = measure(here, probe, "www.test")
    assert end(record) == ("failed", "dns_failed"), record
