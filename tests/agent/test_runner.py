"""Every scheduled slot ends in exactly one record, whatever the probe does."""

import asyncio
import contextlib
import itertools
import math
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

import msgspec
import pytest

from agent.config import Job
from agent.counters import Counters
from agent.facts import Facts
from agent.hours import ALWAYS_OPEN, Hours
from agent.probe import Context, Failure, Probe, Settings, Target
from agent.runner import GRACE_S, Runner
from agent.uplink import Uplink
from agent.uplinks import Uplinks, UplinkSettings
from contract.codec import decode_record, encode
from contract.record import Record
from contract.values import Dns, Hop, Latency, Path, Throughput, Values, Web, WifiScan
from contract.vocabulary import REASONS
from tests.fakes import FakeClock

Measure = Callable[[Any, Context], Awaitable[Values]]
TARGETS = {"core": Target(role="core", host="core.example"), "other": Target(role="service", host="other.example")}


async def measured(settings: Settings, context: Context) -> Latency:
    return Latency(sent=20, received=20)


def probe(measure: Measure, *, local: bool = False, heavy: bool = False) -> Probe:
    needs = frozenset() if local else frozenset({"interface"})
    return Probe(settings=Settings, measure=measure, timeout_s=5.0, needs=needs, heavy=heavy)


def job(probe: str = "latency", period_s: float = 60.0, target: str = "core", timeout_s: float = 5.0) -> Job:
    return Job(probe=probe, target=target, interface="lo", period_s=period_s, timeout_s=timeout_s)


class Bench:
    """A runner on a fake clock, and what it submitted."""

    def __init__(self, jobs: list[Job], probes: Mapping[str, Probe], link: str = "up") -> None:
        self.clock = FakeClock()
        self.records: list[Record] = []
        self.slots_s: list[float] = []
        self.link = link
        self.runner = Runner(
            "lib-01",
            jobs,
            targets=TARGETS,
            resolvers={},
            clock=self.clock,
            facts=Facts(),
            submit=self._submit,
            probes=probes,
            link=lambda _: self.link,
            jitter=random.Random(1),
        )

    def _submit(self, record: Record, boot_s: float) -> None:
        assert decode_record(encode(record)) == record, "what is submitted, the wire can carry"
        self.records.append(record)
        self.slots_s.append(boot_s)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.runner.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def one(self) -> Record:
        """The record of the only job, run once."""
        task = asyncio.create_task(self.runner.once())
        while not task.done():
            await self.clock.advance(1.0)
        await task
        (record,) = self.records
        return record

    def of(self, target: str) -> list[Record]:
        return [record for record in self.records if record.target == target]


async def run_once(measure: Measure, **kinds: bool) -> Record:
    return await Bench([job()], {"latency": probe(measure, **kinds)}).one()


async def test_ok() -> None:
    record = await run_once(measured)
    assert (record.outcome, record.reason, record.values) == ("ok", None, Latency(sent=20, received=20))
    assert record.slot == record.started_at


@pytest.mark.parametrize("reason", sorted(reason for reasons in REASONS.values() for reason in reasons))
async def test_outcome_follows_from_the_reason(reason: Any) -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        raise Failure(reason, "because")

    record = await run_once(measure)
    assert record.reason == reason
    assert reason in REASONS[record.outcome]
    assert record.detail == "because"


async def test_failure_keeps_what_was_measured_and_the_cautions() -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        context.values = Web(dns_ms=3.0)
        context.flags.append("method_fallback")
        raise Failure("refused")

    bench = Bench([job("web")], {"web": probe(measure)})
    record = await bench.one()
    assert (record.outcome, record.values, record.flags) == ("failed", Web(dns_ms=3.0), ["method_fallback"])


async def test_failure_inside_a_group_of_tasks_keeps_its_reason() -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
        raise AssertionError

    async def fail() -> None:
        raise Failure("unreachable")

    assert (await run_once(measure)).reason == "unreachable"


