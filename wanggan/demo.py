"""`wanggan up --demo`: the same page, filled with a simulated district that goes on living. Nothing is measured."""

import asyncio
import contextlib
import secrets
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
from rich.console import Console

from simulator import district
from wanggan import broker, network, watch
from wanggan.plan import COLLECTOR, collector_configuration, perception_configuration
from wanggan.processes import Child, program
from wanggan.up import HOST, Options, Tree, UpError, healthy, listens, overview, start_perception

VENUES: Final = 52
HOURS: Final = 48
"""Of raw records that are there at once."""
DAYS: Final = 14
"""Of hours, scores and verdicts that join them within the minute."""
FILL_S: Final = 120.0

FAULTS: Final = (
    # kind, venue's place among those of its network, hours before now, hours it lasts, strength
    ("weak_signal", 2, 30, 5, 0.5),
    ("eap_failure", 5, 20, 3, 0.8),
    ("dhcp_exhaustion", 9, 8, 3, 0.8),
    ("dns_slow", 12, 26, 6, 0.6),
    ("uplink_saturated", 1, 2, 8, 0.7),
    ("congestion", 7, 3, 12, 0.9),
    ("portal_stuck", 15, 1, 6, 0.8),
    ("dns_hijack", 20, 1, 4, 0.7),
    ("upstream_outage", 24, 5, 1, 1.0),
    ("target_down", 28, 40, 2, 0.9),
    ("lan_fault", 44, 2, 10, 0.5),
    ("cpu_starved", 33, 4, 8, 0.6),
    ("power_cut", 36, 12, 2, 1.0),
    ("weak_signal", 2, 150, 60, 0.6),
    ("dhcp_exhaustion", 9, 270, 5, 0.9),
    ("uplink_saturated", 1, 200, 30, 0.8),
    ("uplink_outage", 17, 120, 3, 1.0),
    ("portal_stuck", 15, 300, 20, 0.9),
    ("dns_slow", 12, 180, 40, 0.7),
    ("lan_fault", 44, 250, 24, 0.7),
    ("agent_offline", 22, 100, 30, 1.0),
)
"""What has gone wrong, and what goes wrong now."""


