"""`wanggan up --demo` in a browser: filled, judged, reported, and on no view to be taken for measurements."""

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.collector.browser import Complaints, chromium
from tests.wanggan.running import get, running, until

VENUES = 52
SIMULATED = {"zh": "仿真", "en": "simulated"}
SIZES = {"desk": (1366, 900), "phone": (375, 780)}
CHINESE = re.compile("[\u4e00-\u9fff]")
ON_TOP = """sentence => {
    const {left, top, width, height} = sentence.getBoundingClientRect();
    return [...Array(99).keys()].every(n =>
        sentence.contains(document.elementFromPoint(left + (n + 1) / 100 * width, top + height / 2)));
}"""
"""Nothing of the cards that pass below it is seen through."""


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_every_view_of_the_demonstration_is_filled_and_says_that_it_is_simulated(tmp_path: Path) -> None:
    with running(tmp_path / "state", "--demo", greeted=False) as up:
        until(lambda: up.said("scores and verdicts are there") or up.process.poll() is not None, 600, "the past")
        assert up.said("SIMULATED"), "\n".join(up.lines)
        until(lambda: len(get(up.url + "api/overview")["reports"]) == 4, 90, "last week's report")
        _judged(get(up.url + "api/overview"))
        _incidents(tmp_path / "state/demo/wanggan.db")
        assert get(up.url + "api/agents")["simulated"] is True
        async with chromium() as browser:
            for language in SIMULATED:
                for width, height in SIZES.values():
                    await _page(browser, up.url, language, width, height)
                await _report(browser, up.url, language, tmp_path)


def _judged(overview: dict[str, Any]) -> None:
    assert overview["simulated"] is True
    assert len(overview["venues"]) == VENUES
    for venue in overview["venues"]:
        for language, word in SIMULATED.items():
            assert word in venue["name"][language]
            assert all(word in verdict[language] for verdict in venue["verdicts"])
    found = {venue["slug"]: venue for venue in overview["venues"]}
    # Two faults of the script have been there for two hours or more, whenever it starts.
    for slug, segment in (("sim-taopu-node", "lan"), ("sim-changshou-library", "uplink")):
        assert [verdict["segment"] for verdict in found[slug]["verdicts"]] == [segment]
        assert found[slug]["level"] != "ok"
    assert sum(len(venue["verdicts"]) for venue in found.values()) == VENUES
    scores = [score for venue in found.values() for score in venue["scores"]]
    assert len(scores) == VENUES
    assert sum(score["ppi"] is not None for score in scores) >= 0.7 * VENUES
    assert all(len(score["days"]) >= 14 for score in scores)


def _incidents(file: Path) -> None:
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
        hours = dict(database.execute("SELECT venue || ' ' || segment, max(hours) FROM incident_1h GROUP BY 1"))
    # Of a day or more, in the script; its first and last hour may be cut.
    for incident, lasted in {
        "sim-taopu-node lan": 24,
        "sim-changshou-library uplink": 30,
        "sim-caoyang-park dns": 40,
        "sim-changshou-culture radio": 60,
    }.items():
        assert lasted - 3 <= hours.get(incident, 0) <= lasted + 3, (incident, hours)


async def _page(browser: Browser, url: str, language: str, width: int, height: int) -> None:
    context = await browser.new_context(
        locale={"zh": "zh-CN", "en": "en-GB"}[language],
        timezone_id="Asia/Shanghai",
        viewport={"width": width, "height": height},
    )
    page = await context.new_page()
    complaints = Complaints(page, url)
    await page.goto(url)
    await expect(page.locator("html")).to_have_attribute("data-language", language)
    await expect(page).to_have_title(re.compile(SIMULATED[language]))
    await expect(page.locator("[data-venue]")).to_have_count(VENUES)
    await expect(page.locator(".score[data-network]")).to_have_count(VENUES)
    await expect(page.locator(".verdict[data-segment]")).to_have_count(VENUES)
    await expect(page.locator("#reports a")).to_have_count(4)
    assert await page.locator(".job").count() > 600
    for venue in await page.locator("[data-venue] h2").all_text_contents():
        assert SIMULATED[language] in venue
    if language == "en":
        await page.locator("nav").evaluate("nav => nav.remove()")
        assert CHINESE.findall(await page.locator("body").inner_text()) == []
    await _told_everywhere(page, language, height)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert complaints == []
    await context.close()


async def _told_everywhere(page: Page, language: str, height: int) -> None:
    """The sentence stays in sight, however far down one reads."""
    sentence = page.locator("#simulated")
    await expect(sentence).to_contain_text({"zh": "仿真数据", "en": "Simulated data"}[language])
    for share in (0, 0.1, 0.101, 0.5, 0.502, 1):
        await page.evaluate("share => scrollTo(0, share * document.documentElement.scrollHeight)", share)
        await expect(sentence).to_be_in_viewport(ratio=1)
        assert await sentence.evaluate(ON_TOP)
        box = await sentence.bounding_box()
        assert box is not None
        assert box["height"] < height / 8


async def _report(browser: Browser, url: str, language: str, folder: Path) -> None:
    """Downloaded as a reader does it, and opened."""
    context = await browser.new_context(viewport={"width": 1366, "height": 900})
    page = await context.new_page()
    await page.goto(f"{url}?lang={language}")
    async with page.expect_download() as waiting:
        await page.locator(f'#reports a[data-report$=".{language}.html"]').click()
    file = folder / f"{language}.html"
    await (await waiting.value).save_as(file)
    complaints = Complaints(page, file.as_uri())
    await page.goto(file.as_uri())
    await expect(page.locator("body")).to_contain_text(
        {"zh": "仿真数据，未经实测", "en": "SIMULATED, nothing was measured"}[language]
    )
    await expect(page.locator("body")).to_contain_text(
        {"zh": "桃浦政务外网节点（仿真）", "en": "Taopu Government Network Node (simulated)"}[language]
    )
    assert complaints == []
    await context.close()
