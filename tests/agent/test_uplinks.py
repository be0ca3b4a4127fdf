"""The day's data budget and what an interface has shown; both survive a restart."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from agent import counters
from agent.counters import Counters
from agent.hours import Hours
from agent.probe import Settings
from agent.uplink import Uplink
from agent.uplinks import Course, Uplinks, UplinkSettings
from contract.values import Throughput
from tests.fakes import FakeClock

SHANGHAI = timezone(timedelta(hours=8))
MORNING_S = datetime(2026, 11, 25, 8, 0, tzinfo=SHANGHAI).timestamp()
HOURS = Hours(busy={"wed": ["18:00-20:00"], "thu": ["18:00-20:00"]})


class Costly(Settings, kw_only=True, frozen=True):
    mb: int = 100

    def most_bytes(self, uplink: Uplink) -> int:
        return self.mb * 1_000_000


HOURLY = Course(interface="lo", period_s=3600, settings=Costly())


def uplinks(clock: FakeClock, folder: Path | None = None, budget_mb: int | None = 1000, **settings: object) -> Uplinks:
    one = UplinkSettings(budget_mb_per_day=budget_mb, **settings)  # type: ignore[arg-type]
    return Uplinks({"lo": one}, HOURS, clock=clock, folder=folder, plan=[HOURLY])


def run(links: Uplinks, used_mb: int, values: Throughput | None = None) -> bool:
    """A test that really moved `used_mb`; whether it was allowed."""
    moved = iter([Counters(7, 7), Counters(used_mb * 1_000_000 + 7, 7)])
    links.count = lambda _: next(moved)
    spending = links.begin("lo", Costly())
    if spending is not None:
        spending.settle(values)
    return spending is not None


async def day(clock: FakeClock, links: Uplinks, used_mb: int) -> list[int]:
    """The local hours until midnight in which an hourly test ran."""
    ran = []
    for _ in range(16):
        if run(links, used_mb):
            ran.append(HOURS.local(clock.wall()).hour)
        await clock.advance(3600)
    return ran


async def test_busy_hours_are_paid_first() -> None:
    clock = FakeClock(wall=MORNING_S)
    ran = await day(clock, uplinks(clock, budget_mb=700), 100)
    assert {18, 19} <= set(ran)
    assert len(ran) == 7
    assert ran[:5] == [8, 9, 10, 11, 12]


async def test_what_was_not_used_is_given_back() -> None:
    clock = FakeClock(wall=MORNING_S)
    assert len(await day(clock, uplinks(clock, budget_mb=700), 20)) == 16


async def test_a_new_day_has_a_new_budget() -> None:
    clock = FakeClock(wall=MORNING_S)
    links = uplinks(clock, budget_mb=300)
    assert run(links, 100)
    assert not run(links, 100), "the rest is kept for the evening"
    await clock.advance(16 * 3600)
    assert run(links, 100)


async def test_spent_data_and_rates_survive_a_restart(tmp_path: Path) -> None:
    clock = FakeClock(wall=MORNING_S)
    assert run(uplinks(clock, tmp_path, 300), 100, Throughput(down_mbps=94.0))
    again = uplinks(clock, tmp_path, 300)
    assert not run(again, 100)
    assert again.of("lo") == Uplink(best_down_mbps=94.0)


async def test_a_test_that_was_cut_by_the_power_stays_paid(tmp_path: Path) -> None:
    clock = FakeClock(wall=MORNING_S)
    for _ in range(3):
        uplinks(clock, tmp_path, 500).begin("lo", Costly())
    assert uplinks(clock, tmp_path, 500).begin("lo", Costly()) is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"lo": 5}', b"\xff\xfe"])
def test_a_file_that_is_broken_stops_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "uplinks.json").write_bytes(content)
    assert uplinks(FakeClock(wall=MORNING_S), tmp_path).begin("lo", Costly())


def test_a_disk_that_refuses_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert uplinks(FakeClock(wall=MORNING_S), tmp_path / "file").begin("lo", Costly())


async def test_the_best_rate_is_that_of_the_last_24_hours() -> None:
    clock = FakeClock(wall=MORNING_S)
    links = uplinks(clock, budget_mb=100_000)
    for down, up in ((50.0, 9.0), (94.0, None), (80.0, 5.0)):
        run(links, 0, Throughput(down_mbps=down, up_mbps=up))
        await clock.advance(600)
    assert links.of("lo") == Uplink(best_down_mbps=94.0, best_up_mbps=9.0)
    await clock.advance(86_400)
    assert links.of("lo") == Uplink()


def test_metered_is_told_and_costs_less() -> None:
    links = uplinks(FakeClock(wall=MORNING_S), budget_mb=None, metered=True)
    assert links.of("lo").metered
    assert links.begin("lo", Costly(mb=101)) is None


async def test_only_a_test_beside_it_has_loaded_an_interface() -> None:
    clock = FakeClock(wall=MORNING_S)
    links = uplinks(clock)
    assert not links.was_loaded("lo", clock.boot())
    run(links, 0)
    ended_s = clock.boot()
    await clock.advance(1)
    assert links.was_loaded("lo", ended_s - 5)
    assert not links.was_loaded("lo", clock.boot())
    async with links.lock("lo"):
        assert links.was_loaded("lo", clock.boot())
    assert not links.was_loaded("eth0", ended_s - 5)


def test_counters_of_an_interface_that_is_not_there_are_not_known() -> None:
    assert counters.read("none0") is None
    assert counters.read("lo") is not None
