"""A site's Wi-Fi on the page: signal, channel, the last join stage by stage, the portal's state."""

import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from collector.web.faces import THIN
from collector.web.overview import Overview, build
from collector.web.page import Pages, static_files
from collector.web.recent import Recent
from collector.web.wifi import BAR, Told, WifiView, view
from tests.collector.browser import WAIT_MS, Complaints, chromium
from tests.collector.website import (
    Names,
    Register,
    Site,
    TroubledStore,
    Venue,
    Website,
    ago,
    connected,
    heard,
    job,
    now,
    open_store,
    point,
)

LINK = {"ssid": "venue", "rssi_dbm": -61.0, "channel": 6, "band": "2.4", "width_mhz": 20, "busy_ratio": 0.125}
PEAP = {
    "scan_ms": 2000.0, "auth_ms": 50.0, "assoc_ms": 50.0, "eap_ms": 1100.0, "handshake_ms": 150.0, "dhcp_ms": 600.0,
    "first_dns_ms": 20.0, "first_byte_ms": 30.0, "online_ms": 4100.0,
}  # fmt: skip


def told(probe: str, seconds_ago: float = 5, outcome: str = "ok", reason: str | None = None, **values: Any) -> Told:
    return Told(probe, ago(seconds_ago), outcome, reason, values)


def test_a_site_without_a_radio_has_no_wifi() -> None:
    assert view([told("latency", rtt_p50_ms=1.0), told("portal", state="open")]) is None
    assert view([]) is None


def test_the_newest_of_each_probe_counts() -> None:
    found = view(
        [
            told("wifi_link", 5, **LINK),
            told("wifi_link", 100, **LINK | {"channel": 11}),
            told("wifi_join", 50, **PEAP),
            told("wifi_join", 20, scan_ms=200.0, auth_ms=10.0, assoc_ms=20.0, handshake_ms=30.0),
            told("portal", state="portal", portal_host="login.test"),
        ]
    )
    assert found is not None
    assert (found.channel, found.rssi_dbm, found.marks, found.portal_host) == (6, -61.0, 3, "login.test")
    assert found.join is not None
    assert [stage.name for stage in found.join.stages] == ["scan", "auth", "assoc", "handshake"]
    assert found.join.total_ms == 260.0


def test_stages_share_the_bar_as_they_shared_the_time() -> None:
    found = view([told("wifi_join", **PEAP)])
    assert found is not None
    assert found.join is not None
    pieces = {stage.name: (stage.begin, stage.length) for stage in found.join.stages}
    assert pieces["scan"] == (0.0, pytest.approx(BAR * 2000 / 4100, abs=0.1))
    assert pieces["eap"][0] == pytest.approx(BAR * 2100 / 4100, abs=0.1)
    assert sum(length for _, length in pieces.values()) < BAR, "the wait before EAP is of no stage"


@pytest.mark.parametrize(("dbm", "marks"), [(-90.0, 0), (-80.0, 1), (-72.0, 2), (-65.0, 3), (-30.0, 4)])
def test_marks_of_the_signal(dbm: float, marks: int) -> None:
    found = view([told("wifi_link", rssi_dbm=dbm)])
    assert found is not None
    assert found.marks == marks


def test_nothing_is_known_of_a_link_that_is_down() -> None:
    found = view([told("wifi_link", outcome="failed", reason="not_associated", **LINK)])
    assert found is not None
    assert (found.link_reason, found.rssi_dbm, found.channel, found.marks) == ("not_associated", None, None, None)


def test_a_join_that_was_not_tried_is_none() -> None:
    found = view([told("wifi_join", outcome="skipped", reason="busy")])
    assert found is not None
    assert found.join is None


@pytest.fixture
def register() -> Register:
    return Register(
        [Venue("library", Names("图书馆", "Library"), "library")], [Site("box-1", "wlan0", "library", "wifi")]
    )


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[TroubledStore]:
    async with open_store(tmp_path / "store.sqlite") as store:
        yield store


