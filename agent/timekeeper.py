"""When a record was measured: the sync state of the wall clock, its steps, and the final times of every record.

The runner works on boot time and gives each record the wall time it knows. That is only provisional: a box without a
clock chip starts in 1970. Before its first sending a record gets its final times here, from an anchor: one moment of
which both boot time and true wall time are known. `wall = anchor.wall - (anchor.boot - record.boot)`.
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID, uuid4

from agent.clock import Clock, utc
from agent.facts import Facts
from contract.record import Record

log = logging.getLogger(__name__)

BUILD_YEAR: Final = 2026
"""A clock that shows an earlier year is wrong, whoever says that it is synchronised."""

LAST_YEAR: Final = 2199
"""And one that shows a later year."""

_PLAUSIBLE_S: Final = [datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (BUILD_YEAR, LAST_YEAR + 1)]

STEP_S: Final = 2.0
"""A jump of the wall clock over this is a step; less is slewing."""

AGREE_S: Final = 0.5
"""A wall clock that nothing had synchronised was right if a later anchor agrees with it this well."""

MAX_RTT_S: Final = 2.0
"""The collector's time is off by at most half the round trip; within 1 s of truth is what a record may be."""

DRIFT: Final = 1e-4
"""How fast an anchor may grow wrong: 100 ppm, a poor crystal."""

UNSYNCED_WAIT_S: Final = 86_400.0
"""A record that has waited this long for an anchor is sent without one, `clock` `none`."""

USED_LABELS: Final = 512
"""Labels remembered per series in memory; the last one is kept on disk."""

KEPT_ANCHORS: Final = 8
"""Anchors of earlier boots, for their records that still wait."""

Source = Callable[[], Awaitable[bool | None]]
"""Whether a time service says that the clock is synchronised; None: there is no such service."""

Labelled = Literal["wait", "kept", "changed"]
"""What became of a record's times: not known yet, as the runner gave them, or corrected."""


class Timekeeper:
    """One per agent.

    :param sources: time services, asked in order until one says yes.
    :param boot: id of this boot; a test gives its own.
    """

    def __init__(
        self, clock: Clock, sources: Sequence[Source] = (), facts: Facts | None = None, *, boot: UUID | None = None
    ) -> None:
        self._clock = clock
        self._sources = sources
        self._facts = facts or Facts()
        self.boot: Final = boot or boot_id()
        self.anchored = asyncio.Event()
        """Set once this boot has an anchor; records that wait for one can go then."""
        self._memo: MutableMapping[str, Any] = {}
        self._used: dict[str, deque[int]] = {}
        self._by_service = False
        self._offset_s = clock.wall() - clock.boot()
        self._stepped_s = float("-inf")
        self._ask = asyncio.Event()

    async def run(self, *, unsynced_s: float = 30.0, synced_s: float = 600.0) -> None:
        """Watch the clock until cancelled; the time services are asked every `unsynced_s` or `synced_s`."""
        next_s = self._clock.boot()
        while True:
            self.observe()
            if self._ask.is_set() or self._clock.boot() >= next_s:
                self._ask.clear()
                await self.ask_services()
                next_s = self._clock.boot() + (synced_s if self._by_service else unsynced_s)
            await self._clock.sleep(1.0)

    async def ask_services(self) -> None:
        """Ask the time services whether the clock is synchronised."""
        synced = self._plausible(self._clock.wall())
        if synced:
            for source in self._sources:
                if await source():
                    break
            else:
                synced = False
        if synced != self._by_service:
            log.info("the clock is %s by a time service", "synchronised" if synced else "no longer said synchronised")
        self._by_service = synced
        self.observe()

    def observe(self) -> None:
        """Look at both clocks: notice a step, follow a synchronised wall clock."""
        wall_s, boot_s = self._clock.wall(), self._clock.boot()
        step_s = wall_s - boot_s - self._offset_s
        self._offset_s = wall_s - boot_s
        if abs(step_s) > STEP_S:
            log.warning("the wall clock stepped by %+.3f s", step_s)
            self._stepped_s = boot_s
            self._ask.set()
        if self._by_service and self._plausible(wall_s):
            self._set_anchor(boot_s, wall_s, 0.0)

    @property
    def synced(self) -> bool:
        """Whether a time service vouches for the wall clock now."""
        return self._by_service

    def stepped_since(self, boot_s: float) -> bool:
        """Whether the wall clock has stepped after that moment of boot time: a run since then is `clock_step`."""
        self.observe()
        return self._stepped_s >= boot_s

    def learn(self, at: datetime, sent_s: float, received_s: float) -> None:
        """The collector's time `at`, told between two moments of boot time."""
        error_s = (received_s - sent_s) / 2
        if not 0 <= error_s <= MAX_RTT_S / 2 or not self._plausible(at.timestamp()):
            return
        middle_s, true_s = (sent_s + received_s) / 2, at.timestamp()
        self._facts.clock_offset_ms = (self._offset_s + middle_s - true_s) * 1000
        if self._by_service:
            return
        anchor = self._anchor(self.boot)
        if anchor is None or error_s <= anchor[2] + (middle_s - anchor[0]) * DRIFT:
            self._set_anchor(middle_s, true_s, error_s)

    def use(self, memo: MutableMapping[str, Any]) -> None:
        """Keep anchors and labels in `memo`, which survives restarts, together with what it already holds."""
        memo.update(self._memo)
        self._memo = memo
        anchors = [name for name in memo if name.startswith("anchor/")]
        anchors.sort(key=lambda name: float(memo[name][1]), reverse=True)
        for name in anchors[KEPT_ANCHORS:]:
            del memo[name]
        if self._anchor(self.boot) is not None:
            self.anchored.set()

    def label(self, record: Record, boot: UUID, boot_s: float, *, synced: bool) -> Labelled:
        """Give `record` its final times; to be called once, before its first sending.

        :param boot: the boot it was measured in.
        :param boot_s: boot time of its slot.
        :param synced: whether a time service vouched for the wall clock when it was measured.
        """
        anchor = self._anchor(boot)
        changed = False
        if anchor is not None:
            slot_s = anchor[1] - (anchor[0] - boot_s)
            if abs(slot_s - record.slot.timestamp()) > (STEP_S if synced else AGREE_S):
                self._move(record, utc(round(slot_s, 3)))
                record.clock = "corrected"
                record.flags = [*record.flags, "clock_corrected"]
                changed = True
        elif not synced:
            if boot == self.boot and self._clock.boot() - boot_s < UNSYNCED_WAIT_S:
                return "wait"
            record.clock = "none"
            record.flags = [*record.flags, "clock_unsynced"]
        changed |= self._make_unique(record)
        return "changed" if changed else "kept"

    def _make_unique(self, record: Record) -> bool:
        """Move the label on by milliseconds until its series has not used it; whether it had to be moved."""
        name = f"label/{record.probe}|{record.target}|{record.interface}|{record.provider}|{record.resolver}"
        used = self._used.get(name)
        if used is None:
            last = self._memo.get(name)
            used = self._used[name] = deque([] if last is None else [last], maxlen=USED_LABELS)
        wanted = label = round(record.slot.timestamp() * 1000)
        while label in used:
            label += 1
        if label != wanted:
            self._move(record, utc(label / 1000))
        used.append(label)
        self._memo[name] = label
        return label != wanted

    @staticmethod
    def _move(record: Record, slot: datetime) -> None:
        record.started_at = slot + (record.started_at - record.slot)
        record.slot = slot

    def _anchor(self, boot: UUID) -> tuple[float, float, float] | None:
        """(boot time, wall time, error at most), all in seconds."""
        found: tuple[float, float, float] | None = self._memo.get(f"anchor/{boot}")
        return found

    def _set_anchor(self, boot_s: float, wall_s: float, error_s: float) -> None:
        if not self.anchored.is_set():
            log.info("time known: %s, at most %.3f s off", utc(wall_s).isoformat(), error_s)
        self._memo[f"anchor/{self.boot}"] = (boot_s, wall_s, error_s)
        self.anchored.set()

    @staticmethod
    def _plausible(wall_s: float) -> bool:
        return _PLAUSIBLE_S[0] <= wall_s < _PLAUSIBLE_S[1]


