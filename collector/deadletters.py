"""What was refused for good, kept for people: one line of JSON each, in a folder, capped.

The agent deletes what is answered `rejected`, so a letter is on disk before the answer goes out.
"""

import base64
import json
import logging
import os
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from contract.vocabulary import Rejection

log = logging.getLogger(__name__)

FOLDER: Final = "dead-letters"
MAX_PAYLOAD_BYTES: Final = 64 * 1024
"""A longer payload is cut."""
REMEMBERED: Final = 10_000
"""A letter that comes again, because its answer was lost, is not written again."""


class Letter(Struct, kw_only=True, frozen=True):
    """One record that was refused, or a whole payload that could not be decoded (`index` null)."""

    id: str
    at: datetime
    """Collector's time."""
    agent: str
    outbox: str | None
    batch: int | None
    index: int | None
    reason: Rejection
    refusal: str
    """Its name: the codec's, `clock_none`, `too_old`, `wrong_agent`, `wrong_identity` or `store`."""
    words: str
    """Of the codec or of the store."""
    size_bytes: int
    """Of the whole payload."""
    payload: str | None = None
    """As it came, cut; null where it is no UTF-8."""
    payload_base64: str | None = None

    def bytes(self) -> bytes | None:
        """The payload; None when it was cut."""
        data = self.payload.encode() if self.payload is not None else base64.b64decode(self.payload_base64 or "")
        return data if len(data) == self.size_bytes else None


def letter(
    *,
    at: datetime,
    agent: str,
    outbox: str | None,
    batch: int | None,
    index: int | None,
    reason: Rejection,
    refusal: str,
    words: str,
    payload: bytes,
) -> Letter:
    """A new letter about `payload`."""
    kept = payload[:MAX_PAYLOAD_BYTES]
    text: str | None
    try:
        text = kept.decode()
    except UnicodeDecodeError:
        text = None
    return Letter(
        id=secrets.token_hex(8),
        at=at,
        agent=agent,
        outbox=outbox,
        batch=batch,
        index=index,
        reason=reason,
        refusal=refusal,
        words=words[:500],
        size_bytes=len(payload),
        payload=text,
        payload_base64=None if text is not None else base64.b64encode(kept).decode(),
    )


class DeadLetters:
    """The folder. Two files: the newest letters, and those before; the older one goes when the newer is full."""

    def __init__(self, state: Path, max_bytes: int) -> None:
        self._folder = state / FOLDER
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._newer = self._folder / "letters.jsonl"
        self._older = self._folder / "letters.1.jsonl"
        self._marks = self._folder / "replayed"
        self._max_file_bytes = max_bytes // 2
        self._seen: OrderedDict[tuple[object, ...], None] = OrderedDict()
        self.forgotten = 0
        """Letters that went because the cap was reached, since the start."""

    def keep(self, letters: Iterable[Letter]) -> int:
        """Put them on the disk; how many were new. Blocks.

        :raises OSError: when the disk does not take them.
        """
        new = [found for found in letters if self._is_new(found)]
        if not new:
            return 0
        lines = b"".join(msgspec.json.encode(found) + b"\n" for found in new)
        self._make_room(len(lines))
        with os.fdopen(os.open(self._newer, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as file:
            if file.tell() and not self._ends_well():
                file.write(b"\n")  # a crash cut the last line
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        for found in new:
            self._seen[_key(found)] = None
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return len(new)

    def letters(self) -> Iterator[Letter]:
        """All that are there, oldest first; a line that cannot be read is left out and logged."""
        for file in (self._older, self._newer):
            try:
                opened = file.open("rb")
            except FileNotFoundError:
                continue
            with opened:
                for number, line in enumerate(opened, 1):
                    try:
                        yield msgspec.json.decode(line, type=Letter)
                    except msgspec.MsgspecError as error:
                        log.warning("%s:%d: no dead letter: %s", file, number, error)

    def replayed(self) -> set[str]:
        """Ids of letters whose record was stored since."""
        try:
            return set(self._marks.read_text().split())
        except FileNotFoundError:
            return set()

    def mark_replayed(self, ids: Iterable[str]) -> None:
        """Remember them; ids of letters that are gone are forgotten."""
        there = {found.id for found in self.letters()}
        marks = sorted((self.replayed() | set(ids)) & there)
        part = self._marks.with_suffix(".part")
        with part.open("w") as file:
            file.write("".join(f"{mark}\n" for mark in marks))
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._marks)

    def _is_new(self, found: Letter) -> bool:
        return found.outbox is None or _key(found) not in self._seen

    def _make_room(self, size: int) -> None:
        try:
            used = self._newer.stat().st_size
        except FileNotFoundError:
            return
        if not used or used + size <= self._max_file_bytes:
            return
        if self._older.exists():
            with self._older.open("rb") as file:
                gone = sum(1 for _ in file)
            self.forgotten += gone
            log.warning("dead letters: the cap is reached, the oldest %d are gone", gone)
        self._newer.replace(self._older)

    def _ends_well(self) -> bool:
        with self._newer.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


def _key(found: Letter) -> tuple[object, ...]:
    return found.agent, found.outbox, found.batch, found.index, found.refusal


def as_json(found: Letter, replayed: bool) -> dict[str, Any]:
    """For `dead-letters list --json`."""
    tree: dict[str, Any] = json.loads(msgspec.json.encode(found))
    return tree | {"replayed": replayed}
