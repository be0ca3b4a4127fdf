"""A wpa_supplicant that replays what a real one said, with its timing.

`python -m tests.agent.supplicant FOLDER INTERFACE FILE` serves one in a network namespace; it is connected to nobody,
and plays `FILE` whenever it is told to RECONNECT.
"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

DATA = Path(__file__).parent / "data/wifi"
AP = "00:00:5e:00:53:01"
OTHER_AP = "00:00:5e:00:53:02"


class Event(NamedTuple):
    at_s: float
    text: str


def recorded(name: str) -> list[Event]:
    """The events of a file in `data/wifi`."""
    lines = [line for line in (DATA / f"{name}.events").read_text().splitlines() if not line.startswith("#")]
    return [Event(float(at_s), text) for at_s, _, text in (line.partition(" ") for line in lines)]


class Supplicant(asyncio.DatagramProtocol):
    """Answers what the agent asks. `plays` are the events that follow a command."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.plays: dict[str, Sequence[Event]] = {}
        self.replies: dict[str, str] = {}
        self.bssid: str | None = None
        """Whom STATUS names as associated."""
        self.state = "DISCONNECTED"
        """What STATUS says without one."""
        self.silent = False
        self.speed = 1.0
        self._attached: list[Any] = []
        self._playing: list[asyncio.Task[None]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        command = data.decode()
        self.commands.append(command)
        if self.silent:
            return
        if command == "ATTACH":
            self._attached.append(addr)
        self._transport.sendto((self.replies.get(command) or self._reply(command)).encode(), addr)
        if command == "DISCONNECT" and self.bssid is not None:
            self.say(f"CTRL-EVENT-DISCONNECTED bssid={self.bssid} reason=3 locally_generated=1")
        if command in self.plays:
            self._playing.append(asyncio.create_task(self.play(self.plays[command]), name=f"play {command}"))

    def _reply(self, command: str) -> str:
        if command == "PING":
            return "PONG\n"
        if command == "STATUS":
            state = f"bssid={self.bssid}\nwpa_state=COMPLETED" if self.bssid else f"wpa_state={self.state}"
            return f"{state}\nip_address=10.9.0.98\n"
        return "OK\n"

    async def play(self, events: Sequence[Event]) -> None:
        """Say `events` at their times, faster by `speed`."""
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        for event in events:
            await asyncio.sleep(begun_s + event.at_s / self.speed - loop.time())
            self.say(event.text)

    def say(self, text: str, level: str = "<3>") -> None:
        """To everybody who is attached; STATUS says the same from then on."""
        if text.startswith("CTRL-EVENT-CONNECTED"):
            self.bssid = text.split()[4]
        elif text.startswith("CTRL-EVENT-DISCONNECTED"):
            self.bssid = None
        self.send(f"{level}{text}".encode())

    def send(self, data: bytes) -> None:
        for addr in self._attached:
            self._transport.sendto(data, addr)

    async def stop(self) -> None:
        """As when its process ends: its socket is closed and gone."""
        for task in self._playing:
            task.cancel()
        path = Path(self._transport.get_extra_info("sockname"))
        self._transport.abort()
        await asyncio.sleep(0)
        path.unlink(missing_ok=True)

    @property
    def heard(self) -> bool:
        """Whether somebody listens to its events."""
        return bool(self._attached)


@asynccontextmanager
async def supplicant(folder: Path, interface: str = "wlan0") -> AsyncIterator[Supplicant]:
    """One at work."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(folder / interface))
    _, made = await asyncio.get_running_loop().create_datagram_endpoint(Supplicant, sock=sock)
    try:
        yield made
    finally:
        with contextlib.suppress(OSError):
            await made.stop()


async def _serve(folder: str, interface: str, name: str) -> None:
    async with supplicant(Path(folder), interface) as made:
        made.plays["RECONNECT"] = recorded(name)
        print("ready", flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
