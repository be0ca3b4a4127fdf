"""Services, users, folders and kernel settings as systemd takes them: hardened, and their commands are ours."""

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from tests.test_docs import words_of

DEPLOY = Path(__file__).parent.parent / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
EXPOSURE = 20
"""Tenths: 2.0 of 10."""
PROGRAM = "/opt/wanggan/bin/wanggan"

each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)


def settings(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


@each_unit
def test_it_is_exposed_to_2_at_most(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}", str(unit)]
    judged = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert judged.returncode == 0, judged.stdout[-2000:] + judged.stderr
    assert "Overall exposure level" in judged.stdout


@each_unit
def test_systemd_understands_every_line(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name
    text = re.sub(rf"{PROGRAM}\b", "/usr/bin/env", unit.read_text()).replace("User=wanggan", "")
    copy.write_text(text.replace("SupplementaryGroups=netdev", ""))
    command = ["systemd-analyze", "verify", "--recursive-errors=no", str(copy)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stderr
    assert unit.name not in said.stderr, said.stderr


@each_unit
def test_it_never_gives_up_and_never_takes_everything(unit: Path) -> None:
    found = settings(unit)
    assert found["Restart"] == ["always"]
    assert found["StartLimitIntervalSec"] == ["0"]
    assert found["User"] == ["wanggan"]
    assert re.fullmatch(r"\d+[MG]", found["MemoryMax"][0])
    assert found["NoNewPrivileges"] == ["yes"]
    rights = "CAP_NET_ADMIN CAP_NET_RAW" if "wifi" in unit.name else ""
    assert found["CapabilityBoundingSet"] == [rights]
    assert found.get("AmbientCapabilities", [""]) == [rights]


@each_unit
def test_its_commands_are_ours(unit: Path) -> None:
    found = settings(unit)
    for line in [*found["ExecStart"], *found.get("ExecStartPre", [])]:
        program, word, action, *rest = line.split()
        assert program == PROGRAM
        assert unit.stem.startswith(f"wanggan-{word}")
        assert action in words_of(word)
        assert rest[-1] == f"/etc/wanggan/{word}.toml"


def test_user_and_folders_are_made(tmp_path: Path) -> None:
    """By systemd's own programs, in a root of their own; folders belong to somebody only where we may give them."""
    (tmp_path / "etc").mkdir()
    for program, name in (("systemd-sysusers", "sysusers"), ("systemd-tmpfiles", "tmpfiles")):
        if name == "tmpfiles" and os.geteuid() != 0:
            pytest.skip("only root gives folders away")
        words = ["--create"] if name == "tmpfiles" else []
        made = subprocess.run(
            [program, f"--root={tmp_path}", *words, str(DEPLOY / f"{name}/wanggan.conf")],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
    (user,) = [line for line in (tmp_path / "etc/passwd").read_text().splitlines() if line.startswith("wanggan:")]
    assert user.endswith(":/var/lib/wanggan:/usr/sbin/nologin")
    (group,) = [line for line in (tmp_path / "etc/group").read_text().splitlines() if line.startswith("netdev:")]
    assert group.endswith(":wanggan")
    assert stat.S_IMODE((tmp_path / "etc/wanggan").stat().st_mode) == 0o750
    state = (tmp_path / "var/lib/wanggan").stat()
    assert (stat.S_IMODE(state.st_mode), str(state.st_uid)) == (0o700, user.split(":")[2])


def test_kernel_settings_exist() -> None:
    for file in sorted((DEPLOY / "sysctl").iterdir()):
        found = re.findall(r"^([a-z0-9_.]+) = (.+)$", file.read_text(), re.MULTILINE)
        assert found
        for name, _ in found:
            if not name.startswith("net.core"):  # in a namespace of one's own the kernel hides these
                assert (Path("/proc/sys") / name.replace(".", "/")).exists(), name
