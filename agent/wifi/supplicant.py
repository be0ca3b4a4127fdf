"""wpa_supplicant's control socket (UNIX datagrams, one per interface): commands on one socket, events on another.

Replies and events of one socket interleave, and a late reply would be taken for that of the next command: so every
command has a socket of its own, and the events have one that stays. Our ends have abstract addresses, which need no
folder that both programs can write to. They are connected, so that nobody else can speak in the supplicant's name.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Final

from agent.clock import Clock

ANSWER_S: Final = 2.0
"""What a command is waited for."""
PING_S: Final = 30.0
"""How often the events' socket is checked: a supplicant that was started again knows nothing of it."""
RETRY_S: Final = 2.0
MAX_BYTES: Final = 64 * 1024
"""Of one reply; the supplicant itself stops at 4 kB for most."""

OnEvent = Callable[[str, float], None]
"""Takes an event without its level, and boot seconds of its receipt: the socket carries no time."""


class Unheard(Exception):
    """The supplicant does not answer; `denied` when we may not speak to it."""

    def __init__(self, message: str, *, denied: bool = False) -> None:
        super().__init__(message)
        self.denied = denied


class Supplicant:
    """That of one interface. `folder` holds its sockets (``ctrl_interface`` in its configuration)."""

    def __init__(self, interface: str, folder: str, clock: Clock) -> None:
        self.interface = interface
        self._path = f"{folder}/{interface}"
        self._clock = clock

    async def request(self, command: str) -> str:
        """The reply to one command.

        :raises Unheard: without one within :data:`ANSWER_S`.
        """
        with self._open() as sock:
            return await self._ask(sock, command)

    async def order(self, command: str) -> None:
        """A command whose reply is ``OK``.

        :raises Unheard: it is another, or none.
        """
        reply = await self.request(command)
        if reply != "OK":
            raise Unheard(f"wpa_supplicant says {reply[:40]!r} to {command}")

    async def status(self) -> dict[str, str]:
        """Its STATUS. Of an address in it nothing can be believed: it stays after the association is gone."""
        lines = (await self.request("STATUS")).splitlines()
        return {key: value for key, equals, value in (line.partition("=") for line in lines) if equals}

    async def bssid(self) -> str | None:
        """Whom it is associated and has keys with; None without."""
        status = await self.status()
        return status.get("bssid") if status.get("wpa_state") == "COMPLETED" else None

    async def listen(self, on_event: OnEvent, on_attached: Callable[[str | None], None]) -> None:
        """Hand over events until the supplicant is heard no more.

        :param on_attached: told once, when events will come, whom it is associated with then.
        :raises Unheard: always, in the end.
        """
        with self._open() as sock:
            reply = await self._ask(sock, "ATTACH", on_event)
            if reply != "OK":
                raise Unheard(f"wpa_supplicant says {reply[:40]!r} to ATTACH")
            on_attached(await self.bssid())
            while True:
                try:
                    async with asyncio.timeout(PING_S):
                        while True:
                            self._pass_on(await self._receive(sock), on_event)
                except TimeoutError:
                    await self._ask(sock, "PING", on_event)

    async def _ask(self, sock: socket.socket, command: str, on_event: OnEvent | None = None) -> str:
        try:
            async with asyncio.timeout(ANSWER_S):
                await asyncio.get_running_loop().sock_sendall(sock, command.encode())
                while True:
                    text = await self._receive(sock)
                    if not text.startswith("<"):
                        return text.rstrip("\n")
                    if on_event is not None:
                        self._pass_on(text, on_event)
        except TimeoutError:
            raise Unheard(f"no answer to {command.split(' ')[0]} within {ANSWER_S:g} s") from None
        except OSError as error:
            raise Unheard(f"wpa_supplicant of {self.interface}: {error.strerror}") from error

    async def _receive(self, sock: socket.socket) -> str:
        try:
            data = await asyncio.get_running_loop().sock_recv(sock, MAX_BYTES)
        except OSError as error:
            raise Unheard(f"wpa_supplicant of {self.interface}: {error.strerror}") from error
        return data.decode("utf-8", "replace")

    def _pass_on(self, text: str, on_event: OnEvent) -> None:
        level, closed, event = text.partition(">")
        if closed and level[:1] == "<" and level[1:].isdigit():
            on_event(event.strip(), self._clock.boot())

    def _open(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.bind("")  # the kernel gives it an abstract address (unix(7), autobind)
            sock.connect(self._path)
        except OSError as error:
            sock.close()
            denied = error.errno in (errno.EACCES, errno.EPERM)
            raise Unheard(f"{self._path}: {error.strerror}", denied=denied) from error
        return sock
