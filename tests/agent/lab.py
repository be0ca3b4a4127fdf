"""A network of our own: namespaces, cables between them, and programs inside. Needs root and iproute2."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NUMBERS = itertools.count()


class Namespace:
    """One network namespace with its loopback up."""

    def __init__(self) -> None:
        self.name = f"wg{os.getpid()}-{next(_NUMBERS)}"
        ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *words: str) -> None:
        ip("-netns", self.name, *words)

    def sysctl(self, name: str, value: str) -> None:
        self.run("sh", "-c", f"echo '{value}' > /proc/sys/{name.replace('.', '/')}")

    def argv(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *words]

    def run(self, *words: str) -> str:
        """What the program printed; it must succeed."""
        return subprocess.run(self.argv(*words), check=True, capture_output=True, text=True, timeout=60).stdout

    def once(self, *words: str, without: str | None = None) -> dict[str, Any]:
        """The Record of `wanggan agent once`; `without` a capability (``net_raw``) when one is named."""
        command = [sys.executable, "-m", "agent", "once", *words, "--json"]
        if without:
            command = ["setpriv", "--bounding-set", f"-{without}", "--inh-caps", f"-{without}", *command]
        done = subprocess.run(self.argv(*command), capture_output=True, text=True, timeout=60)
        assert done.stdout, done.stderr
        record: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (0 if record["outcome"] == "ok" else 1)
        return record


def latency_job(folder: Path, host: str, interface: str, **settings: object) -> str:
    """A configuration with one latency job to `core`; quick unless `settings` say otherwise."""
    quick = {"packets": 10, "interval_ms": 20, "late_s": 0.3} | settings
    lines = [f"{name} = {json.dumps(value)}" for name, value in quick.items()]
    path = folder / "agent.toml"
    path.write_text(
        f'agent = "lib-01"\nstate = "state"\ninterface = "{interface}"\n[mqtt]\nhost = "127.0.0.1"\ntls = false\n'
        f'[targets.core]\nrole = "core"\nhost = "{host}"\nport = 9\n'
        '[[jobs]]\nprobe = "latency"\ntarget = "core"\nperiod_s = 60\n' + "\n".join(lines)
    )
    return str(path)


@contextmanager
def namespace() -> Iterator[Namespace]:
    space = Namespace()
    try:
        yield space
    finally:
        ip("netns", "del", space.name)


@contextmanager
def cable() -> Iterator[tuple[Namespace, Namespace]]:
    """Two namespaces: 10.77.0.1 on `v0` here, 10.77.0.2 on `v0` there."""
    with namespace() as here, namespace() as there:
        here.ip("link", "add", "v0", "type", "veth", "peer", "name", "v0", "netns", there.name)
        for space, address in ((here, "10.77.0.1/24"), (there, "10.77.0.2/24")):
            space.ip("addr", "add", address, "dev", "v0")
            space.ip("link", "set", "v0", "up")
        yield here, there


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)
