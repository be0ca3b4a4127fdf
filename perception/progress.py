"""How far perception has come: what has to outlive a restart."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from store.tables import ConfigError


class Progress(Struct, kw_only=True):
    """Kept in one small file; losing it costs work, no data."""

    next_hour_ns: int | None = None
    """The first hour that was not rolled up when it had ended; None before the first."""
    touched_s: float = 0.0
    """Late records told until then are rolled up."""
    reconciled: str = ""
    """The local day of the last nightly comparison."""
    reported: str = ""
    """The last week that has its report, like ``2026-W47``."""
    revise: list[str] = []
    """Weeks that got records after their report."""


class ProgressFile:
    """The file; written whole, never half."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "progress.json"

    def read(self) -> Progress:
        """What was kept; a fresh start where that cannot be read."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Progress)
        except (OSError, msgspec.MsgspecError):
            return Progress()

    def write(self, progress: Progress) -> None:
        """:raises OSError: when the disk does not take it."""
        beside = self._path.with_suffix(".new")
        with beside.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(progress)))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold `folder`, made when it is missing: two that write the same hours would only get in each other's way.

    :raises ConfigError: when another one holds it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"state: {folder} is in use by another `wanggan perception run`; end it") from None
            yield
    except OSError as error:
        raise ConfigError(f"state: {folder}: {error.strerror}; it must be a folder of ours") from error
