"""The status page as people see it: real Chromium, real server, real SQLite store."""

import tomllib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from collector.state import AgentState
from contract.series import RECORD_TAGS
from tests.collector.browser import WAIT_MS, Complaints, chromium
from tests.collector.website import (
    Login,
    Names,
    Register,
    Settings,
    Site,
    Venue,
    Website,
    ago,
    birth,
    free_port,
    heard,
    job,
    now,
    open_store,
    point,
)

expect.set_options(timeout=WAIT_MS)
# One browser for all: starting it costs more than a test.
pytestmark = pytest.mark.asyncio(loop_scope="module")

FRESH_S = 0.3
"""The page asks so often here, to make tests short."""
HOSTILE = "<img src=x onerror=alert(1)>&amp;'\"{{7*7}}"
CORE = '[data-venue="library"] [data-job="latency/core"]'


@pytest_asyncio.fixture(loop_scope="module")
async def site(tmp_path: Path) -> AsyncIterator[Website]:
    async with open_store(tmp_path / "store.sqlite") as store:
        register = Register(
            [
                Venue("library", Names("东城图书馆", "East Library"), "library"),
                Venue("hall", Names("政务大厅", "Service Hall"), "gov_hall"),
            ],
            [Site("box-1", "wlan0", "library", "wifi"), Site("box-2", "wlan0", "hall", "gov")],
        )
        site = Website(store, register=register, fresh_s=FRESH_S)
        site.state.agents["box-1"] = heard(
            job("latency", "core", role="core"), job("dns", "portal", 300, resolver="dhcp-1"), job("web", "portal", 600)
        )
        site.state.agents["box-2"] = heard(job("throughput", "core", 3600, provider="reflector"), job("agent"))
        await store.write(
            [
                *(
                    point("latency", "box-1", "library", target="core", at=ago(60 * n), rtt_p50_ms=n + 0.5)
                    for n in range(50, 0, -1)
                ),
                point(
                    "dns", "box-1", "library", target="portal", resolver="dhcp-1", at=ago(9), rtt_ms=8.0, rcode="OK"
                ),
                point("web", "box-1", "library", target="portal", at=ago(9), total_ms=1234.5, ttfb_ms=88.0, status=200),
                point(
                    "throughput", "box-2", "hall", network="gov", target="core", provider="reflector", at=ago(900),
                    down_mbps=94.1, up_mbps=20.0,
                ),
                point(
                    "agent", "box-2", "hall", network="gov", at=ago(9), outbox_records=0, rss_bytes=9, cpu_ratio=0.1
                ),
            ]
        )  # fmt: skip
        await site.start()
        yield site
        await site.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


async def _open(browser: Browser, site: Website, path: str = "/?lang=en", **options: object) -> tuple[Page, Complaints]:
    context = await browser.new_context(timezone_id="Asia/Shanghai", **options)  # type: ignore[arg-type]
    page = await context.new_page()
    complaints = Complaints(page, site.url)
    await page.goto(site.url + path)
    return page, complaints


async def test_values_are_the_newest_rows_of_the_store(browser: Browser, site: Website) -> None:
    page, complaints = await _open(browser, site)
    compared = 0
    for probe in ("latency", "dns", "web", "throughput", "agent"):
        for row in await site.store.latest(probe, RECORD_TAGS, since_ns=0):
            tags = row.tags
            parts = (probe, tags["target"], tags["provider"], tags["resolver"])
            key = "/".join(part for part in parts if part)
            shown = page.locator(f'[data-venue="{tags["venue"]}"] [data-job="{key}"]')
            assert float(await shown.evaluate("e => Date.parse(e.dataset.slot)")) == row.time_ns // 1_000_000
            assert await shown.get_attribute("data-outcome") == row.fields["outcome"]
            for value in await shown.locator("data").all():
                field = await value.get_attribute("data-field") or ""
                stored = await value.get_attribute("value")
                assert stored == str(row.fields[field]), (key, field)
                compared += 1
    assert compared == 11
    await expect(page.locator(f"{CORE} .value")).to_have_text("1.50\u202fms")
    assert complaints == []
    await page.context.close()


async def test_a_new_record_shows_without_reload(browser: Browser, site: Website) -> None:
    page, complaints = await _open(browser, site)
    await page.evaluate("window.sameDocument = true")
    row = await page.locator(CORE).element_handle()
    assert row is not None
    await site.store.write([point("latency", "box-1", "library", target="core", at=now(), rtt_p50_ms=345.0)])
    await expect(page.locator(f'{CORE} data[data-field="rtt_p50_ms"]')).to_have_attribute("value", "345.0")
    assert await page.evaluate("window.sameDocument")
    assert await row.evaluate("e => e.isConnected"), "the row stays, only its text changed"
    assert complaints == []
    await page.context.close()


