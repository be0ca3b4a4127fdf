"""`wanggan up`, the whole of it, with real processes and real signals."""

import os
import signal
import socket
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from contract.codec import decode_record
from tests.wanggan.running import WANGGAN, descendants, get, one_round, running, until
from wanggan.sweep import marked

ROOT_USER = os.geteuid() == 0
ALONE = ["unshare", "--net", *([] if ROOT_USER else ["--user", "--map-root-user"])]
"""In a network namespace of its own: no gateway, no internet, nothing but a loopback."""
LOOPBACK_UP = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
NOBODY = [
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
    # May read everything, so that it finds this Python wherever it is; may send nothing that a user may not.
    "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search",
    "--bounding-set=-all,+dac_read_search",
]  # fmt: skip


def test_one_round_without_any_network_is_measured_and_stored(tmp_path: Path) -> None:
    ended, records = one_round(tmp_path / "state", before=[*ALONE, *LOOPBACK_UP])
    assert ended.returncode == 0, ended.stderr
    assert {(record["probe"], record["target"]) for record in records} >= {
        ("agent", "-"),
        ("latency", "reflector"),
        ("web", "reflector"),
    }
    assert [record for record in records if not record["stored"]] == []
    for record in records:
        del record["stored"]
        decode_record(__import__("json").dumps(record).encode())
    # Not only said, but there.
    with sqlite3.connect(next((tmp_path / "state").glob("*.db"))) as database:
        for probe, count in (("latency", 1), ("web", 1), ("agent", 1)):
            assert database.execute(f"SELECT count(*) FROM {probe}").fetchone()[0] >= count


@pytest.mark.skipif(not ROOT_USER, reason="only root can become somebody else; everyone else already is")
def test_without_root_everything_is_measured(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 65534, 65534)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/") and "pytest" in folder.name:
            folder.chmod(0o755)
    ended, records = one_round(state, "--local-only", before=[*ALONE, *LOOPBACK_UP, *NOBODY])
    assert ended.returncode == 0, ended.stderr
    (latency,) = [record for record in records if record["probe"] == "latency"]
    assert (latency["outcome"], latency["values"]["method"]) == ("ok", "stamp")
    (throughput,) = [record for record in records if record["probe"] == "throughput"]
    assert 100 < throughput["values"]["down_mbps"] < 210, "the reflector paces a test to 200 Mbit/s"


def test_one_round_with_the_embedded_broker_as_a_table(tmp_path: Path) -> None:
    command = [*WANGGAN, "up", "--once", "--local-only", "--embedded-broker", "--state", str(tmp_path / "state")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    for word in ("latency", "reflector", "ok", "5 of 5 stored"):
        assert word in ended.stdout
    assert (tmp_path / "state/config/rumqttd.toml").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    with running(tmp_path / "state", "--local-only") as up:
        if number == signal.SIGINT:
            until(lambda: get(f"{up.url}api/overview")["records"]["stored"] > 0, what="the first records")
        (mark,) = up.marks
        tree = descendants(up.process.pid)
        started = time.monotonic()
        up.process.send_signal(number)
        assert up.process.wait(20) == 0
        assert time.monotonic() - started < 6  # 3 s, and room for a busy machine
        assert marked(mark) == []
        assert not [pid for pid in tree if Path(f"/proc/{pid}").exists()]
        assert not up.said("Traceback")
        with sqlite3.connect(next((tmp_path / "state").glob("*.db"))) as database:
            assert database.execute("PRAGMA quick_check").fetchone() == ("ok",)


def test_kill_minus_9_leaves_nothing_running(tmp_path: Path) -> None:
    with running(tmp_path / "state", "--local-only") as up:
        (mark,) = up.marks
        assert len(marked(mark)) >= 4
        up.process.kill()
        until(lambda: marked(mark) == [], 10, "the end of every process")


def test_a_program_that_dies_is_said_once_and_runs_again(tmp_path: Path) -> None:
    with running(tmp_path / "state", "--local-only") as up:
        before = get(f"{up.url}api/overview")["records"]["stored"]
        for words in (("mosquitto.conf",), ("agent", "run"), ("reflector", "run")):
            victim = until(lambda words=words: up.child(*words))
            os.kill(victim, signal.SIGKILL)
            until(lambda words=words, victim=victim: up.child(*words) not in (None, victim), what=f"the next {words}")
        until(lambda: get(f"{up.url}api/overview")["records"]["stored"] > before, what="the next records")
        for name in ("broker", "agent", "reflector"):
            assert sum(f"{name} was killed by SIGKILL, starting it again" in line for line in up.lines) == 1


def test_a_second_one_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with running(tmp_path / "state", "--local-only"):
        ended, _ = one_round(tmp_path / "state", "--local-only")
        assert ended.returncode == 2
        assert "another `wanggan up` uses" in ended.stderr
        assert "--state DIR" in ended.stderr


def test_a_taken_port_is_said_with_the_fix(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        command = [*WANGGAN, "up", "--local-only", "--port", str(port), "--state", str(tmp_path / "state")]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert f"port {port} is taken by another program; use a free one: wanggan up --port " in ended.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--state", "/proc/nowhere"], "choose another with --state DIR"),
        (["--json"], "--json needs --once"),
        (["--port", "0"], "'0' is not a port (1 to 65535)"),
    ],
)
def test_usage_errors(options: list[str], message: str) -> None:
    ended = subprocess.run([*WANGGAN, "up", *options], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert message in ended.stderr


def test_secrets_are_neither_in_arguments_nor_in_logs_nor_readable_by_others(tmp_path: Path) -> None:
    with running(tmp_path / "state", "--local-only") as up:
        secrets = [file.read_text().strip() for file in (tmp_path / "state/config").glob("*.password")]
        assert len(secrets) == 2
        arguments = " ".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in descendants(up.process.pid))
        logs = "".join(file.read_text() for file in (tmp_path / "state/logs").iterdir()) + "\n".join(up.lines)
        assert not [secret for secret in secrets if secret in arguments + logs]
        assert (tmp_path / "state").stat().st_mode & 0o077 == 0
