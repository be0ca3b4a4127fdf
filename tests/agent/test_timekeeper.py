import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from agent import timekeeper
from agent.clock import utc
from agent.facts import Facts
from agent.timekeeper import Timekeeper, parse_chrony
from tests.agent.durable import record
from tests.fakes import FakeClock

TRUE = 1_795_000_000.0
"""True wall time at boot time 1000 of a FakeClock."""


class Service:
    """A time service that says what the test wants."""

    def __init__(self, answer: bool | None = False) -> None:
        self.answer = answer
        self.asked = 0

    async def __call__(self) -> bool | None:
        self.asked += 1
        return self.answer


async def test_service_says_synchronised_and_year_is_believed_only_after_the_build() -> None:
    clock, service = FakeClock(wall=60.0), Service(True)
    keeper = Timekeeper(clock, [service])
    await keeper.ask_services()
    assert not keeper.synced
    assert not keeper.anchored.is_set()
    clock.step_wall(TRUE)
    await keeper.ask_services()
    assert keeper.synced
    assert keeper.anchored.is_set()


@pytest.mark.parametrize("answers", [(True,), (None, True), (False, True), (None, None, True)])
async def test_any_service_is_enough(answers: tuple[bool | None, ...]) -> None:
    keeper = Timekeeper(FakeClock(), [Service(answer) for answer in answers])
    await keeper.ask_services()
    assert keeper.synced


@pytest.mark.parametrize("answers", [(), (None, None), (False, None)])
async def test_without_a_service_that_vouches_the_clock_is_not_synchronised(answers: tuple[bool | None, ...]) -> None:
    keeper = Timekeeper(FakeClock(), [Service(answer) for answer in answers])
    await keeper.ask_services()
    assert not keeper.synced


async def test_start_in_1970_three_hundred_records_get_their_true_times_from_a_time_service() -> None:
    clock, service = FakeClock(wall=30.0), Service()
    keeper = Timekeeper(clock, [service])
    task = asyncio.create_task(keeper.run())
    waiting = []
    for n in range(300):
        waiting.append((record(n, slot=utc(clock.wall())), clock.boot()))
        assert keeper.label(*_parts(keeper, *waiting[-1]), synced=keeper.synced) == "wait"
        await clock.advance(1.0)
    clock.step_wall(TRUE - 30.0)
    service.answer = True
    await clock.advance(2.0)
    for n, (item, boot_s) in enumerate(waiting):
        assert keeper.label(*_parts(keeper, item, boot_s), synced=False) == "changed"
        assert abs(item.slot.timestamp() - (TRUE + n)) < 1
        assert item.started_at - item.slot == timedelta(seconds=0.25)
        assert item.clock == "corrected"
        assert item.flags == ["clock_corrected"]
    slots = [item.slot for item, _ in waiting]
    assert len(set(slots)) == 300
    task.cancel()


async def test_start_in_1970_without_a_service_the_collectors_time_is_the_anchor() -> None:
    clock, facts = FakeClock(wall=30.0), Facts()
    keeper = Timekeeper(clock, [Service(None)], facts)
    item, boot_s = record(1, slot=utc(30.0)), clock.boot()
    await clock.advance(100)
    sent_s = clock.boot()
    await clock.advance(1.0)
    keeper.learn(utc(TRUE + 100.2), sent_s, clock.boot())
    assert keeper.label(*_parts(keeper, item, boot_s), synced=False) == "changed"
    assert abs(item.slot.timestamp() - TRUE) <= 0.5
    assert item.clock == "corrected"
    assert facts.clock_offset_ms is not None
    assert abs(facts.clock_offset_ms / 1000 - (30.0 - TRUE)) <= 0.5


async def test_a_slow_answer_or_one_from_before_the_build_is_no_anchor() -> None:
    clock = FakeClock(wall=30.0)
    keeper = Timekeeper(clock)
    keeper.learn(utc(TRUE), clock.boot() - 2.5, clock.boot())
    keeper.learn(datetime(2020, 1, 1, tzinfo=UTC), clock.boot() - 0.01, clock.boot())
    assert not keeper.anchored.is_set()
    keeper.learn(utc(TRUE), clock.boot() - 1.0, clock.boot())
    assert keeper.anchored.is_set()


