"""Eight tests at once on one reflector, with STAMP beside them; eight iperf3 servers in the same run.

    python -m bench.reflector --runs 3

Eight agents, each behind its own cable shaped to 100 Mbit/s, measure down and up at the same time, while a ninth sends
2,000 STAMP packets a second from ten addresses. The real `wanggan reflector run`, the real probe. Needs root. Exit 1
when a target is missed.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import selectors
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from contract import stamp
from contract.throughput import PORT
from tests.network.namespaces import Namespace, Program, namespace
from tests.network.shape import shape, truth_mbps

AGENTS: Final = 8
MBIT: Final = 100
SECONDS: Final = 6
WITHIN: Final = 0.03
RSS_MB: Final = 80
SOURCES: Final = 10
PACKETS_PER_S: Final = 2000
LATE_S: Final = 1.0
SETTINGS: Final = """
open = true
[limits]
capacity_mbps = 1250
per_test_mbps = 125
"""


class Echo(NamedTuple):
    """What came of the STAMP packets."""

    sent: int
    received: int
    rtt_p50_ms: float
    rtt_p99_ms: float


class Server(NamedTuple):
    """What the reflector's process cost."""

    hwm_mb: float
    cpu_s: float
    dropped: int
    """STAMP packets, by its own count."""
    most_at_once: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--echo", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--probe", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.echo:
        print(json.dumps(_echo(arguments.echo)))
        return 0
    if arguments.probe is not None:
        print(asyncio.run(_probe(arguments.probe)).decode())
        return 0
    if os.geteuid() != 0:
        print("bench.reflector: network namespaces need root", file=sys.stderr)
        return 2
    print(f"true {truth_mbps(MBIT):.2f} Mbit/s each\n")
    print("| run | tests at once | outcome | down, farthest | up, farthest | iperf3 down | iperf3 up | RSS | CPU | STAMP p50, p99 | lost |")  # noqa: E501 # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    with star() as (core, leaves):
        missed = [line for run in range(arguments.runs) for line in _run(run + 1, core, leaves)]
    for line in missed:
        print(f"missed: {line}")
    return 1 if missed else 0


def _run(run: int, core: Namespace, leaves: list[Namespace]) -> list[str]:
    agents, ninth = leaves[:-1], leaves[-1]
    with reflector(core) as program:
        echoing = ninth.start(*_self("--echo", str(2 * SECONDS + 6)))
        probes = [agent.start(*_self("--probe", str(place))) for place, agent in enumerate(agents)]
        most = 0
        while any(probe.process.poll() is None for probe in probes):
            most = max(most, int(_metric(core, "slots_in_use")))
            time.sleep(0.5)
        records = [json.loads(probe.wait().splitlines()[-1]) for probe in probes]
        echo = Echo(*json.loads(echoing.wait()))
        dropped = int(_metric(core, "stamp_dropped_total"))
        hwm_mb = int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{program.pid}/status").read_text())[0]) * 1024 / 1e6
        server = Server(hwm_mb, program.cpu_s(), dropped, most)
    return _judge(run, records, echo, server, _iperf3(core, agents))


def _self(*words: str) -> list[str]:
    return [sys.executable, "-m", "bench.reflector", *words]


def _judge(run: int, records: list[dict[str, Any]], echo: Echo, server: Server, theirs: dict[str, float]) -> list[str]:
    # Nine agents on one machine: their own gate may say that they were short of CPU. What they measured stands.
    said = Counter(record["reason"] or "ok" for record in records)
    missed = [f"run {run}: {reason}" for reason in said if reason not in ("ok", "cpu_limited")]
    off = {
        way: _farthest([(record["values"] or {}).get(f"{way}_mbps") for record in records]) for way in ("down", "up")
    }
    outcomes = ", ".join(f"{count} {reason}" for reason, count in said.items())
    print(
        f"| {run} | {server.most_at_once} | {outcomes} | {off['down']:+.2%} | {off['up']:+.2%} | {theirs['down']:+.2%} "
        f"| {theirs['up']:+.2%} | {server.hwm_mb:.1f} MB | {server.cpu_s:.1f} s "
        f"| {echo.rtt_p50_ms:.2f}, {echo.rtt_p99_ms:.2f} ms | {echo.sent - echo.received} of {echo.sent} |",
        flush=True,
    )
    missed += [f"run {run}, {way}: off by {value:.2%}" for way, value in off.items() if abs(value) > WITHIN]
    if server.most_at_once < AGENTS:
        missed.append(f"run {run}: only {server.most_at_once} tests at once")
    if server.hwm_mb > RSS_MB:
        missed.append(f"run {run}: {server.hwm_mb:.1f} MB")
    if echo.received < echo.sent:
        missed.append(f"run {run}: {echo.sent - echo.received} STAMP packets lost, {server.dropped} dropped by rule")
    return missed


def _farthest(rates: list[float | None]) -> float:
    """The largest error of any of them."""
    return max((((rate or 0.0) / truth_mbps(MBIT) - 1) for rate in rates), key=abs)