async def test_a_refused_target_says_so(browser: Browser, site: Website) -> None:
    page, complaints = await _open(browser, site)
    before = await page.locator(CORE).bounding_box()
    await site.store.write(
        [
            point(
                "latency", "box-1", "library", target="core", at=now(), outcome="failed", reason="refused",
                detail="connect to 127.0.0.1 port 9",
            )
        ]
    )  # fmt: skip
    row = page.locator(CORE)
    await expect(row).to_have_attribute("data-state", "failed")
    await expect(row).to_have_attribute("data-reason", "refused")
    await expect(row.locator(".reason")).to_have_text("connection refused")
    await expect(row.locator(".detail")).to_have_text("connect to 127.0.0.1 port 9")
    await expect(row.locator("data")).to_have_count(0)
    await expect(page.locator('[data-venue="library"]')).to_have_attribute("data-level", "bad")
    first = await page.locator("[data-venue]").first.get_attribute("data-venue")
    assert first == "library", "the worst venue comes first"
    after = await row.bounding_box()
    assert before is not None
    assert after is not None
    assert after["height"] == before["height"], "nothing jumps"
    assert complaints == []
    await page.goto(site.url + "/?lang=zh")
    await expect(page.locator(f"{CORE} .reason")).to_have_text("连接被拒绝")
    await page.context.close()


async def test_a_broken_store_says_so_and_keeps_old_values(browser: Browser, site: Website) -> None:
    page, complaints = await _open(browser, site)
    await expect(page.locator("#link-store")).to_have_attribute("data-up", "yes")
    site.store.broken = "disk I/O error"
    await expect(page.locator("#link-store")).to_have_attribute("data-up", "no")
    trouble = page.locator("#trouble-store")
    await expect(trouble).to_contain_text("Database unreachable since")
    await expect(trouble.locator(".why")).to_have_text("disk I/O error")
    await expect(page.locator("#overview")).to_have_attribute("data-old", "yes")
    await expect(page.locator(f"{CORE} .value")).to_have_text("1.50\u202fms")
    site.store.broken = None
    await expect(page.locator("#link-store")).to_have_attribute("data-up", "yes")
    await expect(page.locator("#overview")).to_have_attribute("data-old", "no")
    await expect(trouble).to_have_count(0)
    assert complaints == []
    await page.context.close()


async def test_a_broker_that_is_down_says_so(browser: Browser, site: Website) -> None:
    page, complaints = await _open(browser, site)
    site.state.broker.change(False, now(), "connection refused")
    trouble = page.locator("#trouble-broker")
    await expect(trouble).to_contain_text("Broker unreachable since")
    await expect(trouble.locator(".why")).to_have_text("connection refused")
    box = page.locator('[data-agent="box-1"]')
    await expect(box).to_have_attribute("data-contact", "unknown")
    await expect(box.locator(".contact")).to_contain_text("the collector has no broker")
    site.state.broker.change(True, now())
    await expect(trouble).to_have_count(0)
    await expect(box).to_have_attribute("data-contact", "online")
    assert complaints == []
    await page.context.close()


async def test_a_silent_agent_says_so(browser: Browser, site: Website) -> None:
    page, complaints = await _open(browser, site)
    box = page.locator('[data-agent="box-1"]')
    await expect(box).to_have_attribute("data-contact", "online")
    site.state.agents["box-1"].last_batch_at = ago(3600)
    site.state.agents["box-1"].status_at = ago(7200)
    await expect(box).to_have_attribute("data-contact", "silent")
    await expect(box.locator(".contact")).to_contain_text("no message since")
    await expect(page.locator('#agents [data-count="silent"]')).to_have_text("1")
    site.state.agents["box-1"].status = birth(job("latency", "core"), online=False)
    await expect(box.locator(".contact")).to_contain_text("offline, no message since")
    assert complaints == []
    await page.context.close()


async def test_a_collector_that_stops_is_said_by_the_page_itself(browser: Browser, site: Website) -> None:
    page, complaints = await _open(browser, site)
    await page.evaluate("window.sameDocument = true")
    await site.stop()
    await expect(page.locator("html[data-gone]")).to_have_count(1)
    await expect(page.locator("#gone")).to_contain_text("Collector unreachable since")
    await expect(page.locator(f"{CORE} .value")).to_have_text("1.50\u202fms")
    await site.store.write([point("latency", "box-1", "library", target="core", at=now(), rtt_p50_ms=77.0)])
    await site.start()
    await expect(page.locator("html[data-gone]")).to_have_count(0)
    await expect(page.locator("#gone")).to_be_empty()
    await expect(page.locator(f'{CORE} data[data-field="rtt_p50_ms"]')).to_have_attribute("value", "77.0")
    assert await page.evaluate("window.sameDocument"), "it recovered without a reload"
    assert [text for text in complaints if "net::ERR_CONNECTION_REFUSED" not in text] == []
    await page.context.close()


