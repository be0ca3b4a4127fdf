"""Latency against real peers: loopback, and networks of our own with known faults."""

import asyncio
import socket
import time
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.facts import Facts
from agent.probe import Context, Failure, Target
from agent.probes import latency
from agent.probes.latency import LatencySettings
from contract.values import Latency
from tests.agent.lab import cable, latency_job, namespace
from tests.network.features import needs
from tests.network.relay import Way, relay

pytestmark = pytest.mark.laboratory

QUICK = LatencySettings(packets=5, interval_ms=20.0, late_s=0.3)


def context(host: str, port: int | None = None) -> Context:
    return Context(
        agent="lib-01",
        interface="lo",
        clock=SystemClock(),
        facts=Facts(),
        timeout_s=10.0,
        target=Target(role="internet", host=host, port=port),
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_icmp_on_loopback(host: str) -> None:
    values = await latency.measure(QUICK, context(host))
    assert (values.method, values.sent, values.received, values.loss_ratio) == ("icmp", 5, 5, 0.0)
    assert values.rtt_min_ms is not None
    assert values.rtt_max_ms is not None
    assert 0 < values.rtt_min_ms <= values.rtt_max_ms < 1000
    assert (values.packet_bytes, values.interval_ms) == (44, 20.0)


async def test_a_reset_is_a_reply(unused_tcp_port: int) -> None:
    values = await latency.measure(
        LatencySettings(method="tcp", packets=5, interval_ms=20.0), context("127.0.0.1", unused_tcp_port)
    )
    assert (values.method, values.sent, values.received) == ("tcp", 5, 5)
    assert values.packet_bytes is None


async def test_tcp_without_an_answer_is_all_lost() -> None:
    """A listener whose queue is full drops the SYN, as a dead host does; its retransmission is no reply either."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        try:
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", port))
            at = context("127.0.0.1", port)
            with pytest.raises(Failure) as caught:
                await latency.measure(LatencySettings(method="tcp", packets=3, interval_ms=20.0, late_s=1.5), at)
        finally:
            for sock in waiting:
                sock.close()
    assert caught.value.reason == "all_lost"
    assert isinstance(at.values, Latency)
    assert (at.values.sent, at.values.received, at.values.loss_ratio, at.values.rtt_p50_ms) == (3, 0, 1.0, None)


async def test_train_that_is_cut_short_keeps_its_counts() -> None:
    at = context("127.0.0.1")
    task = asyncio.create_task(latency.measure(LatencySettings(packets=100, interval_ms=20.0), at))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(at.values, Latency)
    assert at.values.sent is not None
    assert 1 <= at.values.sent < 100
    assert at.values.received == at.values.sent


class SteppingClock(SystemClock):
    """A wall clock that is set while packets are under way."""

    def __init__(self, step_s: float) -> None:
        self._start_s = self.boot()
        self._step_s = step_s

    def wall(self) -> float:
        return super().wall() + (self._step_s if self.boot() - self._start_s > 0.05 else 0.0)


@pytest.mark.parametrize("step_s", [-0.5, 0.02, 3600.0])
async def test_wall_step_among_packets_voids_the_times_and_keeps_the_counts(step_s: float) -> None:
    at = context("127.0.0.1")
    at.clock = SteppingClock(step_s)
    with pytest.raises(Failure) as caught:
        await latency.measure(QUICK, at)
    assert caught.value.reason == "clock_step"
    assert isinstance(at.values, Latency)
    assert (at.values.sent, at.values.received, at.values.rtt_p50_ms) == (5, 5, None)


def test_unprivileged_icmp_inside_the_group_range(tmp_path: Path) -> None:
    with namespace() as here:
        here.sysctl("net.ipv4.ping_group_range", "0 2147483647")
        for host in ("127.0.0.1", "::1"):
            record = here.once("latency", "--config", latency_job(tmp_path, host, "lo"), without="net_raw")
            assert (record["outcome"], record["values"]["method"], record["values"]["received"]) == ("ok", "icmp", 10)
            assert (record["flags"], record["target"]) == ([], "core")


def test_without_permission_it_falls_back_and_says_so(tmp_path: Path) -> None:
    with namespace() as here:
        here.sysctl("net.ipv4.ping_group_range", "1 0")
        record = here.once("latency", "--config", latency_job(tmp_path, "127.0.0.1", "lo"), without="net_raw")
    assert (record["outcome"], record["values"]["method"], record["values"]["received"]) == ("ok", "tcp", 10)
    assert record["flags"] == ["method_fallback"]


def test_the_only_method_allowed_is_not_permitted(tmp_path: Path) -> None:
    with namespace() as here:
        here.sysctl("net.ipv4.ping_group_range", "1 0")
        job = latency_job(tmp_path, "127.0.0.1", "lo", method="icmp")
        record = here.once("latency", "--config", job, without="net_raw")
    assert (record["outcome"], record["reason"]) == ("invalid", "no_permission")


def test_peer_that_never_answers(tmp_path: Path) -> None:
    with cable() as (here, there):
        there.sysctl("net.ipv4.icmp_echo_ignore_all", "1")
        record = here.once("latency", "--config", latency_job(tmp_path, "10.77.0.2", "v0"))
    assert (record["outcome"], record["reason"]) == ("failed", "all_lost")
    values = record["values"]
    assert (values["sent"], values["received"], values["loss_ratio"]) == (10, 0, 1.0)
    assert values["rtt_p50_ms"] is None


def test_router_that_knows_no_way(tmp_path: Path) -> None:
    with cable() as (here, there):
        here.ip("route", "add", "10.88.0.0/24", "via", "10.77.0.2")
        there.sysctl("net.ipv4.ip_forward", "1")
        there.sysctl("net.ipv4.icmp_ratelimit", "0")
        there.ip("route", "add", "unreachable", "10.88.0.0/24")
        record = here.once("latency", "--config", latency_job(tmp_path, "10.88.0.1", "v0"))
    assert (record["outcome"], record["reason"]) == ("failed", "unreachable")
    assert (record["values"]["sent"], record["values"]["loss_ratio"]) == (10, 1.0)


def test_no_route(tmp_path: Path) -> None:
    with cable() as (here, _):
        six = here.once("latency", "--config", latency_job(tmp_path, "fd88::1", "v0"))
        four = here.once("latency", "--config", latency_job(tmp_path, "10.88.0.1", "v0"))
    assert (six["outcome"], six["reason"]) == ("failed", "unreachable")
    # Of a socket that is bound to a device Linux thinks that every IPv4 address is on the wire: it never says no.
    assert (four["outcome"], four["reason"]) == ("failed", "all_lost")


def test_cable_that_is_out_and_interface_that_is_not_there(tmp_path: Path) -> None:
    with cable() as (here, there):
        there.ip("link", "set", "v0", "down")
        for _ in range(100):
            if '"UP"' not in here.run("ip", "-json", "link", "show", "v0").partition("operstate")[2][:12]:
                break
            time.sleep(0.05)
        out = here.once("latency", "--config", latency_job(tmp_path, "10.77.0.2", "v0"))
        gone = here.once("latency", "--config", latency_job(tmp_path, "10.77.0.2", "v9"))
    assert (out["outcome"], out["reason"]) == ("failed", "no_link")
    assert (gone["outcome"], gone["reason"]) == ("skipped", "no_interface")


def test_packets_that_would_leave_with_another_interfaces_address(tmp_path: Path) -> None:
    with cable() as (here, _):
        here.ip("addr", "flush", "dev", "v0")
        here.ip("addr", "add", "10.99.0.1/32", "dev", "lo")
        here.ip("route", "add", "10.77.0.0/24", "dev", "v0")
        record = here.once("latency", "--config", latency_job(tmp_path, "10.77.0.2", "v0"))
    assert (record["outcome"], record["reason"]) == ("invalid", "wrong_interface")


def test_interface_without_an_address(tmp_path: Path) -> None:
    with cable() as (here, _):
        here.ip("addr", "flush", "dev", "v0")
        record = here.once("latency", "--config", latency_job(tmp_path, "10.77.0.2", "v0"))
    assert (record["outcome"], record["reason"]) == ("failed", "unreachable")


@needs("tun")
def test_loss_packet_for_packet_against_a_network_that_counts() -> None:
    # The first two are warm-ups.
    up = Way(delay_ms=10, lose=(3, 4, 21), duplicate=(6, 11), late=(9,))
    with relay(up=up, down=Way(delay_ms=10)) as line:
        record = line.here.once("latency", "--target", "10.77.0.2", "--interface", "v0")
        counted = line.up.counts(), line.down.counts()
    values = record["values"]
    assert record["outcome"] == "ok"
    assert [(count.packets, count.lost, count.sent) for count in counted] == [(22, 3, 21), (21, 0, 21)]
    assert (values["sent"], values["received"], values["loss_ratio"]) == (20, 17, pytest.approx(0.15))
    assert (values["loss_up_ratio"], values["loss_down_ratio"]) == (None, None), "an echo does not tell"
    assert values["duplicates"] == 2
    # 50 ms late in a train of 100 ms overtakes nobody; it shows in the times.
    assert values["reordered"] == 0
    assert values["rtt_min_ms"] >= 19.8
    assert values["rtt_max_ms"] >= 69.8


@needs("tun")
def test_overtaken_packets_are_counted(tmp_path: Path) -> None:
    with relay(up=Way(delay_ms=5, late=(5, 15))) as line:
        job = latency_job(tmp_path, "10.77.0.2", "v0", packets=20, interval_ms=25)
        record = line.here.once("latency", "--config", job)
    assert (record["values"]["received"], record["values"]["reordered"]) == (20, 2)