def boot_id() -> UUID:
    """The kernel's id of this boot; where it tells none, one for this process."""
    try:
        return UUID(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    except (OSError, ValueError):
        return uuid4()


def default_sources() -> list[Source]:
    """The time services of Debian and its relatives."""
    return [timesyncd, timedate1, chrony]


async def timesyncd(flag: Path = Path("/run/systemd/timesync/synchronized")) -> bool | None:
    """systemd-timesyncd leaves a file once it has synchronised in this boot."""
    if not flag.parent.is_dir():
        return None
    return flag.exists()  # noqa: ASYNC240


async def timedate1() -> bool | None:
    """systemd's timedate1: the kernel's own view, whichever service sets it."""
    answer = await _output(
        "busctl", "--system", "--timeout=2", "get-property", "org.freedesktop.timedate1", "/org/freedesktop/timedate1",
        "org.freedesktop.timedate1", "NTPSynchronized",
    )  # fmt: skip
    return None if answer is None else answer.strip() == "b true"


async def chrony() -> bool | None:
    """chronyd's tracking; the last field of its CSV line is the leap status."""
    answer = await _output("chronyc", "-n", "-c", "tracking")
    return None if answer is None else parse_chrony(answer)


def parse_chrony(text: str) -> bool:
    """Whether ``chronyc -c tracking`` tells of a synchronised clock."""
    return text.strip().rpartition(",")[2] in {"Normal", "Insert second", "Delete second"}


async def _output(*argv: str, deadline_s: float = 3.0) -> str | None:
    """Standard output of a program that ended well within its deadline, at most what a pipe holds; else None."""
    # A pipe of our own: it is closed in time, even if a grandchild holds its other end.
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=writer,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(deadline_s):
                status = await process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        return os.read(reader, 65_536).decode("utf-8", "replace") if status == 0 else None
    except (OSError, TimeoutError):  # not there, or no answer
        return None
    finally:
        os.close(reader)
        os.close(writer)