async def overview_of(store: TroubledStore, register: Register) -> Overview:
    state = connected()
    state.agents["box-1"] = heard(job("wifi_link"), job("portal", "check", 300))
    recent = Recent(store)
    await recent.refresh()
    await recent.close()
    return build(state, recent, register, now(), "0.1.0")


async def fill(
    store: TroubledStore, link: Mapping[str, Any], join: Mapping[str, Any], portal: Mapping[str, Any]
) -> None:
    await store.write(
        [
            point("wifi_link", "box-1", "library", at=ago(9), **link),
            point("wifi_join", "box-1", "library", at=ago(7000), **join),
            point("portal", "box-1", "library", target="check", at=ago(30), **portal),
        ]
    )


def fragment(overview: Overview, language: Any) -> str:
    return Pages(static_files(), every_s=2).fragment(overview, language).decode()


async def test_the_card_in_both_languages(store: TroubledStore, register: Register) -> None:
    await fill(store, LINK, PEAP, {"state": "open"})
    overview = await overview_of(store, register)
    wifi = overview.venues[0].sites[0].wifi
    assert isinstance(wifi, WifiView)
    assert wifi.join is not None, "a join is shown longer than an hour, though no job announces it"
    for language, words in (
        ("zh", [f"-61{THIN}dBm", "信号", "6（2.4 GHz）", "空口占用", "畅通", "接入用时", "搜索", "获取地址"]),
        ("en", [f"-61{THIN}dBm", "Signal", "6 (2.4 GHz)", "busy", "open", "Time to join", "scan", "DHCP"]),
    ):
        html = fragment(overview, language)
        (card,) = re.findall(r'<section class="wifi".*?</section>', html, re.DOTALL)
        assert [word for word in words if word not in card] == []
        assert card.count('class="lit"') == 3
        assert re.findall(r'<rect data-key="(\w+)"', card) == [
            "scan", "auth", "assoc", "eap", "handshake", "dhcp", "first_dns", "first_byte",
        ]  # fmt: skip
        assert f"4,100{THIN}ms" in card


async def test_a_failed_join_and_a_portal(store: TroubledStore, register: Register) -> None:
    hostile = {"ssid": "<b>free</b>", "rssi_dbm": -80.0}
    join = {"scan_ms": 900.0, "auth_ms": 20.0, "failed_stage": "assoc", "status_code": 17}
    await fill(store, hostile, join | {"outcome": "failed", "reason": "not_associated"}, {"state": "portal"})
    html = fragment(await overview_of(store, register), "en")
    assert "stopped at association" in html
    assert 'data-portal="portal"' in html
    assert "<b>free</b>" not in html
    assert "&lt;b&gt;free&lt;/b&gt;" in html


async def test_no_link_is_said(store: TroubledStore, register: Register) -> None:
    await store.write([point("wifi_link", "box-1", "library", at=ago(9), outcome="failed", reason="not_associated")])
    html = fragment(await overview_of(store, register), "zh")
    assert "未连上无线" in html
    assert "尚无接入记录" in html


async def test_the_bar_as_people_see_it(store: TroubledStore, register: Register) -> None:
    await fill(store, LINK, PEAP, {"state": "open"})
    site = Website(store, register=register)
    site.state.agents["box-1"] = heard(job("wifi_link"), job("portal", "check", 300))
    await site.start()
    try:
        async with chromium() as browser:
            page = await browser.new_page(viewport={"width": 900, "height": 700})
            complaints = Complaints(page, site.url)
            await page.goto(site.url + "/?lang=zh")
            bar = page.locator(".wifi .stages")
            await expect(bar).to_be_visible(timeout=WAIT_MS)
            whole, scan = await bar.bounding_box(), await bar.locator('[data-stage="scan"]').bounding_box()
            assert whole is not None
            assert scan is not None
            assert scan["width"] / whole["width"] == pytest.approx(2000 / 4100, abs=0.02)
            colors = await page.eval_on_selector_all(".stages rect", "all => all.map(e => getComputedStyle(e).fill)")
            assert len(set(colors)) == 8
            assert complaints == []
    finally:
        await site.stop()