async def test_a_better_answer_replaces_the_anchor_and_a_worse_one_does_not() -> None:
    clock = FakeClock(wall=30.0)
    keeper = Timekeeper(clock)
    keeper.learn(utc(TRUE - 0.4), clock.boot() - 1.0, clock.boot())
    keeper.learn(utc(TRUE - 0.01), clock.boot() - 0.02, clock.boot())
    keeper.learn(utc(TRUE + 0.4), clock.boot() - 1.0, clock.boot())
    item = record(1, slot=utc(30.0))
    keeper.label(*_parts(keeper, item, 1000.0), synced=False)
    assert item.slot == utc(TRUE)


async def test_an_unsynchronised_clock_that_was_right_is_left_alone() -> None:
    clock = FakeClock()
    keeper = Timekeeper(clock)
    item = record(1, slot=utc(TRUE))
    keeper.learn(utc(TRUE + 0.1), clock.boot() - 0.02, clock.boot())
    assert keeper.label(*_parts(keeper, item, 1000.0), synced=False) == "kept"
    assert item.slot == utc(TRUE)
    assert (item.clock, item.flags) == ("synced", [])


async def test_after_a_reboot_or_a_day_without_an_anchor_the_clock_is_none() -> None:
    clock = FakeClock(wall=30.0)
    keeper = Timekeeper(clock)
    other = record(1, slot=utc(20.0))
    assert keeper.label(other, uuid4(), 900.0, synced=False) == "kept"
    assert (other.clock, other.flags, other.slot) == ("none", ["clock_unsynced"], utc(20.0))
    own = record(2, slot=utc(30.0))
    await clock.advance(86_399)
    assert keeper.label(*_parts(keeper, own, 1000.0), synced=False) == "wait"
    await clock.advance(1)
    assert keeper.label(*_parts(keeper, own, 1000.0), synced=False) == "kept"
    assert own.clock == "none"


async def test_the_anchor_of_an_earlier_boot_serves_its_records() -> None:
    clock, memo = FakeClock(), {}
    before = Timekeeper(clock, [Service(True)])
    before.use(memo)
    await before.ask_services()
    clock2 = FakeClock(wall=30.0, boot=5.0)
    after = Timekeeper(clock2, boot=uuid4())
    after.use(dict(memo))
    item = record(1, slot=utc(100.0))
    assert after.label(item, before.boot, 940.0, synced=False) == "changed"
    assert item.slot == utc(TRUE - 60)
    synced = record(2, slot=utc(TRUE - 30))
    assert after.label(synced, before.boot, 970.0, synced=True) == "kept"
    assert synced.clock == "synced"