async def test_unexpected_exception_is_our_fault_and_its_text_is_cleaned() -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        raise ValueError("bad\n\x1b[31mtext\u2028" + "x" * 300)

    record = await run_once(measure)
    assert (record.outcome, record.reason) == ("invalid", "internal")
    assert record.detail is not None
    assert record.detail.startswith("ValueError: bad  [31mtext x")
    assert len(record.detail) == 200


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
async def test_number_that_is_none_is_our_fault(number: float) -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        return Latency(sent=20, rtt_p50_ms=number)

    record = await run_once(measure)
    assert (record.outcome, record.reason) == ("invalid", "internal")
    assert record.detail == "not a finite number: rtt_p50_ms"
    assert record.values == Latency(sent=20)


async def test_number_that_is_none_deep_inside_is_found() -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        return Path(hops=[Hop(address="192.0.2.1", rtt_ms=math.nan)], hop_count=1)

    record = await Bench([job("path")], {"path": probe(measure)}).one()
    assert (record.reason, record.values) == ("internal", Path(hop_count=1))


async def test_controls_in_the_words_of_a_server_do_not_cost_the_record() -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        return Dns(name="a\x1b[31mb", answers=1)

    record = await Bench([job("dns")], {"dns": probe(measure)}).one()
    assert (record.outcome, record.values) == ("ok", Dns(name="a [31mb", answers=1))


async def test_values_of_another_probe_are_our_fault() -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        return Dns(answers=1)

    record = await run_once(measure)
    assert (record.outcome, record.reason, record.values) == ("invalid", "internal", None)


async def test_value_outside_its_bounds_is_our_fault() -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        return Latency(loss_ratio=1.5)

    record = await run_once(measure)
    assert (record.outcome, record.reason, record.values) == ("invalid", "internal", None)
    assert "loss_ratio" in str(record.detail)


async def test_deadline_while_waiting_for_the_network() -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        context.values = Latency(sent=3)
        await asyncio.Event().wait()
        raise AssertionError

    record = await run_once(measure)
    assert (record.outcome, record.reason, record.values) == ("failed", "timeout", Latency(sent=3))
    assert record.duration_s == pytest.approx(5.0, abs=1.5)


async def test_values_that_a_probe_leaves_while_it_is_ended_are_kept() -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        try:
            await asyncio.Event().wait()
        finally:
            context.values = Latency(sent=9)
        raise AssertionError

    assert (await run_once(measure)).values == Latency(sent=9)


async def test_deadline_of_a_local_probe_is_our_fault() -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        await asyncio.Event().wait()
        raise AssertionError

    record = await run_once(measure, local=True)
    assert (record.outcome, record.reason) == ("invalid", "internal")


@pytest.mark.parametrize("step_s", [-3600.0, -2.5, 2.5, 3600.0])
async def test_wall_step_during_a_run(step_s: float) -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        bench.clock.step_wall(step_s)
        return Latency(sent=20, received=20)

    bench = Bench([job()], {"latency": probe(measure)})
    record = await bench.one()
    assert (record.outcome, record.reason) == ("invalid", "clock_step")
    assert record.values == Latency(sent=20, received=20)
    assert record.duration_s < 1


@pytest.mark.parametrize("reason", ["timeout", "unreachable", "no_interface"])
@pytest.mark.parametrize("link", ["down", "missing"])
async def test_interface_that_goes_away_during_a_run(reason: Any, link: str) -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        bench.link = link
        context.values = Latency(sent=20)
        raise Failure(reason, "as a socket sees it")

    bench = Bench([job()], {"latency": probe(measure)})
    record = await bench.one()
    assert (record.outcome, record.reason, record.values) == ("failed", "no_link", Latency(sent=20))


@pytest.mark.parametrize(
    ("link", "outcome", "reason"), [("down", "failed", "no_link"), ("missing", "skipped", "no_interface")]
)
async def test_interface_at_the_start(link: str, outcome: str, reason: str) -> None:
    record = await Bench([job()], {"latency": probe(measured)}, link).one()
    assert (record.outcome, record.reason) == (outcome, reason)


async def test_health_is_reported_without_an_interface() -> None:
    assert (await Bench([job()], {"latency": probe(measured, local=True)}, "missing").one()).outcome == "ok"


