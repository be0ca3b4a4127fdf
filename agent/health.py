"""How well this process runs: how late its loop wakes, how often it was started, how it ended last."""

import asyncio
import contextlib
import logging
from collections import deque
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from agent.facts import Facts
from agent.train import percentile

_EVERY_S: Final = 1.0
_SAMPLES: Final = 60

log = logging.getLogger(__name__)


async def watch_loop(facts: Facts) -> None:
    """Keep `facts.loop_lag_p95_ms`: the 95th percentile of how late a sleeper woke in the last minute."""
    loop = asyncio.get_running_loop()
    late_ms: deque[float] = deque(maxlen=_SAMPLES)
    while True:
        due_s = loop.time() + _EVERY_S
        await asyncio.sleep(_EVERY_S)
        late_ms.append(max(0.0, loop.time() - due_s) * 1000)
        facts.loop_lag_p95_ms = percentile(sorted(late_ms), 0.95)


class Starts(Struct, kw_only=True):
    """What outlives the process: one small file, written at start and at a clean end."""

    count: int = 0
    """Starts so far, this one included."""
    clean: bool = True
    """Whether the last one ended by itself."""
    boot: str = ""
    """The kernel's boot id of the last one."""


def note_start(folder: Path, facts: Facts) -> None:
    """Count this start and keep in `facts` how the last run ended: `clean`, `crash`, or `power` when the machine
    itself went down under it."""
    last = _read(folder)
    boot = _boot_id()
    facts.restarts = last.count
    facts.last_exit = _exit(last, boot) if last.count else None
    _write(folder, Starts(count=last.count + 1, clean=False, boot=boot))


def note_clean_end(folder: Path) -> None:
    """Say to the next start that this end was wanted."""
    _write(folder, msgspec.structs.replace(_read(folder), clean=True))


def _exit(last: Starts, boot: str) -> Literal["clean", "crash", "power"]:
    if last.clean:
        return "clean"
    return "crash" if last.boot == boot else "power"


def _read(folder: Path) -> Starts:
    try:
        return msgspec.json.decode((folder / "starts.json").read_bytes(), type=Starts)
    except FileNotFoundError:
        return Starts()
    except (OSError, ValueError) as error:
        log.warning("starts.json cannot be read, counting from 0: %s", error)
        return Starts()


def _write(folder: Path, starts: Starts) -> None:
    """Measuring does not depend on it: a disk that refuses is only logged."""
    file = folder / "starts.json"
    new = file.with_suffix(".new")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        new.write_bytes(msgspec.json.encode(starts))
        new.replace(file)
    except OSError as error:
        log.warning("starts.json cannot be written: %s", error)
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
