"""What falls due, driven by a clock of our own."""

import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contract.series import FLEET, JOBS, TOUCHED, VERDICT
from contract.values import VALUES
from perception.config import Profiles, load
from perception.progress import Progress, ProgressFile, alone
from perception.rollups.roll import HOUR_NS
from perception.scores.stored import read as read_scores
from perception.service import Service
from perception.stored import Row, read
from perception.week import Week
from simulator import district
from store.interface import StoreUnavailable
from store.point import Point
from store.sqlite import SqliteStore
from store.tables import ConfigError
from tests.perception.district import DISTRICT, fill, measured
from tests.store.points import T0

SECOND = 10**9
MINUTE_S = 60
T0_S = T0 // SECOND
AWAY = DISTRICT.boxes[3].agent


class Desk:
    """A service over a store, with a clock that is set by hand."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "sites.toml").write_text(district.register(DISTRICT))
        self.file = folder / "perception.toml"
        self.file.write_text('[store]\nengine = "sqlite"\npath = "w.db"\n[report]\nformats = ["html", "pdf"]\n')
        self.settings = load(self.file)
        self.profiles = Profiles(self.settings.profiles, folder)
        self.settings.state.mkdir(exist_ok=True)
        self.store = SqliteStore(folder / "w.db")
        self.now_s: float = T0_S
        self.service = self.started()

    def started(self) -> Service:
        """As after a restart."""
        self.service = Service(self.settings, self.profiles, self.store, wall=lambda: self.now_s)
        return self.service

    async def at(self, minutes: float) -> None:
        """What is due so many minutes after T0."""
        self.now_s = T0_S + minutes * MINUTE_S
        await self.service.tick()

    async def rows(self, hour: int, agent: str | None = None) -> list[Row]:
        start, where = T0 + hour * HOUR_NS, None if agent is None else {"agent": agent}
        return [row for probe in VALUES async for row in read(self.store, probe, start, start + HOUR_NS, where=where)]

    async def records(self, hour: int, agent: str | None = None) -> int:
        return sum(row.n for row in await self.rows(hour, agent))

    async def scores(self, period: Any, hours: int = 8 * 24) -> int:
        start = T0 - 8 * 24 * HOUR_NS
        return len([s async for s in read_scores(self.store, period, start, T0 + hours * HOUR_NS)])


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path)
    made.settings.state.mkdir(exist_ok=True)
    ProgressFile(made.settings.state).write(Progress(reconciled="2000-01-01", reported=_last_week(made)))
    made.started()
    await made.store.ensure()
    yield made
    await made.store.close()


def _last_week(desk: Desk) -> str:
    """The week that would be reported at T0: as if it were."""
    local = datetime.fromtimestamp(T0_S, UTC).astimezone(desk.service._place.roll.zone)
    return str(Week.of((local - timedelta(hours=6)).date()).shifted(-1))


async def quiet(desk: Desk) -> None:
    """No nightly comparison in this test."""
    desk.service.progress.reconciled = desk.service._local().date().isoformat()


def of(
    points: Sequence[Point], hours: tuple[int, int], agent: str | None = None, other: str | None = None
) -> list[Point]:
    """Records of a window, of one agent or of all but one; jobs are always told."""
    first, last = (T0 + hour * HOUR_NS for hour in hours)
    return [
        p
        for p in points
        if p.series == JOBS.name
        or (
            first <= p.time_ns < last
            and (agent is None or p.tags[0] == agent)
            and (other is None or p.tags[0] != other)
        )
    ]


async def test_a_running_hour_then_a_closed_one(desk: Desk) -> None:
    points = measured(2)
    await quiet(desk)
    await fill(desk.store, of(points, (0, 1)))
    await desk.at(30)
    half = await desk.rows(0)
    assert sum(row.expected for row in half if row.probe == "latency" and row.target == "core") == 30 * len(
        DISTRICT.boxes
    )
    await desk.at(64)
    assert desk.service.progress.next_hour_ns == T0, "agents have five minutes to send"
    await desk.at(65)
    assert desk.service.progress.next_hour_ns == T0 + HOUR_NS
    whole = [row for row in await desk.rows(0) if row.probe == "latency" and row.target == "core"]
    assert {(row.n, row.expected) for row in whole} == {(60, 60)}
    assert await desk.scores("hour") >= len(DISTRICT.venues)
    assert await desk.scores("day") >= len(DISTRICT.venues)


async def test_after_a_downtime_every_hour_is_rolled_up(desk: Desk) -> None:
    await quiet(desk)
    await desk.at(5)
    await fill(desk.store, measured(5))
    desk.started()
    await quiet(desk)
    await desk.at(5 * 60 + 5)
    for hour in range(5):
        assert await desk.records(hour) > 400, hour
    assert desk.service.progress.next_hour_ns == T0 + 5 * HOUR_NS
    assert await desk.scores("week") > 0


def touched(hour: int, at_s: float, agent: str = AWAY) -> Point:
    return Point(TOUCHED.name, (agent,), T0 + hour * HOUR_NS, (7, at_s))


async def test_late_records_are_rolled_up_within_a_minute(desk: Desk) -> None:
    points = measured(3)
    await quiet(desk)
    await fill(desk.store, of(points, (0, 3), other=AWAY))
    await desk.at(5)
    await desk.at(3 * 60 + 5)
    assert await desk.records(0, AWAY) == 0
    missing = sum(row.expected for row in await desk.rows(0, AWAY))
    assert missing > 300, "it is expected, and silent"
    before = {row.agent: row for row in await desk.rows(0) if row.agent != AWAY and row.probe == "agent"}

    await fill(desk.store, [*of(points, (0, 2), agent=AWAY), touched(0, desk.now_s), touched(1, desk.now_s)])
    await desk.at(3 * 60 + 6)
    assert await desk.records(0, AWAY) > 300
    assert await desk.records(1, AWAY) > 300
    assert await desk.records(2, AWAY) == 0
    assert {row.agent: row for row in await desk.rows(0) if row.agent != AWAY and row.probe == "agent"} == before
    ends = [
        s
        async for s in read_scores(desk.store, "hour", T0, T0 + HOUR_NS, where={"venue": DISTRICT.boxes[3].venue.slug})
    ]
    assert all((s.number("n") or 0) > 300 for s in ends)

    # The same hours again: what came is told by its time, and what was done is not done twice.
    done: list[Any] = []
    again = desk.service._roll_again
    desk.service._roll_again = lambda late: (done.append(late), again(late))[1]  # type: ignore[method-assign]
    await desk.at(3 * 60 + 7)
    assert done == []
    await fill(desk.store, [touched(1, desk.now_s)])
    await desk.at(3 * 60 + 8)
    assert done == [{T0 + HOUR_NS: {AWAY}}]


async def test_late_records_of_many_are_rolled_up_by_the_hour(desk: Desk) -> None:
    points = measured(1)
    await quiet(desk)
    await desk.at(5)
    await desk.at(65)
    assert await desk.records(0) == 0
    await fill(desk.store, [*points, *(touched(0, desk.now_s, box.agent) for box in DISTRICT.boxes)])
    await desk.at(66)
    assert await desk.records(0) == sum(p.series in VALUES for p in points)


async def test_the_nightly_comparison_finds_what_nobody_told(desk: Desk) -> None:
    points = measured(3)
    await quiet(desk)
    await fill(desk.store, of(points, (0, 3), other=AWAY))
    await desk.at(5)
    await desk.at(3 * 60 + 5)
    await fill(desk.store, of(points, (0, 2), agent=AWAY))
    await desk.at(3 * 60 + 6)
    assert await desk.records(0, AWAY) == 0
    desk.service.progress.reconciled = ""
    await desk.at(3 * 60 + 7)
    assert await desk.records(0, AWAY) > 300
    assert await desk.records(1, AWAY) > 300
    assert desk.service.progress.reconciled != ""


async def test_two_weeks_of_one_agent_come_back_in_ten_minutes(desk: Desk) -> None:
    """All that is late is rolled up in one minute's turn: the service works through whatever was told."""
    points = measured(6)
    await quiet(desk)
    await desk.at(5)
    await desk.at(6 * 60 + 5)
    told = [touched(hour, desk.now_s + hour) for hour in range(-14 * 24, 6)]
    await fill(desk.store, [*of(points, (0, 6), agent=AWAY), *told])
    await desk.at(6 * 60 + 6)
    assert [await desk.records(hour, AWAY) > 300 for hour in range(6)] == [True] * 6


