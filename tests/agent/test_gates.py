"""Each gate fires when it is provoked, and not otherwise."""

import time

import pytest

from agent import gates
from agent.clock import SystemClock
from agent.counters import Counters
from agent.facts import Facts
from agent.gates import Gates, Reading
from agent.probe import Context, Failure

QUIET = Reading(10.0, 1.0, 0.1, 3, Counters(1000, 2000))


def context(interface: str = "wlan0") -> Context:
    return Context(agent="lib-01", interface=interface, clock=SystemClock(), facts=Facts(), timeout_s=10.0)


def judged(own_bytes: int = 10_000_000, *, interface: str = "wlan0", rx: int = 10_400_000, tx: int = 200_000,
           cpu_s: float = 0.5, waited_s: float = 0.05, throttled: int = 0) -> list[str]:  # fmt: skip
    """The flags after 3 s in which so much happened."""
    assert QUIET.moved is not None
    moved = Counters(QUIET.moved.rx_bytes + rx, QUIET.moved.tx_bytes + tx)
    after = Reading(13.0, 1.0 + cpu_s, 0.1 + waited_s, 3 + throttled, moved)
    readings = iter([QUIET, after])
    found = context(interface)
    with Gates(found, lambda _: next(readings)) as watch:
        pass
    watch.judge(own_bytes)
    return list(found.flags)


def test_a_clean_run_passes() -> None:
    assert judged() == []


@pytest.mark.parametrize(
    ("fault", "reason", "said"),
    [
        ({"cpu_s": 2.7}, "cpu_limited", "used 90% of a core"),
        ({"waited_s": 0.6}, "cpu_limited", "waited 20% of the time"),
        ({"throttled": 1}, "cpu_limited", "control group"),
        ({"rx": 200_000, "tx": 10_000}, "wrong_interface", "wlan0 moved 210000 bytes while the test moved 10000000"),
    ],
)
def test_our_own_limits_are_not_the_networks(fault: dict[str, float], reason: str, said: str) -> None:
    with pytest.raises(Failure, match=said) as caught:
        judged(**fault)  # type: ignore[arg-type]
    assert caught.value.reason == reason


def test_other_peoples_traffic_is_flagged() -> None:
    assert judged(rx=12_000_000) == ["cross_traffic"]
    assert judged(own_bytes=100_000, rx=110_000, tx=360_000) == [], "1 Mbit/s is nobody's traffic"


def test_loopback_counts_each_byte_once() -> None:
    assert judged(interface="lo", rx=10_400_000, tx=10_400_000) == []


def test_an_interface_that_went_away_is_not_judged_by_its_counters() -> None:
    readings = iter([QUIET, Reading(13.0, 1.0, 0.1, 3, None)])
    with Gates(context(), lambda _: next(readings)) as watch:
        pass
    watch.judge(10_000_000)


def test_a_real_burner_is_seen() -> None:
    with Gates(context("lo")) as watch:
        end_s = time.monotonic() + 0.5
        while time.monotonic() < end_s:
            pass
    assert watch.cpu_ratio > 0.02, "others burn as well"


def test_a_reading_of_this_machine_is_sound() -> None:
    reading = gates.read("lo")
    assert reading.moved is not None
    assert reading.cpu_s > 0
    assert reading.waited_s >= 0
