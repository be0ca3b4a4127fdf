"""`wanggan agent run | once | check-config` as programs."""

import asyncio
import itertools
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent import commands
from contract.codec import decode_record
from contract.record import Record
from contract.values import Agent as Health
from tests.agent.collector import collector, free_port, mosquitto
from tests.agent.reflector import reflector

AGENT = [sys.executable, "-m", "agent"]
BAD = Path(__file__).parent / "data/bad"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    with mosquitto(tmp_path) as port:
        yield port


def write_config(folder: Path, broker: int, target: int, period_s: float = 60.0) -> str:
    path = folder / "agent.toml"
    path.write_text(f"""
        agent = "lib-01"
        state = "state"
        version = 3
        interface = "lo"
        [mqtt]
        host = "127.0.0.1"
        port = {broker}
        tls = false
        [targets.core]
        role = "core"
        host = "127.0.0.1"
        [targets.page]
        role = "internet"
        url = "http://127.0.0.1:{target}/"
        [resolvers.none]
        address = "127.0.0.1"
        port = {target}
        [[jobs]]
        probe = "latency"
        target = "core"
        packets = 5
        interval_ms = 20
        period_s = {period_s}
        [[jobs]]
        probe = "dns"
        target = "page"
        resolver = "none"
        period_s = {period_s}
        [[jobs]]
        probe = "web"
        target = "page"
        period_s = {period_s}
        [[jobs]]
        probe = "agent"
        period_s = {period_s}
    """)
    return str(path)


def call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*AGENT, *words], capture_output=True, text=True, timeout=60)


