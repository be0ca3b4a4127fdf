"""Shapers carry what their rate says and tell their queue; losses are exact."""

import json
import time

import pytest

from tests.network.features import needs
from tests.network.namespaces import Namespace, Program, cable
from tests.network.shape import Loss, shape, truth_mbps


def flow(here: Namespace, there: Namespace, *words: str, seconds: float) -> Program:
    """An iperf3 test that has just begun."""
    there.start("iperf3", "--server", "--one-off", "--forceflush", ready="listening")
    return here.start("iperf3", "--client", "10.77.0.2", "--time", str(seconds), "--json", *words)


def goodput_mbps(program: Program) -> float:
    """What arrived over the test."""
    return float(json.loads(program.wait())["end"]["sum_received"]["bits_per_second"]) / 1e6


@needs("tbf")
@pytest.mark.parametrize("rate_mbps", [20.0, 300.0])
def test_goodput_is_the_truth(rate_mbps: float) -> None:
    with cable() as (here, there):
        here.pin("cubic")
        shape(here, there, rate_mbps=rate_mbps)
        measured = goodput_mbps(flow(here, there, "--omit", "1", seconds=2))
    assert measured == pytest.approx(truth_mbps(rate_mbps), rel=0.01)


@needs("tbf")
def test_queue_is_told_and_a_changed_rate_followed() -> None:
    with cable() as (here, there):
        here.pin("cubic")
        shaper, _ = shape(here, there, rate_mbps=50, latency_ms=100)
        client = flow(here, there, seconds=4)
        time.sleep(1.5)
        full = shaper.backlog()
        rtt = here.run("ping", "-q", "-c", "10", "-i", "0.01", "10.77.0.2").rpartition(" = ")[2].split("/")
        fuller = shaper.backlog()
        shaper.change(10)
        time.sleep(0.7)
        start = shaper.backlog()
        time.sleep(1)
        end = shaper.backlog()
        client.stop()
    assert 5 < full.delay_ms <= 102
    waits = sorted((full.delay_ms, fuller.delay_ms))
    assert waits[0] - 5 < float(rtt[1]) < waits[1] + 5, "a ping waits in the same queue"
    assert full.sent_bytes > 5_000_000
    assert end.dropped > 0
    assert (end.sent_bytes - start.sent_bytes) * 8e-6 == pytest.approx(10, rel=0.05)


@needs("numgen")
def test_losses_are_exact() -> None:
    with cable() as (here, there):
        Loss(here, there, 10)
        out = here.run("ping", "-q", "-c", "100", "-i", "0.002", "10.77.0.2")
    assert "90 received" in out


@needs("numgen")
def test_losses_are_counted_apart_and_per_port() -> None:
    with cable() as (here, there):
        loss = Loss(here, there, 4, udp_port=862)
        here.run("ping", "-q", "-c", "5", "-i", "0.002", "10.77.0.2")
        send = "s = socket.socket(type=socket.SOCK_DGRAM); [s.sendto(b'x', ('10.77.0.2', 862)) for _ in range(100)]"
        here.run("python3", "-c", f"import socket; {send}")
        assert (loss.seen, loss.dropped) == (100, 25)
