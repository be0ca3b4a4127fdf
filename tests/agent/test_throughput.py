"""Throughput against the real reflector, over shaped cables and with real faults."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.estimate import Rate
from agent.probe import Failure
from agent.probes.throughput import ThroughputSettings, _check, _Run, is_saturated
from agent.uplink import Uplink
from contract.throughput import Report
from tests.agent.lab import Namespace, cable

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.laboratory,
]

SERVER = "10.77.0.2"
PORT = 8862
GOODPUT = 1448 / 1514
"""Of what a shaped cable carries: TCP with time stamps in full Ethernet frames."""


def shape(space: Namespace, mbit: float) -> None:
    space.run(
        "tc", "qdisc", "replace", "dev", "v0", "root", "tbf", "rate", f"{mbit}mbit", "burst", "64kb", "latency", "50ms"
    )


@contextmanager
def reflector(space: Namespace, folder: Path, text: str = "open = true\n[limits]\npause_s = 0\n") -> Iterator[int]:
    """Its process id."""
    file = folder / "reflector.toml"
    file.write_text(text)
    command = space.argv(sys.executable, "-m", "wanggan", "reflector", "run", "--config", str(file), "--listen", SERVER)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert "listening" in process.stderr.readline()
            yield process.pid
        finally:
            process.kill()


@pytest.fixture
def link() -> Iterator[tuple[Namespace, Namespace]]:
    with cable() as (here, there):
        for space in (here, there):
            shape(space, 100)
        yield here, there


WORDS = ("throughput", "--server", SERVER, "--interface", "v0")


@contextmanager
def started(here: Namespace, *words: str) -> Iterator["subprocess.Popen[str]"]:
    command = here.argv(sys.executable, "-m", "agent", "once", *WORDS, *words, "--json")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        yield process


def ended(process: "subprocess.Popen[str]") -> dict[str, Any]:
    out, _ = process.communicate(timeout=60)
    record: dict[str, Any] = json.loads(out)
    return record


def test_both_directions_are_the_shaped_rate(link: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    here, there = link
    shape(here, 40)
    with reflector(there, tmp_path):
        record = here.once(*WORDS)
    values = record["values"]
    assert (record["outcome"], record["provider"], record["flags"]) == ("ok", "reflector", [])
    # On a machine that does other work; the accuracy is a figure of bench/throughput.py.
    assert values["down_mbps"] == pytest.approx(100 * GOODPUT, rel=0.06)
    assert values["up_mbps"] == pytest.approx(40 * GOODPUT, rel=0.06)
    assert values["down_bytes"] > 30e6
    assert (values["mode"], values["connections"]) == ("quick", 4)
    assert 0 < values["idle_rtt_p50_ms"] < 2
    assert 0 < values["cpu_ratio"] < 0.6
    assert values["loaded_down_rtt_p50_ms"] is None


def test_working_latency_is_the_queues(link: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    here, there = link
    for space in link:
        shape(space, 20)
        space.run("ip", "route", "replace", "10.77.0.0/24", "dev", "v0", "congctl", "cubic")
    with reflector(there, tmp_path):
        record = here.once(*WORDS, "--set", "mode=working", "--set", "seconds=5")
    values = record["values"]
    assert record["outcome"] == "ok"
    for way in ("down", "up"):
        assert 25 < values[f"loaded_{way}_rtt_p50_ms"] < 90, "a queue of 50 ms and a bucket of 26 ms, filled"
        assert values[f"rpm_{way}"] == pytest.approx(60_000 / values[f"loaded_{way}_rtt_p50_ms"])
    assert values["working_rise_ms"] > 20
    assert values["congestion_control"] == "cubic"


def test_the_cap_cuts_and_says_so(link: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    here, there = link
    with reflector(there, tmp_path):
        record = here.once(*WORDS, "--set", "max_bytes=5000000")
    assert record["outcome"] == "ok"
    assert set(record["flags"]) >= {"byte_cap", "short_test"}
    assert record["values"]["up_bytes"] == 5_000_000
    assert 5_000_000 <= record["values"]["down_bytes"] < 5_600_000


def test_other_peoples_traffic_is_flagged(link: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    here, there = link
    flood = (
        "import socket, time\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nend = time.time() + 20\n"
        "while time.time() < end:\n    s.sendto(bytes(1400), ('10.77.0.2', 9)); time.sleep(0.0003)\n"
    )
    with reflector(there, tmp_path), subprocess.Popen(here.argv(sys.executable, "-c", flood)) as other:
        try:
            record = here.once(*WORDS)
        finally:
            other.kill()
    assert record["outcome"] == "ok"
    assert "cross_traffic" in record["flags"]


def test_a_core_that_others_use_is_our_own_fault(link: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    here, there = link
    pinned = ["taskset", "-c", "0"]
    with reflector(there, tmp_path), contextlib.ExitStack() as burners:
        for _ in range(4):
            burner = burners.enter_context(subprocess.Popen([*pinned, sys.executable, "-c", "while True: pass"]))
            burners.callback(burner.kill)
        command = here.argv(*pinned, "nice", "-n", "5", sys.executable, "-m", "agent", "once", *WORDS, "--json")
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    record = json.loads(done.stdout)
    assert (record["outcome"], record["reason"]) == ("invalid", "cpu_limited")
    assert "of the time for a core" in record["detail"]
    assert record["values"]["down_mbps"] > 0, "kept, and excluded"


def test_a_slot_that_is_taken(link: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    here, there = link
    with reflector(there, tmp_path), started(here, "--set", "seconds=10") as first:
        time.sleep(2.5)
        record = here.once(*WORDS)
        first.kill()
    assert (record["outcome"], record["reason"]) == ("skipped", "no_slot")


def test_without_a_key_it_may_not(link: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    here, there = link
    keys = tmp_path / "keys.toml"
    keys.write_text('once = ["the key of one agent"]\n')
    keys.chmod(0o600)
    key = tmp_path / "key"
    key.write_text("the key of one agent\n")
    key.chmod(0o600)
    with reflector(there, tmp_path, 'keys_file = "keys.toml"\n[limits]\npause_s = 0\n'):
        refused = here.once(*WORDS)
        let_in = here.once(*WORDS, "--key-file", str(key), "--agent", "once", "--set", "max_bytes=1000000")
    assert (refused["outcome"], refused["reason"]) == ("invalid", "no_permission")
    assert (let_in["outcome"], let_in["detail"]) == ("ok", None)


def test_nobody_listens(link: tuple[Namespace, Namespace]) -> None:
    record = link[0].once(*WORDS)
    assert (record["outcome"], record["reason"]) == ("failed", "refused")


def test_no_way(link: tuple[Namespace, Namespace]) -> None:
    record = link[0].once("throughput", "--server", "10.99.0.1", "--interface", "v0")
    assert (record["outcome"], record["reason"]) == ("failed", "unreachable")


def fault(link: tuple[Namespace, Namespace], folder: Path, break_it: str) -> dict[str, Any]:
    """The record of a test in whose download something breaks."""
    here, there = link
    with reflector(there, folder) as pid, started(here, "--set", "seconds=8") as process:
        time.sleep(3.0)
        match break_it:
            case "reset":
                os.kill(pid, signal.SIGKILL)
            case "stalled":
                os.kill(pid, signal.SIGSTOP)
            case "cut":
                there.ip("link", "set", "v0", "down")
            case "gone":
                here.ip("link", "del", "v0")
        record = ended(process)
        if break_it == "stalled":
            os.kill(pid, signal.SIGCONT)
    return record


@pytest.mark.parametrize(
    ("break_it", "reason"), [("reset", "reset"), ("stalled", "timeout"), ("cut", "no_link"), ("gone", "no_link")]
)
def test_what_breaks_in_the_middle(
    link: tuple[Namespace, Namespace], tmp_path: Path, break_it: str, reason: str
) -> None:
    record = fault(link, tmp_path, break_it)
    assert (record["outcome"], record["reason"]) == ("failed", reason)
    assert record["values"]["idle_rtt_p50_ms"] is not None, "what was measured is kept"


# Whether the line was filled


def run(mbps: float | None, *, capacity: float | None = 300.0, loaded_ms: float | None = None) -> _Run:
    return _Run(
        rate=Rate(mbps=mbps, p10_mbps=None, measured_s=2.0), bytes=1, capped=False, report=Report(),
        capacity_mbps=capacity, loaded_ms=[] if loaded_ms is None else [loaded_ms],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mbps", "report", "best", "loaded_ms", "filled"),
    [
        (100.0, Report(), None, None, True),
        (100.0, Report(tcp_rtt_ms=1.0), 110.0, None, True),
        (80.0, Report(tcp_rtt_ms=1.0), 110.0, None, False),
        (80.0, Report(tcp_rtt_ms=7.0), 110.0, None, True),
        (80.0, Report(), 110.0, 7.0, True),
        (80.0, Report(), 110.0, 1.5, False),
        (100.0, Report(tcp_rtt_ms=1.0, rwnd_limited_ratio=0.2), None, None, False),
        (100.0, Report(tcp_rtt_ms=1.0, sndbuf_limited_ratio=0.2), None, None, False),
        (100.0, Report(tcp_rtt_ms=9.0, rwnd_limited_ratio=0.2), None, None, True),
        (280.0, Report(tcp_rtt_ms=9.0), None, None, False),
        (None, Report(), None, None, True),
    ],
)
def test_saturation(
    mbps: float | None, report: Report, best: float | None, loaded_ms: float | None, filled: bool
) -> None:
    assert is_saturated(mbps, report, best, run(mbps, loaded_ms=loaded_ms), 0.5) is filled


# What a test may move


@pytest.mark.parametrize(
    ("settings", "uplink", "cap", "most"),
    [
        ({}, Uplink(), 50_000_000, 100_000_000),
        ({}, Uplink(best_down_mbps=20.0, best_up_mbps=20.0), 50_000_000, 2 * 9_000_000),
        ({}, Uplink(best_down_mbps=300.0, best_up_mbps=300.0), 135_000_000, 2 * 135_000_000),
        ({}, Uplink(best_down_mbps=2000.0), 400_000_000, 450_000_000),
        ({}, Uplink(metered=True), 10_000_000, 20_000_000),
        ({"mode": "working"}, Uplink(), 100_000_000, 200_000_000),
        ({"mode": "working"}, Uplink(best_down_mbps=250.0), 300_000_000, 400_000_000),
        ({"mode": "audit"}, Uplink(), 400_000_000, 800_000_000),
        ({"max_bytes": 2_000_000}, Uplink(), 2_000_000, 4_000_000),
    ],
)
def test_caps(settings: dict[str, Any], uplink: Uplink, cap: int, most: int) -> None:
    found = ThroughputSettings(**settings)
    assert (found.cap_bytes("down", uplink), found.most_bytes(uplink)) == (cap, most)


@pytest.mark.parametrize(("received_bytes", "bins"), [(1_001, [1_000]), (1_000, [900, 101])])
def test_a_reflector_that_counted_more_than_was_sent_is_not_believed(received_bytes: int, bins: list[int]) -> None:
    _check(Report(received_bytes=1_000, bins=[900, 100]), 1_000)
    with pytest.raises(Failure, match="more than was sent"):
        _check(Report(received_bytes=received_bytes, bins=bins), 1_000)
