"""The HTTP server: routes, security headers, login, and one picture shared by all who look."""

import asyncio
import importlib.metadata
import ipaddress
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

import msgspec
from aiohttp import web

from collector.state import Link, State
from collector.web import metrics
from collector.web.login import Guard
from collector.web.messages import Language, choose_language
from collector.web.overview import Overview, build
from collector.web.page import Pages, Rendered, rendered, static_files
from collector.web.recent import FRESH_S, Recent
from collector.web.seams import Venues, WebSettings
from collector.web.standing import Standing
from store.interface import Store

log = logging.getLogger(__name__)

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Server": "wanggan",
}
_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

_ADMITTED: Final = web.RequestKey("admitted", bool)
_Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Picture:
    """The overview of a moment ago and what was made of it: cost does not grow with the number of readers.

    Making bytes of a large fleet takes tenths of a second: that is done in a thread, records go first.
    """

    def __init__(
        self,
        state: State,
        recent: Recent,
        standing: Standing,
        venues: Venues,
        pages: Pages,
        *,
        fresh_s: float,
        wall: Callable[[], float],
        simulated: bool,
    ) -> None:
        self._simulated = simulated
        self._state = state
        self._recent = recent
        self._standing = standing
        self._venues = venues
        self._pages = pages
        self._fresh_s = fresh_s
        self._wall = wall
        self._version = importlib.metadata.version("wanggan")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="web-render")
        self._making = asyncio.Lock()
        self._overview: Overview | None = None
        self._built = 0.0
        self._cause: tuple[object, ...] = ()
        self._made: dict[str, Rendered] = {}

    async def overview(self) -> Overview:
        """The picture, at most `fresh_s` old; what was just read and a changed link are in it at once."""
        await self._recent.refresh()
        await self._standing.refresh()
        cause = (self._state.broker.up, self._state.store.up, self._recent.failure, self._recent.read_at)
        if self._overview is None or time.monotonic() - self._built >= self._fresh_s or cause != self._cause:
            now = datetime.fromtimestamp(self._wall(), UTC)
            self._overview = build(
                self._state,
                self._recent,
                self._venues,
                now,
                self._version,
                standing=self._standing,
                simulated=self._simulated,
            )
            self._built, self._cause, self._made = time.monotonic(), cause, {}
        return self._overview

    async def page(self, language: Language) -> Rendered:
        """The page in `language`."""
        return await self._make(f"page {language}", lambda overview: self._pages.page(overview, language))

    async def fragment(self, language: Language) -> Rendered:
        """What changes of the page, in `language`."""
        return await self._make(f"fragment {language}", lambda overview: self._pages.fragment(overview, language))

    async def json(self) -> Rendered:
        """The whole overview as JSON."""
        return await self._make("json", msgspec.json.encode)

    async def close(self) -> None:
        """Give back the thread and the read that is under way."""
        await self._recent.close()
        await self._standing.close()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _make(self, what: str, make: Callable[[Overview], bytes]) -> Rendered:
        async with self._making:
            overview = await self.overview()
            made = self._made
            if what not in made:
                loop = asyncio.get_running_loop()
                made[what] = await loop.run_in_executor(self._thread, lambda: rendered(make(overview)))
            return made[what]


