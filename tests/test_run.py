"""`tests/run.sh` against a small project of its own: docs/decisions/0018-a-second-look.md."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.sh")
PYTEST = Path(sys.executable).with_name("pytest")
GROUPS = """
import pytest
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
"""
# Fails as often as its parameter says, then passes.
TEST = """
import pathlib, pytest
@pytest.mark.parametrize(("number", "failures"), list(enumerate({failures})))
def test_of_chance(number, failures):
    failed = pathlib.Path(f"failed-{{number}}")
    before = len(failed.read_text()) if failed.exists() else 0
    failed.write_text("x" * (before + 1))
    assert before >= failures
"""


def _run(folder: Path, failures: list[int]) -> tuple[int, list[int], str]:
    """Exit code, how often each test ran, and what was said."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "conftest.py").write_text(GROUPS)
    (folder / "test_chance.py").write_text(TEST.format(failures=failures))
    done = subprocess.run(
        [RUN, PYTEST, "-p", "xdist"],
        cwd=folder,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    runs = [len((folder / f"failed-{number}").read_text()) for number in range(len(failures))]
    return done.returncode, runs, done.stderr


@pytest.mark.parametrize(
    ("failures", "code", "runs"),
    [
        pytest.param([1, 0, 1, 1], 0, [2, 1, 2, 2], id="three fail once"),
        pytest.param([1, 0, 2], 1, [2, 1, 2], id="one fails twice"),
        pytest.param([1, 1, 1, 1], 1, [1, 1, 1, 1], id="four are no chance"),
    ],
)
def test_second_look(tmp_path: Path, failures: list[int], code: int, runs: list[int]) -> None:
    said_code, said_runs, text = _run(tmp_path, failures)
    assert (said_code, said_runs) == (code, runs)
    assert ("SECOND LOOK" in text) == (max(runs) > 1)


TOGETHER = """
import os, pathlib, pytest, time
@pytest.mark.parametrize("number", range(6))
def test_together(number):
    time.sleep(0.1)
    with pathlib.Path("workers-{name}").open("a") as file:
        print(os.environ["PYTEST_XDIST_WORKER"], file=file)
"""


def test_groups_stay_together(tmp_path: Path) -> None:
    """xdist and pytest of some versions forget them, without a word."""
    for name in ("one", "two"):
        (tmp_path / f"test_{name}.py").write_text(TOGETHER.format(name=name))
    assert _run(tmp_path, [])[0] == 0
    for name in ("one", "two"):
        workers = (tmp_path / f"workers-{name}").read_text().split()
        assert len(workers) == 6
        assert len(set(workers)) == 1
