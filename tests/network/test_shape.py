"""Shapers carry what their rate says and tell their queue; losses are exact."""

import json
import statistics
import time
from collections.abc import Callable

import pytest

from tests.network.features import needs
from tests.network.namespaces import Namespace, Program, cable
from tests.network.shape import Loss, shape, truth_mbps

pytestmark = pytest.mark.laboratory

_SEND = """
import socket, sys
with socket.create_connection(("10.77.0.2", 9000)) as sock:
    sock.sendall(bytes(int(sys.argv[1])))
"""
_RECEIVE = """
import socket

server = socket.create_server(("10.77.0.2", 9000))
print("listening", flush=True)
sock, count = server.accept()[0], 0
while more := len(sock.recv(1 << 20)):
    count += more
print(count)
"""


def flow(here: Namespace, there: Namespace, *words: str, seconds: float) -> Program:
    """An iperf3 test that has just begun."""
    there.start("iperf3", "--server", "--one-off", "--forceflush", ready="listening")
    return here.start("iperf3", "--client", "10.77.0.2", "--time", str(seconds), "--json", *words)


def goodput_mbps(program: Program) -> float:
    """What arrived over the test."""
    return float(json.loads(program.wait())["end"]["sum_received"]["bits_per_second"]) / 1e6


def rate_mbps(count_bytes: Callable[[], int], windows: int = 5) -> float:
    """Median of short windows: a moment in which this machine does something else does not matter."""
    found = []
    before, at = count_bytes(), time.monotonic()
    for _ in range(windows):
        time.sleep(0.3)
        after, now = count_bytes(), time.monotonic()
        found.append((after - before) * 8e-6 / (now - at))
        before, at = after, now
    return statistics.median(found)


@needs("tbf")
@pytest.mark.parametrize("rate", [20.0, 300.0])
def test_goodput_is_the_truth(rate: float) -> None:
    with cable() as (here, there):
        here.pin("cubic")
        shaper, _ = shape(here, there, rate_mbps=rate)
        count = int(rate * 1e6 / 8 * 2.3)
        receiver = there.start("python3", "-c", _RECEIVE, ready="listening")
        here.start("python3", "-c", _SEND, str(count))
        time.sleep(0.3)
        wire_mbps = rate_mbps(lambda: shaper.backlog().sent_bytes)
        assert receiver.wait().split() == ["listening", str(count)]
        sent = shaper.backlog().sent_bytes
    assert wire_mbps == pytest.approx(rate, rel=0.01)
    assert count / sent == pytest.approx(truth_mbps(1), rel=0.002)


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
        time.sleep(0.5)
        slower = rate_mbps(lambda: shaper.backlog().sent_bytes, windows=3)
        end = shaper.backlog()
        client.stop()
    assert 5 < full.delay_ms <= 102
    waits = sorted((full.delay_ms, fuller.delay_ms))
    assert waits[0] - 5 < float(rtt[1]) < waits[1] + 5, "a ping waits in the same queue"
    assert full.sent_bytes > 5_000_000
    assert end.dropped > 0
    assert slower == pytest.approx(10, rel=0.03)


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
