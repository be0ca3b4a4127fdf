"""Debian's Chromium without a window, and what it complained about."""

import contextlib
import shutil
from collections.abc import AsyncIterator

from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
WAIT_MS = 30_000


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser of its own; ends with the block."""
    path = shutil.which("chromium")
    if path is None:
        raise FileNotFoundError("chromium is missing, these tests need it: apt-get install -y chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


class Complaints(list[str]):
    """Console errors and warnings, uncaught errors, and requests to anywhere but the page's own server."""

    def __init__(self, page: Page, url: str) -> None:
        super().__init__()
        self._url = url
        page.set_default_timeout(WAIT_MS)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.append(str(error)))
        page.on("request", self._request)

    def _console(self, line: ConsoleMessage) -> None:
        if line.type in ("error", "warning"):
            self.append(line.text)

    def _request(self, request: Request) -> None:
        if not request.url.startswith(self._url):
            self.append(f"asked {request.url}")
