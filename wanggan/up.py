"""`wanggan up`: broker, reflector, collector on SQLite and one agent, on this machine, in one process tree."""

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import aiohttp
from rich.console import Console
from rich.table import Table

from wanggan import broker, network, watch
from wanggan.plan import (
    AGENT,
    COLLECTOR,
    Plan,
    agent_configuration,
    collector_configuration,
    perception_configuration,
    reachable,
    reflector_configuration,
    reflector_keys,
    site_register,
)
from wanggan.processes import Child, Sweeper, program
from wanggan.sweep import VARIABLE

DEFAULT_PORT: Final = 8080
DEFAULT_STATE: Final = Path(".state")
HOST: Final = "127.0.0.1"

READY_S: Final = 30.0
"""What a program gets to become ready."""
TRIES: Final = 3
"""A program that died so often before it was ready will not become it."""
ROUND_S: Final = 90.0
"""What one full round gets, acknowledgements included."""

STOP_ORDER: Final = ((("agent",), 1.2), (("history", "perception", "collector"), 0.8), (("reflector", "broker"), 0.4))
"""Who ends first and what each gets, in seconds: the agent's last records still find a collector. All within 3 s."""


class UpError(Exception):
    """It cannot go on; the text says why and what to do."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line."""

    port: int = DEFAULT_PORT
    state: Path = DEFAULT_STATE
    once: bool = False
    as_json: bool = False
    local_only: bool = False
    embedded_broker: bool = False
    demo: bool = False


def main(argv: list[str]) -> int:
    """0 after a clean stop or a full round that was stored, 1 when something was not, 2 for a usage error."""
    options = _parse(argv)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        with _state_folder(options.state) as state:
            if not options.once and network.taken(HOST, options.port):
                raise UpError(
                    f"port {options.port} is taken by another program; "
                    f"use a free one: wanggan up --port {_next_free(options.port)}",
                    2,
                )
            return asyncio.run(_run(options, state, console))
    except UpError as error:
        console.print(f"wanggan up: {error}", markup=False)
        return error.code


async def _run(options: Options, state: Path, console: Console) -> int:
    """Everything from the first child to the last."""
    tree = Tree(state / "logs", lambda line: console.print(f"{time.strftime('%H:%M:%S')} {line}", markup=False))
    work = asyncio.create_task(_work(options, state, tree, console), name="up")
    loop = asyncio.get_running_loop()
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, _stop, work, asked_to_stop)
    try:
        return await work
    except asyncio.CancelledError:
        if not asked_to_stop.is_set():
            raise
        if not options.once:
            console.print("\nstopping")
        return 1 if options.once else 0
    finally:
        await tree.stop()


def _stop(work: asyncio.Task[int], asked: asyncio.Event) -> None:
    if not asked.is_set():
        asked.set()
        work.cancel()


async def _work(options: Options, state: Path, tree: "Tree", console: Console) -> int:
    if options.demo:
        from wanggan import demo

        return await demo.show(options, state, tree, console)
    with _progress(console, "looking at the network around this machine"):
        plan = await _plan(options)
    port = network.free_port() if options.once else options.port
    with _progress(console, "starting broker, reflector and collector"):
        agent_file = await _start_servers(options, state, tree, plan, port)
    if options.once:
        with _progress(console, "measuring and storing one full round"):
            document = await _one_round(tree, agent_file)
        return _show(document, options.as_json)
    tree.start(Child("agent", program("agent", "run", "--config", str(agent_file)), tree.logs, tree.mark))
    _greet(console, plan, port, state, tree.broker_name)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        await watch.watch(lambda: overview(session, port), tree.say)
    raise AssertionError("watch never ends by itself")


class Tree:
    """The children, and the task that keeps each of them."""

    def __init__(self, logs: Path, say: Callable[[str], None]) -> None:
        self.logs = logs
        self.say = say
        self.broker_name = ""
        token = secrets.token_hex(8)
        self.mark = {VARIABLE: token}
        self._sweeper = Sweeper(token)
        self._children: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}

    async def open(self) -> None:
        """Before the first child: what must outlive this process."""
        await self._sweeper.start()

    def start(self, child: Child) -> None:
        self._children[child.name] = child
        self._keepers[child.name] = asyncio.create_task(child.keep(self.say), name=f"keep {child.name}")

    async def output(self, child: Child) -> bytes:
        """Run a child that ends by itself; its standard output."""
        self._children[child.name] = child
        return await child.output()

    async def ended(self, child: Child) -> int:
        """Run a child that ends by itself; its exit code. What it says goes to its log, so that no process of its own
        can hold a pipe of ours open."""
        self._children[child.name] = child
        return await child.run()

    async def ready(self, name: str, check: Callable[[], Awaitable[bool]]) -> None:
        """:raises UpError: when the child did not become ready, or died again and again, with its last words."""
        child = self._children[name]
        deadline_s = time.monotonic() + READY_S
        while time.monotonic() < deadline_s and child.restarts < TRIES:
            if await check():
                return
            await asyncio.sleep(0.05)
        raise UpError(f"{name} does not start{child.last_words()} (log: {child.log})")

    async def stop(self) -> None:
        """End them in order; nothing is left running."""
        for names, within_s in STOP_ORDER:
            children = [self._children[name] for name in names if name in self._children]
            await asyncio.gather(*(child.stop(within_s) for child in children))
        for keeper in self._keepers.values():
            keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)
        await self._sweeper.finish()


