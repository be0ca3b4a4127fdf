"""`python -m tests.reflector.inside FILE`: the real reflector, which tells what it holds whenever it is asked.

Every line on standard input is answered with one of JSON on standard output.
"""

import asyncio
import contextlib
import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reflector import config, main
from reflector.load import Load


class Held(NamedTuple):
    """By the process, at one moment."""

    tasks: list[str]
    """What each waits in."""
    descriptors: list[str]
    """What each leads to, by kind."""
    rss_bytes: int


@dataclass
class Inside:
    """The process, from outside."""

    process: "subprocess.Popen[str]"
    tcp: int
    udp: int
    http: int
    errors: Path
    """What it wrote to standard error."""

    def held(self) -> Held:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return Held(*json.loads(self.process.stdout.readline()))

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(40)


@contextmanager
def running(folder: Path, text: str = "") -> Iterator[Inside]:
    """A reflector with the settings `text` on free ports."""
    file, errors = folder / "reflector.toml", folder / "reflector.log"
    file.write_text("port = 0\nhttp_port = 0\n" + text)
    with (
        errors.open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "tests.reflector.inside", str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=Path(__file__).parents[2],
        ) as process,
    ):
        try:
            assert process.stdout is not None
            process.stdout.readline()
            said = errors.read_text()
            ports = {
                name: int(port) for name, port in (word.split(" ") for word in said.rpartition(": ")[2].split(", "))
            }
            yield Inside(process, ports["TCP"], ports["UDP"], ports["HTTP"], errors)
        finally:
            process.kill()


async def _serve(file: Path) -> int:
    def tell() -> None:
        if not sys.stdin.readline():
            loop.remove_reader(sys.stdin)
            return
        gc.collect()
        tasks = sorted(str(task.get_coro()).partition(" at ")[0] for task in asyncio.all_tasks())
        print(json.dumps([tasks, sorted(_descriptors()), Load().rss_bytes]), flush=True)

    loop = asyncio.get_running_loop()
    serving = asyncio.ensure_future(main.run(config.load(file)))
    await asyncio.sleep(0)  # it listens now, and has said so
    print("ready", flush=True)
    loop.add_reader(sys.stdin, tell)
    return await serving


def _descriptors() -> Iterator[str]:
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            yield str(link.readlink()).partition(":")[0]


if __name__ == "__main__":
    sys.exit(asyncio.run(_serve(Path(sys.argv[1]))))
