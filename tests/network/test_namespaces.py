"""Namespaces, cables and routes: what runs inside is what was asked for, and nothing is left of them."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.network.features import missing, needs
from tests.network.namespaces import Namespace, cable, ip, namespace, route

pytestmark = needs()


class _Boom(Exception):
    pass


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_nothing_is_left_after_a_failure() -> None:
    spaces: list[Namespace] = []
    inside: list[str] = []

    def fail() -> None:
        with cable() as ends:
            spaces.extend(ends)
            ends[0].files(hosts="10.77.0.2 core.test\n")
            ends[0].start("sleep", "1000")
            ends[1].start("sh", "-c", "trap '' TERM; echo up; sleep 1000 & wait; sleep 1000", ready="up")
            inside.extend(pid for end in ends for pid in ip("netns", "pids", end.name).split())
            raise _Boom

    with pytest.raises(_Boom):
        fail()
    assert len(inside) == 3, "the shell's own child, too"
    assert not [pid for pid in inside if _runs(pid)]
    assert not {space.name for space in spaces} & set(ip("netns", "list").split())
    assert not [space.name for space in spaces if Path("/etc/netns", space.name).exists()]


def test_names_are_our_own() -> None:
    with namespace() as one, namespace() as two:
        assert one.name != two.name
        assert str(os.getpid()) in one.name


def test_hosts_and_resolv_conf_of_a_namespace() -> None:
    with namespace() as here, namespace() as other:
        here.files(hosts="10.77.0.9 core.test\n", resolv="nameserver 10.77.0.3\n")
        assert here.run("getent", "hosts", "core.test").split() == ["10.77.0.9", "core.test"]
        assert here.run("cat", "/etc/resolv.conf") == "nameserver 10.77.0.3\n"
        assert "10.77.0.9" not in other.run("cat", "/etc/hosts")


def test_programs_tell_what_they_said() -> None:
    with namespace() as here:
        assert here.start("sh", "-c", "echo out; echo err >&2").wait() == "out\nerr\n"
        with pytest.raises(AssertionError, match=r"ended with 3: sorry"):
            here.start("sh", "-c", "echo sorry; exit 3").wait()
        with pytest.raises(RuntimeError, match=r"is not ready \(exit 0\): hello"):
            here.start("echo", "hello", ready="goodbye")
        with pytest.raises(subprocess.CalledProcessError):
            here.run("false")


@needs("cubic")
@pytest.mark.parametrize("name", ["cubic", "reno", "bbr"])
def test_congestion_control_is_pinned(name: str) -> None:
    with cable() as ends:
        for space in ends:
            space.pin(name)
        server = ends[1].start("iperf3", "--server", "--one-off", "--forceflush", ready="listening")
        client = ends[0].start("iperf3", "--client", "10.77.0.2", "--bytes", "64K", "--json")
        assert f'"sender_tcp_congestion":\t"{name}"' in client.wait()
        server.wait()


def test_counters_are_what_was_sent() -> None:
    with cable() as (here, there):
        before = there.counters("v0")
        here.run("ping", "-q", "-c", "50", "-i", "0.002", "-s", "972", "10.77.0.2")
        after = there.counters("v0")
        # 972 + 8 ICMP + 20 IP + 14 Ethernet; beside them a few ARP and IPv6 neighbour packets.
        assert 50 <= after.rx_packets - before.rx_packets <= 60
        assert 50 * 1014 <= after.rx_bytes - before.rx_bytes <= 50 * 1014 + 1000
        assert after.rx_dropped == after.tx_dropped == 0


def _answer_of_hop(space: Namespace, hops: int, target: str) -> str:
    command = space.argv("ping", "-n", "-c", "1", "-W", "0.3", "-t", str(hops), target)
    return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout


def test_route_of_three_hops_with_a_silent_one() -> None:
    with route(3) as spaces:
        spaces[2].silence_icmp()
        answers = [_answer_of_hop(spaces[0], hops, "10.77.3.2") for hops in (1, 2, 3, 4)]
        assert "From 10.77.0.2" in answers[0]
        assert "Time to live exceeded" in answers[0]
        assert "Time to live exceeded" not in answers[1]
        assert "From 10.77.2.2" in answers[2]
        assert "64 bytes from 10.77.3.2" in answers[3]


@pytest.mark.parametrize("silent", [False, True])
def test_narrow_link_says_so_unless_it_is_a_black_hole(silent: bool) -> None:
    with route(2, mtus={1: 1300}) as spaces:
        if silent:
            spaces[1].silence_icmp()
        whole = ("ping", "-n", "-M", "do", "-c", "1", "-W", "0.3")
        assert "1 received" in spaces[0].run(*whole, "-s", "1272", "10.77.2.2")
        refused = subprocess.run(spaces[0].argv(*whole, "-s", "1273", "10.77.2.2"), capture_output=True, text=True)
        assert ("mtu = 1300" in refused.stdout) is not silent


def test_a_feature_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_probes(), "flying", ["ip", "link", "add", "x", "type", "flying"])
    assert (missing("flying") or "").startswith("this kernel has no flying: ")


def _probes() -> dict[str, list[str]]:
    from tests.network import features

    return features._PROBES