async def _plan(options: Options) -> Plan:
    from agent.wifi import wireless

    gateway = None if options.local_only else network.default_gateway()
    # Without a way out, resolvers elsewhere would only show our own lack of a network.
    resolvers = [] if options.local_only else [r for r in network.resolvers() if gateway or ip_address(r).is_loopback]
    radio = None if options.local_only else wireless.associated()
    return Plan(network.free_port(), network.free_port(), gateway, resolvers, await reachable(gateway), radio)


async def _start_servers(options: Options, state: Path, tree: Tree, plan: Plan, port: int) -> Path:
    """Start everything but the agent, each when what it needs is ready; the agent's configuration."""
    generated = _folder(state / "config")
    broker_port = network.free_port()
    passwords = {name: secrets.token_urlsafe(24) for name in (AGENT, COLLECTOR)}
    key = secrets.token_urlsafe(24)
    key_file = broker.write_private(generated / "reflector.key", key + "\n")
    keys_file = broker.write_private(generated / "reflector-keys.toml", reflector_keys(key))
    reflector_file = broker.write_private(generated / "reflector.toml", reflector_configuration(plan, str(keys_file)))
    files = {
        name: broker.write_private(generated / f"{name}.password", password + "\n")
        for name, password in passwords.items()
    }
    chosen = broker.choose(generated, broker_port, passwords, agent=AGENT, embedded=options.embedded_broker)
    tree.broker_name = chosen.name
    register = broker.write_private(generated / "sites.toml", site_register(plan))
    collector_file = broker.write_private(
        generated / "collector.toml",
        collector_configuration(broker_port, port, str(state), str(files[COLLECTOR]), str(register)),
    )
    agent_file = broker.write_private(
        generated / "agent.toml",
        agent_configuration(plan, broker_port, str(_folder(state / "agent")), str(files[AGENT]), str(key_file)),
    )
    perception_file = broker.write_private(
        generated / "perception.toml",
        perception_configuration(str(state), str(register), zh="本机", en="This machine"),
    )
    await tree.open()
    tree.start(Child("broker", chosen.argv, tree.logs, tree.mark))
    command = program("reflector", "run", "--config", str(reflector_file))
    tree.start(Child("reflector", command, tree.logs, tree.mark))
    await tree.ready("broker", lambda: listens(broker_port))
    tree.start(Child("collector", program("collector", "run", "--config", str(collector_file)), tree.logs, tree.mark))
    await tree.ready("reflector", lambda: listens(plan.reflector_port))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        await tree.ready("collector", lambda: healthy(session, port))
    if not options.once:
        start_perception(tree, perception_file)
    return agent_file


def start_perception(tree: Tree, file: Path) -> None:
    """Hours, scores and reports of what is stored."""
    tree.start(Child("perception", program("perception", "run", "--config", str(file)), tree.logs, tree.mark))


async def _one_round(tree: Tree, agent_file: Path) -> dict[str, Any]:
    """Every job once; the agent's own account of what was stored."""
    command = program("agent", "run", "--once", "--json", "--config", str(agent_file))
    child = Child("agent", command, tree.logs, tree.mark)
    try:
        async with asyncio.timeout(ROUND_S):
            output = await tree.output(child)
    except TimeoutError:
        raise UpError(f"the round was not over within {ROUND_S:g} s{child.last_words()} (log: {child.log})") from None
    try:
        document: dict[str, Any] = json.loads(output)
    except ValueError:
        raise UpError(f"the agent gave no result{child.last_words()} (log: {child.log})") from None
    return document


def _show(document: dict[str, Any], as_json: bool) -> int:
    records = document["records"]
    if as_json:
        print(json.dumps(document, ensure_ascii=False))
    else:
        Console(highlight=False).print(_table(records))
    return 0 if records and all(record["stored"] for record in records) else 1


