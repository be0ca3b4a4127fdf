"""An address for an interface, by one of the system's DHCP clients: always a new discovery, never a renewal."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from agent import sockets
from agent.clock import Clock
from agent.command import Killed, run
from agent.probe import Failure

Client = Literal["udhcpc", "dhclient"]
LOOK_S: Final = 0.05
RELEASE_S: Final = 5.0


async def acquire(client: Client, interface: str, timeout_s: float) -> None:
    """Return when a lease is bound; the client goes on in the background and renews it.

    :raises Failure: `dhcp_failed` without one in time; `tool_missing` without the client.
    """
    try:
        done = await run(client, *_ACQUIRE[client](interface, round(timeout_s)), timeout_s=timeout_s)
    except Killed as error:
        raise Failure("dhcp_failed", f"no lease within {timeout_s:g} s") from error
    if done.code != 0:
        raise Failure("dhcp_failed", f"{client}: {done.error or f'exit status {done.code}'}")


async def given(interface: str, clock: Clock, timeout_s: float) -> None:
    """Return when another program has given `interface` an address.

    :raises Failure: `dhcp_failed` when that does not happen in time.
    """
    end_s = clock.boot() + timeout_s
    while not sockets.has_address(interface):
        if clock.boot() > end_s:
            raise Failure("dhcp_failed", f"no address within {timeout_s:g} s")
        await clock.sleep(LOOK_S)


async def release(client: Client, interface: str) -> None:
    """Give the lease back, where the client holds one for us.

    :raises Failure: `tool_missing` without the client.
    """
    pid_file = _pid_file(client, interface)
    if client == "dhclient":
        await run(client, "-r", *_files(interface), interface, timeout_s=RELEASE_S)
    elif (pid := _pid(pid_file, client)) is not None:
        # Its last act, because of -R, is to give the lease back: the network must stay until then.
        await _end(pid)
    pid_file.unlink(missing_ok=True)


async def _end(pid: int) -> None:
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(process, ended.set)
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(RELEASE_S):
                await ended.wait()
    finally:
        loop.remove_reader(process)
        os.close(process)


def _pid_file(client: Client, interface: str) -> Path:
    return Path(os.environ.get("RUNTIME_DIRECTORY", "/run")) / f"wanggan-{client}-{interface}.pid"


def _files(interface: str) -> list[str]:
    """Without a file of leases it remembers none, and discovers."""
    return ["-pf", str(_pid_file("dhclient", interface)), "-lf", "/dev/null"]


def _pid(pid_file: Path, client: Client) -> int | None:
    """The process that the file means, if that still is the client and no other's number by now."""
    try:
        pid = int(pid_file.read_text())
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, ValueError):
        return None
    return pid if name == client else None


_ACQUIRE: Final[dict[Client, Callable[[str, int], list[str]]]] = {
    # In the foreground until there is a lease, then behind; `-n`: ends without one.
    "udhcpc": lambda interface, _: [
        "-i", interface, "-n", "-R", "-t", "5", "-T", "2", "-p", str(_pid_file("udhcpc", interface)),
    ],
    "dhclient": lambda interface, _: ["-1", "-4", "-q", *_files(interface), interface],
}  # fmt: skip
