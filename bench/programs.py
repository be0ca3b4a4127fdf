"""Real programs under test: a broker, a database, a collector. Started, killed without warning, started again."""

import asyncio
import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from wanggan.broker import find_mosquitto

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on, below those that the kernel gives to connections: a program
    may take it later, and take it again after a kill."""
    while True:
        port = random.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def listens(port: int) -> Callable[[], bool]:
    """Whether someone accepts connections on the loopback's `port`."""

    def check() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    return check


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Program:
    """One child process under a name. Its output is appended to ``<folder>/<name>.log``."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        folder: Path,
        *,
        ready: Callable[[], bool] = lambda: True,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._argv = list(argv)
        self._ready = ready
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._serves = False

    @property
    def up(self) -> bool:
        """Whether it runs and has been ready."""
        return self._serves and self.alive

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """:raises RuntimeError: when it does not run."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process.pid

    async def start(self, timeout_s: float = 30.0) -> None:
        """Start and wait until it is ready.

        :raises RuntimeError: when it ended, or was not ready in time; with the end of its log.
        """
        self._serves = False
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                preexec_fn=_die_with_parent,
            )
        deadline = time.monotonic() + timeout_s
        while not self._ready():
            if not self.alive or time.monotonic() > deadline:
                end = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.name} is not ready (exit {self._process.poll()}): {end}")
            await asyncio.sleep(0.02)
        self._serves = True

    def signal(self, number: signal.Signals) -> None:
        if self.alive:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL: no warning, no clean-up."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(10)

    async def stop(self, timeout_s: float = 15.0) -> None:
        """SIGTERM, and SIGKILL when that is not obeyed in time."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while self.alive and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        self.kill()

    def rss_bytes(self) -> int:
        """Resident memory now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_s(self) -> float:
        """User and system time since its start, its ended children included."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def python(module: str, *arguments: str) -> list[str]:
    """Argument list that runs a module with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


class Broker(Program):
    """mosquitto with the access rules of the contract; it remembers nothing across a kill."""

    ACL = """\
user collector
topic readwrite wanggan/1/#
pattern write wanggan/1/up/%u/#
pattern read wanggan/1/down/%u/#
pattern read wanggan/1/down/all/#
"""

    def __init__(self, folder: Path, *, settings: Sequence[str] = ()) -> None:
        self.port = free_port()
        self._acl_file = folder / "acl"
        self._acl_file.write_text(self.ACL)
        self._config_file = folder / "mosquitto.conf"
        self.configure(settings)
        super().__init__(
            "broker", [find_mosquitto() or "mosquitto", "-c", str(self._config_file)], folder, ready=listens(self.port)
        )

    def configure(self, settings: Sequence[str]) -> None:
        """Further lines of its configuration, from the next start on."""
        lines = [
            f"listener {self.port} 127.0.0.1",
            "user root" if os.geteuid() == 0 else "",
            "allow_anonymous true",
            f"acl_file {self._acl_file}",
            "persistence false",
            "max_queued_messages 100000",
            "log_dest stderr",
            *settings,
        ]
        self._config_file.write_text("\n".join(lines) + "\n")

    def allow(self, acl: str = ACL) -> None:
        """Other access rules, at once, without a restart."""
        self._acl_file.write_text(acl)
        self.signal(signal.SIGHUP)


class Influx(Program):
    """influxd 1.6.7 with its own folder; what it answered 204 to is on disk."""

    def __init__(self, folder: Path, *, max_values_per_tag: int = 100_000) -> None:
        self.port = free_port()
        self._rpc_port = free_port()
        self._folder = folder / "influx"
        self._folder.mkdir(exist_ok=True)
        self.configure(max_values_per_tag=max_values_per_tag)
        config = str(self._folder / "influxd.conf")
        super().__init__("database", ["influxd", "-config", config], folder, ready=listens(self.port))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def configure(self, *, max_values_per_tag: int) -> None:
        """Its own limit on the values of one tag, from the next start on; 0 is none."""
        (self._folder / "influxd.conf").write_text(f"""\
reporting-disabled = true
bind-address = "127.0.0.1:{self._rpc_port}"
[meta]
dir = "{self._folder}/meta"
[data]
dir = "{self._folder}/data"
wal-dir = "{self._folder}/wal"
max-values-per-tag = {max_values_per_tag}
query-log-enabled = false
[monitor]
store-enabled = false
[http]
bind-address = "127.0.0.1:{self.port}"
log-enabled = false
""")
