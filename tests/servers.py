"""Real database servers for tests: free ports on 127.0.0.1, their own data folder, ended by their own process.

`Influxd` and `VictoriaMetrics` can be killed and started again on the same data and port.
"""

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

_START_S = 60.0
_STOP_S = 20.0


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Server:
    """A child process that serves HTTP; `name` names its log in `folder`."""

    name: str
    ready: str
    """Path that answers 2xx once the server serves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        """Return when it answers. Raises with the end of its log when it does not."""
        log = self.folder / f"{self.name}.log"
        for _ in range(3):
            command = self.command()
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=self.folder
                )
            if self._answers():
                return
            self.kill()
        raise RuntimeError(f"{self.name} did not start:\n{log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """SIGTERM; SIGKILL when that is not enough."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(_STOP_S)
            self._process = None

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_STOP_S)
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        end = time.monotonic() + _START_S
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with urllib.request.urlopen(self.url + self.ready, timeout=2):
                    return True
            except (OSError, urllib.error.URLError):
                time.sleep(0.02)
        return False


class Influxd(_Server):
    """InfluxDB 1.x, reporting off; with `users` it asks for a name and password."""

    name = "influxd"
    ready = "/ping"

    def __init__(self, folder: Path, *, users: bool = False, max_series: int = 0, max_values: int = 0) -> None:
        super().__init__(folder)
        self.users = users
        self.max_series = max_series
        self.max_values = max_values

    def command(self) -> list[str]:
        config = self.folder / "influxd.conf"
        config.write_text(
            f"""
reporting-disabled = true
bind-address = "127.0.0.1:{free_port()}"
[meta]
dir = "{self.folder}/meta"
[data]
dir = "{self.folder}/data"
wal-dir = "{self.folder}/wal"
index-version = "inmem"
max-series-per-database = {self.max_series}
max-values-per-tag = {self.max_values}
[monitor]
store-enabled = false
[subscriber]
enabled = false
[continuous_queries]
enabled = false
[http]
bind-address = "127.0.0.1:{self.port}"
auth-enabled = {str(self.users).lower()}
log-enabled = false
[logging]
level = "warn"
"""
        )
        return ["influxd", "run", "-config", str(config)]


class VictoriaMetrics(_Server):
    """A single-node VictoriaMetrics."""

    name = "victoria-metrics"
    ready = "/health"

    def command(self) -> list[str]:
        return [
            "victoria-metrics",
            f"-httpListenAddr=127.0.0.1:{self.port}",
            f"-storageDataPath={self.folder}/victoria",
            "-retentionPeriod=100y",
            "-memory.allowedBytes=64MiB",
            "-search.latencyOffset=0s",
            "-search.maxSeries=100000",
            "-loggerLevel=WARN",
        ]

    def series(self, match: str) -> list[dict[str, str]]:
        """The series that match a selector, as names and labels."""
        with urllib.request.urlopen(f"{self.url}/internal/force_flush", timeout=30):
            pass
        query = urllib.parse.urlencode({"match[]": match, "start": 1})
        with urllib.request.urlopen(f"{self.url}/api/v1/series?{query}", timeout=30) as response:
            found: list[dict[str, str]] = json.load(response)["data"]
        return found


@pytest.fixture(scope="session")
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    """One influxd 1.x for the whole run: use a database of your own, and start one of your own to kill."""
    server = Influxd(tmp_path_factory.mktemp("influxd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def victoria_metrics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VictoriaMetrics]:
    """One VictoriaMetrics for the whole run: use tags of your own, and start one of your own to kill."""
    server = VictoriaMetrics(tmp_path_factory.mktemp("victoria"))
    server.start()
    yield server
    server.stop()
