"""Slots: aligned, spread, jittered, and none lost or doubled when the wall clock steps."""

import itertools
import random
import statistics

import pytest

from agent.config import Job
from agent.schedule import JITTER_RATIO, Slot, label_s, phase_s, slots
from tests.fakes import FakeClock

WEEK_S = 7 * 86_400


def job(probe: str = "latency", target: str = "core", period_s: float = 60.0, **more: str) -> Job:
    return Job(probe=probe, target=target, interface="lo", period_s=period_s, timeout_s=10.0, **more)


def test_a_week_keeps_the_grid_without_a_gap() -> None:
    clock = FakeClock()
    count = WEEK_S // 60
    week = list(itertools.islice(slots("lib-01", job(), clock, random.Random(1)), count))
    phase = phase_s("lib-01", job())
    for n, slot in enumerate(week):
        assert slot.boot_s == pytest.approx(week[0].boot_s + n * 60, abs=1e-6)
        assert label_s(slot.boot_s, clock.wall() - clock.boot()) % 60 == pytest.approx(phase, abs=0.002)
    assert 0 < week[0].boot_s - clock.boot() <= 60


def test_phase_is_kept_over_restarts_and_spreads_the_fleet() -> None:
    assert phase_s("lib-01", job()) == phase_s("lib-01", job())
    phases = [phase_s(f"agent-{n:04}", job(period_s=900)) for n in range(1000)]
    busiest = max(statistics.multimode(int(phase) for phase in phases), key=lambda second: second)
    assert sum(int(phase) == busiest for phase in phases) <= 10, "at most 1 % of a fleet in one second"
    assert min(phases) < 10
    assert max(phases) > 890


def test_jobs_of_one_agent_differ_by_every_part_of_their_identity() -> None:
    alike = [
        job(),
        job(target="gateway"),
        job(probe="web"),
        job(resolver="city"),
        job(provider="city"),
        Job(probe="latency", target="core", interface="eth0", period_s=60.0, timeout_s=10.0),
    ]
    assert len({phase_s("lib-01", each) for each in alike}) == len(alike)


def test_jitter_moves_the_start_and_never_the_slot() -> None:
    run = list(itertools.islice(slots("lib-01", job(), FakeClock(), random.Random(1)), 2000))
    moved = [slot.start_s - slot.boot_s for slot in run]
    assert max(map(abs, moved)) <= 60 * JITTER_RATIO
    assert min(moved) < -2.5
    assert max(moved) > 2.5
    assert all(later.boot_s - slot.boot_s == pytest.approx(60, abs=1e-6) for slot, later in itertools.pairwise(run))


@pytest.mark.parametrize("step_s", [-3600.0, -0.4, 7.0, 86_400.0, 1.7e9])
def test_wall_step_neither_repeats_nor_leaves_out_a_slot(step_s: float) -> None:
    clock = FakeClock(wall=12.0 if step_s > 1e9 else 1_795_000_000.0)
    schedule = slots("lib-01", job(), clock, random.Random(1))
    before = [next(schedule) for _ in range(10)]
    labels = [label_s(slot.boot_s, clock.wall() - clock.boot()) for slot in before]
    clock.step_wall(step_s)
    after = [next(schedule) for _ in range(10)]
    slots_s = [slot.boot_s for slot in before + after]
    assert slots_s == pytest.approx([slots_s[0] + 60 * n for n in range(20)], abs=1e-6)
    assert label_s(after[0].boot_s, clock.wall() - clock.boot()) == pytest.approx(labels[-1] + 60 + step_s, abs=0.002)


def test_a_new_start_reports_its_health_at_once_and_then_on_the_grid() -> None:
    clock = FakeClock()
    run = list(itertools.islice(slots("lib-01", job(probe="agent", target="-"), clock, random.Random(1)), 3))
    assert run[0] == Slot(clock.boot(), clock.boot())
    assert run[1].boot_s > run[0].boot_s
    assert label_s(run[1].boot_s, clock.wall() - clock.boot()) % 60 == pytest.approx(
        phase_s("lib-01", job(probe="agent", target="-")), abs=0.002
    )