class Times(NamedTuple):
    """Of a demonstration that begins `now`."""

    now: datetime

    @property
    def hour(self) -> datetime:
        """Start of the running hour: so far reach the hours, scores and verdicts."""
        return self.now.replace(minute=0)

    @property
    def raw(self) -> datetime:
        """From here on there are raw points, too."""
        return self.hour - timedelta(hours=HOURS)

    @property
    def start(self) -> datetime:
        """From here on there are hours."""
        return self.hour - timedelta(days=DAYS)

    @property
    def upgrade(self) -> datetime:
        """When venues got their new Wi-Fi."""
        return self.hour - timedelta(days=DAYS // 2)


class Files(NamedTuple):
    """What the programs of a demonstration read."""

    generated: Path
    """Their folder, with a password of every agent."""
    register: Path
    faults: Path
    collector: Path
    perception: Path
    broker: broker.Broker


async def show(options: Options, state: Path, tree: Tree, console: Console) -> int:
    """Until stopped.

    :raises UpError: when a part does not start.
    """
    times = Times(datetime.now(UTC).replace(second=0, microsecond=0))
    port = network.free_port()
    files = _files(options, state, times, port)
    tree.broker_name = files.broker.name
    simulate = [
        "simulate", "--agents", str(VENUES), "--venues", str(VENUES), "--faults", str(files.faults),
        "--upgrade", times.upgrade.isoformat(), "--register", str(files.register),
        "--truth", str(state / "truth.jsonl"),
    ]  # fmt: skip
    await tree.open()
    tree.start(Child("broker", files.broker.argv, tree.logs, tree.mark))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        with _waiting(console, f"simulating the last {HOURS} hours of {VENUES} venues"):
            await _fill(tree, [*simulate, "--from", times.raw.isoformat(), "--to", times.now.isoformat(),
                               "--out", str(files.collector)])  # fmt: skip
            await tree.ready("broker", lambda: listens(port))
            collector = program("collector", "run", "--config", str(files.collector))
            tree.start(Child("collector", collector, tree.logs, tree.mark))
            await tree.ready("collector", lambda: healthy(session, options.port))
        past = asyncio.create_task(_past(tree, files, times), name="past")
        live = [*simulate, "--passwords", str(files.generated), "--out", f"mqtt://{HOST}:{port}"]
        tree.start(Child("agent", program(*live), tree.logs, tree.mark))
        _greet(console, options, state, tree)
        try:
            await watch.watch(lambda: overview(session, options.port), tree.say)
        finally:
            past.cancel()
    raise AssertionError("watch never ends by itself")


def _files(options: Options, state: Path, times: Times, port: int) -> Files:
    generated = _fresh(state)
    place = district.build(1, VENUES, VENUES, int(times.upgrade.timestamp() // 60))
    agents = [box.agent for box in place.boxes]
    passwords = {name: secrets.token_urlsafe(24) for name in (COLLECTOR, *agents)}
    for name, password in passwords.items():
        broker.write_private(generated / f"{name}.password", password + "\n")
    register = broker.write_private(generated / "sites.toml", district.register(place))
    password_file = str(generated / f"{COLLECTOR}.password")
    collector = collector_configuration(port, options.port, str(state), password_file, str(register), simulated=True)
    perception = perception_configuration(str(state), str(register), zh="仿真区", en="The simulated district")
    return Files(
        generated=generated,
        register=register,
        faults=broker.write_private(generated / "faults.toml", _script(place, times.now)),
        collector=broker.write_private(generated / "collector.toml", collector),
        perception=broker.write_private(generated / "perception.toml", perception),
        broker=broker.choose(generated, port, passwords, agent=agents[0], embedded=options.embedded_broker),
    )


async def _fill(tree: Tree, simulate: list[str]) -> None:
    child = Child("agent", program(*simulate), tree.logs, tree.mark)
    try:
        async with asyncio.timeout(FILL_S):
            code = await tree.ended(child)
    except TimeoutError:
        raise UpError(f"the simulation was not over within {FILL_S:g} s (log: {child.log})") from None
    if code != 0:
        raise UpError(f"the simulation failed{child.last_words()} (log: {child.log})")


def _greet(console: Console, options: Options, state: Path, tree: Tree) -> None:
    console.print("[bold]SIMULATED[/bold]: a made-up district, nothing is measured.")
    console.print(f"Live page: http://{HOST}:{options.port}/")
    console.print(f"  {DAYS} days of scores and verdicts are being computed; they appear within a minute or two")
    console.print(f"  what is true (segment, venue, hour): {state / 'truth.jsonl'}", markup=False)
    console.print(f"  broker: {tree.broker_name}; data and logs: {state}. Ctrl-C stops everything.", markup=False)


async def _past(tree: Tree, files: Files, times: Times) -> None:
    """Two weeks, computed beside what already lives; then perception goes on from there."""
    command = [
        sys.executable, "-P", "-m", "wanggan.history", "--config", str(files.perception), "--venues", str(VENUES),
        "--faults", str(files.faults), "--from", times.start.isoformat(), "--full", times.raw.isoformat(),
        "--to", times.hour.isoformat(), "--upgrade", times.upgrade.isoformat(),
    ]  # fmt: skip
    child = Child("history", command, tree.logs, tree.mark)
    if await tree.ended(child) == 0:
        tree.say(f"{DAYS} days of hours, scores and verdicts are there")
    else:
        tree.say(f"the {DAYS} days before could not be computed{child.last_words()} (log: {child.log})")
    start_perception(tree, files.perception)


def _fresh(state: Path) -> Path:
    """The folder of configurations; what an earlier demonstration stored is gone: its faults were at other times."""
    for old in state.glob("wanggan.db*"):
        old.unlink()
    (state / "perception" / "progress.json").unlink(missing_ok=True)
    shutil.rmtree(state / "reports", ignore_errors=True)
    generated = state / "config"
    generated.mkdir(mode=0o700, exist_ok=True)
    return generated


def _script(place: district.District, now: datetime) -> str:
    lines = ["# Written by `wanggan up --demo` at every start."]
    for kind, number, ago_h, length_h, strength in FAULTS:
        start = (now - timedelta(hours=ago_h)).isoformat()
        venue = place.venues[number % len(place.venues)].slug
        lines += ["", "[[faults]]", f'kind = "{kind}"', f'venue = "{venue}"', f"start = {start}"]
        lines += [f'length = "{length_h}h"', f"strength = {strength}"]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def _waiting(console: Console, what: str) -> Iterator[None]:
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield
