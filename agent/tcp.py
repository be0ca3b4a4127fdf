"""TCP connections bound to the measured interface; connect time as the delay that needs no permission."""

import asyncio
import errno
import socket
import struct
from collections.abc import Sequence
from typing import Any, Final

from agent import sockets
from agent.probe import Context
from agent.train import Train

_ABORT: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: a reset instead of a polite close, so that nothing lingers here or there."""


async def connect(address: str, port: int, interface: str, timeout_s: float) -> socket.socket:
    """A connected socket, bound to `interface`, its local address checked.

    :raises OSError: as the network has it; TimeoutError without an answer in `timeout_s`.
    :raises Failure: `wrong_interface`.
    """
    sock, sockaddr = _prepare(address, port, interface)
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.get_running_loop().sock_connect(sock, sockaddr)
        sockets.check_source(sock, interface)
    except BaseException:
        sock.close()
        raise
    return sock


async def connect_any(addresses: Sequence[str], port: int, interface: str, timeout_s: float) -> socket.socket:
    """The same, to the first of `addresses` that does not refuse at once."""
    for address in addresses[:-1]:
        try:
            return await connect(address, port, interface, timeout_s)
        except TimeoutError:
            raise
        except OSError:
            continue
    return await connect(addresses[-1], port, interface, timeout_s)


async def connect_times(
    address: str, port: int, train: Train, context: Context, *, packets: int, interval_s: float, late_s: float
) -> None:
    """Open `train.warm_ups` and then `packets` connections, `interval_s` apart, each given `late_s` to be answered.

    :raises Failure: a local fault's own reason; what the network does goes into `train`.
    """
    first_s = context.clock.boot()

    async def open_one(sequence: int) -> None:
        await context.clock.sleep(first_s + sequence * interval_s - context.clock.boot())
        await _connect_once(sequence, address, port, train, context, late_s)

    async with asyncio.TaskGroup() as group:
        for sequence in range(train.warm_ups + packets):
            group.create_task(open_one(sequence), name=f"connect {sequence}")


async def _connect_once(sequence: int, address: str, port: int, train: Train, context: Context, late_s: float) -> None:
    sock, sockaddr = _prepare(address, port, context.interface)
    with sock:
        train.note_sent(sequence)
        started_s = context.clock.boot()
        try:
            async with asyncio.timeout(late_s):
                await asyncio.get_running_loop().sock_connect(sock, sockaddr)
            sockets.check_source(sock, context.interface)
        except ConnectionRefusedError:
            pass
        except TimeoutError:
            return
        except OSError as error:
            if error.errno not in (errno.EHOSTUNREACH, errno.ENETUNREACH):
                raise sockets.failure(error, f"connecting to {address} port {port}") from error
            train.unreachable += 1
            return
        elapsed_ms = (context.clock.boot() - started_s) * 1000
        # The first SYN or its answer was lost: the time would be the kernel's retransmission timer.
        if not _retransmitted(sock):
            train.note_reply(sequence, elapsed_ms)


def _prepare(address: str, port: int, interface: str) -> tuple[socket.socket, Any]:
    family, sockaddr = sockets.numeric(address, port, interface)
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sockets.bind(sock, interface)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    except BaseException:
        sock.close()
        raise
    return sock, sockaddr


def _retransmitted(sock: socket.socket) -> bool:
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    (count,) = struct.unpack_from("@I", info, sockets.TCP_INFO_TOTAL_RETRANS)
    return bool(count)