async def test_hostile_strings_are_text(browser: Browser, site: Website) -> None:
    site.register.venues[0] = Venue("library", Names(HOSTILE, HOSTILE), HOSTILE)
    site.state.agents["box-1"].status = birth(job("wifi_link"), job("latency", "core"))
    site.state.agents[HOSTILE] = AgentState(status=birth(job("latency", "core")), status_at=now())
    site.state.broker.change(False, now(), HOSTILE)
    await site.store.write(
        [
            point("wifi_link", "box-1", "library", at=now(), rssi_dbm=-50.0, ssid=HOSTILE),
            point(
                "latency", "box-1", "library", target="core", at=now(), outcome="failed", reason="reset", detail=HOSTILE
            ),
        ]
    )  # fmt: skip
    page, complaints = await _open(browser, site)
    await expect(page.locator(f"{CORE} .detail")).to_have_text(HOSTILE)
    await expect(page.locator('[data-venue="library"] h2')).to_have_text(HOSTILE)
    await expect(page.locator('data[data-field="ssid"]')).to_have_text(HOSTILE)
    await expect(page.locator("#trouble-broker .why")).to_have_text(HOSTILE)
    await expect(page.locator("[data-waiting] strong")).to_have_text(HOSTILE)
    site.state.broker.change(False, now(), HOSTILE + "2")
    await site.store.write([point("wifi_link", "box-1", "library", at=now(), rssi_dbm=-51.0, ssid=HOSTILE + "2")])
    await expect(page.locator('data[data-field="ssid"]')).to_have_text(HOSTILE + "2")
    assert await page.locator("img, main script").count() == 0
    assert complaints == []
    await page.context.close()


async def test_an_agent_that_waits_says_what_to_add(browser: Browser, site: Website) -> None:
    page, complaints = await _open(browser, site)
    await expect(page.locator("#waiting")).to_have_count(0)
    status = birth(job("latency", "core"), job("latency", "core", interface="eth0"))
    site.state.agents["new-box"] = AgentState(status=status, status_at=datetime(2026, 11, 23, 9, tzinfo=UTC))
    block = page.locator('[data-waiting="new-box"] pre')
    await expect(block).to_be_visible()
    added = tomllib.loads(await block.inner_text())
    common = {"agent": "new-box", "venue": "...", "network": "wifi", "from": "2026-11-23"}
    assert added == {"sites": [common | {"interface": "eth0"}, common | {"interface": "wlan0"}]}
    await expect(page.locator('#agents [data-count="waiting"]')).to_have_text("1")
    assert complaints == []
    await page.context.close()


async def test_the_page_lives_behind_a_login(browser: Browser, site: Website, tmp_path: Path) -> None:
    await site.stop()
    password = tmp_path / "password"
    password.write_text("open sesame\n")
    password.chmod(0o600)
    site.settings = Settings(free_port(), login=Login("ops", password))
    await site.start()
    page, complaints = await _open(browser, site, http_credentials={"username": "ops", "password": "open sesame"})
    await site.store.write([point("latency", "box-1", "library", target="core", at=now(), rtt_p50_ms=345.0)])
    await expect(page.locator(f'{CORE} data[data-field="rtt_p50_ms"]')).to_have_attribute("value", "345.0")
    assert [text for text in complaints if "401" not in text] == []
    await page.context.close()


async def test_times_are_in_the_readers_zone(browser: Browser, site: Website) -> None:
    page, _ = await _open(browser, site)
    await expect(page.locator("footer")).to_contain_text("Asia/Shanghai, UTC+08:00")
    clock = page.locator("footer time").first
    local = await clock.evaluate(
        "e => new Date(e.dateTime).toLocaleTimeString('en-GB', {timeZone: 'Asia/Shanghai', hour12: false})"
    )
    assert local in (await clock.inner_text())
    await page.context.close()