async def test_every_slot_of_a_day_has_one_record() -> None:
    bench = Bench([job(period_s=600.0)], {"latency": probe(measured)})
    async with bench.running():
        await bench.clock.advance(86_400 + 600)
    days = bench.slots_s[:144]
    assert len(set(days)) == 144
    assert days == pytest.approx([days[0] + 600 * n for n in range(144)], abs=1e-6)
    assert {record.outcome for record in bench.records} == {"ok"}
    assert [record.slot.timestamp() for record in bench.records] == pytest.approx(
        [slot_s - bench.clock.boot() + bench.clock.wall() for slot_s in bench.slots_s], abs=0.002
    )


async def test_wall_steps_while_running_lose_no_slot() -> None:
    bench = Bench([job()], {"latency": probe(measured)})
    async with bench.running():
        for step_s in (0, -7200, 86_400, -3, 1):
            await bench.clock.advance(600)
            bench.clock.step_wall(step_s)
        await bench.clock.advance(70)
    assert len(bench.slots_s) == pytest.approx(51, abs=1)
    assert bench.slots_s == pytest.approx([bench.slots_s[0] + 60 * n for n in range(len(bench.slots_s))], abs=1e-6)


async def test_slot_whose_predecessor_still_runs_is_skipped() -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        await context.clock.sleep(100)
        return Latency(sent=1)

    bench = Bench([job(timeout_s=110.0)], {"latency": probe(measure)})
    async with bench.running():
        await bench.clock.advance(360)
        outcomes = [(record.outcome, record.reason) for record in sorted(bench.records, key=lambda r: r.slot)]
    assert outcomes[:4] == [("ok", None), ("skipped", "busy"), ("ok", None), ("skipped", "busy")]


async def test_machine_that_slept_accounts_for_its_slots() -> None:
    bench = Bench([job()], {"latency": probe(measured)})
    async with bench.running():
        await bench.clock.advance(120)
        before = len(bench.records)
        bench.clock._pass(600)
        await bench.clock.advance(61)
    missed = [record for record in bench.records[before:] if record.reason == "internal"]
    assert 8 <= len(missed) <= 10
    assert bench.slots_s == pytest.approx([bench.slots_s[0] + 60 * n for n in range(len(bench.slots_s))], abs=1e-6)


async def test_five_faults_of_our_own_double_the_period() -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        runs.append(context.clock.boot())
        raise Failure("tool_missing", "no iperf3")

    runs: list[float] = []
    bench = Bench([job()], {"latency": probe(measure)})
    async with bench.running():
        await bench.clock.advance(16 * 60)
        assert len(runs) == pytest.approx(5 + 5, abs=1)
        assert {(record.outcome, record.reason) for record in bench.records} == {("invalid", "tool_missing")}
        await bench.clock.advance(48 * 3600)
        late = [later - run for run, later in itertools.pairwise(runs[-6:])]
        assert all(3600 - 7 < gap < 3600 + 7 for gap in late), "up to an hour and no further"
    assert len(bench.slots_s) == len(set(bench.slots_s))
    assert len(bench.slots_s) == pytest.approx(16 + 48 * 60, abs=2), "slots that are left out have their record"


async def test_a_sound_run_ends_the_longer_period() -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        runs.append(context.clock.boot())
        if len(runs) <= 6:
            raise Failure("internal")
        raise Failure("timeout")

    runs: list[float] = []
    bench = Bench([job()], {"latency": probe(measure)})
    async with bench.running():
        await bench.clock.advance(30 * 60)
    gaps = [later - run for run, later in itertools.pairwise(runs)]
    assert max(gaps) > 110
    assert all(gap < 67 for gap in gaps[7:])


async def test_network_failures_never_lengthen_the_period() -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        raise Failure("timeout")

    bench = Bench([job()], {"latency": probe(measure)})
    async with bench.running():
        await bench.clock.advance(3600)
    assert len(bench.records) == pytest.approx(60, abs=1)
    assert {record.outcome for record in bench.records} == {"failed"}
    assert {record.detail for record in bench.records} == {None}


