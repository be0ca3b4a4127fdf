"""Scores, verdicts and reports on the status page."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from collector.state import AgentState, State
from collector.web.overview import build
from collector.web.recent import Recent
from collector.web.standing import DayScore, Standing, trend
from contract.series import SCORE, VERDICT
from store.point import Point
from tests.collector.website import (
    Names,
    Register,
    Settings,
    Site,
    TroubledStore,
    Venue,
    Website,
    free_port,
    heard,
    now,
    open_store,
)

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def score(day: int, profile: str = "wifi-public-2026", **fields: Any) -> Point:
    """The day `day` days ago."""
    at_ns = int((TODAY - timedelta(days=day)).timestamp()) * 10**9
    return Point(SCORE.key, ("library", "wifi", profile, "day"), at_ns, tuple(fields.get(f) for f in SCORE.fields))


def verdict(hours: float, **fields: Any) -> Point:
    at_ns = int((datetime.now(UTC) - timedelta(hours=hours)).timestamp()) * 10**9
    return Point(VERDICT.key, ("library", "wifi"), at_ns, tuple(fields.get(f) for f in VERDICT.fields))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[TroubledStore]:
    async with open_store(tmp_path / "store.sqlite") as store:
        yield store


async def seen(store: TroubledStore, folder: Path | None = None) -> Standing:
    standing = Standing(store, folder)  # type: ignore[arg-type]
    await standing.refresh()
    if standing._task is not None:
        await standing._task
    return standing


async def test_the_newest_rated_day_and_its_change(store: TroubledStore) -> None:
    await store.write([score(2, ppi=80.0, level="良"), score(1, ppi=82.5, level="良"), score(0, absent="ppi,level")])
    (view,) = (await seen(store)).scores["library"]
    assert (view.ppi, view.level, view.change, view.profile) == (82.5, "良", 2.5, "wifi-public-2026")
    assert [day.ppi for day in view.days] == [80.0, 82.5, None]


async def test_what_a_former_run_left_is_not_shown(store: TroubledStore) -> None:
    """A null erases nothing: the row's `absent` says what holds no more."""
    await store.write([score(0, ppi=80.0, level="良")])
    await store.write([score(0, absent="ppi,level")])
    (view,) = (await seen(store)).scores["library"]
    assert (view.ppi, view.level, [day.ppi for day in view.days]) == (None, None, [None])


async def test_days_that_are_gone_rate_nothing(store: TroubledStore) -> None:
    await store.write([score(5, ppi=80.0, level="良"), *(score(day, absent="ppi") for day in (4, 3, 2, 1, 0))])
    (view,) = (await seen(store)).scores["library"]
    assert (view.ppi, view.change) == (None, None)


async def test_of_two_profiles_the_one_that_goes_on(store: TroubledStore) -> None:
    new = "wifi-public-2026.v2"
    await store.write([score(1, ppi=80.0, level="良"), score(1, new, ppi=70.0, level="中"), score(0, new, ppi=71.0)])
    (view,) = (await seen(store)).scores["library"]
    assert (view.profile, view.ppi) == (new, 71.0)


async def test_the_newest_verdict_and_none_that_is_old(store: TroubledStore) -> None:
    await store.write([verdict(2, segment="dns", zh="旧", en="old"), verdict(1, segment="radio", zh="新", en="new")])
    (view,) = (await seen(store)).verdicts["library"]
    assert (view.segment, view.zh, view.en) == ("radio", "新", "new")
    await store.write([Point(VERDICT.key, ("hall", "wifi"), verdict(4).time_ns, verdict(4, segment="lan").fields)])
    assert "hall" not in (await seen(store)).verdicts


async def test_a_store_that_fails_leaves_what_was_read(store: TroubledStore) -> None:
    await store.write([score(0, ppi=80.0, level="良")])
    standing = await seen(store)
    store.broken, standing._read_at = "refused", float("-inf")
    await standing.refresh()
    if standing._task is not None:
        await standing._task
    assert standing.scores["library"][0].ppi == 80.0


