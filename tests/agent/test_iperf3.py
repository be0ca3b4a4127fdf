"""The iperf3 provider: its parser with captured output, and the real client against a real server on a shaped link."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.command import Done
from agent.iperf3 import Half, parse
from tests.agent.lab import Namespace, cable

DATA = Path(__file__).parent / "data" / "iperf3"


def captured(name: str, way: Any = "down") -> Half:
    return parse(Done(0, (DATA / f"{name}.json").read_text(), ""), way)


def test_download() -> None:
    half = captured("down")
    assert half.failure is None
    assert half.mbps == pytest.approx(47.784, abs=0.001)
    assert (half.bytes, half.connections, half.congestion_control) == (17919000, 4, "bbr")
    assert half.cpu_ratio == pytest.approx(0.0107, abs=0.0001)


def test_upload_is_what_the_receiver_counted() -> None:
    half = captured("up", "up")
    assert half.mbps == pytest.approx(48.107, abs=0.001)
    assert half.bytes == 18182536


@pytest.mark.parametrize(
    ("name", "reason", "detail", "counted"),
    [
        ("busy", "no_slot", "down: the server is busy running a test. try again later", None),
        ("refused", "refused", "down: unable to connect to server: Connection refused", None),
        ("killed", "reset", "down: control socket has closed unexpectedly", 11948896),
        ("stalled", "timeout", "down: idle timeout for receiving data", 5949832),
    ],
)
def test_errors(name: str, reason: str, detail: str, counted: int | None) -> None:
    half = captured(name)
    assert half.failure is not None
    assert (half.failure.reason, half.failure.detail) == (reason, detail)
    assert (half.mbps, half.bytes) == (None, counted), "no rate; of a download what came until then"


def test_upload_that_was_cut_short_has_no_bytes() -> None:
    """Only the sender's count is there: it reads what its own kernel took."""
    half = captured("killed_up", "up")
    assert half.failure is not None
    assert (half.failure.reason, half.bytes) == ("reset", None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("unable to connect to server: No route to host", "unreachable"),
        ("unable to connect to server: Network is unreachable", "unreachable"),
        ("unable to connect to server: Connection timed out", "timeout"),
        ("unable to connect to server: No such device", "no_interface"),
        ("unable to connect to server: Network is down", "no_link"),
        ("unable to write to stream socket: Broken pipe", "reset"),
        ("Unable to bind-to-device (check perror, maybe permissions?): Operation not permitted", "no_permission"),
        ("unable to set TCP_CONGESTION: Supplied congestion control algorithm not supported on this host", "internal"),
        ("something quite new", "internal"),
    ],
)
def test_words_of_the_system(error: str, reason: str) -> None:
    half = parse(Done(1, json.dumps({"start": {}, "intervals": [], "end": {}, "error": error}), ""), "up")
    assert half.failure is not None
    assert half.failure.reason == reason


def test_output_that_is_none() -> None:
    whole = (DATA / "down.json").read_text()
    for cut in range(0, len(whole) - 3, 97):
        half = parse(Done(1, whole[:cut], ""), "down")
        assert half.failure is not None
        assert half.failure.reason == "internal"
    lies = ["", "iperf3: parameter error", "[]", "null", "\0\ufffd", "{}", '{"end": 5}', '{"end": {"streams": 4}}']
    for rubbish in lies:
        half = parse(Done(1, rubbish, "iperf3: unrecognized option '--bind-dev'"), "down")
        assert half.failure is not None
        assert half.failure.reason == "internal"
    half = parse(Done(1, "", "iperf3: unrecognized option '--bind-dev'"), "down")
    assert half.failure is not None
    assert half.failure.detail == "iperf3 ended with 1: iperf3: unrecognized option '--bind-dev'"


# The real thing


@contextmanager
def server(space: Namespace, port: int = 5201) -> Iterator["subprocess.Popen[bytes]"]:
    argv = space.argv("iperf3", "--server", "--port", str(port))
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(200):
                if f":{port} " in space.run("ss", "-ltn"):
                    break
                time.sleep(0.02)
            yield process
        finally:
            process.kill()