async def call_beside(*words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *AGENT, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def running(config: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(*AGENT, "run", "--config", config)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


# -- once


def test_once_prints_one_record_as_json() -> None:
    done = call("once", "latency", "--server", "127.0.0.1", "--json")
    record = decode_record(done.stdout.encode())
    assert done.returncode == 0
    assert (record.probe, record.target, record.interface, record.outcome) == ("latency", "127.0.0.1", "lo", "ok")
    assert timedelta() <= record.started_at - record.slot < timedelta(seconds=1)


def test_once_for_people() -> None:
    done = call("once", "agent", "--interface", "lo")
    assert done.returncode == 0
    assert done.stdout.startswith("agent - lo: ok\n")
    assert re.search(r"^  rss_bytes \d+$", done.stdout, re.MULTILINE)


def test_once_says_that_a_reflector_was_not_there_and_pings_were_counted_instead() -> None:
    port = free_port()
    done = call("once", "latency", "--server", f"127.0.0.1:{port}", "--set", "packets=3")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1] == (
        f"  no reflector answered at 127.0.0.1 UDP port {port}: measured by icmp instead; check host and port"
    )


def test_once_that_fails_says_why_and_ends_with_1() -> None:
    done = call("once", "web", "--server", f"127.0.0.1:{free_port()}", "--json")
    record = json.loads(done.stdout)
    assert done.returncode == 1
    assert (record["outcome"], record["reason"], record["target"]) == ("failed", "refused", "127.0.0.1")


def test_once_asks_the_resolver_that_is_named() -> None:
    done = call("once", "dns", "--target", "www.test", "--server", f"127.0.0.1:{free_port()}", "--json")
    record = json.loads(done.stdout)
    assert (record["reason"], record["resolver"], record["target"]) == ("refused", "server", "www.test")
    assert record["values"]["name"] == "www.test"


def test_once_takes_a_job_of_the_configuration(tmp_path: Path) -> None:
    done = call("once", "latency", "--config", write_config(tmp_path, 1, 2), "--target", "core", "--json")
    record = json.loads(done.stdout)
    assert (record["target"], record["values"]["sent"], record["values"]["interval_ms"]) == ("core", 5, 20.0)


@pytest.mark.laboratory
async def test_once_signs_with_the_key_of_the_agent_that_is_named(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("right\n")
    key.chmod(0o600)
    async with reflector(keys={"lib-01": (b"right",)}) as (_, port):
        words = ("once", "video", "--server", f"127.0.0.1:{port}", "--key-file", str(key), "--set", "duration_s=4")
        said = [await call_beside(*words, "--agent", name, "--json") for name in ("lib-01", "lib-02")]
    ended = [json.loads(out) for _, out, _ in said]
    assert [(record["outcome"], record["reason"]) for record in ended] == [("ok", None), ("invalid", "no_permission")]


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (("throughput",), "throughput needs a server that is yours to load; give one: --server HOST[:PORT]"),
        (("video",), "video needs a server that is yours to load; give one: --server HOST[:PORT]"),
        (("throughput", "--provider", "iperf3"), "give one: --server HOST[:PORT]"),
        (
            ("video", "--server", "127.0.0.1", "--key-file", "k"),
            "say of which, as the reflector names it: --agent NAME",
        ),
        (("latency", "--agent", "Lib 1"), "--agent 'Lib 1': write 3 to 32 of a-z, 0-9 and -"),
        (("latency", "--server", "127.0.0.1:8862:1"), "'127.0.0.1:8862:1': write HOST, HOST:PORT or [IPv6]:PORT"),
    ],
)
def test_once_names_what_the_command_line_lacks(
    words: tuple[str, ...],
    fix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    key = tmp_path / "k"
    key.write_text("right\n")
    key.chmod(0o600)
    assert exit_code("once", *words) == 2
    assert fix in capsys.readouterr().err


def test_once_tells_people_numbers_in_six_digits() -> None:
    done = call("once", "path", "--server", "127.0.0.1")
    (hops,) = re.findall(r"^  hops (.*)$", done.stdout, re.MULTILINE)
    (hop,) = json.loads(hops)
    assert len(str(hop["rtt_ms"]).replace(".", "").lstrip("0")) <= 6
    assert "  pmtu_blackhole false\n" in done.stdout


def test_once_takes_a_probes_settings() -> None:
    done = call("once", "latency", "--server", "127.0.0.1", "--set", "packets=3", "--set", "method=icmp", "--json")
    record = json.loads(done.stdout)
    assert (record["values"]["sent"], record["values"]["method"]) == (3, "icmp")


def test_who_watches_sees_how_far_it_is() -> None:
    ours, theirs = pty.openpty()
    words = ("once", "latency", "--server", "127.0.0.1", "--set", "packets=3", "--set", "interval_ms=200", "--json")
    done = subprocess.run([*AGENT, *words], stdout=subprocess.PIPE, stderr=theirs, text=True, timeout=60)
    os.close(theirs)
    seen = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "latency 127.0.0.1  0 s" in seen
    assert seen.endswith("\r\x1b[K"), "the line is gone in the end"
    assert json.loads(done.stdout)["outcome"] == "ok"


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("once",),
        ("once", "latency", "--servers", "x"),
        ("once", "latency", "--server", "-oProxyCommand=x"),
        ("once", "latency", "--server", "127.0.0.1:99999"),
        ("once", "latency", "--server", "127.0.0.1", "--interface", "a b"),
        ("once", "dns", "--server", "resolver.example"),
        ("once", "latency", "--server", "127.0.0.1", "--set", "packets"),
        ("once", "latency", "--server", "127.0.0.1", "--set", "packets=many"),
        ("once", "latency", "--server", "127.0.0.1", "--set", "mode=quick"),
        ("once", "latency", "--server", "127.0.0.1", "--provider", "ndt7"),
        ("once", "latency", "--config", "/nonexistent.toml"),
        ("run",),
        ("run", "--config", "/nonexistent.toml"),
        ("check-config", "/nonexistent.toml"),
        ("check-config", str(BAD / "unknown-job-key.toml")),
        ("run", "--config", str(BAD / "duplicate-job.toml")),
    ],
)
def test_usage_and_configuration_errors_end_with_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(*words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err


def test_a_misspelt_probe_is_told_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("once", "latncy") == 2
    assert "no probe 'latncy'; did you mean latency?; there are agent, dns" in capsys.readouterr().err


@pytest.mark.parametrize("words", [(), ("run",), ("once",), ("check-config",)])
def test_help(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(*words, "--help") == 0
    assert "usage: wanggan agent" in capsys.readouterr().out


def exit_code(*words: str) -> object:
    """In this process, as `wanggan agent` would end; argparse ends by an exception."""
    try:
        return commands.main(list(words))
    except SystemExit as ended:
        return ended.code


def test_check_config(tmp_path: Path) -> None:
    done = call("check-config", write_config(tmp_path, 1, 2))
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/agent.toml: lib-01, 4 jobs: ok\n")


# -- run


async def test_one_round_ends_when_everything_is_stored(tmp_path: Path, broker: int) -> None:
    config = write_config(tmp_path, broker, free_port())
    async with collector(broker, "lib-01") as there:
        code, out, err = await call_beside("run", "--config", config, "--once", "--json")
    said: list[dict[str, Any]] = json.loads(out)["records"]
    assert code == 0, err
    assert {(each["probe"], each["reason"], each["stored"]) for each in said} == {
        ("latency", None, True),
        ("dns", "refused", True),
        ("web", "refused", True),
        ("agent", None, True),
    }
    assert sorted(record.probe for record in there.records) == ["agent", "dns", "latency", "web"]
    for each in said:
        each.pop("stored")
        assert decode_record(json.dumps(each).encode()) in there.records, "printed as it was sent"
    assert [status.online for status in there.statuses] == [True, False]
    assert {job.probe for job in there.statuses[0].jobs} == {"latency", "dns", "web", "agent"}


async def test_round_that_nobody_stores_is_kept_for_the_next(tmp_path: Path) -> None:
    config = write_config(tmp_path, free_port(), free_port())
    process = await asyncio.create_subprocess_exec(
        *AGENT, "run", "--config", config, "--once", stdout=asyncio.subprocess.PIPE
    )
    await asyncio.sleep(3)
    process.send_signal(signal.SIGTERM)
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert out.decode().count("NOT STORED") == 4
    with mosquitto(tmp_path) as port:
        config = write_config(tmp_path, port, free_port(), period_s=3600)
        async with collector(port, "lib-01") as there:
            code, _, err = await call_beside("run", "--config", config, "--once")
            assert code == 0, err
            assert len(there.records) >= 4


async def test_first_record_comes_at_once_and_the_end_is_clean(tmp_path: Path, broker: int) -> None:
    config = write_config(tmp_path, broker, free_port(), period_s=3600)
    text = Path(config).read_text()
    # Its health alone: the slot of another job may come at any time.
    Path(config).write_text(text[: text.index("[[jobs]]")] + text[text.rindex("[[jobs]]") :])
    async with collector(broker, "lib-01") as there:
        for start in range(2):
            started_s = time.monotonic()
            async with running(config) as process:
                await there.wait_for(start + 1, seconds=20)
                first_s = time.monotonic() - started_s
                process.send_signal(signal.SIGTERM)
                stopped_s = time.monotonic()
                assert await asyncio.wait_for(process.wait(), 20) == 0
                print(f"first record after {first_s:.2f} s, ended in {time.monotonic() - stopped_s:.2f} s")
                assert first_s < 10
                assert time.monotonic() - stopped_s < 6
            assert there.statuses[-1].online is False
    first, second = there.records
    assert (first.probe, second.probe) == ("agent", "agent")
    assert first.values is not None
    assert second.values is not None
    assert (first.values.restarts, first.values.last_exit) == (0, None)  # type: ignore[attr-defined]
    assert (second.values.restarts, second.values.last_exit) == (1, "clean")  # type: ignore[attr-defined]
    assert first.values.config_version == 3  # type: ignore[attr-defined]


def healths(records: Sequence[Record]) -> list[Health]:
    return [record.values for record in records if isinstance(record.values, Health)]


async def test_start_after_a_crash_says_so(tmp_path: Path, broker: int) -> None:
    config = write_config(tmp_path, broker, free_port(), period_s=3600)
    text = Path(config).read_text()
    # Its health alone: the slot of another job may come at any time.
    Path(config).write_text(text[: text.index("[[jobs]]")] + text[text.rindex("[[jobs]]") :])
    async with collector(broker, "lib-01") as there:
        for start in range(2):
            async with running(config) as process:
                async with asyncio.timeout(20):
                    while len(healths(there.records)) <= start:  # another job's slot may come first
                        await asyncio.sleep(0.05)
                process.kill()
    assert healths(there.records)[1].last_exit == "crash"


async def test_schedule_runs_and_ctrl_c_ends_it(tmp_path: Path, broker: int) -> None:
    config = write_config(tmp_path, broker, free_port(), period_s=1)
    async with collector(broker, "lib-01") as there, running(config) as process:
        await there.wait_for(20, seconds=30)
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    series = {(record.probe, record.slot) for record in there.records}
    assert len(series) == len(there.records), "no slot twice"
    outcomes = {record.probe: (record.outcome, record.reason) for record in there.records}
    assert outcomes["dns"] in (("failed", "refused"), ("invalid", "internal"))
    slots = sorted(record.slot.timestamp() for record in there.records if record.probe == "dns")
    assert all(later - slot == pytest.approx(1, abs=0.01) for slot, later in itertools.pairwise(slots))