async def test_the_newest_report_and_nothing_else_of_the_folder(store: TroubledStore, tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    for name in (
        "2026-W46.zh.html", "2026-W47.zh.html", "2026-W47.zh.pdf", "2026-W47-r2.zh.html", "2026-W47-r2.zh.pdf",
        "2026-W48-draft.zh.html", "2026-W47.json", "secret.txt",
    ):  # fmt: skip
        (folder / name).write_text(name)
    standing = await seen(store, folder)
    assert standing.reports == ["2026-W47-r2.zh.html", "2026-W47-r2.zh.pdf"]
    assert standing.file("2026-W46.zh.html") == folder / "2026-W46.zh.html"
    for name in ("secret.txt", "2026-W47.json", "../store.sqlite", "2026-W45.zh.html", "2026-W48-draft.zh.html"):
        assert standing.file(name) is None, name
    assert (await seen(store, tmp_path / "nowhere")).reports == []


async def test_on_the_page_and_in_the_api(store: TroubledStore, tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / "2026-W47.zh.html").write_text("<p>report")
    await store.write(
        [
            score(1, ppi=81.25, level="良"),
            score(0, ppi=79.0, level="中"),
            verdict(1, segment="radio", confidence=0.9, zh="<b>图书馆</b>无线差", en="Wi-Fi <poor>"),
        ]
    )
    register = Register(
        [Venue("library", Names("图书馆", "Library"), "library")], [Site("box-1", "wlan0", "library", "wifi")]
    )
    site = Website(store, register=register, settings=Settings(free_port(), reports_folder=folder))
    await site.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{site.settings.port}") as session:
            overview = await (await session.get("/api/overview")).json()
            (venue,) = overview["venues"]
            assert (venue["scores"][0]["ppi"], venue["scores"][0]["change"]) == (79.0, -2.25)
            assert venue["verdicts"][0]["segment"] == "radio"
            assert overview["reports"] == ["2026-W47.zh.html"]
            zh, en = [await (await session.get(f"/?lang={lang}")).text() for lang in ("zh", "en")]
            assert "79.0" in zh
            assert "-2.2" in zh
            assert "&lt;b&gt;图书馆&lt;/b&gt;无线差" in zh
            assert "Wi-Fi &lt;poor&gt;" in en
            assert ">fair</b>" in en
            assert 'data-report="2026-W47.zh.html"' in zh
            answer = await session.get("/reports/2026-W47.zh.html")
            assert await answer.text() == "<p>report"
            assert answer.headers["Content-Disposition"] == 'attachment; filename="2026-W47.zh.html"'
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            for path in ("/reports/store.sqlite", "/reports/..%2Fstore.sqlite", "/reports/2026-W46.zh.html"):
                assert (await session.get(path)).status == 404
    finally:
        await site.stop()


async def test_whom_a_verdict_blames_comes_first_and_is_not_called_fine(store: TroubledStore) -> None:
    said = {"annex": "none", "library": "uplink", "museum": "none"}
    register = Register(
        [Venue(slug, Names(slug, slug), "library") for slug in said],
        [Site(f"box-{slug}", "wlan0", slug, "wifi") for slug in said],
    )
    await store.write(
        [
            Point(VERDICT.key, (slug, "wifi"), verdict(1).time_ns, verdict(1, segment=s).fields)
            for slug, s in said.items()
        ]
    )
    standing = await seen(store)
    state = State(started_at=now())
    state.agents |= {f"box-{slug}": heard() for slug in said}

    def levels(standing: Standing | None) -> list[tuple[str, str]]:
        venues = build(state, Recent(store), register, now(), "0.1.0", standing=standing).venues
        return [(venue.slug, venue.level) for venue in venues]

    assert levels(None) == [("annex", "ok"), ("library", "ok"), ("museum", "ok")]
    assert levels(standing) == [("library", "caution"), ("annex", "ok"), ("museum", "ok")]
    state.agents |= {"box-museum": AgentState()}
    assert levels(standing) == [("museum", "bad"), ("library", "caution"), ("annex", "ok")]


def test_a_trend_has_gaps_and_dots() -> None:
    def days(*ppi: float | None) -> list[DayScore]:
        return [DayScore(at=TODAY + timedelta(days=number), ppi=value) for number, value in enumerate(ppi)]

    assert trend([]) == ""
    assert trend(days(100.0)) == "M58.0 2.0h0"
    assert trend(days(0.0, 100.0)).count("L") == 1
    assert trend(days(50.0, None, 60.0, 70.0)).count("M") == 2
    assert trend(days(None, None)) == ""