async def test_a_store_that_is_away_loses_no_hour(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    points = measured(1)
    await quiet(desk)
    await desk.at(5)
    await fill(desk.store, points)

    async def away(points: Sequence[Point]) -> list[Any]:
        raise StoreUnavailable("refused")

    with monkeypatch.context() as broken:
        broken.setattr(desk.store, "write", away)
        with pytest.raises(StoreUnavailable):
            await desk.at(65)
    assert desk.service.progress.next_hour_ns == T0
    await desk.at(66)
    assert await desk.records(0) == sum(p.series in VALUES for p in points)


async def test_the_week_is_reported_once_also_after_a_downtime(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    async def make(week: Week) -> None:
        made.append(str(week))

    await quiet(desk)
    reported = Week.parse(desk.service.progress.reported)
    zone = desk.service._place.roll.zone
    monday_s = reported.shifted(2).start_ns(zone) // SECOND

    def restarted() -> None:
        service = desk.started()
        service._make = make  # type: ignore[method-assign]

    async def due(at_s: float) -> list[str]:
        desk.now_s = at_s
        await desk.service._report()
        found, made[:] = list(made), []
        return found

    restarted()
    assert await due(monday_s + 6 * 3600 - 1) == []
    assert await due(monday_s + 6 * 3600) == [str(reported.shifted(1))]
    assert await due(monday_s + 6 * 3600 + 60) == []
    restarted()
    assert await due(monday_s + 7 * 3600) == []
    desk.service._revise({reported.shifted(1).start_ns(zone): {AWAY}, reported.shifted(2).start_ns(zone): {AWAY}})
    assert await due(monday_s + 7 * 3600 + 540) == [], "not before ten past"
    assert await due(monday_s + 7 * 3600 + 600) == [str(reported.shifted(1))]
    assert await due(monday_s + 7 * 3600 + 660) == []
    restarted()
    after = [str(reported.shifted(weeks)) for weeks in (2, 3, 4)]
    assert await due(monday_s + 3 * 7 * 86_400 + 9 * 3600) == after, "three weeks off: each has its report"


async def test_the_report_is_really_made(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "typst", None)  # without the report extra
    await quiet(desk)
    await fill(desk.store, measured(1))
    await desk.at(5)
    await desk.at(65)
    await desk.service._score([T0], await desk.service._jobs([T0]))  # the week too, whatever the hour of this test
    zone = desk.service._place.roll.zone
    week = Week.of(datetime.fromtimestamp(T0_S, UTC).astimezone(zone).date())
    desk.service.progress.reported = str(week.shifted(-1))
    desk.now_s = week.shifted(1).start_ns(zone) / SECOND + 6 * 3600
    await desk.service._report()
    assert desk.service.progress.reported == str(week)
    assert sorted(path.suffix for path in desk.settings.report.folder.glob(f"{week}*")) == [".html", ".json"]
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        f"report of {week}: pdf needs the report extra: pip install 'wanggan[report]'"
    ]
    desk.service.progress.reported = str(week.shifted(-3))
    await desk.service._report()
    assert not list(desk.settings.report.folder.glob(f"{week.shifted(-2)}*")), "a week without scores has none"


async def test_the_fleet_is_every_registered_agent(desk: Desk) -> None:
    points = measured(2)
    await fill(desk.store, of(points, (0, 2), other=AWAY))
    await quiet(desk)
    await desk.at(5)
    await desk.at(65)

    async def fleet(minutes: float) -> dict[str, tuple[Any, ...]]:
        desk.now_s = T0_S + minutes * MINUTE_S
        await desk.service.minute()
        at = int(desk.now_s) // 60 * 60 * SECOND
        return {row.tags["agent"]: tuple(row.fields.values()) async for row in desk.store.rows(FLEET.name, at, at + 1)}

    found = await fleet(90)
    assert set(found) == {box.agent for box in DISTRICT.boxes}
    others = [fields for agent, fields in found.items() if agent != AWAY]
    assert {(online, complete) for online, _, complete in others} == {(1, 1.0)}
    assert all(0 <= silent_s < 120 for _, silent_s, _ in others)
    online, silent_s, complete = found[AWAY]
    assert (online, silent_s) == (0, None)
    assert complete == 0.0
    found = await fleet(150)
    assert all(1700 < silent_s < 1900 for agent, (_, silent_s, _) in found.items() if agent != AWAY)
    desk.started()  # nothing remembered: the last records are looked up
    found = await fleet(6 * 60)
    assert all(4 * 3600 <= silent_s < 4 * 3600 + 120 for agent, (_, silent_s, _) in found.items() if agent != AWAY)


def test_one_service_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path / "state"), pytest.raises(ConfigError, match="in use"), alone(tmp_path / "state"):
        pass
    with alone(tmp_path / "state"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="must be a folder"), alone(tmp_path / "file"):
        pass


