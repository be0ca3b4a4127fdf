"""The children of `wanggan up`: started, watched, started again when they die, stopped in order."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from wanggan.tether import tethered

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 30.0
SETTLED_S: Final = 60.0
"""A child that ran this long is started again without a growing wait."""
MAX_LOG_BYTES: Final = 1024 * 1024
"""A log that is longer when its child starts is moved to ``.1``."""

Say = Callable[[str], None]
"""Tells the person one line."""


class Child:
    """One program of the tree. Its output goes to ``<folder>/<name>.log``."""

    def __init__(self, name: str, argv: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.argv = list(argv)
        self.log = folder / f"{name}.log"
        self.restarts = 0
        self._env = {**os.environ, **(env or {})}
        self._process: Process | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """Of the running process; None while there is none."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def keep(self, say: Say) -> None:
        """Run it until :meth:`stop`, again and again. One line when it died, one when it stands again."""
        wait_s = FIRST_WAIT_S
        loop = asyncio.get_running_loop()
        while not self._stopping:
            started_s = loop.time()
            code = await self.run()
            if self._stopping:
                return
            if loop.time() - started_s >= SETTLED_S:
                wait_s = FIRST_WAIT_S
            if wait_s == FIRST_WAIT_S:
                say(f"{self.name} {_ending(code)}, starting it again{self.last_words()} (log: {self.log})")
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            self.restarts += 1

    async def stop(self, within_s: float) -> None:
        """Ask it to end, then make it; returns when it is gone."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await process.wait()
                return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

    async def output(self) -> bytes:
        """Run it once; what it wrote to standard output."""
        with self._open_log() as log:
            self._process = await self._start(PIPE, log)
        output, _ = await self._process.communicate()
        return output

    def last_words(self) -> str:
        """The last line of its log, after a colon; empty when there is none."""
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 4096))
            lines = [line.strip() for line in file.read().decode(errors="replace").split("\n")]
            said = [line for line in lines if line]
            return f": {said[-1][:200]}" if said else ""
        return ""

    async def run(self) -> int:
        """Run it once; its exit code."""
        with self._open_log() as log:
            self._process = await self._start(log, log)
        return await self._process.wait()

    def _open_log(self) -> IO[bytes]:
        if self.log.exists() and self.log.stat().st_size > MAX_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        return self.log.open("ab")

    async def _start(self, stdout: int | IO[bytes], log: IO[bytes]) -> Process:
        # Its own process group: Ctrl-C in a terminal reaches `up` alone, which stops the children in order.
        return await asyncio.create_subprocess_exec(
            *tethered(self.argv), stdin=DEVNULL, stdout=stdout, stderr=log, env=self._env, process_group=0
        )


class Sweeper:
    """A process that outlives this one just long enough to end what is left of the tree."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self._process: Process | None = None

    async def start(self) -> None:
        # Its own session and no mark: neither a signal to our group nor the sweep itself reaches it.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "wanggan.sweep", self.mark,
            stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True,
        )  # fmt: skip

    async def finish(self) -> None:
        """Let it sweep now, and wait for it."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()


def program(*arguments: str) -> list[str]:
    """The argument list of another `wanggan` command, from this same installation."""
    return [sys.executable, "-P", "-m", "wanggan", *arguments]


def _ending(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