async def test_probe_that_ignores_its_cancellation_holds_up_nobody() -> None:
    """On the real clock: one probe that cannot be ended, and one beside it that has to keep its rhythm."""

    async def stubborn(settings: Settings, context: Context) -> Values:
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()
        return Latency()

    async def quick(settings: Settings, context: Context) -> Values:
        return Dns(answers=1)

    release = asyncio.Event()
    bench = Bench([job(timeout_s=1.0), job("dns")], {"latency": probe(stubborn), "dns": probe(quick)})
    try:
        async with bench.running():
            await bench.clock.advance(130)
            # Its grace is real time.
            await asyncio.sleep(GRACE_S + 0.2)
            await bench.clock.advance(600)
        latency = sorted((r for r in bench.records if r.probe == "latency"), key=lambda r: r.slot)
        assert [(r.outcome, r.reason) for r in latency[:3]] == [
            ("failed", "timeout"),
            ("skipped", "busy"),
            ("skipped", "busy"),
        ]
        dns = [r for r in bench.records if r.probe == "dns"]
        assert len(dns) >= 11
        assert all((r.started_at - r.slot).total_seconds() < 3.1 for r in dns), "jitter and nothing else"
        assert bench.runner.stuck == 1
        assert not await bench.runner.ended(), "the program must not wait for it at its own end"
    finally:
        release.set()
        await asyncio.sleep(0.05)
    assert bench.runner.stuck == 0
    assert await bench.runner.ended()


async def test_probe_that_blocks_a_thread_holds_up_nobody() -> None:
    async def blocking(settings: Settings, context: Context) -> Values:
        await asyncio.to_thread(release.wait, 30)
        return Latency()

    async def quick(settings: Settings, context: Context) -> Values:
        return Dns(answers=1)

    release = threading.Event()
    bench = Bench([job(timeout_s=1.0), job("dns")], {"latency": probe(blocking), "dns": probe(quick)})
    try:
        started_s = time.monotonic()
        async with bench.running():
            await bench.clock.advance(200)
            await asyncio.sleep(0.1)
            await bench.clock.advance(100)
        assert time.monotonic() - started_s < 20
        assert sum(r.probe == "dns" for r in bench.records) >= 4
        assert "timeout" in {r.reason for r in bench.records if r.probe == "latency"}
    finally:
        release.set()


async def test_at_most_four_light_and_one_heavy_at_once() -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        running[context.interface] += 1
        most[context.interface] = max(most[context.interface], running[context.interface])
        await context.clock.sleep(2)
        running[context.interface] -= 1
        return Latency() if context.interface == "lo" else Throughput()

    running = {"lo": 0, "eth0": 0}
    most = dict(running)
    light = [job(target=f"t{n}") for n in range(9)]
    heavy = [msgspec.structs.replace(job("throughput", target=f"t{n}"), interface="eth0") for n in range(3)]
    bench = Bench(light + heavy, {"latency": probe(measure), "throughput": probe(measure, heavy=True)})
    task = asyncio.create_task(bench.runner.once())
    await bench.clock.advance(20)
    await task
    assert most == {"lo": 4, "eth0": 1}
    assert len(bench.records) == 12
    assert {record.outcome for record in bench.records} == {"ok"}


