"""A fleet for tests: our own authority and command, and mosquitto with the shipped configuration."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import aiomqtt

from tests.servers import free_port
from wanggan import fleet

ROOT = Path(__file__).parent.parent.parent
SITES = """
[venues.hall]
name = { zh = "馆", en = "Hall" }
type = "library"
[venues.hall.open]
mon = ["09:00-21:00"]
"""
SITE = """
[[sites]]
agent = "%s"
interface = "lo"
from = 2020-01-01
venue = "hall"
network = "wifi"
"""
JOBS = """
[[jobs]]
probe = "agent"
period_s = 60
"""


class Fleet:
    """`fleet.toml` and all that it names, in a folder."""

    def __init__(self, folder: Path, *agents: str, jobs: str = JOBS) -> None:
        self.folder = folder
        self.port = free_port()
        self.config = folder / "fleet.toml"
        (folder / "sites.toml").write_text(SITES + "".join(SITE % agent for agent in agents))
        (folder / "jobs.toml").write_text(jobs)
        self.config.write_text(
            f'state = "{folder}/state"\n'
            f'[broker]\nhost = "localhost"\nport = {self.port}\nnames = ["127.0.0.1"]\n[jobs]\nwifi = "jobs.toml"\n'
        )
        assert self.run("init") == 0
        for agent in agents:
            assert self.run("enrol", agent, "--out", str(folder / "bundles")) == 0

    def run(self, *words: str) -> int:
        """`wanggan fleet ...`."""
        return fleet.main([*words, "--config", str(self.config)])

    def bundle(self, agent: str) -> Path:
        return self.folder / f"bundles/{agent}.tar"

    def tls(self, name: str) -> ssl.SSLContext:
        """What an agent or a server connects with."""
        folder = self.folder / f"authority/{name}"
        if not folder.exists():
            folder = self.folder / f"unpacked/{name}"
            folder.mkdir(parents=True, exist_ok=True)
            with tarfile.open(self.bundle(name)) as tar:
                for entry in tar:  # extractall's filter came after Debian 12's Python
                    content = tar.extractfile(entry)
                    assert content is not None, entry.name
                    (folder / entry.name).write_bytes(content.read())
            name = "agent"
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(str(folder / f"{name}.pem"), str(folder / f"{name}.key"))
        return context

    def client(self, name: str, client_id: str = "", will: aiomqtt.Will | None = None) -> aiomqtt.Client:
        """A client with that certificate, whatever else it says it is."""
        return aiomqtt.Client(
            "localhost",
            self.port,
            identifier=client_id or name,
            username=client_id or name,
            protocol=aiomqtt.ProtocolVersion.V5,
            tls_context=self.tls(name),
            will=will,
            timeout=20,
        )


async def welcome(port: int, tls: ssl.SSLContext) -> bool:
    """Whether the broker answers a CONNECT of MQTT 5 with success."""
    writer = None
    try:
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("localhost", port, ssl=tls)
            writer.write(b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc")
            answer = await reader.readexactly(4)
        return answer[0] == 0x20 and answer[3] == 0
    except (OSError, asyncio.IncompleteReadError):
        return False
    finally:
        if writer is not None:
            writer.close()


class Broker:
    """mosquitto with `deploy/mosquitto`, its folder and port put in place."""

    def __init__(self, fleet: Fleet) -> None:
        own = fleet.folder / "mosquitto"
        own.mkdir(exist_ok=True)
        text = (ROOT / "deploy/mosquitto/mosquitto.conf").read_text()
        assert text.count("\nlistener 8883\n") == 1
        text = text.replace("\nlistener 8883\n", f"\nlistener {fleet.port} 127.0.0.1\n")
        text = text.replace("/etc/wanggan/mosquitto.acl", str(ROOT / "deploy/mosquitto/acl"))
        text = text.replace("/etc/wanggan/broker", str(fleet.folder / "authority/broker"))
        assert "/etc/wanggan" not in text.replace("#", "")
        if os.geteuid() == 0:
            text += "user root\n"
        self._config = own / "mosquitto.conf"
        self._config.write_text(text)
        self._port = fleet.port
        self.log = own / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(["/usr/sbin/mosquitto", "-c", str(self._config)], stderr=log)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
                return
            time.sleep(0.02)
        raise RuntimeError(f"mosquitto did not start: {self.log.read_text()}")

    def reload(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None


@contextlib.contextmanager
def serving(fleet: Fleet) -> Iterator[Broker]:
    broker = Broker(fleet)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
