"""`wanggan collector ...` as people run it: exit codes, messages, signals."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from collector.commands import main
from collector.config import load
from collector.deadletters import DeadLetters, letter
from contract.codec import encode
from tests.collector.lab import AGENT, Mosquitto, batch, box, free_port, now, record, write_files


def wanggan(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "wanggan", "collector", *arguments]


@contextmanager
def started(file: Path, http_port: int) -> Iterator[subprocess.Popen[str]]:
    """The collector as a process, ready."""
    with subprocess.Popen(wanggan("run", "--config", str(file)), stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{http_port}/healthz", timeout=2).close()
                    break
                except OSError:
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            yield process
        finally:
            process.kill()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_files(tmp_path, free_port())


def test_check_config(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config", str(file)]) == 0
    assert "2 agents at 2 venues" in capsys.readouterr().out
    (file.parent / "sites.toml").write_text("[[sites]]\n")
    assert main(["check-config", str(file)]) == 2
    assert "sites[0].agent: missing; add agent" in capsys.readouterr().err
    file.write_text("colour = 3\n")
    assert main(["check-config", str(file)]) == 2
    assert f"{file}: colour: unknown key" in capsys.readouterr().err


def test_usage_is_2() -> None:
    for arguments in ([], ["dead-letters"], ["run"], ["sing"]):
        with pytest.raises(SystemExit) as error:
            main(arguments)
        assert error.value.code == 2


def test_init_makes_the_store(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(file)]) == 0
    with closing(sqlite3.connect(file.parent / "store.db")) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert {"latency", "jobs", "collector"} <= tables
    file.write_text(file.read_text().replace("store.db", "sites.toml/store.db"))
    assert main(["init", str(file)]) in (1, 2)
    assert "store" in capsys.readouterr().err


def put_letters(file: Path) -> None:
    """A record that passes now, one that never does, and a whole payload that was not believed then."""
    settings = load(file)
    letters = DeadLetters(settings.state, 2**20)

    def one(index: int | None, payload: bytes, refusal: str = "store") -> None:
        letters.keep(
            [
                letter(
                    at=now(), agent=AGENT, outbox="o", batch=1, index=index, reason="invalid", refusal=refusal,
                    words="field type conflict", payload=payload,
                )
            ]
        )  # fmt: skip

    one(0, encode(record(detail="first")))
    one(1, encode(record(clock="none")), "clock_none")
    one(2, encode(record(now() - timedelta(days=60))), "too_old")
    one(None, encode(batch(5, [record(detail="whole"), record(detail="whole")])), "not_json")
    one(3, b"x" * 100_000, "too_large")


def test_dead_letters_are_listed_and_replayed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_letters(file)
    assert main(["dead-letters", "list", "--config", str(file)]) == 0
    text = capsys.readouterr().out
    assert f"{AGENT} o/1 record 0: invalid" in text
    assert "field type conflict" in text

    assert main(["dead-letters", "replay", "--config", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"stored": 2, "refused": 2, "cut": 1}
    with closing(sqlite3.connect(file.parent / "store.db")) as connection:
        details = [detail for (detail,) in connection.execute("SELECT detail FROM latency ORDER BY detail")]
    assert details == ["first", "whole", "whole"]

    assert main(["dead-letters", "list", "--config", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["replayed"] for one in found] == [True, False, False, True, False]
    assert main(["dead-letters", "replay", "--config", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"stored": 0, "refused": 2, "cut": 1}


def test_replay_without_a_store_is_1_and_marks_nothing(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_letters(file)
    text = file.read_text()
    store = f'engine = "sqlite"\npath = "{file.parent}/store.db"'
    file.write_text(text.replace(store, f'engine = "influx"\nurl = "http://127.0.0.1:{free_port()}"'))
    assert main(["dead-letters", "replay", "--config", str(file)]) == 1
    assert "store: " in capsys.readouterr().err
    assert DeadLetters(load(file).state, 2**20).replayed() == set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_within_3_s(number: signal.Signals, tmp_path: Path, mosquitto: Mosquitto) -> None:
    http_port = free_port()
    with started(write_files(tmp_path, mosquitto.port, http_port=http_port), http_port) as process:
        async with box(mosquitto.port) as agent:
            await agent.send(1, batch(1, [record() for _ in range(10)]))
            assert (await agent.answer(1)).stored == 10
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == 0
        assert time.monotonic() - began < 3
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


async def test_sighup_reads_the_register_at_once(tmp_path: Path, mosquitto: Mosquitto) -> None:
    http_port = free_port()
    file = write_files(tmp_path, mosquitto.port, http_port=http_port)
    with started(file, http_port) as process:
        async with box(mosquitto.port, "box-0009") as agent:
            await agent.send(1, batch(1, [record()], agent="box-0009"))
            assert (await agent.answer(1)).later == "unknown_agent"
            sites = tmp_path / "sites.toml"
            before = sites.stat()
            sites.write_text(sites.read_text().replace("box-0002", "box-0009"))
            os.utime(sites, ns=(before.st_atime_ns, before.st_mtime_ns))
            process.send_signal(signal.SIGHUP)
            for number in range(2, 50):
                await agent.send(number, batch(number, [record()], agent="box-0009"))
                if (await agent.answer(number)).stored == 1:
                    break
            else:
                pytest.fail("the register was not read")


async def test_killed_and_started_again_it_goes_on(tmp_path: Path, mosquitto: Mosquitto) -> None:
    http_port = free_port()
    file = write_files(tmp_path, mosquitto.port, http_port=http_port)
    sent = batch(1, [record() for _ in range(10)])
    async with box(mosquitto.port) as agent:
        for _ in range(2):
            with started(file, http_port) as process:
                await agent.send(1, sent)
                assert (await agent.answer(1)).stored == 10
                process.kill()
                process.wait(10)
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        assert connection.execute("SELECT count(*) FROM latency").fetchone() == (10,)


def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path, mosquitto: Mosquitto) -> None:
    file = write_files(tmp_path, mosquitto.port, http_port=mosquitto.port)
    found = subprocess.run(wanggan("run", "--config", str(file)), capture_output=True, text=True, timeout=60)
    assert found.returncode == 2
    assert "web.listen, web.port: cannot listen on" in found.stderr
    assert "Traceback" not in found.stderr