def measure(space: Namespace, host: str = "10.77.0.2", *words: str, port: int = 5201) -> dict[str, Any]:
    """What the provider alone ends with, run inside `space`."""
    argv = space.argv(sys.executable, "-m", "tests.agent.provider", "iperf3", host, str(port), "v0", *words)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def after(seconds: float, do: Callable[[], object]) -> Iterator[None]:
    timer = threading.Timer(seconds, do)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def shape(space: Namespace, mbit: int) -> None:
    tbf = ("tbf", "rate", f"{mbit}mbit", "burst", "32kb", "latency", "50ms")
    space.run("tc", "qdisc", "replace", "dev", "v0", "root", *tbf)


def test_both_directions_against_the_shaped_truth() -> None:
    with cable() as (here, there), server(there):
        shape(here, 20)
        shape(there, 50)
        end = measure(here)
    values = end["values"]
    assert end["reason"] is None, end
    assert values["down_mbps"] == pytest.approx(50 * 1448 / 1514, rel=0.05)
    assert values["up_mbps"] == pytest.approx(20 * 1448 / 1514, rel=0.05)
    assert values["down_bytes"] == pytest.approx(values["down_mbps"] * 3e6 / 8, rel=0.02)
    assert (values["mode"], values["connections"]) == ("quick", 4)
    assert 0 < values["cpu_ratio"] <= 1
    assert values["congestion_control"]
    told = " ".join(end["told"])
    assert "down " in told
    assert "up " in told
    assert "Mbit/s" in told


def test_congestion_control_that_is_asked_for() -> None:
    with cable() as (here, there), server(there):
        end = measure(here, "10.77.0.2", "quick", "reno")
        if end["reason"] == "internal" and "not supported" in end["detail"]:
            pytest.skip("this kernel has no reno")
        nonsense = measure(here, "10.77.0.2", "quick", "nonsense")
    assert (end["reason"], end["values"]["congestion_control"]) == (None, "reno")
    assert (nonsense["reason"], nonsense["values"]["down_mbps"]) == ("internal", None)
    assert "TCP_CONGESTION" in nonsense["detail"]


def test_server_that_is_busy() -> None:
    with cable() as (here, there), server(there):
        argv = here.argv("iperf3", "--client", "10.77.0.2", "--time", "30")
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as other:
            time.sleep(1.0)
            end = measure(here)
            other.kill()
    assert end["reason"] == "no_slot"
    assert end["values"]["down_mbps"] is None


def test_nobody_there() -> None:
    with cable() as (here, there):
        refused = measure(here)
        there.run("ip", "addr", "del", "10.77.0.2/24", "dev", "v0")
        silent = measure(here)
        no_way = measure(here, "fd88::1")
    assert refused["reason"] == "refused"
    assert silent["reason"] in ("timeout", "unreachable")
    assert no_way["reason"] == "unreachable"


def test_server_that_dies_in_the_middle() -> None:
    with cable() as (here, there), server(there) as process:
        shape(there, 50)
        with after(3.0, lambda: process.send_signal(signal.SIGKILL)):
            end = measure(here)
    assert end["reason"] == "reset"
    assert (end["values"]["down_mbps"], end["values"]["up_mbps"]) == (None, None)
    assert end["values"]["down_bytes"] > 0


def test_download_is_kept_when_the_upload_stalls() -> None:
    """The server stops when the download is over: the upload is ended by our deadline, and nothing is left."""
    with cable() as (here, there), server(there) as process:
        shape(here, 50)
        shape(there, 50)
        with after(6.5, lambda: process.send_signal(signal.SIGSTOP)):
            end = measure(here)
        left = here.run("sh", "-c", "ip netns pids $0 | xargs -r ps -o args= -p || true", here.name)
    assert end["reason"] == "timeout"
    assert end["values"]["down_mbps"] == pytest.approx(47.8, rel=0.05)
    assert end["values"]["up_mbps"] is None
    assert "iperf3 -c" not in left


def test_interface_that_goes_away_in_the_middle() -> None:
    with cable() as (here, there), server(there):
        shape(there, 50)
        with after(3.0, lambda: here.ip("link", "del", "v0")):
            end = measure(here)
    assert end["reason"] == "timeout"
    assert end["values"]["down_mbps"] is None


def test_without_the_program() -> None:
    with cable() as (here, _):
        argv = here.argv(
            "sh", "-c", 'mount -t tmpfs none /usr/bin && exec "$@"', "sh",
            sys.executable, "-m", "tests.agent.provider", "iperf3", "10.77.0.2", "5201", "v0",
        )  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["reason"] == "tool_missing", done.stderr
