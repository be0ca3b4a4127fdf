"""The relay does what it was told, to the packet, and says so."""

import re
import time
from pathlib import Path

import pytest

from tests.network.features import needs
from tests.network.namespaces import Namespace
from tests.network.relay import Line, Way, relay, truth_mbps
from tests.network.test_shape import flow, goodput_mbps, rate_mbps

pytestmark = [needs("tun"), pytest.mark.laboratory]

_SEND = """
import socket, sys, time
sock = socket.socket(type=socket.SOCK_DGRAM)
for number in range(int(sys.argv[2])):
    sock.sendto(number.to_bytes(4, "big") + bytes(96), ("10.77.0.2", int(sys.argv[1])))
    time.sleep(0.001)
"""
_RECEIVE = """
import socket, sys
sock = socket.socket(type=socket.SOCK_DGRAM)
sock.bind(("10.77.0.2", int(sys.argv[1])))
print("bound", flush=True)
while True:
    print(int.from_bytes(sock.recv(200)[:4], "big"), flush=True)
"""


def ping(space: Namespace, count: int, interval_s: float = 0.01) -> tuple[int, list[float]]:
    """Received, and RTTs in ms."""
    said = space.run("ping", "-n", "-c", str(count), "-i", str(interval_s), "-W", "1", "10.77.0.2")
    found = re.search(r"(\d+) received", said)
    assert found
    return int(found[1]), [float(text) for text in re.findall(r"time=([\d.]+) ms", said)]


def numbers(line: Line, count: int, port: int = 862) -> list[int]:
    """Numbers of datagrams, sent from here, in the order in which they came."""
    receiver = line.there.start("python3", "-c", _RECEIVE, str(port), ready="bound")
    line.here.run("python3", "-c", _SEND, str(port), str(count))
    time.sleep(0.2)
    return [int(word) for word in receiver.stop().split()[1:]]


@pytest.mark.parametrize(("up_ms", "down_ms"), [(0.0, 0.0), (20.0, 20.0), (5.0, 40.0)])
def test_delay_is_what_ping_sees(up_ms: float, down_ms: float) -> None:
    with relay(up=Way(delay_ms=up_ms), down=Way(delay_ms=down_ms)) as line:
        received, rtts = ping(line.here, 50)
    rtts.sort()
    assert received == 50
    # 0.1 ms each way, ping's last digit, and a machine that does other work; the figure is taken by bench/latency.py
    assert rtts[0] > up_ms + down_ms - 0.11
    assert rtts[25] == pytest.approx(up_ms + down_ms, abs=1.0)


def test_counts_are_what_was_sent() -> None:
    with relay(up=Way(port=862)) as line:
        ping(line.here, 20)
        assert numbers(line, 50) == list(range(50))
        up, down = line.up.state(), line.down.state()
        assert (up.all.packets, up.all.sent, up.all.bytes) == (70, 70, 20 * 84 + 50 * 128)
        assert (up.matching.packets, up.matching.bytes, up.matching.sent) == (50, 6400, 50)
        assert (down.all.packets, down.all.bytes, down.matching.packets) == (20, 20 * 84, 0)
        assert (up.queue_bytes, up.under_way, up.refused, line.overrun()) == (0, 0, 0, 0)


def test_places_lost_duplicated_and_late_of_one_port() -> None:
    with relay(up=Way(port=862, only=True, lose=(3, 4), duplicate=(6,), late=(9,), late_ms=5.5)) as line:
        assert ping(line.here, 10)[0] == 10, "other packets do not count"
        came = numbers(line, 30)
        state = line.up.state()
    assert sorted(came) == sorted([*range(3), *range(5, 30), 6])
    assert came[:6] == [0, 1, 2, 5, 6, 6]
    assert came.index(9) > came.index(11)
    assert (state.matching.lost, state.matching.duplicated, state.matching.sent) == (2, 1, 29)
    assert state.all.lost == 2


def test_loss_in_turn_and_by_chance() -> None:
    with relay(up=Way(every=5)) as line:
        assert ping(line.here, 50)[0] == 40
        assert (line.up.counts().lost, line.down.counts().lost) == (10, 0)
        line.up.change(every=None, loss_ratio=0.2, seed=7)
        lost = [50 - ping(line.here, 50, 0.002)[0]]
        assert line.up.counts().lost == 10 + lost[0]
        line.up.change(seed=7)
        lost.append(50 - ping(line.here, 50, 0.002)[0])
        line.up.change(seed=8, loss_ratio=1.0)
        line.here.start("ping", "-c", "1", "-W", "0.1", "10.77.0.2").process.wait(5)
        assert line.down.counts().packets == 50 - 10 + 2 * (50 - lost[0])
    assert lost[0] == lost[1] > 0, "the same for the same seed"


def test_rate_queue_and_a_change_under_load() -> None:
    with relay(delay_ms=10, up=Way(delay_ms=10, rate_mbps=50, queue_ms=100)) as line:
        client = flow(line.here, line.there, seconds=5)
        time.sleep(2)
        full = line.up.state()
        _, rtts = ping(line.here, 10)
        at_50 = rate_mbps(lambda: line.up.counts().sent_bytes, windows=3)
        line.up.change(rate_mbps=20)
        time.sleep(0.1)
        at_20 = rate_mbps(lambda: line.up.counts().sent_bytes, windows=3)
        client.stop()
        end = line.up.state()
    assert (at_50, at_20) == pytest.approx((50, 20), rel=0.01)
    assert 20 < full.queue_ms <= 100
    assert sum(rtts) / len(rtts) == pytest.approx(20 + full.queue_ms, abs=30), "a ping waits in the same queue"
    assert full.queue_bytes <= 625_000
    assert end.all.dropped > 0


def test_goodput_is_the_truth() -> None:
    with relay(delay_ms=5, rate_mbps=100) as line:
        measured = goodput_mbps(flow(line.here, line.there, "--omit", "1", seconds=2))
        assert line.overrun() == 0
    assert measured == pytest.approx(truth_mbps(100), rel=0.03)


def test_it_carries_850_mbps() -> None:
    with relay() as line:
        assert goodput_mbps(flow(line.here, line.there, seconds=1)) > 850


def test_nothing_is_left_and_a_dead_relay_is_told() -> None:
    with relay(delay_ms=1) as line:
        line.process.kill()
        with pytest.raises(RuntimeError, match="the relay has ended"):
            line.up.counts()
    assert not Path(f"/proc/{line.process.pid}").exists()
    assert not Path("/run/netns", line.here.name).exists()
