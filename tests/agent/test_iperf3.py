"""The iperf3 provider: its parser with captured output, and the real client against a real server on a shaped link."""

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent import command, iperf3
from agent.clock import SystemClock
from agent.command import Done
from agent.facts import Facts
from agent.iperf3 import Half, parse
from agent.probe import Context, Failure, Target
from agent.probes.throughput import ThroughputSettings
from tests.agent.lab import when
from tests.network.features import needs
from tests.network.namespaces import Namespace, Program, cable, ip
from tests.network.shape import shape, truth_mbps

pytestmark = pytest.mark.laboratory

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


def measure(space: Namespace, *settings: str, host: str = "10.77.0.2") -> dict[str, Any]:
    """The Record of one run inside `space`."""
    words = [word for setting in settings for word in ("--set", setting)]
    return space.once("throughput", "--provider", "iperf3", "--server", host, "--interface", "v0", *words)


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


async def test_a_watcher_is_told_the_rate(unused_tcp_port: int) -> None:
    told: list[str] = []
    argv = ["iperf3", "--server", "--port", str(unused_tcp_port), "--bind", "127.0.0.1", "--forceflush"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "listening" not in process.stdout.readline():
            pass
        context = Context(
            agent="lib-01",
            interface="lo",
            clock=SystemClock(),
            facts=Facts(),
            timeout_s=60.0,
            target=Target(role="core", host="127.0.0.1", port=unused_tcp_port),
            progress=told.append,
        )
        try:
            values = await iperf3.measure(ThroughputSettings(seconds=1.0, connections=2), context)
        finally:
            process.kill()
    assert values.connections == 2
    assert {line.split()[0] for line in told} == {"down", "up"}
    assert all(re.fullmatch(r"\w+ [\d.]+ Mbit/s, \d+ s", line) for line in told)


@inside
def test_congestion_control_that_is_asked_for() -> None:
    with cable() as (here, there):
        server(there)
        # Unshaped, iperf3 itself would be the limit, and the record says so.
        shape(here, there, rate_mbps=100)
        end = measure(here, "congestion_control=reno")
    assert (end["reason"], end["values"]["congestion_control"]) == (None, "reno")


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
        no_way = measure(here, host="fd88::1")
    assert refused["reason"] == "refused"
    assert silent["reason"] in ("timeout", "unreachable")
    assert no_way["reason"] == "unreachable"


@inside
@pytest.mark.parametrize("moment", ["(omitted)", "0.00-1.00"], ids=["early", "middle"])
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
    assert end["reason"] == "timeout", end
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
    assert (end["outcome"], end["reason"], end["values"]["down_mbps"]) == ("failed", "no_link", None)


@inside
def test_metered_uplink(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(
        'agent = "lib-01"\nstate = "state"\ninterface = "v0"\n[mqtt]\nhost = "127.0.0.1"\ntls = false\n'
        '[uplinks.v0]\nmetered = true\n[targets.core]\nrole = "core"\nhost = "10.77.0.2"\n'
        '[[jobs]]\nprobe = "throughput"\nprovider = "iperf3"\ntarget = "core"\nperiod_s = 3600\n'
    )
    with cable() as (here, _):
        end = here.once("throughput", "--config", str(config))
    assert (end["outcome"], end["reason"], end["provider"]) == ("skipped", "budget", "iperf3")


async def test_without_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "_found", {})
    monkeypatch.setattr(command, "_FOLDERS", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    context = Context(
        agent="lib-01",
        interface="lo",
        clock=SystemClock(),
        facts=Facts(),
        timeout_s=60.0,
        target=Target(role="core", host="127.0.0.1"),
    )
    with pytest.raises(Failure) as caught:
        await iperf3.measure(ThroughputSettings(), context)
    assert caught.value.reason == "tool_missing"
