"""The process tree, with real processes and real signals: nothing outlives its parent, whatever kills it."""

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wanggan.processes import Child, program
from wanggan.sweep import VARIABLE, marked, sweep

DEEP = "import subprocess,time; subprocess.Popen(['sleep', '600']); time.sleep(600)"
"""A child that starts a grandchild of its own."""

PARENT = f"""
import asyncio, os, sys
from pathlib import Path
from wanggan.processes import Child, Sweeper

async def main():
    mark = sys.argv[1]
    await Sweeper(mark).start()
    child = Child("deep", [sys.executable, "-c", {DEEP!r}], Path(sys.argv[2]), {{"{VARIABLE}": mark}})
    await child.keep(print)

asyncio.run(main())
"""


def gone(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return True


async def until(condition: object, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def test_kill_minus_9_of_the_parent_leaves_nothing(tmp_path: Path) -> None:
    mark = secrets.token_hex(8)
    with subprocess.Popen([sys.executable, "-P", "-c", PARENT, mark, str(tmp_path)]) as parent:
        try:
            await until(lambda: len(marked(mark)) == 2)
            parent.kill()
            await until(lambda: not marked(mark))
        finally:
            parent.kill()
            sweep(mark)


async def test_the_sweep_reaches_what_hid_in_another_session() -> None:
    mark = secrets.token_hex(8)
    hidden = subprocess.Popen(["setsid", "sleep", "600"], env={**os.environ, VARIABLE: mark})
    with hidden:
        await until(lambda: len(marked(mark)) == 1)
        await asyncio.to_thread(sweep, mark)
        assert hidden.wait(10) == -signal.SIGKILL
    assert marked(mark) == []


def test_a_tether_to_a_parent_that_is_gone_runs_nothing(tmp_path: Path) -> None:
    flag = tmp_path / "ran"
    argv = [sys.executable, "-P", "-m", "wanggan.tether", "1" if os.getpid() != 1 else "2", "touch", str(flag)]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert "the parent died" in ended.stderr
    assert not flag.exists()


async def test_a_child_that_dies_is_said_once_and_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    child = Child("worker", [sys.executable, "-c", DEEP], tmp_path)
    keeping = asyncio.create_task(child.keep(said.append))
    await until(lambda: child.pid is not None)
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: child.pid not in (None, first))
    assert said == [f"worker was killed by SIGKILL, starting it again (log: {child.log})"]
    second = child.pid
    assert second is not None
    await child.stop(1)
    await asyncio.wait_for(keeping, 10)
    assert gone(second)
    assert child.restarts == 1


async def test_the_last_words_of_a_child_are_shown_and_not_repeated(tmp_path: Path) -> None:
    said: list[str] = []
    child = Child("worker", [sys.executable, "-c", "import sys; sys.exit('disk on fire')"], tmp_path)
    keeping = asyncio.create_task(child.keep(said.append))
    await until(lambda: child.restarts >= 2)
    await child.stop(1)
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping
    assert said == [f"worker ended with exit code 1, starting it again: disk on fire (log: {child.log})"]


async def test_a_deaf_child_is_made_to_stop(tmp_path: Path) -> None:
    deaf = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('up','w'); time.sleep(600)"
    child = Child("deaf", [sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); {deaf}"], tmp_path)
    keeping = asyncio.create_task(child.keep(print))
    await until((tmp_path / "up").exists)
    await child.stop(0.2)
    await asyncio.wait_for(keeping, 10)
    assert child.pid is None


async def test_a_log_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wanggan.processes.MAX_LOG_BYTES", 10)
    (tmp_path / "worker.log").write_text("older words, long ago\n")
    child = Child("worker", [*program("--version")], tmp_path)
    keeping = asyncio.create_task(child.keep(lambda _: None))
    await until(lambda: child.restarts >= 1)
    await child.stop(1)
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping
    assert not child.log.exists() or "older words" not in child.log.read_text()
    assert list(tmp_path.glob("worker.log.1"))