async def test_both_languages_and_the_browsers_choice(browser: Browser, site: Website) -> None:
    page, complaints = await _open(browser, site, "/", locale="zh-CN")
    await expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    await expect(page.locator('[data-venue="library"] h2')).to_have_text("东城图书馆")
    await page.get_by_role("link", name="English").click()
    await expect(page.locator("html")).to_have_attribute("lang", "en")
    await expect(page.locator('[data-venue="library"] h2')).to_have_text("East Library")
    assert complaints == []
    await page.context.close()


STICKING_OUT = """() => [...document.querySelectorAll("body *")]
  .filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .filter((e) => !e.closest("pre, .below, .what, svg"))  // these scroll or cut by themselves
  .map((e) => e.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("language", ["zh", "en"])
async def test_nothing_sticks_out_sideways(browser: Browser, site: Website, language: str) -> None:
    failure = {"outcome": "failed", "reason": "wrong_interface", "detail": "x" * 200}
    await site.store.write([point("latency", "box-1", "library", target="core", at=now(), **failure)])
    site.state.agents["a-new-box-with-quite-a-long-name"] = AgentState(status=birth(job("latency")), status_at=now())
    page, _ = await _open(browser, site, f"/?lang={language}")
    for width in (320, 390, 768, 1440, 2560):
        await page.set_viewport_size({"width": width, "height": 800})
        assert await page.evaluate(STICKING_OUT) == [], width
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
    await page.context.close()


async def test_keyboard_and_screen_reader(browser: Browser, site: Website) -> None:
    page, _ = await _open(browser, site)
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.className") == "skip"
    summary = page.locator('[data-venue="library"] > summary')
    await summary.focus()
    await page.keyboard.press("Enter")
    assert await page.locator('[data-venue="library"]').get_attribute("open") is None
    await site.store.write([point("latency", "box-1", "library", target="core", at=now(), rtt_p50_ms=9.0)])
    await expect(page.locator(f'{CORE} data[data-field="rtt_p50_ms"]')).to_have_attribute("value", "9.0")
    assert await page.locator('[data-venue="library"]').get_attribute("open") is None, "folded stays folded"
    assert await summary.evaluate("e => e === document.activeElement"), "the focus stays"
    row = page.locator(CORE)
    assert "ok:" in (await row.text_content() or ""), "the state is said in words"
    await expect(row.locator("svg[role=img]")).to_have_attribute(
        "aria-label", "last hour: 1.50\u202fms to 50.5\u202fms"
    )
    await page.context.close()


CONTRAST = """() => {
  const luminance = (rgb) => rgb.map((c) => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (e) => { for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > 0) return c.slice(0, 3); }
    return [255, 255, 255]; };
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !e.checkVisibility()) continue;
    const style = getComputedStyle(e);
    const [a, b] = [luminance(parse(style.color).slice(0, 3)), luminance(ground(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) poor.push(`${e.className || e.localName} ${ratio.toFixed(2)} ${e.textContent.slice(0, 30)}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_contrast_is_enough(browser: Browser, site: Website, scheme: str) -> None:
    """WCAG 2.2, 1.4.3 (AA): 4.5 to 1 for every text."""
    await site.store.write(
        [
            point("latency", "box-1", "library", target="core", at=now(), outcome="failed", reason="reset", detail="d"),
            point("dns", "box-1", "library", target="gov", at=now(), outcome="invalid", reason="internal"),
            point("web", "box-1", "library", target="portal", at=now(), outcome="skipped", reason="budget"),
        ]
    )  # fmt: skip
    site.state.agents["new"] = AgentState(status=birth(job("latency", "core")), status_at=now())
    site.state.agents["box-2"].status = birth(job("agent"), online=False)
    site.state.broker.change(False, now(), "connection refused")
    site.state.counters.update({"stored": 5, "later": 3, "rejected": 2})
    page, _ = await _open(browser, site, color_scheme=scheme)
    assert await page.evaluate(CONTRAST) == []
    await site.stop()
    await expect(page.locator("html[data-gone]")).to_have_count(1)
    assert await page.evaluate(CONTRAST) == []
    await page.context.close()


async def test_a_hidden_page_does_not_ask_and_connections_do_not_pile_up(browser: Browser, site: Website) -> None:
    page, _ = await _open(browser, site)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.wait_for_timeout(10 * FRESH_S * 1000)
    assert 1 <= len(asked) <= 11, "one question at a time"
    await page.evaluate(
        "Object.defineProperty(document, 'hidden', {get: () => true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    await page.wait_for_timeout(100)
    asked.clear()
    await page.wait_for_timeout(5 * FRESH_S * 1000)
    assert len(asked) <= 1, "the question that was planned already, and no more"
    await page.evaluate("delete document.hidden")
    async with page.expect_request("**/fragment*"):
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await page.context.close()
