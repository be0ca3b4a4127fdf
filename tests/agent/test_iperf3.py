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
from tests.network.features import needs
from tests.network.namespaces import Namespace, Program, cable, ip
from tests.network.shape import shape, truth_mbps

DATA = Path(__file__).parent / "data" / "iperf3"


def captured(name: str, way: Any = "down") -> Half:
    return parse(Done(0, (DATA / name).read_text(), ""), way)


def test_download() -> None:
    half = captured("down.json")
    assert half.failure is None
    assert half.mbps == pytest.approx(47.784, abs=0.001)
    assert (half.bytes, half.connections, half.congestion_control) == (17919000, 4, "bbr")
    assert half.cpu_ratio == pytest.approx(0.0107, abs=0.0001)


def test_upload_is_what_the_receiver_counted() -> None:
    half = captured("up.json", "up")
    assert half.mbps == pytest.approx(48.107, abs=0.001)
    assert half.bytes == 18182536


@pytest.mark.parametrize(
    ("name", "reason", "detail", "counted"),
    [
        ("busy.json", "no_slot", "down: the server is busy running a test. try again later", None),
        ("refused.json", "refused", "down: unable to connect to server: Connection refused", None),
        ("killed.json", "reset", "down: control socket has closed unexpectedly", 11948896),
        ("stalled.json", "timeout", "down: idle timeout for receiving data", 5949832),
        ("no_results.txt", "reset", "down: unable to receive results: Resource temporarily unavailable", 11954688),
    ],
)
def test_errors(name: str, reason: str, detail: str, counted: int | None) -> None:
    half = captured(name)
    assert half.failure is not None
    assert (half.failure.reason, half.failure.detail) == (reason, detail)
    assert (half.mbps, half.bytes) == (None, counted), "no rate; of a download what came until then"


def test_upload_that_was_cut_short_has_no_bytes() -> None:
    """Only the sender's count is there: it reads what its own kernel took."""
    half = captured("killed_up.json", "up")
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

inside = needs("tbf", "cubic")


def server(space: Namespace) -> Program:
    return space.start("iperf3", "--server", "--forceflush", ready="listening")


def measure(space: Namespace, host: str = "10.77.0.2", *words: str) -> dict[str, Any]:
    """What the provider alone ends with, run inside `space`."""
    argv = space.argv(sys.executable, "-m", "tests.agent.provider", "iperf3", host, "5201", "v0", *words)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def when(happened: Callable[[], bool], do: Callable[[], object]) -> Iterator[None]:
    """`do` something as soon as something else has happened."""

    def watch() -> None:
        while not (happened() or over.is_set()):
            time.sleep(0.02)
        do()

    over = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


@inside
def test_both_directions_against_the_shaped_truth() -> None:
    with cable() as (here, there):
        server(there)
        shape(here, rate_mbps=20)
        shape(there, rate_mbps=50)
        for space in (here, there):
            space.pin("cubic")
        end = measure(here)
    values = end["values"]
    assert end["reason"] is None, end
    assert values["down_mbps"] == pytest.approx(truth_mbps(50), rel=0.1)
    assert values["up_mbps"] == pytest.approx(truth_mbps(20), rel=0.1)
    assert values["down_bytes"] == pytest.approx(values["down_mbps"] * 3e6 / 8, rel=0.02)
    assert (values["mode"], values["connections"]) == ("quick", 4)
    assert 0 < values["cpu_ratio"] <= 1
    assert values["congestion_control"] == "cubic"
    told = " ".join(end["told"])
    assert "down " in told
    assert "up " in told
    assert "Mbit/s" in told


@inside
def test_congestion_control_that_is_asked_for() -> None:
    with cable() as (here, there):
        server(there)
        end = measure(here, "10.77.0.2", "quick", "reno")
        if end["reason"] == "internal" and "not supported" in end["detail"]:
            pytest.skip("this kernel has no reno")
        nonsense = measure(here, "10.77.0.2", "quick", "nonsense")
    assert (end["reason"], end["values"]["congestion_control"]) == (None, "reno")
    assert (nonsense["reason"], nonsense["values"]["down_mbps"]) == ("internal", None)
    assert "TCP_CONGESTION" in nonsense["detail"]


@inside
def test_server_that_is_busy() -> None:
    with cable() as (here, there):
        server(there)
        here.start("iperf3", "--client", "10.77.0.2", "--time", "30", "--forceflush", ready="connected")
        end = measure(here)
    assert end["reason"] == "no_slot"
    assert end["values"]["down_mbps"] is None


@inside
def test_nobody_there() -> None:
    with cable() as (here, there):
        refused = measure(here)
        there.run("ip", "addr", "del", "10.77.0.2/24", "dev", "v0")
        silent = measure(here)
        no_way = measure(here, "fd88::1")
    assert refused["reason"] == "refused"
    assert silent["reason"] in ("timeout", "unreachable")
    assert no_way["reason"] == "unreachable"


@inside
@pytest.mark.parametrize("moment", ["(omitted)", "1.00-2.00", "2.00-3.00"], ids=["early", "middle", "end"])
def test_server_that_dies(moment: str) -> None:
    with cable() as (here, there):
        program = server(there)
        shape(there, rate_mbps=50)
        with when(lambda: moment in program.log, program.process.kill):
            end = measure(here)
    assert end["reason"] == "reset", end
    assert (end["values"]["down_mbps"], end["values"]["up_mbps"]) == (None, None)
    assert end["values"]["down_bytes"] or moment == "(omitted)"


@inside
def test_download_is_kept_when_the_upload_stalls() -> None:
    """The server stops when the download is over: the upload is ended by our deadline, and nothing is left."""
    uploading = "Server listening on 5201 (test #2)"
    with cable() as (here, there):
        program = server(there)
        shape(here, rate_mbps=50)
        shape(there, rate_mbps=50)
        with when(lambda: uploading in program.log, lambda: program.process.send_signal(signal.SIGSTOP)):
            end = measure(here)
        left = ip("netns", "pids", here.name).split()
    assert end["reason"] == "timeout"
    assert end["values"]["down_mbps"] == pytest.approx(truth_mbps(50), rel=0.1)
    assert end["values"]["up_mbps"] is None
    assert left == []


@inside
def test_interface_that_goes_away_in_the_middle() -> None:
    with cable() as (here, there):
        program = server(there)
        shape(there, rate_mbps=50)
        with when(lambda: "1.00-2.00" in program.log, lambda: here.ip("link", "del", "v0")):
            end = measure(here)
    assert end["reason"] == "timeout"
    assert end["values"]["down_mbps"] is None


@inside
def test_without_the_program() -> None:
    with cable() as (here, _):
        argv = here.argv(
            "sh", "-c", 'mount -t tmpfs none /usr/bin && exec "$@"', "sh",
            sys.executable, "-m", "tests.agent.provider", "iperf3", "10.77.0.2", "5201", "v0",
        )  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["reason"] == "tool_missing", done.stderr