def _table(records: list[dict[str, Any]]) -> Table:
    table = Table(title="One round", caption=f"{sum(r['stored'] for r in records)} of {len(records)} stored")
    for heading in ("probe", "target", "resolver", "interface", "outcome", "measured", "stored"):
        table.add_column(heading)
    for record in records:
        said = record["outcome"] if record["reason"] is None else f"{record['outcome']}: {record['reason']}"
        table.add_row(
            record["probe"], record["target"], record["resolver"] or "", record["interface"], said,
            _headline(record["values"]), "yes" if record["stored"] else "NO",
        )  # fmt: skip
    return table


_HEADLINES: Final = {
    "rtt_p50_ms": "ms", "rtt_ms": "ms", "total_ms": "ms", "down_mbps": "Mbit/s", "start_s": "s", "rss_bytes": "bytes"
}  # fmt: skip
"""The first of these that a record has stands for it."""


def _headline(values: dict[str, Any] | None) -> str:
    for name, unit in _HEADLINES.items():
        value = (values or {}).get(name)
        if value is not None:
            return f"{value / 2**20:.0f} MiB" if unit == "bytes" else f"{value:.2f} {unit}"
    return ""


def _greet(console: Console, plan: Plan, port: int, state: Path, broker_name: str) -> None:
    console.print(f"[bold]Wanggan is measuring.[/bold] Live page: http://{HOST}:{port}/")
    console.print(f"  every 10 s: {', '.join(plan.describe())}", markup=False)
    console.print(f"  broker: {broker_name}; data and logs: {state}", markup=False)
    console.print("  Ctrl-C stops everything. Changes follow, one line each.")


@contextlib.contextmanager
def _progress(console: Console, what: str) -> Iterator[None]:
    """A spinner on a terminal, nothing elsewhere."""
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


async def listens(port: int) -> bool:
    """Whether anybody does, on loopback."""
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


async def healthy(session: aiohttp.ClientSession, port: int) -> bool:
    """Whether the collector says so of itself."""
    try:
        async with session.get(f"http://{HOST}:{port}/healthz") as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def overview(session: aiohttp.ClientSession, port: int) -> dict[str, Any] | None:
    """The live page's own picture; None while it has no answer."""
    try:
        async with session.get(f"http://{HOST}:{port}/api/overview") as answer:
            found: dict[str, Any] | None = await answer.json() if answer.status == 200 else None
            return found
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None


@contextlib.contextmanager
def _state_folder(path: Path) -> Iterator[Path]:
    """The folder, made, and ours alone while we run.

    :raises UpError: when it cannot be written or another `wanggan up` uses it.
    """
    state = path.absolute()
    try:
        for folder in (state, state / "logs"):
            _folder(folder)
        lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UpError(f"cannot write to {state}: {error.strerror}; choose another with --state DIR", 2) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield state
    except BlockingIOError:
        raise UpError(
            f"another `wanggan up` uses {state}; stop that one, or choose another folder with --state DIR", 2
        ) from None
    finally:
        os.close(lock)


def _folder(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _next_free(port: int) -> int:
    return next((number for number in range(port + 1, 65536) if not network.taken(HOST, number)), DEFAULT_PORT)


def _parse(argv: list[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="wanggan up",
        description="Everything on this machine: a broker, a reflector, a collector with its live page, and an agent "
        "that measures every 10 s (throughput and video every 30): the reflector, the default gateway, the system's "
        "resolvers, two public sites where "
        "they can be reached. No root, no internet needed.",
        allow_abbrev=False,
    )
    parser.add_argument("--port", type=_port, default=DEFAULT_PORT, help="of the page, on 127.0.0.1 (%(default)s)")
    parser.add_argument(
        "--state", type=Path, default=DEFAULT_STATE, metavar="DIR", help="data and logs (default: ./%(default)s)"
    )
    parser.add_argument("--once", action="store_true", help="one full round, a table, the end")
    parser.add_argument("--json", action="store_true", help="with --once: one JSON document on standard output")
    parser.add_argument("--local-only", action="store_true", help="measure nothing outside this machine")
    parser.add_argument("--embedded-broker", action="store_true", help="leave an installed mosquitto aside")
    parser.add_argument("--demo", action="store_true", help="a simulated district instead of measurements (DIR/demo)")
    found = parser.parse_args(argv)
    if found.demo and found.once:
        parser.error("--demo measures nothing, so there is no --once")
    if found.json and not found.once:
        parser.error("--json needs --once")
    return Options(
        port=found.port, state=found.state / "demo" if found.demo else found.state, once=found.once, as_json=found.json,
        local_only=found.local_only, embedded_broker=found.embedded_broker, demo=found.demo,
    )  # fmt: skip


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (1 to 65535)")
    return int(text)
