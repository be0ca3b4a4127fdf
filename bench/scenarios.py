"""What is done to a laboratory, one scenario each, and what has to be seen while it lasts."""

import asyncio
import contextlib
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from bench.lab import Engine, Group, Lab, Outcome
from bench.programs import Broker, Program

BOTH: Final[tuple[Engine, ...]] = ("influx", "sqlite")
SOON_S: Final = 15.0
"""After so long the agents run, on a busy machine too: what comes earlier may be missed."""


class Scenario(NamedTuple):
    """One way to lose records, if there were one."""

    play: Callable[[Lab], Awaitable[Outcome]]
    engines: tuple[Engine, ...] = BOTH


def drain_s(lab: Lab) -> float:
    """Long enough for a replay after a reconnect (up to 60 s), a few repeats of 60 s, and a `later`."""
    return 30 + 400 / lab.size.speed


async def kills(lab: Lab) -> Outcome:
    """SIGKILL agent, broker, collector and database at random, faults overlapping; each with a batch in flight."""
    await lab.start()
    victims: dict[str, Callable[[], Program]] = {
        "agent": lambda: lab.chance.choice(lab.groups),
        "broker": lambda: lab.broker,
        "collector": lambda: lab.collector,
        "database": lambda: lab.influx or lab.collector,
    }
    left = Counter(dict.fromkeys(victims, lab.size.kills))
    while left.total():
        await asyncio.sleep(lab.chance.uniform(0.5, 3.0))
        kind = lab.chance.choice([kind for kind, count in left.items() if count])
        victim = victims[kind]()
        everything_runs = victim.up and lab.collector.up and lab.broker.up
        # Sometimes an agent is killed offline, with batches that were sent before.
        if not everything_runs and not (isinstance(victim, Group) and victim.up and lab.in_flight([victim])):
            continue
        # Sometimes back so late that the agents commit to disk what they hold; mostly soon.
        down_s = (lab.size.hold_s * 1.3, 0.0, 1.0, 0.3)[left[kind] % 4 - 1]
        await lab.kill(victim, kind, down_s)
        left[kind] -= 1
    outcome = await lab.finish("kills", drain_s=drain_s(lab))
    if idle := [kill for kill in lab.kills if not kill.in_flight]:
        outcome.complaints.append(f"{len(idle)} kills without a batch in flight")
    if not outcome.verdict.committed and lab.size.kills > 3:
        outcome.complaints.append("no agent ever committed a record to its disk: this run proves little")
    return outcome


async def acl_refused(lab: Lab) -> Outcome:
    """The broker's access rules refuse every batch (mosquitto answers all the same); later they allow them."""
    await lab.start()
    await asyncio.sleep(2)
    lab.broker.allow(Broker.ACL.replace("write wanggan/1/up/%u/#", "write wanggan/1/up/%u/status"))
    await asyncio.sleep(1)
    before = lab.waiting()
    await asyncio.sleep(45 / lab.size.speed)
    grown = lab.waiting() - before
    lab.broker.allow()
    outcome = await lab.finish("acl_refused", drain_s=drain_s(lab))
    if grown < 0.5 * lab.size.rate * 45 / lab.size.speed:
        outcome.complaints.append(f"refused batches did not wait: only {grown} records more")
    return outcome


async def ack_lost(lab: Lab) -> Outcome:
    """Batches arrive and are stored, but no acknowledgement comes back: everything is sent again, nothing is twice."""
    await lab.start()
    await asyncio.sleep(1)
    lab.broker.allow(Broker.ACL.replace("pattern read wanggan/1/down/%u/#\n", ""))
    await asyncio.sleep(1)
    before = lab.waiting()
    await asyncio.sleep(45 / lab.size.speed)
    grown = lab.waiting() - before
    lab.broker.allow()
    outcome = await lab.finish("ack_lost", drain_s=drain_s(lab))
    if grown <= 0:
        outcome.complaints.append("records were forgotten without an acknowledgement")
    return outcome


async def closed_on_size(lab: Lab) -> Outcome:
    """The broker closes the connection on any message over 16 kB: batches are split, a lone giant is set aside."""
    lab.broker.configure(["message_size_limit 16000"])
    giant = lab.number_in(SOON_S)
    lab.odd = {"agent-000": {giant: "path"}}
    await lab.start(without=[lab.broker, lab.collector])
    await asyncio.sleep(max(SOON_S + 1, lab.size.hold_s * 2.5))
    await lab.broker.start()
    await lab.collector.start()
    outcome = await lab.finish("closed_on_size", drain_s=drain_s(lab) * 2, keeps=[("agent-000", giant)])
    if giant not in lab.accounts["agent-000"].committed:
        outcome.complaints.append("the record that no broker takes is not in quarantine")
    return outcome


