"""Leave nothing running: end every process that carries a mark in its environment, however deep it was started.

``python -m wanggan.sweep MARK`` waits until its standard input closes, which happens when the process that holds the
other end ends, in whatever way.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

VARIABLE: Final = "WANGGAN_UP"
"""The environment variable that carries the mark."""


def marked(mark: str) -> list[int]:
    """Processes of this user whose environment has the mark; not this one."""
    wanted = f"{VARIABLE}={mark}".encode()
    return [pid for pid in _pids() if pid != os.getpid() and wanted in _environment(pid)]


def sweep(mark: str, within_s: float = 5.0) -> None:
    """Kill them all, those too that are being started meanwhile."""
    deadline = time.monotonic() + within_s
    while (found := marked(mark)) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _environment(pid: int) -> list[bytes]:
    # A process that just ended, or is another user's, has none that we could read.
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return []


def main(mark: str) -> None:
    """Wait, then sweep."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.buffer.read()
    sweep(mark)


if __name__ == "__main__":
    main(sys.argv[1])