class Site:
    """The routes."""

    def __init__(self, state: State, picture: Picture, standing: Standing, static: dict[str, bytes]) -> None:
        self._state = state
        self._picture = picture
        self._standing = standing
        self._static = {name: rendered(content) for name, content in static.items()}

    async def page(self, request: web.Request) -> web.Response:
        return _send(request, await self._picture.page(_language(request)), "text/html")

    async def fragment(self, request: web.Request) -> web.Response:
        return _send(request, await self._picture.fragment(_language(request)), "text/html")

    async def overview(self, request: web.Request) -> web.Response:
        return _send(request, await self._picture.json(), "application/json")

    async def agents(self, request: web.Request) -> web.Response:
        overview = await self._picture.overview()
        sites = [
            {"venue": venue.slug} | {name: getattr(site, name) for name in site.__struct_fields__ if name != "jobs"}
            for venue in overview.venues
            for site in venue.sites
        ]
        told = {"at": overview.at, "simulated": overview.simulated}
        return _json(told | {"agents": sites, "waiting": overview.waiting})

    async def venue(self, request: web.Request) -> web.Response:
        overview = await self._picture.overview()
        slug = request.match_info["slug"]
        for venue in overview.venues:
            if venue.slug == slug:
                return _json(venue)
        return _json({"error": "no such venue, or no agent is registered there now"}, status=404)

    async def metrics(self, request: web.Request) -> web.Response:
        overview = await self._picture.overview()
        text = metrics.exposition(self._state, overview.agents, overview.version)
        return web.Response(body=text.encode(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def healthz(self, request: web.Request) -> web.Response:
        """200 when broker and store are connected; the reasons only to those who may read the page."""
        links = {"broker": self._state.broker, "store": self._state.store}
        healthy = all(link.up for link in links.values())
        answer: dict[str, object] = {"status": "ok" if healthy else "unavailable"}
        if request.get(_ADMITTED, True):
            answer |= {name: _health(link) for name, link in links.items()}
        return _json(answer, status=200 if healthy else 503)

    async def report(self, request: web.Request) -> web.StreamResponse:
        """A weekly report's file, to be kept: its HTML has styles of its own, which this page's policy forbids."""
        path = self._standing.file(request.match_info["name"])
        if path is None:
            raise web.HTTPNotFound
        return web.FileResponse(path, headers={"Content-Disposition": f'attachment; filename="{path.name}"'})

    async def file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._static:
            raise web.HTTPNotFound
        response = _send(request, self._static[name], _TYPES[name.rpartition(".")[2]])
        # Its address carries the build, so a copy never grows old.
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def make_app(
    settings: WebSettings,
    state: State,
    store: Store,
    register: Venues,
    *,
    fresh_s: float = FRESH_S,
    wall: Callable[[], float] = time.time,
) -> web.Application:
    """The application, ready to be run. Answers are at most `fresh_s` old, and open pages ask so often.

    :raises LoginError: when a login is configured and cannot be used.
    """
    static = static_files()
    recent = Recent(store, fresh_s=fresh_s, wall=wall)
    pages = Pages(static, every_s=fresh_s)
    standing = Standing(store, settings.reports_folder, wall=wall)
    picture = Picture(
        state, recent, standing, register, pages, fresh_s=fresh_s, wall=wall, simulated=settings.simulated
    )
    site = Site(state, picture, standing, static)
    guard = Guard(settings.login) if settings.login else None

    @web.middleware
    async def protect(request: web.Request, handler: _Answer) -> web.StreamResponse:
        try:
            response = await (_guarded(guard, request, handler) if guard else handler(request))
        except web.HTTPException as refusal:
            response = _json({"error": refusal.reason}, status=refusal.status)
        except Exception:
            log.exception("status page: %s failed", request.path)
            response = _json({"error": "internal error, see the collector's log"}, status=500)
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    async def close_picture(_: web.Application) -> AsyncIterator[None]:
        yield
        await picture.close()

    app = web.Application(middlewares=[protect], client_max_size=1024)
    app.cleanup_ctx.append(close_picture)
    app.add_routes(
        [
            web.get("/", site.page),
            web.get("/fragment", site.fragment),
            web.get("/static/{name}", site.file),
            web.get("/reports/{name}", site.report),
            web.get("/api/overview", site.overview),
            web.get("/api/agents", site.agents),
            web.get("/api/venues/{slug}", site.venue),
            web.get("/metrics", site.metrics),
            web.get("/healthz", site.healthz),
        ]
    )
    return app


async def serve(
    settings: WebSettings, state: State, store: Store, register: Venues, *, fresh_s: float = FRESH_S
) -> None:
    """Answer until cancelled; `fresh_s` as in :func:`make_app`.

    :raises OSError: when the address cannot be listened on.
    :raises LoginError: when a login is configured and cannot be used.
    """
    if settings.login is None and not _is_loopback(settings.listen):
        log.warning("status page: everyone who reaches %s may read it; set web.login", settings.listen)
    runner = web.AppRunner(
        make_app(settings, state, store, register, fresh_s=fresh_s),
        access_log=None,
        handle_signals=False,
        keepalive_timeout=30,
        shutdown_timeout=1,
    )
    await runner.setup()
    try:
        await _listen(runner, settings)
        host, port = runner.addresses[0][:2]
        log.info("status page on http://%s:%d/", f"[{host}]" if ":" in host else host, port)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


async def _listen(runner: web.AppRunner, settings: WebSettings) -> None:
    try:
        await web.TCPSite(runner, settings.listen, settings.port).start()
    except OSError as error:
        where = f"{settings.listen}:{settings.port}"
        raise OSError(error.errno, f"web.listen, web.port: cannot listen on {where}: {error.strerror}") from error


async def _guarded(guard: Guard, request: web.Request, answer: _Answer) -> web.StreamResponse:
    """The answer for who is admitted; to others /healthz, without its reasons."""
    authorization = request.headers.get("Authorization")
    admitted = guard.admits(authorization)
    request[_ADMITTED] = admitted
    if admitted or request.path == "/healthz":
        return await answer(request)
    if authorization is not None and not await guard.refuse():
        return _json({"error": "too many wrong passwords"}, status=429)
    response = _json({"error": "log in"}, status=401)
    response.headers["WWW-Authenticate"] = 'Basic realm="wanggan", charset="UTF-8"'
    return response


def _language(request: web.Request) -> Language:
    return choose_language(request.query.get("lang"), request.headers.get("Accept-Language", ""))


def _send(request: web.Request, made: Rendered, content_type: str) -> web.Response:
    """`made`, packed where the reader can unpack, or 304 where the reader has it already."""
    headers = {"ETag": made.etag, "Vary": "Accept-Encoding, Accept-Language", "Cache-Control": "no-store"}
    if request.headers.get("If-None-Match") == made.etag:
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = f"{content_type}; charset=utf-8"
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        return web.Response(body=made.gzipped, headers=headers | {"Content-Encoding": "gzip"})
    return web.Response(body=made.body, headers=headers)


def _json(content: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), status=status, content_type="application/json")


def _health(link: Link) -> dict[str, object]:
    return {"up": link.up, "since": link.since, "reason": link.reason if link.since else "not connected yet"}
