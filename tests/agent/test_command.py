"""Child processes: programs that hang, flood, fork and ignore signals leave no process, descriptor or thread behind."""

import asyncio
import os
import sys
import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest

from agent import command
from agent.command import Done
from agent.probe import Failure

HANGS = "sleep 100"
IGNORES_SIGTERM = "trap '' TERM INT HUP; while :; do sleep 100; done"
FORKS = "sleep 100 & sleep 100 & (sleep 100 & sleep 100) & wait"
FLOODS = "yes"
FLOODS_ERRORS = "yes >&2"
LEAVES_ONE_THAT_HOLDS_THE_PIPE = "sleep 100 & echo said"
LEAVES_ONE_THAT_FLOODS = "yes & echo said >&2"


async def shell(script: str, timeout_s: float = 10.0, mark: str = "") -> Done:
    return await command.run("sh", "-c", script, timeout_s=timeout_s, environment={"MARK": mark})


async def fails(script: str, timeout_s: float = 10.0) -> tuple[str, str]:
    with pytest.raises(Failure) as caught:
        await shell(script, timeout_s)
    return caught.value.reason, caught.value.detail or ""


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def processes(mark: str) -> list[str]:
    """Those that inherited `mark`, whoever their parent is by now; and zombies of ours."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"MARK={mark}\0".encode() in (process / "environ").read_bytes()
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if ours or (fields[0] == "Z" and int(fields[1]) == os.getpid()):
            found.append(process.name)
    return found


async def left(mark: str) -> list[str]:
    """The same, when what was killed had a moment to die."""
    for _ in range(100):
        if not processes(mark):
            break
        await asyncio.sleep(0.02)
    return processes(mark)


async def test_what_it_said_and_how_it_ended() -> None:
    assert await shell("echo out; echo ' a line' >&2; echo last >&2; exit 3") == Done(3, "out\n", "a line\nlast")
    assert (await shell("kill -KILL $$")).code == -9
    assert await shell("") == Done(0, "", "")


async def test_arguments_are_no_shell_s() -> None:
    done = await command.run("printf", "%s|", "$HOME", "a b", "`id`", timeout_s=10.0)
    assert done.output == "$HOME|a b|`id`|"


async def test_messages_are_in_english_and_there_is_no_input() -> None:
    assert (await shell("echo $LC_ALL; cat")).output == "C\n"


async def test_bytes_that_are_no_text() -> None:
    assert (await shell(r"printf 'a\377b'")).output == "a\ufffdb"


async def test_output_up_to_the_cap_is_whole() -> None:
    done = await shell(f"head -c {command.MAX_OUTPUT_BYTES} /dev/zero")
    assert len(done.output) == command.MAX_OUTPUT_BYTES


async def test_a_long_error_keeps_its_end() -> None:
    done = await shell("seq 1 1000 >&2")
    assert done.error.endswith("999\n1000")
    assert len(done.error) <= 160


async def test_missing_program() -> None:
    with pytest.raises(Failure) as caught:
        await command.run("no-such-program", timeout_s=1.0)
    assert (caught.value.reason, caught.value.detail) == ("tool_missing", "no-such-program is not installed")


async def test_program_that_is_removed_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    tool = tmp_path / "wanggan-test-tool"

    def install() -> None:
        tool.write_text("#!/bin/sh\necho here\n")
        tool.chmod(0o755)

    async def reason() -> str | None:
        try:
            assert (await command.run(tool.name, timeout_s=10.0)).output == "here\n"
        except Failure as failure:
            return failure.reason
        return None

    assert await reason() == "tool_missing"
    install()
    assert await reason() is None
    tool.unlink()
    assert await reason() == "tool_missing", "known and gone"
    install()
    assert await reason() is None


async def test_file_that_is_no_program(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_bytes(b"\x7fELF and nothing more")
    tool.chmod(0o755)
    with pytest.raises(Failure) as caught:
        await command.run(str(tool), timeout_s=1.0)
    assert caught.value.reason == "internal"


async def test_folders_of_the_system_are_searched_behind_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH")
    assert Path(command.find("ip")).is_absolute()


@pytest.mark.parametrize("script", [HANGS, IGNORES_SIGTERM, FORKS])
async def test_deadline(script: str) -> None:
    started_s = time.monotonic()
    reason, detail = await fails(script, timeout_s=0.2)
    assert time.monotonic() - started_s < 1.5
    assert (reason, detail) == ("internal", "sh was not done within 0.2 s and was killed")


@pytest.mark.parametrize("script", [FLOODS, FLOODS_ERRORS])
async def test_flood(script: str) -> None:
    started_s = time.monotonic()
    reason, detail = await fails(script)
    assert time.monotonic() - started_s < 5
    assert (reason, detail) == ("internal", f"sh wrote more than {command.MAX_OUTPUT_BYTES} bytes and was killed")


async def test_a_grandchild_that_holds_the_pipe_is_not_waited_for() -> None:
    started_s = time.monotonic()
    assert await shell(LEAVES_ONE_THAT_HOLDS_THE_PIPE) == Done(0, "said\n", "")
    assert time.monotonic() - started_s < 5


async def test_nothing_is_left_after_a_hundred_rounds_of_everything_bad() -> None:
    mark = uuid4().hex
    scripts = [
        HANGS, IGNORES_SIGTERM, FORKS, FLOODS, FLOODS_ERRORS, LEAVES_ONE_THAT_HOLDS_THE_PIPE, LEAVES_ONE_THAT_FLOODS,
    ]  # fmt: skip
    await shell("")
    before = descriptors(), threading.active_count()
    for round_ in range(100):
        task = asyncio.create_task(shell(scripts[round_ % len(scripts)], 0.05, mark))
        if round_ % 3 == 0:
            await asyncio.sleep(0.001 * (round_ % 20))
            task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()) is not None:
            assert isinstance(error, Failure)
    assert (descriptors(), threading.active_count()) == before
    assert await left(mark) == []


async def test_many_at_once() -> None:
    before = descriptors()
    done = await asyncio.gather(*(shell(f"sleep 0.1; echo {n}") for n in range(20)))
    assert [int(one.output) for one in done] == list(range(20))
    assert descriptors() == before


async def test_cancelled_before_it_began() -> None:
    mark = uuid4().hex
    task = asyncio.create_task(shell(FORKS, mark=mark))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await left(mark) == []


async def test_no_descriptor_left_for_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(24, "Too many open files")

    mark = uuid4().hex
    before = descriptors()
    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(Failure) as caught:
        await shell(HANGS, mark=mark)
    assert (caught.value.reason, caught.value.detail) == ("internal", "watching a child: Too many open files")
    assert (descriptors(), await left(mark)) == (before, [])


async def test_the_loop_goes_on_meanwhile() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    await command.run(sys.executable, "-c", "import time; time.sleep(0.5)", timeout_s=10.0)
    ticking.cancel()
    assert ticks > 20
