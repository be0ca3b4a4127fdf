"""Throughput by speedtest-cli, where there is nothing better: against a Speedtest Mini server, or a public one of its
own choice. In a child process: it takes 175 MB, and moves what the line gives for 20 s.

It is bound by its source address alone, and it counts an upload itself, which reads a few percent high.
"""

import importlib.util
import re
import sys
from typing import Final, Literal, Protocol
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from agent import command, sockets, tcp
from agent.estimate import SHORT_S
from agent.probe import Context, Failure
from agent.resolver import resolve
from contract.values import Throughput
from contract.vocabulary import Reason

DEADLINE_S: Final = 60.0
CONNECT_S: Final = 5.0
PUBLIC: Final = "https://www.speedtest.net/"

_SAYINGS: Final[dict[str, Reason]] = {
    "Malformed speedtest.net configuration": "portal",
    "CERTIFICATE_VERIFY_FAILED": "cert_invalid",
    "[SSL": "tls_failed",
    "HTTP Error": "http_status",
    "Failed to connect to": "http_status",
    "Invalid Speedtest Mini Server": "http_status",
    "timed out": "timeout",
    "[Errno -": "dns_failed",
}
"""Of its own errors; the others hold an errno. A server that it fails to connect to has just answered us, so it is no
Mini server."""


class Wanted(Protocol):
    """What is read of a throughput job's settings."""

    @property
    def mode(self) -> Literal["quick", "working", "audit"]: ...


class _Output(Struct):
    """What is read of `speedtest --json`: bits a second, and bytes."""

    download: float
    upload: float
    bytes_received: int
    bytes_sent: int


async def measure(settings: Wanted, context: Context) -> Throughput:
    """Both directions against the Mini server at the target's url; against a public server when it has none.

    :raises Failure: `tool_missing`, or what the network did.
    """
    assert context.target is not None
    if importlib.util.find_spec("speedtest") is None:
        raise Failure("tool_missing", "speedtest-cli is not installed: wanggan[ookla]")
    context.values = Throughput(mode=settings.mode)
    url = context.target.url or PUBLIC
    source = await _source(url, context.interface)
    words = ["--mini", url] if context.target.url else ["--secure"]
    context.progress(f"speedtest-cli at {urlsplit(url).hostname}, 20 to 30 s")
    try:
        done = await command.run(
            sys.executable, "-P", "-m", "speedtest", "--json", "--source", source, *words,
            timeout_s=DEADLINE_S, environment={"no_proxy": "*"},
        )  # fmt: skip
    except command.Killed as killed:
        # It has no end of its own when nothing comes any more.
        raise Failure("timeout", f"speedtest-cli was not done within {DEADLINE_S:g} s") from killed
    if parse(done, context.values) < SHORT_S:
        context.flags.append("short_test")
    return context.values


async def _source(url: str, interface: str) -> str:
    """The address from which `interface` leads to the server, which answers there.

    :raises Failure: when it does not: speedtest-cli itself would not say why.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    assert parts.hostname is not None
    address = (await resolve(parts.hostname, interface))[0]
    source = sockets.way(address, port, interface).source
    try:
        (await tcp.connect(address, port, interface, CONNECT_S)).close()
    except OSError as error:
        raise sockets.failure(error, f"connecting to {address} port {port}") from error
    return source


def parse(done: command.Done, values: Throughput) -> float:
    """Fill in what it found, and return the seconds that the shorter direction took: it moves a fixed amount, and a
    server that breaks off ends it early. A direction in which nothing came through is null, not 0.

    :raises Failure: when there is a direction without a rate, or no result at all.
    """
    if done.code != 0:
        words = done.error.splitlines()
        raise Failure(_reason(done.error), words[-1] if words else f"speedtest-cli ended with {done.code}")
    try:
        said = msgspec.json.decode(done.output, type=_Output)
    except msgspec.MsgspecError as error:
        raise Failure("internal", f"speedtest-cli: {error}") from error
    if said.bytes_received > 0 and said.download > 0:
        values.down_mbps, values.down_bytes = said.download / 1e6, said.bytes_received
    if said.bytes_sent > 0 and said.upload > 0:
        values.up_mbps, values.up_bytes = said.upload / 1e6, said.bytes_sent
    for way, mbps in (("down", values.down_mbps), ("up", values.up_mbps)):
        if mbps is None:
            raise Failure("timeout", f"{way}: nothing came through")
    return min(said.bytes_received * 8 / said.download, said.bytes_sent * 8 / said.upload)


def _reason(error: str) -> Reason:
    for saying, reason in _SAYINGS.items():
        if saying in error:
            return reason
    found = re.search(r"\[Errno (\d+)\]", error)
    return sockets.failure(OSError(int(found[1]), ""), "").reason if found else "internal"
