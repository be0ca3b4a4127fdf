"""Clean install first: the wheel with the agent's extra alone measures; no server library comes or is needed."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = [name for name in PROJECT["tool"]["setuptools"]["packages"] if "." not in name]
(SITE_BOX,) = [one for one in PROJECT["tool"]["importlinter"]["contracts"] if "site box" in one["name"]]
SERVER_LIBRARIES = set(SITE_BOX["forbidden_modules"])

MEASURE = """
import json, sys
from wanggan.main import main
code = main(sys.argv[1:])
print(json.dumps({"code": code, "modules": sorted({n.split(".")[0] for n in sys.modules})}), file=sys.stderr)
"""


def run(*command: str | Path, cwd: Path, **more: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    constraints = (ROOT / "constraints.txt").as_uri()
    pins = {"PIP_CONSTRAINT": constraints, "PIP_BUILD_CONSTRAINT": constraints, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    ended = subprocess.run(
        command, cwd=cwd, env=environment | pins | more, capture_output=True, text=True, timeout=100, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def site_box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment outside the checkout that has `wanggan[agent]` from a wheel."""
    folder = tmp_path_factory.mktemp("site-box")
    # A copy: a build leaves its traces in the folder where it runs.
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, source, cwd=folder)
    (wheel,) = folder.glob("wanggan-*.whl")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv/bin/python"
    run(python, "-m", "pip", "install", "--quiet", f"wanggan[agent] @ {wheel.as_uri()}", cwd=folder)
    return python


@pytest.fixture
def listener() -> Iterator[int]:
    """A port of the loopback that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        thread = threading.Thread(target=_accept, args=(server,), name="listener", daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def _accept(server: socket.socket) -> None:
    while True:
        try:
            server.accept()[0].close()
        except OSError:
            return


def test_it_has_no_server_library(site_box: Path) -> None:
    look = f"import importlib.util as u; print([n for n in {sorted(SERVER_LIBRARIES)} if u.find_spec(n)])"
    assert run(site_box, "-c", look, cwd=site_box.parent).strip() == "[]"


def test_it_says_what_it_is(site_box: Path) -> None:
    wanggan = site_box.with_name("wanggan")
    assert "wanggan agent" in run(wanggan, "agent", "--help", cwd=site_box.parent)
    assert run(wanggan, "--version", cwd=site_box.parent).startswith("wanggan ")


def test_it_measures_and_imports_no_server_library(site_box: Path, listener: int) -> None:
    arguments = ["agent", "once", "latency", "--server", f"127.0.0.1:{listener}", "--json"]
    ended = subprocess.run(
        [site_box, "-P", "-c", MEASURE, *arguments],
        cwd=site_box.parent, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    record = json.loads(ended.stdout)
    assert (record["probe"], record["outcome"]) == ("latency", "ok"), ended.stderr
    assert record["values"]["received"] > 0
    told = json.loads(ended.stderr.splitlines()[-1])
    assert told["code"] == 0
    assert "agent" in told["modules"]
    assert not SERVER_LIBRARIES & set(told["modules"])


def test_a_server_command_names_the_extra_that_it_lacks(site_box: Path) -> None:
    wanggan = site_box.with_name("wanggan")
    ended = subprocess.run([wanggan, "up"], cwd=site_box.parent, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "pip install 'wanggan[agent,server]'" in ended.stderr
