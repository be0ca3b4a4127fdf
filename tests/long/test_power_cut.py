"""Power cut: an agent without a broker loses its power at random moments, and what its outbox had committed is there.

The outbox runs in a virtual machine (ext4, write-back cache) that is killed. On its serial console the guest names each
record before it hands it over, and the records of each commit after that has returned; at the next start it first
prints all that the outbox holds. The truth is what the console said before the cut.

This cannot prove that a real disk keeps what it says it has flushed.
"""

import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.long.conftest import Say
from tests.long.virtual_machine import Initramfs, Kernel, VirtualMachine, boot, ext4_disk

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

CUTS = 10
AIMED_CUTS = 5
"""More cuts, within the first moments of a commit."""
HOLD_S = 10.0
"""The agent's own hold: the most that a cut may cost."""
SHORT_HOLD_S = 1.0
"""In every second life: more commits."""
LIFE_S = 2 * HOLD_S
"""Longest life after a start; cuts are spread evenly over it."""
SLACK_S = 1.0
"""What a commit and the serial console may take themselves under emulation."""
SILENCE_S = 90.0
"""Longest silence of a guest, its boot on a busy machine included."""
DISK_MIB = 512

MAIN = "ip link set lo up && mkdir /disk && mount -t ext4 /dev/vda /disk && python3 /outbox_guest.py\n"


@dataclass
class Site:
    """One box: its disk, and what its console has said over all its lives."""

    kernel: Kernel
    initramfs: Path
    disk: Path
    handed: dict[int, tuple[str, float]] = field(default_factory=dict)
    """Number of a record: its fingerprint, and when it was handed to the outbox (this machine's monotonic seconds)."""
    committed: set[int] = field(default_factory=set)
    outboxes: set[str] = field(default_factory=set)
    """More than one when a database was given up and replaced."""
    committing: bool = False
    cut_s: float = 0.0
    starts: int = 0
    cuts: int = 0
    cuts_in_commit: int = 0
    lost: set[int] = field(default_factory=set)
    """Committed, and gone after a cut."""
    missing: int = 0
    """Not committed, and gone."""
    missing_s: float = 0.0
    """Age at the cut of the oldest of those."""

    @asynccontextmanager
    async def power(self, hold_s: float, **environment: str) -> AsyncIterator[VirtualMachine]:
        """A life of the box; its start is compared with what it had said before the last cut."""
        environment["HOLD_S"] = str(hold_s)
        async with boot(self.kernel, self.initramfs, disks=[self.disk], environment=environment) as machine:
            await self._start(machine)
            yield machine

    async def _start(self, machine: VirtualMachine) -> None:
        held: dict[int, str] = {}
        while (words := (await machine.line(SILENCE_S)).split())[:2] != ["@", "ready"]:
            match words:
                case ["@", "outbox", uuid]:
                    self.outboxes.add(uuid)
                case ["@", "held", number, fingerprint]:
                    held[int(number)] = fingerprint
                case ["@", "degraded", degraded]:
                    assert degraded == "False", "the outbox started without its disk"
                case ["@", "check", *result]:
                    assert result == ["ok"], f"quick_check says {result}"
        self.starts += 1
        self._compare(held)

    async def cut(self, machine: VirtualMachine, after_s: float = 0.0) -> None:
        for heard_s, line in await machine.cut(after_s):
            self.hear(heard_s, line)
        self.cut_s = time.monotonic()
        self.cuts += 1
        self.cuts_in_commit += self.committing
        self.committing = False

    def hear(self, heard_s: float, line: str) -> None:
        match line.split():
            case ["@", "record", number, fingerprint]:
                self.handed[int(number)] = fingerprint, heard_s
            case ["@", "committing"]:
                self.committing = True
            case ["@", "committed", *numbers]:
                self.committed.update(map(int, numbers))
                self.committing = False
            case _:
                raise AssertionError(f"not from the outbox: {line}")

    def _compare(self, held: Mapping[int, str]) -> None:
        assert held == {number: self.handed.get(number, ("never handed over", 0))[0] for number in held}
        gone = self.handed.keys() - held.keys()
        self.lost |= gone & self.committed
        self.missing += len(gone - self.committed)
        for number in gone:
            _, handed_s = self.handed.pop(number)
            if number not in self.committed:
                self.missing_s = max(self.missing_s, self.cut_s - handed_s)
        self.committed = set(held)


@pytest.fixture(scope="module")
def initramfs(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("initramfs")
    files = Initramfs(folder / "root")
    files.add_modules(kernel, "virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
    files.add_python("agent", "contract", "msgspec", "aiomqtt", "paho", "pycares", "cffi", "_cffi_backend", "tzdata")
    files.add(Path(__file__).with_name("outbox_guest.py"), "/outbox_guest.py")
    return files.pack(folder / "initramfs.cpio", MAIN)


@pytest.fixture
def site(kernel: Kernel, initramfs: Path, tmp_path: Path) -> Site:
    return Site(kernel, initramfs, ext4_disk(tmp_path / "disk.raw", DISK_MIB))


async def test_every_committed_record_survives_a_power_cut(site: Site, say: Say) -> None:
    began_s = time.monotonic()
    for cut in range(CUTS):
        async with site.power((HOLD_S, SHORT_HOLD_S)[cut % 2]) as machine:
            await site.cut(machine, after_s=random.uniform(0.0, LIFE_S))
    for _ in range(AIMED_CUTS):
        async with site.power(SHORT_HOLD_S) as machine:
            while not site.committing:
                site.hear(time.monotonic(), await machine.line(SILENCE_S))
            await site.cut(machine, after_s=random.uniform(0.0, 0.02))
    async with site.power(HOLD_S):
        pass

    say(
        f"\n{site.cuts} power cuts ({site.cuts_in_commit} within a commit), {site.starts} starts, "
        f"{len(site.committed)} records there, {len(site.lost)} committed records lost, "
        f"{site.missing} not committed and gone, the oldest {site.missing_s:.1f} s old; "
        f"{time.monotonic() - began_s:.0f} s"
    )
    assert site.lost == set()
    assert len(site.outboxes) == 1, "a database was given up"
    assert site.starts == CUTS + AIMED_CUTS + 1
    assert len(site.committed) > 5 * CUTS
    assert 0 < site.missing_s <= HOLD_S + SLACK_S


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
async def test_the_cut_finds_an_outbox_that_does_not_sync(site: Site, say: Say, synchronous: str) -> None:
    while not site.lost and site.cuts < CUTS:
        async with site.power(SHORT_HOLD_S, SYNCHRONOUS=synchronous) as machine:
            await site.cut(machine, after_s=random.uniform(3.0, 6.0))
        async with site.power(SHORT_HOLD_S):
            pass
    say(f"\nsynchronous={synchronous}: {len(site.lost)} committed records lost after {site.cuts} power cuts")
    assert site.lost