class AloneSettings(Settings, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Of a probe that stops all other traffic."""

    def alone(self) -> bool:
        return True


def alone_job(period_s: float = 600.0, interface: str = "lo") -> Job:
    scan = job("wifi_scan", period_s, target="scan")
    return msgspec.structs.replace(scan, settings=AloneSettings(), interface=interface)


class Together:
    """Who ran beside whom, as a probe of any kind."""

    def __init__(self, seconds: float = 2.0) -> None:
        self.seconds = seconds
        self.running: list[str] = []
        self.beside: set[frozenset[str]] = set()

    async def measure(self, settings: Settings, context: Context) -> Values:
        name = type(settings).__name__
        self.running.append(name)
        self.beside.add(frozenset(self.running))
        try:
            await context.clock.sleep(self.seconds)
        finally:
            self.running.remove(name)
        return WifiScan() if context.interface == "lo" and name == "AloneSettings" else Latency()

    def probes(self) -> dict[str, Probe]:
        def heavy(settings: Settings, context: Context) -> Awaitable[Values]:
            return self.measure(AuditSettings(), context)

        return {
            "latency": probe(self.measure),
            "wifi_scan": probe(self.measure),
            "throughput": probe(heavy, heavy=True),
        }


class AuditSettings(Settings, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Marks a heavy run."""


async def test_a_run_that_has_to_be_alone_is_alone() -> None:
    together = Together()
    lights = [job(target=f"t{n}", period_s=20.0) for n in range(6)]
    bench = Bench([alone_job(60.0), *lights, job("throughput", 30.0)], together.probes())
    async with bench.running():
        await bench.clock.advance(600)
    scans = [record for record in bench.records if record.probe == "wifi_scan"]
    assert len(scans) >= 9
    assert {record.outcome for record in scans} == {"ok"}
    assert {names for names in together.beside if "AloneSettings" in names} == {frozenset({"AloneSettings"})}
    assert frozenset({"Settings", "AuditSettings"}) in together.beside, "the others do meet"
    assert all(record.flags == [] for record in scans)
    late_s = [(r.started_at - r.slot).total_seconds() for r in bench.records if r.target.startswith("t")]
    assert max(late_s) < 8, "its length, a wait for a place, and the slot's own jitter"


async def test_nobody_waits_for_one_who_waits_to_be_alone() -> None:
    together = Together(seconds=50.0)
    slow = [msgspec.structs.replace(job(target="slow", period_s=60.0), timeout_s=55.0)]
    bench = Bench([alone_job(60.0), *slow, *[job(target=f"t{n}", period_s=20.0) for n in range(3)]], {
        **together.probes(), "latency": probe(together.measure),
    })  # fmt: skip
    async with bench.running():
        await bench.clock.advance(300)
    assert {record.reason for record in bench.records if record.probe == "wifi_scan"} <= {"busy", "timeout", None}
    late_s = [(r.started_at - r.slot).total_seconds() for r in bench.records if r.target == "slow"]
    assert max(late_s) < 10


async def test_never_alone_before_the_slots_end_is_busy() -> None:
    together = Together(seconds=100.0)
    always = [msgspec.structs.replace(job(target=f"t{n}", period_s=90.0), timeout_s=110.0) for n in range(2)]
    bench = Bench([alone_job(60.0), *always], together.probes())
    async with bench.running():
        await bench.clock.advance(900)
    scans = [record for record in bench.records if record.probe == "wifi_scan"]
    assert "no place before the slot's end" in {record.detail for record in scans}
    assert len({r.slot for r in scans}) == len(scans)


async def test_places_are_given_back_when_a_run_that_was_alone_fails() -> None:
    async def fail(settings: Settings, context: Context) -> Values:
        raise Failure("busy", "somebody else scans")

    bench = Bench([alone_job(60.0), *[job(target=f"t{n}") for n in range(5)]], {
        "wifi_scan": probe(fail), "latency": probe(measured),
    })  # fmt: skip
    async with bench.running():
        await bench.clock.advance(400)
    assert {record.outcome for record in bench.records if record.probe == "latency"} == {"ok"}
    assert {record.reason for record in bench.records if record.probe == "wifi_scan"} == {"busy"}


async def test_no_place_before_the_slots_end_is_busy() -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        await context.clock.sleep(90)
        return Throughput()

    jobs = [job("throughput", target=target, timeout_s=100.0) for target in ("core", "other")]
    bench = Bench(jobs, {"throughput": probe(measure, heavy=True)})
    async with bench.running():
        await bench.clock.advance(1200)
    reasons = {record.detail for record in bench.records if record.reason == "busy"}
    assert "no place before the slot's end" in reasons
    assert len(set(zip([r.target for r in bench.records], bench.slots_s, strict=True))) == len(bench.records)


async def test_run_that_is_cut_short_by_the_agents_end_has_its_record() -> None:
    async def measure(settings: Settings, context: Context) -> Values:
        await asyncio.Event().wait()
        raise AssertionError

    bench = Bench([job()], {"latency": probe(measure)})
    async with bench.running():
        while not bench.runner._light._value < 4:
            await bench.clock.advance(1)
    (record,) = bench.records
    assert (record.outcome, record.detail) == ("invalid", "the agent was stopped")


# Heavy tests: their hours, their budget, their neighbours


class Costly(Settings, kw_only=True, frozen=True):
    def most_bytes(self, uplink: Uplink) -> int:
        return 60_000_000


def costly(target: str = "core", **fields: Any) -> Job:
    return msgspec.structs.replace(job("throughput", target=target), settings=Costly(), **fields)


async def moving(settings: Settings, context: Context) -> Values:
    await context.clock.sleep(3)
    return Throughput(down_mbps=94.0)


def with_uplinks(bench: Bench, hours: Hours = ALWAYS_OPEN, moved: Iterator[int] | None = None, **settings: Any) -> None:
    """`moved` is what the interface's counter shows, one reading after the other."""
    uplinks = Uplinks({"lo": UplinkSettings(**settings)}, hours, clock=bench.clock)
    if moved is not None:
        uplinks.count = lambda _: Counters(next(moved), 0)
    bench.runner._uplinks, bench.runner._hours = uplinks, hours


async def test_without_budget_a_heavy_test_is_skipped_and_light_ones_go_on() -> None:
    bench = Bench([costly(), job()], {"throughput": probe(moving, heavy=True), "latency": probe(measured)})
    with_uplinks(bench, budget_mb_per_day=50)
    async with bench.running():
        await bench.clock.advance(300)
    assert {(r.outcome, r.reason) for r in bench.records if r.probe == "throughput"} == {("skipped", "budget")}
    assert {r.outcome for r in bench.records if r.probe == "latency"} == {"ok"}


async def test_outside_the_opening_hours_a_job_of_them_is_skipped() -> None:
    bench = Bench([costly(during="open"), job()], {"throughput": probe(moving, heavy=True), "latency": probe(measured)})
    day = Hours().local(bench.clock.wall()).strftime("%a").lower()
    with_uplinks(bench, Hours(open={day: ["00:00-00:01"]}))
    async with bench.running():
        await bench.clock.advance(300)
    assert {(r.outcome, r.reason) for r in bench.records if r.probe == "throughput"} == {("skipped", "quiet_hours")}
    assert {r.outcome for r in bench.records if r.probe == "latency"} == {"ok"}


async def test_a_light_run_beside_our_own_heavy_one_says_so() -> None:
    async def slow(settings: Settings, context: Context) -> Values:
        await context.clock.sleep(5)
        return Latency()

    bench = Bench([costly(), job()], {"throughput": probe(moving, heavy=True), "latency": probe(slow)})
    task = asyncio.create_task(bench.runner.once())
    await bench.clock.advance(30)
    await task
    assert {r.probe: r.flags for r in bench.records} == {"throughput": [], "latency": ["cross_traffic"]}
    later = Bench([job()], {"latency": probe(slow)})
    assert (await later.one()).flags == []


async def test_other_peoples_traffic_defers_a_heavy_test_and_skips_it_in_the_end() -> None:
    bench = Bench([costly(period_s=3600.0)], {"throughput": probe(moving, heavy=True)})
    with_uplinks(bench, moved=itertools.count(0, 10_000_000), cross_traffic="defer")
    async with bench.running():
        await bench.clock.advance(7200)
    assert {(r.outcome, r.reason) for r in bench.records} == {("skipped", "cross_traffic")}
    assert 60 < bench.records[0].duration_s < 3 * 600 + 10


async def test_a_heavy_test_waits_until_others_are_done() -> None:
    bench = Bench([costly(period_s=3600.0)], {"throughput": probe(moving, heavy=True)})
    with_uplinks(bench, moved=itertools.chain([0], itertools.repeat(10_000_000)), cross_traffic="defer")
    async with bench.running():
        await bench.clock.advance(3600)
    assert bench.records[0].outcome == "ok"
    assert (bench.records[0].started_at - bench.records[0].slot).total_seconds() > 50


async def test_a_probe_is_told_what_its_uplink_has_shown() -> None:
    seen: list[Uplink] = []

    async def measure(settings: Settings, context: Context) -> Values:
        seen.append(context.uplink)
        return Throughput(down_mbps=94.0, up_mbps=20.0)

    bench = Bench([costly()], {"throughput": probe(measure, heavy=True)})
    async with bench.running():
        await bench.clock.advance(120)
    assert seen[:2] == [Uplink(), Uplink(best_down_mbps=94.0, best_up_mbps=20.0)]
