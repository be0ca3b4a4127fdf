"""The front door: help, version, exit codes, and what it does not import."""

import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from wanggan.main import COMMANDS, main

ROOT = Path(__file__).parent.parent.parent
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
(SITE_BOX,) = [contract for contract in CONTRACTS if "site box" in contract["name"]]
SERVER_LIBRARIES = set(SITE_BOX["forbidden_modules"])


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wanggan", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_help_lists_every_command_in_one_line_each() -> None:
    answer = run("--help")
    assert answer.returncode == 0
    for word, command in COMMANDS.items():
        assert f"  {word:<10} {command.summary}\n" in answer.stdout


def test_version() -> None:
    answer = run("--version")
    assert (answer.returncode, answer.stdout) == (0, f"wanggan {version('wanggan')}\n")


@pytest.mark.parametrize("arguments", [[], ["measure"], ["--loud"]])
def test_a_usage_error_is_2_and_says_so_on_standard_error(arguments: list[str]) -> None:
    answer = run(*arguments)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "usage: wanggan" in answer.stderr


@pytest.mark.parametrize("word", list(COMMANDS))
def test_every_command_prints_its_own_help(word: str) -> None:
    answer = run(word, "--help")
    assert answer.returncode == 0
    assert f"usage: wanggan {word}" in answer.stdout


def test_a_site_box_imports_no_server_library() -> None:
    look = (
        "import sys, contextlib\n"
        "from wanggan.main import main\n"
        "with contextlib.suppress(SystemExit): main(['agent', '--help'])\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    answer = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=60, check=True)
    imported = set(answer.stderr.split())
    assert "agent" in imported
    assert not imported & (SERVER_LIBRARIES | {"store", "collector"})


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(COMMANDS, "collector", COMMANDS["collector"]._replace(module="aiohttp_is_not_here"))
    assert main(["collector"]) == 2
    assert "aiohttp_is_not_here is not installed; run: pip install 'wanggan[server]'" in capsys.readouterr().err


def test_ctrl_c_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("reflector.commands.main", interrupted)
    assert main(["reflector"]) == 130


def test_a_reader_that_went_away_is_no_traceback() -> None:
    command = f"{sys.executable} -m wanggan --help"
    program = (
        "import subprocess,sys\n"
        f"p = subprocess.Popen({command.split()!r}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)\n"
        "p.stdout.close()\n"
        "sys.stderr.write(p.stderr.read().decode())\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "Traceback" not in answer.stderr