async def test_anchors_of_long_gone_boots_are_forgotten() -> None:
    memo = {f"anchor/{uuid4()}": (1.0, float(n), 0.0) for n in range(20)}
    Timekeeper(FakeClock()).use(memo)
    assert sorted(anchor[1] for anchor in memo.values()) == [float(n) for n in range(12, 20)]


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0, -2.5])
async def test_a_wall_step_is_logged_and_corrects_what_is_unsent(
    step_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock(wall=TRUE - step_s)  # wrong at first, though a service vouched for it
    keeper = Timekeeper(clock, [Service(True)])
    await keeper.ask_services()
    item = record(1, slot=utc(clock.wall()))
    await clock.advance(10)
    run_began_s = clock.boot()
    assert not keeper.stepped_since(run_began_s)
    await clock.advance(5)
    clock.step_wall(step_s)
    assert keeper.stepped_since(run_began_s)
    assert f"{step_s:+.3f} s" in caplog.text
    assert keeper.label(*_parts(keeper, item, 1000.0), synced=True) == "changed"
    assert item.slot == utc(TRUE)
    assert item.clock == "corrected"
    await clock.advance(10)
    assert not keeper.stepped_since(clock.boot())


async def test_slewing_is_no_step() -> None:
    clock = FakeClock()
    keeper = Timekeeper(clock, [Service(True)])
    await keeper.ask_services()
    item = record(1, slot=utc(TRUE))
    clock.step_wall(1.9)
    assert not keeper.stepped_since(0.0)
    assert keeper.label(*_parts(keeper, item, 1000.0), synced=True) == "kept"


async def test_a_label_that_its_series_has_used_moves_on_by_a_millisecond() -> None:
    memo: dict[str, object] = {}
    keeper = Timekeeper(FakeClock(), boot=uuid4())
    keeper.use(memo)
    items = [record(1, slot=utc(TRUE)) for _ in range(3)] + [record(1, "agent", slot=utc(TRUE))]
    assert [keeper.label(item, keeper.boot, 1000.0, synced=True) for item in items] == [
        "kept", "changed", "changed", "kept",
    ]  # fmt: skip
    moved = [item.slot - utc(TRUE) for item in items]
    assert moved == [timedelta(milliseconds=n) for n in (0, 1, 2, 0)]
    assert items[2].started_at - items[2].slot == timedelta(seconds=0.25)
    # Not only the last: after a backward step labels come again that were used long before.
    assert keeper.label(record(1, slot=utc(TRUE)), keeper.boot, 1000.0, synced=True) == "changed"

    again = Timekeeper(FakeClock(), boot=keeper.boot)
    again.use(dict(memo))
    last = record(1, slot=utc(TRUE + 0.003))
    assert again.label(last, keeper.boot, 1000.003, synced=True) == "changed"
    assert last.slot == utc(TRUE + 0.004)


async def test_the_services_are_asked_again_after_a_step_and_until_one_vouches() -> None:
    clock, service = FakeClock(), Service()
    keeper = Timekeeper(clock, [service])
    task = asyncio.create_task(keeper.run())
    await clock.advance(61)
    assert service.asked == 3
    service.answer = True
    await clock.advance(30)
    assert keeper.synced
    await clock.advance(500)
    asked = service.asked
    clock.step_wall(5)
    await clock.advance(2)
    assert service.asked == asked + 1
    task.cancel()


async def test_timesyncd_leaves_a_file(tmp_path: Path) -> None:
    flag = tmp_path / "timesync" / "synchronized"
    assert await timekeeper.timesyncd(flag) is None
    flag.parent.mkdir()
    assert await timekeeper.timesyncd(flag) is False
    flag.touch()
    assert await timekeeper.timesyncd(flag) is True


@pytest.mark.parametrize(
    ("program", "answer"),
    [
        ("echo 'b true'", True),
        ("echo 'b false'", False),
        ("exit 1", None),
        ("sleep 60", None),
        ("yes", None),
        ("sleep 60 & echo 'b true'", True),
    ],
)
async def test_timedate1_through_busctl(
    program: str, answer: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(tmp_path / "busctl", program, monkeypatch)
    async with asyncio.timeout(30):
        assert await timekeeper.timedate1() is answer


async def test_chronyc_missing_or_without_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await timekeeper.chrony() is None
    _install(tmp_path / "chronyc", "echo '506 Cannot talk to daemon'; exit 1", monkeypatch)
    assert await timekeeper.chrony() is None


@pytest.mark.parametrize(
    ("line", "synced"),
    [
        ("CA760151,203.0.113.5,3,1795000000.1,0.000001,0.000002,0.0001,-5.1,0.0,0.02,0.001,0.0005,64.2,Normal", True),
        ("00000000,,0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,1.0,0.0,Not synchronised", False),
        ("", False),
    ],
)
def test_chrony_tracking(line: str, synced: bool) -> None:
    assert parse_chrony(line + "\n") is synced


def _install(path: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")


def _parts(keeper: Timekeeper, item: object, boot_s: float) -> tuple:  # type: ignore[type-arg]
    return item, keeper.boot, boot_s