def test_progress_survives_and_its_loss_too(tmp_path: Path) -> None:
    file = ProgressFile(tmp_path)
    assert file.read() == Progress()
    file.write(Progress(next_hour_ns=7, revise=["2026-W47"]))
    assert file.read() == Progress(next_hour_ns=7, revise=["2026-W47"])
    (tmp_path / "progress.json").write_text("{")
    assert file.read() == Progress()


async def test_hours_whose_raw_points_were_deleted_stay_as_they_are(desk: Desk) -> None:
    await quiet(desk)
    await fill(desk.store, measured(2))
    await desk.at(5)
    await desk.at(2 * 60 + 5)
    before = await desk.records(0), await desk.records(1)
    limit = T0 + HOUR_NS
    for probe in VALUES:
        await desk.store._writer.run(lambda c, p=probe: c.execute(f"DELETE FROM {p} WHERE time < {limit}"))
    desk.service.progress.reconciled = ""
    await desk.at(2 * 60 + 6)
    assert (await desk.records(0), await desk.records(1)) == before
    await fill(desk.store, [touched(-40 * 24, desk.now_s)])
    await desk.at(2 * 60 + 7)
    assert desk.service.progress.touched_s == 0.0, "told of an hour that is no longer kept"


def test_a_window_begins_where_raw_points_do() -> None:
    from perception.config import Settings
    from perception.work import kept
    from store.settings import SqliteSettings

    now = datetime(2026, 11, 26, tzinfo=UTC)
    store = SqliteSettings(engine="sqlite", path=Path("w.db"), retention_days=30)
    assert kept(Settings(store=store), now - timedelta(days=40), now) == now - timedelta(days=29)
    assert kept(Settings(store=store), now - timedelta(days=4), now) == now - timedelta(days=4)
    forever = SqliteSettings(engine="sqlite", path=Path("w.db"), retention_days=None)
    assert kept(Settings(store=forever), now - timedelta(days=400), now) == now - timedelta(days=400)


async def test_an_hour_has_its_verdict_when_it_closes_and_not_in_its_first_minutes(desk: Desk) -> None:
    """Records of the last minute are on their way: as long as they are much of the hour, nobody is called silent."""
    quarter = HOUR_NS // 4
    points = measured(2)
    await fill(desk.store, [p for p in points if p.time_ns < T0 + HOUR_NS])

    async def judged() -> set[tuple[int, str]]:
        rows = desk.store.rows(VERDICT.key, T0, T0 + 2 * HOUR_NS)
        return {((row.time_ns - T0) // HOUR_NS, str(row.fields["segment"])) async for row in rows}

    await desk.at(66)
    assert await judged() == {(0, "none")}
    until = T0 + HOUR_NS + quarter
    await fill(desk.store, [p for p in points if T0 + HOUR_NS <= p.time_ns < until])
    await desk.at(76)
    assert await judged() == {(0, "none"), (1, "none")}
