"""What the page shows: who is heard, which job is in which state, what a failing store leaves."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from collector.state import AgentState, Link, State
from collector.web import recent as recent_module
from collector.web.overview import Overview, build, contact_of
from collector.web.page import Pages
from collector.web.recent import FRESH_S, HOUR_EVERY_S, OLDER_EVERY_S, Recent
from store.point import Point
from tests.collector.website import (
    Names,
    Register,
    Site,
    TroubledStore,
    Venue,
    ago,
    birth,
    connected,
    heard,
    job,
    now,
    open_store,
    point,
)  # fmt: skip
from tests.fakes import FakeClock


@pytest.fixture
def state() -> State:
    return connected()


@pytest.fixture
def register() -> Register:
    return Register(
        [Venue("library", Names("图书馆", "Library"), "library"), Venue("hall", Names("大厅", "Hall"), "gov_hall")],
        [Site("box-1", "wlan0", "library", "wifi"), Site("box-2", "wlan0", "hall", "wifi")],
    )


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[TroubledStore]:
    async with open_store(tmp_path / "store.sqlite") as store:
        yield store


async def _overview(state: State, store: TroubledStore, register: Register) -> Overview:
    recent = Recent(store)
    await recent.refresh()
    await recent.close()
    return build(state, recent, register, now(), "0.1.0")


async def test_newest_row_of_every_job(state: State, register: Register, store: TroubledStore) -> None:
    state.agents["box-1"] = heard(job("latency", "core", role="core"), job("latency", "gateway"))
    await store.write(
        [
            point("latency", "box-1", "library", target="core", at=ago(70), rtt_p50_ms=11.0, loss_ratio=0.0),
            point("latency", "box-1", "library", target="core", at=ago(10), rtt_p50_ms=12.0, loss_ratio=0.5),
        ]
    )
    overview = await _overview(state, store, register)
    library = next(venue for venue in overview.venues if venue.slug == "library")
    core, gateway = library.sites[0].jobs
    assert (core.target, core.role, core.state) == ("core", "core", "ok")
    assert (core.values["rtt_p50_ms"], core.values["loss_ratio"], core.values["rtt_max_ms"]) == (12.0, 0.5, None)
    assert [(slot.value, slot.outcome) for slot in core.hour] == [(11.0, "ok"), (12.0, "ok")]
    assert (gateway.state, gateway.slot, gateway.values, gateway.hour) == ("waiting", None, {}, [])


async def test_a_certificate_near_its_end_is_an_alarm_by_the_agents_newest_word(
    state: State, register: Register, store: TroubledStore
) -> None:
    def told(agent: str, venue: str, seconds: float, days: float | None) -> Point:
        return point("agent", agent, venue, target="-", at=ago(seconds), cert_days_left=days)

    assert (await _overview(state, store, register)).alarms == {}
    await store.write([told("box-1", "library", 120, 12.4), told("box-1", "library", 60, 729.0)])
    await store.write([told("box-2", "hall", 60, 60.0)])
    assert (await _overview(state, store, register)).alarms == {}, "renewed, and not fewer than 60"
    await store.write([told("box-1", "library", 10, 59.9), told("box-2", "hall", 10, -0.5)])
    state.alarm("store_limit", "full")
    overview = await _overview(state, store, register)
    assert overview.alarms == {"store_limit": "full", "certificates": "box-2 0 d, box-1 59 d"}
    for language, words in (("zh", "证书不足 60 天"), ("en", "Certificates end in less than 60 days")):
        page = Pages({}, every_s=2).fragment(overview, language).decode()  # type: ignore[arg-type]
        assert 'id="trouble-certificates"' in page
        assert words in page


async def test_a_failure_keeps_its_reason_and_what_was_measured(
    state: State, register: Register, store: TroubledStore
) -> None:
    state.agents["box-1"] = heard(job("latency", "core"))
    await store.write(
        [
            point(
                "latency", "box-1", "library", target="core", at=ago(5), outcome="failed", reason="all_lost",
                detail="0 of 20", loss_ratio=1.0,
            )
        ]
    )  # fmt: skip
    overview = await _overview(state, store, register)
    library = next(venue for venue in overview.venues if venue.slug == "library")
    lost = library.sites[0].jobs[0]
    assert (lost.state, lost.reason, lost.detail) == ("failed", "all_lost", "0 of 20")
    assert (lost.values["loss_ratio"], lost.values["rtt_p50_ms"]) == (1.0, None)
    assert [(slot.value, slot.outcome) for slot in lost.hour] == [(None, "failed")]
    assert library.level == "bad"
    assert library.states == {"failed": 1}


async def test_what_is_shown_is_said_once_and_by_its_name(
    state: State, register: Register, store: TroubledStore
) -> None:
    await store.write(
        [
            point("dns", "box-1", "library", target="page", resolver="r1", at=ago(5), outcome="failed",
                  reason="nxdomain", detail="www.test", rcode="NXDOMAIN", rtt_ms=3.0),
            point("dns", "box-1", "library", target="page", resolver="r2", at=ago(5), rcode="NOERROR", rtt_ms=3.0),
            point("video", "box-1", "library", target="core", at=ago(5), start_s=0.01, stall_ratio=0.0),
        ]
    )  # fmt: skip
    overview = await _overview(state, store, register)
    english, chinese = (Pages({}, every_s=2).fragment(overview, language).decode() for language in ("en", "zh"))  # type: ignore[arg-type]
    assert "no such name" in english
    assert "www.test" in english
    assert "NXDOMAIN" not in english
    assert "NOERROR" in english
    assert "start 0.01\u202fs" in english
    assert "起播 0.01\u202fs" in chinese


async def test_an_old_result_is_stale_after_three_periods(
    state: State, register: Register, store: TroubledStore
) -> None:
    state.agents["box-1"] = heard(job("latency", "core", 60), job("dns", "core", 300), job("web", "core", 600))
    await store.write(
        [
            point("latency", "box-1", "library", target="core", at=ago(240)),
            point("dns", "box-1", "library", target="core", at=ago(240)),
            point("web", "box-1", "library", target="core", at=ago(3 * 600 + 40), outcome="failed", reason="refused"),
        ]
    )
    library = next(v for v in (await _overview(state, store, register)).venues if v.slug == "library")
    assert {job.probe: (job.state, job.outcome) for job in library.sites[0].jobs} == {
        "latency": ("stale", "ok"),
        "dns": ("ok", "ok"),
        "web": ("stale", "failed"),
    }
    assert library.level == "caution"


async def test_a_foreign_outcome_harms_only_its_own_row(state: State, register: Register, store: TroubledStore) -> None:
    state.agents["box-1"] = heard(job("latency", "core"), job("dns", "core"))
    await store.write(
        [
            point("latency", "box-1", "library", target="core", at=ago(5), outcome="perhaps", reason="unheard_of"),
            point("dns", "box-1", "library", target="core", at=ago(5), rtt_ms=3.0),
        ]
    )
    overview = await _overview(state, store, register)
    library = next(v for v in overview.venues if v.slug == "library")
    assert [(job.state, job.outcome) for job in library.sites[0].jobs] == [("invalid", "perhaps"), ("ok", "ok")]
    html = Pages({}, every_s=2).page(overview, "en").decode()
    assert "unheard_of" in html


async def test_results_of_no_announced_job_go_after_an_hour(
    state: State, register: Register, store: TroubledStore
) -> None:
    state.agents["box-1"] = heard(job("latency", "core"))
    await store.write(
        [
            point("latency", "box-1", "library", target="core", at=ago(5)),
            point("latency", "box-1", "library", target="once", at=ago(1800)),
            point("latency", "box-1", "library", target="removed", at=ago(7200)),
        ]
    )
    library = next(v for v in (await _overview(state, store, register)).venues if v.slug == "library")
    assert [(job.target, job.period_s) for job in library.sites[0].jobs] == [("core", 60.0), ("once", None)]


async def test_a_moved_box_does_not_show_its_old_venue(state: State, register: Register, store: TroubledStore) -> None:
    state.agents["box-1"] = heard(job("latency", "core"))
    await store.write([point("latency", "box-1", "hall", target="core", at=ago(5))])
    overview = await _overview(state, store, register)
    places = {venue.slug: [job.state for site in venue.sites for job in site.jobs] for venue in overview.venues}
    assert places == {"library": ["waiting"], "hall": []}


async def test_worst_venue_first(state: State, register: Register, store: TroubledStore) -> None:
    state.agents["box-1"] = heard(job("latency", "core"))
    state.agents["box-2"] = heard(job("latency", "core"))
    fine = point("latency", "box-2", "hall", target="core", at=ago(5))
    await store.write([fine, point("latency", "box-1", "library", target="core", at=ago(5))])
    assert [v.slug for v in (await _overview(state, store, register)).venues] == ["hall", "library"]
    await store.write(
        [point("latency", "box-1", "library", target="core", at=ago(1), outcome="failed", reason="refused")]
    )
    assert [v.slug for v in (await _overview(state, store, register)).venues] == ["library", "hall"]
    del state.agents["box-2"]
    assert [v.slug for v in (await _overview(state, store, register)).venues] == ["hall", "library"]


def test_contact() -> None:
    up, down = Link(up=True, since=ago(99)), Link(up=False, since=ago(9), reason="refused")
    fresh = heard(job("latency", "core", 60))
    assert contact_of(fresh, up, now()) == ("online", False, fresh.last_batch_at)
    assert contact_of(fresh, up, now() + timedelta(seconds=209))[0] == "online"
    assert contact_of(fresh, up, now() + timedelta(seconds=212))[0] == "silent"
    assert contact_of(None, up, now()) == ("silent", False, None)
    assert contact_of(fresh, down, now())[0] == "unknown", "without a broker we cannot tell"
    gone = AgentState(status=birth(online=False), status_at=now(), last_batch_at=ago(60))
    assert contact_of(gone, up, now()) == ("silent", True, gone.last_batch_at)
    assert contact_of(AgentState(last_batch_at=ago(200)), up, now())[0] == "online", "usual period when none is known"
    assert contact_of(AgentState(last_batch_at=ago(220)), up, now())[0] == "silent"


async def test_agents_that_wait_for_registration(state: State, register: Register, store: TroubledStore) -> None:
    state.agents["box-1"] = heard(job("latency", "core"), job("latency", "core", interface="eth0"))
    state.agents["new"] = AgentState(status=birth(job("latency", "core")), status_at=ago(3))
    state.agents["newer"] = AgentState(last_batch_at=ago(2))
    overview = await _overview(state, store, register)
    assert [(w.agent, w.interfaces) for w in overview.waiting] == [
        ("box-1", ["eth0"]),
        ("new", ["wlan0"]),
        ("newer", []),
    ]
    counts = overview.agents
    assert (counts.online, counts.silent, counts.unknown, counts.waiting) == (1, 1, 0, 2)


async def test_a_failing_store_leaves_the_last_values_and_says_why(
    state: State, register: Register, store: TroubledStore
) -> None:
    state.agents["box-1"] = heard(job("latency", "core"))
    await store.write([point("latency", "box-1", "library", target="core", at=ago(5), rtt_p50_ms=7.0)])
    clock = FakeClock(wall=now().timestamp())
    recent = Recent(store, wall=clock.wall, boot=clock.boot)
    await recent.refresh()
    store.broken = "disk I/O error"
    await clock.advance(FRESH_S)
    await recent.refresh()
    overview = build(state, recent, register, now(), "0.1.0")
    assert (overview.store.up, overview.store.reason) == (False, "disk I/O error")
    assert overview.store.since is not None
    since = overview.store.since
    library = next(venue for venue in overview.venues if venue.slug == "library")
    assert library.sites[0].jobs[0].values["rtt_p50_ms"] == 7.0

    await clock.advance(FRESH_S)
    await recent.refresh()
    assert build(state, recent, register, now(), "0").store.since == since, "it fails since the first failure"
    store.broken = None
    await clock.advance(FRESH_S)
    await recent.refresh()
    assert build(state, recent, register, now(), "0").store.up is True
    await recent.close()


async def test_a_store_that_hangs_holds_nobody_for_long(
    state: State, register: Register, store: TroubledStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_module, "PATIENCE_S", 0.05)
    monkeypatch.setattr(recent_module, "DEADLINE_S", 0.3)
    clock = FakeClock(wall=now().timestamp())
    recent = Recent(store, wall=clock.wall, boot=clock.boot)
    await recent.refresh()
    store.hangs = True
    await clock.advance(FRESH_S)
    await recent.refresh()
    assert recent.failure is None, "slow is not yet failed"
    await asyncio.sleep(0.5)
    assert recent.failure == "no answer within 0.3 s"
    await recent.close()


async def test_queries_do_not_grow_with_readers_or_jobs(store: TroubledStore) -> None:
    points = [
        point("latency", f"box-{n}", "library", target=f"target-{target}", at=ago(5), rtt_p50_ms=1.0)
        for n in range(50)
        for target in range(12)
    ]
    await store.write(points)
    clock = FakeClock(wall=now().timestamp())
    recent = Recent(store, wall=clock.wall, boot=clock.boot)
    await asyncio.gather(*(recent.refresh() for _ in range(100)))
    assert len(recent.tracks) == 600
    assert store.queries == 24
    await clock.advance(FRESH_S)
    await asyncio.gather(*(recent.refresh() for _ in range(100)))
    assert store.queries == 24 + 12, "in between only what is new"
    await recent.close()


@pytest.mark.parametrize(("age_s", "found_after_s"), [(900, HOUR_EVERY_S), (8 * 3600, OLDER_EVERY_S)])
async def test_late_records_are_found(store: TroubledStore, age_s: float, found_after_s: float) -> None:
    clock = FakeClock(wall=now().timestamp())
    recent = Recent(store, wall=clock.wall, boot=clock.boot)
    await recent.refresh()
    await store.write([point("latency", "box-1", "library", target="core", at=ago(age_s), rtt_p50_ms=1.0)])
    await clock.advance(found_after_s - 1)
    await recent.refresh()
    assert not recent.tracks
    await clock.advance(1 + FRESH_S)
    await recent.refresh()
    (seen,) = recent.tracks.values()
    assert seen.newest.fields["rtt_p50_ms"] == 1.0
    await recent.close()


async def test_a_late_older_record_does_not_replace_the_newest(store: TroubledStore) -> None:
    clock = FakeClock(wall=now().timestamp())
    recent = Recent(store, wall=clock.wall, boot=clock.boot)
    await store.write([point("latency", "box-1", "library", target="core", at=ago(10), rtt_p50_ms=2.0)])
    await recent.refresh()
    await store.write([point("latency", "box-1", "library", target="core", at=ago(70), rtt_p50_ms=1.0)])
    await clock.advance(FRESH_S)
    await recent.refresh()
    (seen,) = recent.tracks.values()
    assert seen.newest.fields["rtt_p50_ms"] == 2.0
    assert [value for _, (value, _) in sorted(seen.hour.items())] == [1.0, 2.0]
    await recent.close()


async def test_the_hour_moves_on(store: TroubledStore) -> None:
    clock = FakeClock(wall=now().timestamp())
    await store.write([point("latency", "box-1", "library", target="core", at=ago(3590), rtt_p50_ms=1.0)])
    recent = Recent(store, wall=clock.wall, boot=clock.boot)
    await recent.refresh()
    (seen,) = recent.tracks.values()
    assert len(seen.hour) == 1
    await clock.advance(30)
    await recent.refresh()
    assert len(seen.hour) == 0
    await recent.close()
