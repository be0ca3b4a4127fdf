"""`wanggan up` as a process of its own, for tests: started, listened to, looked into, and gone afterwards."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from wanggan.network import free_port
from wanggan.sweep import VARIABLE

WANGGAN = (sys.executable, "-P", "-m", "wanggan")


def until(condition: Callable[[], Any], within_s: float = 40.0, what: str = "it") -> Any:
    """The first true value of `condition`.

    :raises AssertionError: when there was none in time.
    """
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {within_s:g} s"
        time.sleep(0.05)
    return found


class Up:
    """A running `wanggan up`."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, name="standard error", daemon=True)
        self._reader.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def marks(self) -> set[str]:
        """The marks of its tree: one, once a child runs."""
        return {mark for pid in descendants(self.process.pid) if (mark := mark_of(pid))}

    def said(self, words: str) -> bool:
        return any(words in line for line in self.lines)

    def child(self, *words: str) -> int | None:
        """The process whose command line has all `words`."""
        for pid in descendants(self.process.pid):
            line = command_line(pid)
            if "wanggan.tether" not in line and all(word in line for word in words):
                return pid
        return None

    def end(self) -> None:
        """Whatever happened in the test, nothing of it stays."""
        from wanggan.sweep import sweep

        marks = self.marks
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        self.process.kill()
        self.process.wait(10)
        for mark in marks:
            sweep(mark)
        self._reader.join(10)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))


@contextlib.contextmanager
def running(state: Path, *options: str, before: Sequence[str] = (), greeted: bool = True) -> Iterator[Up]:
    """Start it, behind the command `before`; when `greeted`, wait until it says that it measures."""
    port = free_port()
    command = [*before, *WANGGAN, "up", "--state", str(state), "--port", str(port), *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        up = Up(process, port)
        try:
            if greeted:
                until(lambda: up.said("Live page") or process.poll() is not None, what="the start")
                assert up.said("Live page"), "\n".join(up.lines)
            yield up
        finally:
            up.end()


def one_round(
    state: Path, *options: str, before: Sequence[str] = ()
) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """`wanggan up --once --json`, and its records."""
    command = [*before, *WANGGAN, "up", "--state", str(state), "--once", "--json", *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    records = json.loads(ended.stdout)["records"] if ended.stdout.strip() else []
    return ended, records


def get(url: str) -> Any:
    """A JSON document."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def descendants(pid: int) -> list[int]:
    """Children, their children and so on."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        own = children.get(waiting.pop(), [])
        found += own
        waiting += own
    return found


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def mark_of(pid: int) -> str | None:
    """The mark in a process' environment."""
    with contextlib.suppress(OSError):
        for pair in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            name, _, value = pair.decode(errors="replace").partition("=")
            if name == VARIABLE:
                return value
    return None


@contextlib.contextmanager
def kept_down(find: Callable[[], int | None]) -> Iterator[None]:
    """Kill a program whenever it is there: `wanggan up` starts it again and again."""
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.02):
            if (pid := find()) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill, name="killer")
    killer.start()
    try:
        yield
    finally:
        over.set()
        killer.join()