@contextlib.contextmanager
def star() -> Iterator[tuple[Namespace, list[Namespace]]]:
    """The reflector's namespace, and one for each agent at a shaped cable; the last one's is not shaped."""
    with contextlib.ExitStack() as stack:
        core = stack.enter_context(namespace())
        leaves = [stack.enter_context(namespace()) for _ in range(AGENTS + 1)]
        for place, leaf in enumerate(leaves):
            near = f"v{place}"
            core.ip("link", "add", near, "type", "veth", "peer", "name", "v0", "netns", leaf.name)
            core.ip("addr", "add", f"{_server(place)}/24", "dev", near)
            for number in range(SOURCES if place == AGENTS else 1):
                leaf.ip("addr", "add", f"10.78.{place}.{number + 2}/24", "dev", "v0")
            core.ip("link", "set", near, "up")
            leaf.ip("link", "set", "v0", "up")
            if place < AGENTS:
                shape(leaf, rate_mbps=MBIT)
                shape(core, rate_mbps=MBIT, device=near)
        for space in (core, *leaves):
            space.pin("cubic")
        yield core, leaves


def _server(place: int) -> str:
    return f"10.78.{place}.1"


@contextlib.contextmanager
def reflector(core: Namespace) -> Iterator[Program]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "reflector.toml"
        file.write_text(SETTINGS)
        command = ["-m", "wanggan", "reflector", "run", "--listen", "0.0.0.0", "--config", str(file)]
        program = core.start(sys.executable, *command, ready="listening")
        # `ip netns exec` becomes the program, so its figures are the reflector's own.
        try:
            yield program
        finally:
            program.stop()


async def _probe(place: int) -> bytes:
    """In an agent's namespace: its record. Each has a name of its own, for a reflector runs one test of an agent."""
    from agent import once
    from contract.codec import encode

    wanted = [f"seconds={SECONDS}", "max_bytes=400000000"]
    plan = once.plan("throughput", None, once.Wish(server=_server(place), interface="v0", settings=wanted))
    return encode(await once.measure(plan._replace(agent=f"bench-{place}")))


def _metric(core: Namespace, name: str) -> float:
    """The sum over its labels, as the reflector tells it."""
    text = core.run("curl", "-s", f"http://127.0.0.1:{PORT + 1}/metrics")
    return sum(
        float(value) for value in re.findall(rf"^wanggan_reflector_{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
    )


def _iperf3(core: Namespace, agents: list[Namespace]) -> dict[str, float]:
    """The same with a server for each, because one of them serves one."""
    servers = [core.start("iperf3", "-s", "-p", str(5201 + place), "--forceflush", ready="listening") for place in range(AGENTS)]  # noqa: E501 # fmt: skip
    found = {}
    for way, words in (("down", ["-R"]), ("up", [])):
        clients = [
            agent.start(
                "iperf3", "-c", _server(place), "-p", str(5201 + place), "-J", "-P", "4", "-O", "1", "-t", str(SECONDS), *words  # noqa: E501
            )
            for place, agent in enumerate(agents)
        ]  # fmt: skip
        ends = [json.loads(client.wait())["end"]["sum_received"] for client in clients]
        found[way] = _farthest([end["bits_per_second"] / 1e6 for end in ends])
    for server in servers:
        server.stop()
    return found


def _echo(seconds: float) -> Echo:
    """Send evenly from every address for so long, and count what comes back."""
    selector = selectors.DefaultSelector()
    socks = []
    for number in range(SOURCES):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.bind((f"10.78.{AGENTS}.{number + 2}", 0))
        sock.connect((_server(AGENTS), PORT))
        selector.register(sock, selectors.EVENT_READ)
        socks.append(sock)
    sent_ns: list[int] = []
    rtt_ms: list[float] = []
    start_s = time.monotonic()
    total = round(seconds * PACKETS_PER_S)
    while time.monotonic() - start_s < seconds + LATE_S and len(rtt_ms) < total:
        while (sent := len(sent_ns)) < min(total, (time.monotonic() - start_s) * PACKETS_PER_S):
            request = stamp.Request(sent, time.time_ns())
            sent_ns.append(time.monotonic_ns())
            socks[sent % SOURCES].send(stamp.pack_request(request))
        wait_s = sent / PACKETS_PER_S - (time.monotonic() - start_s) if sent < total else LATE_S
        for key, _ in selector.select(max(0.0, wait_s)):
            assert isinstance(key.fileobj, socket.socket)
            with contextlib.suppress(BlockingIOError):
                while True:
                    reply = stamp.unpack_reply(key.fileobj.recv(100))
                    assert reply is not None
                    rtt_ms.append((time.monotonic_ns() - sent_ns[reply.sender_sequence]) / 1e6)
    cuts = statistics.quantiles(rtt_ms, n=100)
    return Echo(len(sent_ns), len(rtt_ms), cuts[49], cuts[98])


if __name__ == "__main__":
    sys.exit(main())
