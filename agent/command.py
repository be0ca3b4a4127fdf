"""Programs of the system, run as children with a deadline: nothing of them is left when :func:`run` returns.

Not asyncio's own subprocesses: Python 3.11 starts a thread for each to wait for its end. Here the event loop itself
watches the child's pidfd (Linux 5.3).
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO, Final, NamedTuple, Self

from agent.probe import Failure

MAX_OUTPUT_BYTES: Final = 256 * 1024
"""Of standard output and of standard error, unless a caller expects more."""
REAP_S: Final = 0.3
"""What a killed child gets to be gone; one that the kernel keeps longer is reaped when the next one starts."""
_CHUNK: Final = 64 * 1024
_TAIL_CHARACTERS: Final = 160
_FOLDERS: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Searched behind PATH: that of an unprivileged user lacks `sbin`."""

_found: dict[str, str] = {}


class Killed(Failure):
    """It was not done in time. `internal`, unless a caller knows what it waited for."""


class Done(NamedTuple):
    """A program that ended by itself."""

    code: int
    """Its exit code; minus the number of the signal that ended it."""
    output: str
    error: str
    """The end of what it wrote to standard error, fit for a failure's detail."""


def find(program: str) -> str:
    """Absolute path of `program`, looked for until it is there.

    :raises Failure: `tool_missing`.
    """
    folders = os.pathsep.join(filter(None, (os.environ.get("PATH"), _FOLDERS)))
    path = _found.get(program) or shutil.which(program, path=folders)
    if path is None:
        raise Failure("tool_missing", f"{program} is not installed")
    return _found.setdefault(program, os.path.abspath(path))  # noqa: PTH100 - no link may be resolved: busybox


async def run(
    program: str,
    *words: str,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
    max_bytes: int = MAX_OUTPUT_BYTES,
) -> Done:
    """Run `program` with `words` and without input, messages in English; its whole process group ends with it.

    :param environment: in addition to our own.
    :param max_bytes: of standard output and of standard error; a program that says more is killed.
    :raises Killed: it took more than `timeout_s`.
    :raises Failure: `tool_missing`; `internal` when it could not be started or wrote too much.
    """
    process = _start([find(program), *words], program, environment or {})
    async with _Child(process, max_bytes) as child:
        try:
            async with asyncio.timeout(timeout_s):
                await child.ended.wait()
        except TimeoutError:
            raise Killed("internal", f"{program} was not done within {timeout_s:g} s and was killed") from None
        child.read_rest()
    if child.flooded:
        raise Failure("internal", f"{program} wrote more than {max_bytes} bytes and was killed")
    output, error = (text.decode("utf-8", "replace") for text in child.texts)
    return Done(process.returncode, output, error.strip()[-_TAIL_CHARACTERS:])


def _start(argv: Sequence[str], program: str, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(  # noqa: S603 - an argument list, no shell
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C", **environment},
            start_new_session=True,
        )
    except FileNotFoundError as error:
        _found.pop(program, None)
        raise Failure("tool_missing", f"{argv[0]} is gone") from error
    except OSError as error:
        raise Failure("internal", f"starting {program}: {error.strerror}") from error


class _Child:
    """A started process with its pipes; leaving the context kills what is left of its group and reaps it."""

    def __init__(self, process: "subprocess.Popen[bytes]", max_bytes: int) -> None:
        self.ended = asyncio.Event()
        """It has ended, or wrote too much."""
        self.flooded = False
        self.texts = (bytearray(), bytearray())
        self._process = process
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._pipes = {_pipe(process.stdout): self.texts[0], _pipe(process.stderr): self.texts[1]}
        self._pidfd: int | None = None

    async def __aenter__(self) -> Self:
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError as error:
            self._kill()
            self._close_pipes()
            self._process.wait()
            raise Failure("internal", f"watching a child: {error.strerror}") from error
        self._loop.add_reader(self._pidfd, self._note_end)
        for pipe, text in self._pipes.items():
            os.set_blocking(pipe.fileno(), False)
            self._loop.add_reader(pipe, self._read, pipe, text)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Before it is reaped: until then nobody else can have its number.
        self._kill()
        self._close_pipes()
        self.ended.clear()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REAP_S):
                    while self._process.poll() is None:
                        await self.ended.wait()
        finally:
            assert self._pidfd is not None
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)

    def read_rest(self) -> None:
        """What stands in the pipes when it has ended; a grandchild that holds them is not waited for."""
        for pipe, text in self._pipes.items():
            while not (pipe.closed or self.flooded) and self._read(pipe, text):
                pass

    def _note_end(self) -> None:
        assert self._pidfd is not None
        self._loop.remove_reader(self._pidfd)
        self.ended.set()

    def _read(self, pipe: IO[bytes], text: bytearray) -> bool:
        """Whether there was something."""
        try:
            data = os.read(pipe.fileno(), _CHUNK)
        except BlockingIOError:
            return False
        text += data
        if not data:
            self._close(pipe)
        elif len(text) > self._max_bytes:
            self.flooded = True
            self._close(pipe)
            self.ended.set()
        return bool(data)

    def _close(self, pipe: IO[bytes]) -> None:
        self._loop.remove_reader(pipe)
        pipe.close()

    def _close_pipes(self) -> None:
        for pipe in self._pipes:
            if not pipe.closed:
                self._close(pipe)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