async def line_refused(lab: Lab) -> Outcome:
    """The database refuses one record's line: it alone is rejected and kept as a dead letter."""
    await lab.start(without=lab.groups)
    await lab.spoil("video", "start_s")
    bad = lab.number_in(SOON_S)
    lab.odd = {"agent-000": {bad: "video"}}
    await lab.start_agents(lab.groups)
    await asyncio.sleep(SOON_S + 2)
    for _ in range(60):  # on a busy machine its turn comes later
        if any(f"agent-000#{bad} " in letter for letter in lab.dead_letters()):
            break
        await asyncio.sleep(0.5)
    outcome = await lab.finish("line_refused", drain_s=drain_s(lab), may_reject=[("agent-000", bad)])
    if set(lab.accounts["agent-000"].rejected) != {bad}:
        outcome.complaints.append(f"rejected: {sorted(lab.accounts['agent-000'].rejected)}, expected [{bad}]")
    if not any(f"agent-000#{bad} " in letter for letter in lab.dead_letters()):
        outcome.complaints.append("the refused record is not among the dead letters")
    return outcome


async def store_limit(lab: Lab) -> Outcome:
    """The database's own limit on tag values is reached: the others wait, nothing is deleted; then it is raised."""
    assert lab.influx is not None
    lab.influx.configure(max_values_per_tag=lab.size.agents // 4)
    await lab.start()
    await asyncio.sleep(3 + 5 / lab.size.speed)
    before = lab.waiting()
    await asyncio.sleep(3)
    grown = lab.waiting() - before
    lab.influx.configure(max_values_per_tag=0)
    lab.influx.kill()
    await lab.influx.start()
    reasons = lab.answered_later()
    outcome = await lab.finish("store_limit", drain_s=drain_s(lab))
    if grown <= 0:
        outcome.complaints.append("no record waited for the limit")
    if "store_limit" not in reasons:
        outcome.complaints.append(f"nobody was answered `later: store_limit`, only {sorted(reasons)}")
    return outcome


async def disk_full(lab: Lab) -> Outcome:
    """An agent's disk is full and the broker is away: it goes on in memory, publishes from there, and recovers."""
    agent = "agent-000"
    folder = lab.folder / agent
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "wanggan-test", str(folder)], check=True, timeout=10)
    try:
        await lab.start(without=[lab.broker])
        await asyncio.sleep(lab.size.hold_s * 1.5)
        with (folder / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(65_536))
        await asyncio.sleep(max(1.0, lab.size.hold_s * 2.5))
        degraded = lab.facts(agent)["degraded"]
        await lab.broker.start()
        await asyncio.sleep(2)
        (folder / "filler").unlink()
        await asyncio.sleep(60 / lab.size.speed)
        recovered = not lab.facts(agent)["degraded"]
        outcome = await lab.finish("disk_full", drain_s=drain_s(lab))
    finally:
        lab.group_of(agent).kill()
        subprocess.run(["umount", str(folder)], check=True, timeout=10)
    if not degraded:
        outcome.complaints.append("the agent did not say that its disk was full")
    if not recovered:
        outcome.complaints.append("the agent did not go back to its disk within a minute of space")
    return outcome


async def outbox_replaced(lab: Lab) -> Outcome:
    """Agents are killed and find empty files in place of their outboxes: a new identity, and all that comes after."""
    await lab.start(without=[lab.broker])
    await asyncio.sleep(lab.size.hold_s * 2.5)
    victim = lab.groups[0]
    lab.crash(victim, "agent", down_s=0.5)
    outboxes = {agent: lab.outbox_uuid(agent) for agent in victim.members}
    for agent in victim.members:
        lab.accounts[agent].removed |= lab.on_disk(agent)
        lab.accounts[agent].committed.clear()
        for file in (lab.folder / agent).glob("outbox.db*"):
            file.unlink()
        (lab.folder / agent / "outbox.db").touch()
    await lab.broker.start()
    await asyncio.sleep(3)
    outcome = await lab.finish("outbox_replaced", drain_s=drain_s(lab))
    if any(lab.outbox_uuid(agent) == outbox for agent, outbox in outboxes.items()):
        outcome.complaints.append("a new outbox has the identity of the old one")
    if not all(lab.accounts[agent].removed for agent in victim.members):
        outcome.complaints.append("the replaced files were empty anyway: this run proves little")
    return outcome


SCENARIOS: Final = {
    "kills": Scenario(kills),
    "acl_refused": Scenario(acl_refused),
    "ack_lost": Scenario(ack_lost),
    "closed_on_size": Scenario(closed_on_size),
    "line_refused": Scenario(line_refused, engines=("influx",)),
    "store_limit": Scenario(store_limit, engines=("influx",)),
    "disk_full": Scenario(disk_full),
    "outbox_replaced": Scenario(outbox_replaced),
}
