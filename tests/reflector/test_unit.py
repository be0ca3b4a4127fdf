"""What is special of the reflector's systemd unit."""

import re
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "deploy/systemd/wanggan-reflector.service"
EXPOSURE = 20
"""Tenths: 2.0 of 10."""


def settings(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("low_ports", [False, True], ids=["as it is", "with ports below 1024"])
def test_it_is_exposed_to_2_at_most(low_ports: bool, tmp_path: Path) -> None:
    text = UNIT.read_text()
    if low_ports:
        advised = re.findall(r"^#   ([A-Z]\w+=\S+)$", text, re.MULTILINE)
        assert {line.partition("=")[0] for line in advised} >= {"AmbientCapabilities", "CapabilityBoundingSet"}
        # What `systemctl edit` adds comes last.
        text = text.replace("\n[Install]\n", "\n".join(["", *advised, "", "[Install]", ""]))
        assert "PrivateUsers=no\n" in text.partition("PrivateUsers=yes\n")[2]
    unit = tmp_path / UNIT.name
    unit.write_text(text)
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}", str(unit)]
    judged = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert judged.returncode == 0, judged.stdout[-2000:] + judged.stderr
    assert "Overall exposure level" in judged.stdout


def test_it_never_gives_up_and_never_takes_everything() -> None:
    found = settings(UNIT.read_text())
    assert found["Restart"] == ["always"]
    assert found["StartLimitIntervalSec"] == ["0"]
    assert found["User"] == ["wanggan"]
    assert found["MemoryMax"] == ["256M"]
    assert found["CapabilityBoundingSet"] == [""], "no privilege at all"


def test_it_may_ask_the_kernel_how_good_the_clock_is() -> None:
    """STAMP's S bit: without these, the filter would end the process at its first reply."""
    filters = settings(UNIT.read_text())["SystemCallFilter"]
    denied = next(place for place, line in enumerate(filters) if "@privileged" in line)
    assert "adjtimex clock_adjtime" in filters[denied + 1 :]
    assert "ProtectClock" not in settings(UNIT.read_text())
