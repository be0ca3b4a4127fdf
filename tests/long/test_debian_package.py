"""The agent's Debian package in a system of its own (debootstrap): installed, started, upgraded, purged."""

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contract.codec import decode_status, encode
from contract.messages import Ack
from tests.wanggan.enrolled import ROOT, Fleet, serving

AGENT = "box-a"
NEXT = "0.1.0+next"
NEEDED = "python3,iw,ca-certificates,systemd-standalone-sysusers,systemd-standalone-tmpfiles"

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a system of its own"),
]


def build(*words: str) -> Path:
    """`make deb`'s own command."""
    made = run("deploy/debian/build.sh", *words, cwd=ROOT)
    return ROOT / made.strip().splitlines()[-1]


def run(*command: str, cwd: Path | None = None, check: bool = True) -> str:
    clean = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        "HOME": "/root",
    }
    passed = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    ended = subprocess.run(
        command, cwd=cwd, env=clean | passed | {"DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600,
    )  # fmt: skip
    assert not check or ended.returncode == 0, ended.stdout[-3000:]
    return ended.stdout


def mirror() -> str:
    """Where this machine's apt gets the release from."""
    rows = run("apt-get", "indextargets", "--format", "$(RELEASE) $(SITE)", "Created-By: Packages").splitlines()
    found = [row.split()[1] for row in rows if row.split()[0] == "bookworm"]
    if not found:
        pytest.skip("no mirror of Debian 12 is configured here")
    return found[0]


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Path]:
    """A Debian 12 with what the package depends on."""
    root = tmp_path / "root"
    run("debootstrap", "--variant=minbase", f"--include={NEEDED}", "bookworm", str(root), mirror())
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    run("mount", "-t", "proc", "proc", str(root / "proc"))
    try:
        yield root
    finally:
        run("umount", "--lazy", str(root / "proc"))


def inside(root: Path, *command: str, check: bool = True) -> str:
    return run("chroot", str(root), *command, check=check)


@contextlib.contextmanager
def service(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """What the unit starts, as its user; there is no systemd in a chroot."""
    unit = (root / "lib/systemd/system/wanggan-agent.service").read_text()
    (line,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    assert "User=wanggan\n" in unit
    user = ["setpriv", "--reuid=wanggan", "--regid=wanggan", "--init-groups", "--inh-caps=-all", "--bounding-set=-all"]
    process = subprocess.Popen(["chroot", str(root), *user, *line.removeprefix("ExecStart=").split()])
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(30) == 0


async def records(fleet: Fleet, count: int) -> int:
    """How many batches of records came. Births are answered with the time: nobody else tells it in there."""
    async with fleet.client("collector") as collector:
        await collector.subscribe(f"wanggan/1/up/{AGENT}/+")
        found = 0
        async with asyncio.timeout(90):
            async for message in collector.messages:
                assert isinstance(message.payload, bytes)
                if message.topic.value.endswith("/status") and (told := decode_status(message.payload)).online:
                    answer = Ack(outbox=told.outbox, batch=None, at=datetime.now(UTC), last_stored=None)
                    await collector.publish(f"wanggan/1/down/{AGENT}/ack", encode(answer))
                found += message.topic.value.endswith("/records")
                if found == count:
                    break
    return found


async def test_installed_started_upgraded_purged(system: Path, tmp_path: Path) -> None:
    first = build()
    shutil.copy(first, system / "tmp/first.deb")
    inside(system, "dpkg", "-i", "/tmp/first.deb")
    assert inside(system, "wanggan", "--version").startswith("wanggan ")
    assert "wanggan" in inside(system, "id", "wanggan")
    look = "import aiohttp"
    assert "ModuleNotFoundError" in inside(system, "/opt/wanggan/bin/python", "-P", "-c", look, check=False)

    fleet = Fleet(tmp_path, AGENT)
    # One command on the box; its state is where the package has it.
    fleet.config.write_text(fleet.config.read_text().replace(f"{tmp_path}/state", "/var/lib/wanggan"))
    (tmp_path / "jobs.toml").write_text('[[jobs]]\nprobe = "agent"\nperiod_s = 2\n')
    assert fleet.run("enrol", AGENT, "--renew", "--out", str(tmp_path / "bundles")) == 0
    shutil.copy(fleet.bundle(AGENT), system / "tmp/box.tar")
    inside(system, "wanggan", "agent", "install", "/tmp/box.tar")
    key = system / "etc/wanggan/agent.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert str(key.stat().st_uid) == inside(system, "id", "-u", "wanggan").strip()

    with serving(fleet):
        with service(system):
            assert await records(fleet, 2) == 2
        outbox = system / "var/lib/wanggan/outbox.db"
        assert outbox.exists()
        kept = key.read_bytes()

        second = build(NEXT)
        shutil.copy(second, system / "tmp/second.deb")
        inside(system, "dpkg", "-i", "/tmp/second.deb")
        assert inside(system, "dpkg-query", "-W", "-f", "${Version}", "wanggan-agent") == NEXT
        assert key.read_bytes() == kept
        assert outbox.exists()
        with service(system):
            assert await records(fleet, 2) == 2

    inside(system, "dpkg", "--remove", "wanggan-agent")
    assert key.exists(), "removing is not purging"
    inside(system, "dpkg", "--purge", "wanggan-agent")
    for gone in ("opt/wanggan", "etc/wanggan", "var/lib/wanggan", "usr/bin/wanggan"):
        assert not (system / gone).exists(), gone
    second.unlink()
