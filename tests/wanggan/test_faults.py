"""The whole system under faults: target, network, broker and collector killed in turn, each seen on the page by its
own reason, in a real browser, and all well again afterwards.

Everything runs in a network namespace of its own, whose gateway is a second namespace.
"""

import contextlib
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.wanggan.running import kept_down, running

CHROMIUM = "/usr/bin/chromium"
SLOW_MS = 40_000
"""A period of 10 s, the probe's own deadline, the page's next look, and a busy machine."""


class Net(NamedTuple):
    """A site and its gateway."""

    site: str
    gateway: str

    @property
    def inside(self) -> list[str]:
        return ["ip", "netns", "exec", self.site]


def ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True, timeout=20)


@pytest.fixture
def net() -> Iterator[Net]:
    token = secrets.token_hex(3)
    names = Net(f"wg-site-{token}", f"wg-gw-{token}")
    # `ip netns exec` shows this file as the namespace's /etc/resolv.conf.
    etc = Path("/etc/netns") / names.site
    etc.mkdir(parents=True)
    (etc / "resolv.conf").write_text("nameserver 198.18.7.1\n")
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", names.site, "link", "add", "uplink", "type", "veth", "peer", "name", "site", "netns", names.gateway)
        for name, device, address in (
            (names.site, "uplink", "198.18.7.2/24"),
            (names.gateway, "site", "198.18.7.1/24"),
        ):
            ip("-n", name, "address", "add", address, "dev", device)
            ip("-n", name, "link", "set", device, "up")
        ip("-n", names.site, "route", "add", "default", "via", "198.18.7.1")
        yield names
    finally:
        for name in names:
            ip("netns", "delete", name, check=False)
        (etc / "resolv.conf").unlink()
        etc.rmdir()
        with contextlib.suppress(OSError):
            etc.parent.rmdir()


@pytest.fixture
async def page(net: Net, tmp_path: Path) -> AsyncIterator[Page]:
    """A headless browser inside the namespace. Its console errors are the test's failure."""
    browser_inside = tmp_path / "chromium"
    browser_inside.write_text(f'#!/bin/sh\nexec {" ".join(net.inside)} {CHROMIUM} "$@"\n')
    browser_inside.chmod(0o755)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=browser_inside, args=["--no-sandbox", "--disable-gpu"]
        )
        opened = await browser.new_page(locale="en-GB")
        errors: list[str] = []
        opened.on("pageerror", lambda error: errors.append(str(error)))
        yield opened
        await browser.close()
        assert errors == []


@pytest.mark.timeout(300)
async def test_each_fault_shows_its_own_reason_and_goes_away_again(net: Net, page: Page, tmp_path: Path) -> None:
    with running(tmp_path / "state", before=net.inside) as up:
        await page.goto(up.url)

        def job(probe: str, target: str, state: str, reason: str = "") -> str:
            return f'.job[data-probe="{probe}"][data-target="{target}"][data-state="{state}"][data-reason="{reason}"]'

        async def seen(selector: str) -> None:
            await expect(page.locator(selector).first).to_be_attached(timeout=SLOW_MS)

        gateway, reflector = job("latency", "gateway", "ok"), job("web", "reflector", "ok")
        await seen(gateway)
        await seen(reflector)
        # Nobody answers DNS at this gateway: a fault from the start, and no one else's.
        await seen('.job[data-probe="dns"][data-state="failed"]')

        with kept_down(lambda: up.child("reflector", "run")):
            await seen(job("web", "reflector", "failed", "refused"))
            await expect(page.locator(gateway)).to_be_attached()
        ip("-n", net.site, "link", "set", "uplink", "down")
        await seen(job("latency", "gateway", "failed", "no_link"))
        await seen(reflector)
        ip("-n", net.site, "link", "set", "uplink", "up")
        ip("-n", net.site, "route", "add", "default", "via", "198.18.7.1")

        with kept_down(lambda: up.child("mosquitto.conf")):
            await seen('#link-broker[data-up="no"]')
            await expect(page.locator("#trouble-broker .why")).to_have_text("Connection refused", timeout=SLOW_MS)
        await seen('#link-broker[data-up="yes"]')

        with kept_down(lambda: up.child("collector", "run")):
            await expect(page.locator("#live")).to_have_attribute("data-live", "no", timeout=SLOW_MS)
            await expect(page.locator("#gone")).not_to_be_empty()
        await expect(page.locator("#live")).to_have_attribute("data-live", "yes", timeout=SLOW_MS)

        await seen('.site[data-contact="online"]')
        await seen(gateway)
        await seen(reflector)
        for name in ("reflector", "broker", "collector"):
            assert up.said(f"{name} was killed by SIGKILL")
        assert up.said("latency gateway: failed, no_link")
        assert up.said("latency gateway: ok again")
