"""An `iw` of our own, first on PATH: what it prints, and every way in which it does not."""

from pathlib import Path

import pytest

from agent import command
from agent.wifi import wireless
from tests.agent.wifi.families import text

LOOK = """#!/bin/sh
here=${0%/*}
shift 2
asked=$(echo "$*" | tr ' ' '_')
echo "$*" >> "$here/asked"
[ -x "$here/$asked" ] && exec "$here/$asked"
echo "command failed: Operation not supported (-95)" >&2
exit 161
"""
_OUTPUTS = {"link": "link", "info": "info", "station_dump": "station", "survey_dump": "survey", "scan_dump": "scan"}

HANGS = "exec sleep 100"
FLOODS = "exec head -c 10000000 /dev/zero"
FORKS = "sleep 100 & sleep 100"
LEAVES_ONE_THAT_HOLDS_THE_PIPE = "sleep 100 &"


class FakeIw:
    """One folder with a script for each question; a question without one is not supported by the driver."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._put("iw", LOOK)

    def does(self, question: str, script: str) -> None:
        """Run a shell script when asked ``station dump`` and the like."""
        self._put(question.replace(" ", "_"), f"#!/bin/sh\n{script}\n")

    def says(self, question: str, answer: str) -> None:
        """Print a text."""
        file = self.folder / f"{question.replace(' ', '_')}.txt"
        file.write_text(answer)
        self.does(question, f"exec cat {file}")

    def fails(self, question: str, code: int, error: str) -> None:
        """Fail as `iw` does."""
        self.does(question, f'echo "command failed: {error}" >&2; exit {code}')

    def is_driver(self, family: str) -> None:
        """Speak as the driver of a family."""
        for question, output in _OUTPUTS.items():
            (self.folder / question).unlink(missing_ok=True)
            if text(family, output) or family in ("empty", "unassociated"):
                self.says(question.replace("_", " "), text(family, output))

    def changes(self, question: str, old: str, new: str) -> None:
        """Say something else from now on."""
        file = self.folder / f"{question.replace(' ', '_')}.txt"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    def is_gone(self) -> None:
        """Be not installed."""
        (self.folder / "iw").unlink()

    def comes_back(self) -> None:
        self._put("iw", LOOK)

    @property
    def asked(self) -> list[str]:
        """Every question so far."""
        file = self.folder / "asked"
        return file.read_text().splitlines() if file.exists() else []

    def _put(self, name: str, script: str) -> None:
        file = self.folder / name
        new = file.with_suffix(".new")
        new.write_text(script)
        new.chmod(0o755)
        new.replace(file)


@pytest.fixture
def iw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeIw:
    """It, and a `/proc/net/wireless` without rows; no other `iw` is found."""
    tools = tmp_path / "iw"
    tools.mkdir()
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setattr(command, "_found", {})
    monkeypatch.setattr(command, "_FOLDERS", str(tools))
    rows = tmp_path / "wireless"
    rows.write_text(text("unassociated", "wireless"))
    monkeypatch.setattr(wireless, "FILE", rows)
    return FakeIw(tools)
