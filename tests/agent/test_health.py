"""The agent's own health: the `agent` probe, starts and ends, loop lag."""

import asyncio
import time
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.facts import Facts
from agent.health import note_clean_end, note_start, watch_loop
from agent.probe import Context
from agent.probes import agent
from agent.probes.agent import AgentSettings
from contract.values import Agent


async def measure(facts: Facts) -> Agent:
    at = Context(agent="lib-01", interface="lo", clock=SystemClock(), facts=facts, timeout_s=5.0)
    return await agent.measure(AgentSettings(), at)


async def test_what_the_kernel_knows() -> None:
    values = await measure(Facts())
    assert values.rss_bytes is not None
    assert 5_000_000 < values.rss_bytes < 2_000_000_000
    assert values.uptime_s is not None
    assert 0 < values.uptime_s < time.clock_gettime(time.CLOCK_BOOTTIME)


async def test_cpu_is_that_since_the_last_record() -> None:
    facts = Facts()
    assert (await measure(facts)).cpu_ratio is None, "of the first record nothing came before"
    until_s = time.process_time() + 0.2
    while time.process_time() < until_s:
        pass
    busy = (await measure(facts)).cpu_ratio
    await asyncio.sleep(0.3)
    idle = (await measure(facts)).cpu_ratio
    assert busy is not None
    assert idle is not None
    assert busy > 2 * idle


async def test_what_the_parts_know_of_themselves() -> None:
    facts = Facts(
        config_version=7,
        outbox_records=3,
        outbox_oldest_s=12.5,
        outbox_dropped_context=1,
        outbox_dropped_light=2,
        outbox_dropped_heavy=4,
        outbox_dropped_rare=8,
        degraded=True,
        reconnects=5,
        restarts=2,
        last_exit="crash",
        loop_lag_p95_ms=1.5,
    )
    values = await measure(facts)
    assert (values.outbox_dropped, values.outbox_dropped_rare) == (15, 8)
    assert (values.config_version, values.outbox_records, values.outbox_oldest_s) == (7, 3, 12.5)
    assert (values.degraded, values.reconnects, values.restarts, values.last_exit) == (True, 5, 2, "crash")
    assert values.loop_lag_p95_ms == 1.5


async def test_what_is_not_known_is_null() -> None:
    values = await measure(Facts())
    assert (values.clock_offset_ms, values.disk_free_bytes, values.cert_days_left) == (None, None, None)
    assert (values.restarts, values.last_exit, values.outbox_oldest_s) == (None, None, None)


def start(folder: Path) -> tuple[int | None, str | None]:
    facts = Facts()
    note_start(folder, facts)
    return facts.restarts, facts.last_exit


def test_starts_are_counted_and_ends_told_apart(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert start(state) == (0, None)
    note_clean_end(state)
    assert start(state) == (1, "clean")
    assert start(state) == (2, "crash")
    file = state / "starts.json"
    text = file.read_text()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    file.write_text(text.replace(boot, "11111111-2222-3333-4444-555555555555"))
    assert start(state) == (3, "power")


@pytest.mark.parametrize("content", [b"", b"{", b'{"count":"x"}', b"\xff"])
def test_broken_file_is_no_reason_not_to_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "starts.json").write_bytes(content)
    assert start(tmp_path) == (0, None)
    assert start(tmp_path) == (1, "crash")


def test_disk_that_takes_nothing_is_no_reason_not_to_start(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    assert start(tmp_path / "state") == (0, None)
    note_clean_end(tmp_path / "state")


async def test_loop_lag_shows_a_blocked_loop() -> None:
    facts = Facts()
    watching = asyncio.create_task(watch_loop(facts))
    await asyncio.sleep(0.9)
    time.sleep(0.4)
    await asyncio.sleep(0.1)
    watching.cancel()
    assert facts.loop_lag_p95_ms is not None
    assert facts.loop_lag_p95_ms > 150
