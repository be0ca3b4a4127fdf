"""Asking name servers on the event loop: no thread, no cache, nothing left behind after a run.

c-ares through pycares and not through aiodns, which starts one thread per set of servers and hides which transport
carried the answer.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Final, Literal, Self

import pycares
from pycares import errno as ares

from agent import errqueue
from agent.probe import Failure
from contract.hosts import is_this_machine

_BAD: Final = pycares.ARES_SOCKET_BAD


class AresError(Exception):
    """c-ares' own status of a query that brought no answer; `code` is one of :mod:`pycares.errno`."""

    fault: OSError | None = None
    """What the socket met, where c-ares knows one word for many things: it calls `refused` what it could not send."""

    def __init__(self, code: int) -> None:
        super().__init__(pycares.errno.strerror(code))
        self.code = code


class Resolver:
    """Name servers for the time of one run. Without `servers` those of the system, with its hosts file.

    `servers` are ``address:port`` (IPv6 in brackets); `timeout_s` is for one try at one server. With `tcp` it is asked
    over TCP from the start, else only for an answer that UDP had to cut.
    """

    transport: Literal["udp", "tcp"] | None = None
    """What the last socket was; None while there was none."""

    def __init__(
        self,
        interface: str,
        *,
        servers: Iterable[str] = (),
        timeout_s: float = 2.0,
        tries: int = 1,
        tcp: bool = False,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._watched: set[int] = set()
        self._socket: socket.socket | None = None
        """A copy of the last one, for what c-ares does not tell of it."""
        self._closed = False
        self._channel = pycares.Channel(
            servers=list(servers),
            timeout=timeout_s,
            tries=tries,
            flags=pycares.ARES_FLAG_EDNS | (pycares.ARES_FLAG_USEVC if tcp else 0),
            sock_state_cb=self._watch,
            rotate=False,
        )
        # A name server of this machine (a stub on 127.0.0.53) cannot be reached through another interface.
        if not any(_is_loopback(server) for server in self._channel.servers):
            self._channel.set_local_dev(interface)  # type: ignore[no-untyped-call]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.cancel()
        # From here on c-ares works in pycares' own thread, where the loop must not be touched.
        self._closed = True
        for fd in self._watched:
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
        self._channel.close()
        if self._socket is not None:
            self._socket.close()

    async def query(self, name: str, kind: Literal["a", "aaaa"]) -> pycares.DNSResult:
        """One question, as it stands: no search domain, no hosts file.

        :raises AresError: when there is no answer, or one that is an error.
        """
        code = pycares.QUERY_TYPE_A if kind == "a" else pycares.QUERY_TYPE_AAAA
        result: pycares.DNSResult = await self._ask(lambda done: self._channel.query(name, code, callback=done))
        return result

    async def addresses(self, host: str) -> list[str]:
        """Addresses of `host` in the order in which to try them (RFC 6724), as the system would find them.

        :raises AresError: when there are none.
        """
        result = await self._ask(
            lambda done: self._channel.getaddrinfo(
                host, None, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM, callback=done
            )
        )
        return [node.addr[0].decode() for node in result.nodes]

    async def _ask(self, start: Callable[[Callable[[Any, int | None], None]], None]) -> Any:
        answer: asyncio.Future[Any] = self._loop.create_future()

        def done(result: Any, code: int | None) -> None:
            if answer.done():
                return
            if code is None:
                answer.set_result(result)
            else:
                answer.set_exception(AresError(code))

        try:
            start(done)
        except pycares.AresError as error:
            if not answer.done():
                raise AresError(error.args[0] if error.args else ares.ARES_EFORMERR) from error
        try:
            while not answer.done():
                await asyncio.wait({answer}, timeout=max(0.01, self._left_s()))
                if not answer.done():
                    self._channel.process_fd(_BAD, _BAD)
        finally:
            answer.cancel()  # when nobody waits any more, nobody is told
        try:
            return answer.result()
        except AresError as error:
            error.fault = self._fault(error.code)
            raise

    def _look_at(self, fd: int) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = socket.socket(fileno=os.dup(fd))
        self.transport = "tcp" if self._socket.type == socket.SOCK_STREAM else "udp"
        # A router that knows no way ends the query at once, as a closed port does.
        errqueue.enable(self._socket)

    def _fault(self, code: int) -> OSError | None:
        if self._socket is None or code not in (ares.ARES_ECONNREFUSED, ares.ARES_ETIMEOUT):
            return None
        found = [error.errno for error in errqueue.read(self._socket)]
        if found:
            return OSError(found[0], os.strerror(found[0]))
        if code == ares.ARES_ECONNREFUSED and self.transport == "udp":
            try:
                self._socket.send(b"")
            except OSError as error:
                return error
        return None

    def _left_s(self) -> float:
        """Until c-ares wants to look at its time-outs."""
        return float(self._channel.timeout()) + 0.001  # type: ignore[no-untyped-call]

    def _watch(self, fd: int, readable: bool, writable: bool) -> None:
        """What c-ares wants to be told about `fd`; neither means that it is about to be closed."""
        if self._closed:
            return
        if not (readable or writable):
            self._watched.discard(fd)
        elif fd not in self._watched:
            self._watched.add(fd)
            self._look_at(fd)
        if readable:
            self._loop.add_reader(fd, self._channel.process_fd, fd, _BAD)
        else:
            self._loop.remove_reader(fd)
        if writable:
            self._loop.add_writer(fd, self._channel.process_fd, _BAD, fd)
        else:
            self._loop.remove_writer(fd)


async def resolve(host: str, interface: str) -> list[str]:
    """Addresses of `host`, best first: itself when it is one, else asked afresh from the system's name servers.

    :raises Failure: `nxdomain` or `dns_failed`.
    """
    with contextlib.suppress(ValueError):
        return [str(ip_address(host.strip("[]")))]
    async with Resolver(interface, tries=2) as resolver:
        try:
            found = await resolver.addresses(host)
        except AresError as error:
            reason: Literal["nxdomain", "dns_failed"] = (
                "nxdomain" if error.code in (ares.ARES_ENOTFOUND, ares.ARES_ENODATA) else "dns_failed"
            )
            raise Failure(reason, f"{host}: {error}") from error
    if not found:
        raise Failure("nxdomain", f"{host}: no address")
    return found


def _is_loopback(server: str) -> bool:
    host = server.partition("]")[0].lstrip("[") if server.startswith("[") else server.rpartition(":")[0]
    return is_this_machine(host)
