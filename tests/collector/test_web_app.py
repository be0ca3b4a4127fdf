"""The HTTP side: headers, API, metrics, health, login, and what it costs."""

import asyncio
import html
import json
import re
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from collector.config import WebSettings
from collector.state import State
from collector.web import make_app, serve
from collector.web.login import GUESSERS, LoginError
from collector.web.page import static_files
from store.register import Register as SiteRegister
from tests.collector.website import (
    AgentState,
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
    open_store,
    point,
)  # fmt: skip


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Website]:
    async with open_store(tmp_path / "store.sqlite") as store:
        register = Register(
            [Venue("library", Names("图书馆", "Library"), "library")], [Site("box-1", "wlan0", "library", "wifi")]
        )
        site = Website(store, register=register)
        site.state.agents["box-1"] = heard(job("latency", "core", role="core"))
        await store.write(
            [point("latency", "box-1", "library", target="core", at=ago(5), rtt_p50_ms=12.25, loss_ratio=0.0)]
        )
        yield site
        await site.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


async def test_the_collectors_own_register_and_settings_fit(
    site: Website, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    sites = tmp_path / "sites.toml"
    sites.write_text('[venues.library]\ntype = "library"\nname = {zh = "图书馆", en = "Library"}\n')
    register = SiteRegister(sites)
    settings = WebSettings(port=free_port())
    app = make_app(settings, site.state, site.store, register, fresh_s=0.0)  # type: ignore[arg-type]
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.listen, settings.port).start()
        url = f"http://{settings.listen}:{settings.port}/"
        async with session.get(url + "api/overview") as answer:
            assert [waiting["agent"] for waiting in (await answer.json())["waiting"]] == ["box-1"]
        async with session.get(url + "?lang=en") as answer:
            proposed = re.search(r"<pre[^>]*>(.*?)</pre>", await answer.text(), re.DOTALL)
        assert proposed is not None
        entry = html.unescape(proposed[1]).replace('"..."', '"library"')
        sites.write_text(f"{sites.read_text()}\n{entry}")
        assert register.refresh()
        async with session.get(url + "api/overview") as answer:
            overview = await answer.json()
        assert overview["waiting"] == []
        assert overview["venues"][0]["sites"][0]["jobs"][0]["values"]["rtt_p50_ms"] == 12.25
    finally:
        await runner.cleanup()


async def test_every_alarm_is_said_in_both_languages(site: Website, session: aiohttp.ClientSession) -> None:
    await site.start()
    alarms = {
        "register": ("The new sites.toml is not taken", "新的 sites.toml 有误"),
        "store_limit": ("its limit is reached", "达到自身上限"),
        "dead_letters": ("Dead letters cannot be kept", "死信无法保存"),
        "certificates": ("Certificates end in less than 60 days", "证书不足 60 天"),
    }
    for name in alarms:
        site.state.alarm(name, f"<why> {name}")
    for number, language in enumerate(("en", "zh")):
        async with session.get(f"{site.url}/fragment?lang={language}") as answer:
            page = await answer.text()
        for name, words in alarms.items():
            assert f'id="trouble-{name}"' in page
            assert words[number] in page
            assert f"&lt;why&gt; {name}" in page
    async with session.get(site.url + "/api/overview") as answer:
        assert set((await answer.json())["alarms"]) == set(alarms)


async def test_every_answer_carries_the_security_headers(site: Website, session: aiohttp.ClientSession) -> None:
    await site.start()
    for path in ("/", "/fragment", "/api/overview", "/metrics", "/healthz", "/static/page.js", "/nothing", "/static/x"):
        async with session.get(site.url + path) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'"), path
            assert "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["X-Frame-Options"] == "DENY"
            assert answer.headers["Server"] == "wanggan"
            expected = "public" if path == "/static/page.js" else "no-store"
            assert answer.headers["Cache-Control"].startswith(expected), path


async def test_the_page_needs_nothing_from_elsewhere(site: Website, session: aiohttp.ClientSession) -> None:
    await site.start()
    async with session.get(site.url + "/") as answer:
        page = await answer.text()
    for content in (page, *(content.decode() for content in static_files().values())):
        foreign = re.sub(r"http://www\.w3\.org/\S+", "", content)
        assert not re.search(r"https?:|url\(|@import", foreign)
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)


async def test_unknown_paths_methods_and_files(site: Website, session: aiohttp.ClientSession) -> None:
    await site.start()
    for path in ("/nothing", "/static/nothing.js", "/static/..%2Fapp.py", "/static/%2e%2e/app.py", "/api/venues/x"):
        async with session.get(aiohttp.client.URL(site.url + path, encoded=True)) as answer:
            assert answer.status == 404, path
            assert "error" in await answer.json()
    async with session.post(site.url + "/") as answer:
        assert answer.status == 405


async def test_overview_of_the_api(site: Website, session: aiohttp.ClientSession) -> None:
    await site.start()
    async with session.get(site.url + "/api/overview") as answer:
        overview = await answer.json()
    assert overview["broker"]["up"] is True
    (venue,) = overview["venues"]
    assert venue["name"] == {"zh": "图书馆", "en": "Library"}
    (latency,) = venue["sites"][0]["jobs"]
    assert latency["values"]["rtt_p50_ms"] == 12.25
    assert latency["values"]["rtt_max_ms"] is None
    assert latency["hour"][0][1:] == [12.25, "ok"]
    async with session.get(site.url + "/api/venues/library") as answer:
        assert await answer.json() == venue
    async with session.get(site.url + "/api/agents") as answer:
        agents = await answer.json()
    assert [(a["agent"], a["venue"], a["contact"]) for a in agents["agents"]] == [("box-1", "library", "online")]
    assert agents["waiting"] == []


async def test_what_did_not_change_is_not_sent_again(site: Website, session: aiohttp.ClientSession) -> None:
    await site.start()
    async with session.get(site.url + "/fragment?lang=en") as answer:
        etag = answer.headers["ETag"]
        assert answer.headers["Content-Encoding"] == "gzip"
        body = await answer.read()
    async with session.get(site.url + "/fragment?lang=en", headers={"If-None-Match": etag}) as answer:
        assert answer.status == 304
    async with session.get(site.url + "/fragment?lang=zh", headers={"If-None-Match": etag}) as answer:
        assert answer.status == 200
    async with session.get(site.url + "/fragment?lang=en", headers={"Accept-Encoding": "identity"}) as answer:
        assert "Content-Encoding" not in answer.headers
        assert await answer.read() == body


async def test_a_hundred_pages_cost_one_reading(site: Website, session: aiohttp.ClientSession) -> None:
    await site.start()

    async def read(language: str) -> int:
        async with session.get(f"{site.url}/fragment?lang={language}") as answer:
            return answer.status

    statuses = await asyncio.gather(*(read("zh" if n % 2 else "en") for n in range(100)))
    assert set(statuses) == {200}
    assert site.store.queries <= 24 + 2 * 12, "at most the first reading and, on a slow machine, two small ones"


SAMPLE = re.compile(r'^[a-z_]+(\{[a-z]+="([^"\\\n]|\\[\\"n])*"\})? -?[0-9.e+]+$')


async def test_metrics_are_prometheus_text(site: Website, session: aiohttp.ClientSession) -> None:
    site.state.counters.update({"received": 12, "stored": 9, "later": 2, "rejected": 1, "dead_letters": 1})
    site.state.counters.update({"rejected.too_old": 1, "later.unknown_agent": 2, 'refused.new"\n\\': 4})
    site.state.queue_bytes = 77
    site.state.agents["new"] = AgentState(status=birth(), status_at=ago(1))
    await site.start()
    async with session.get(site.url + "/metrics") as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        text = await answer.text()
    assert text.endswith("\n")
    declared: set[str] = set()
    for line in text.splitlines():
        if line.startswith("# "):
            _, keyword, name, *_ = line.split(" ")
            assert keyword in ("HELP", "TYPE")
            assert keyword == "HELP" or name not in declared, "one TYPE for each"
            declared |= {name} if keyword == "TYPE" else set()
        else:
            assert SAMPLE.match(line), line
            assert re.split("[{ ]", line)[0] in declared, line
    lines = text.splitlines()
    for expected in (
        'wanggan_records_total{answer="stored"} 9',
        'wanggan_records_rejected_total{reason="too_old"} 1',
        'wanggan_records_rejected_total{reason="invalid"} 0',
        'wanggan_records_later_total{reason="unknown_agent"} 2',
        'wanggan_refused_total{refusal="new\\"\\n\\\\"} 4',
        "wanggan_dead_letters_total 1",
        "wanggan_queue_bytes 77",
        'wanggan_link_up{link="broker"} 1',
        'wanggan_agents{state="online"} 1',
        'wanggan_agents{state="waiting"} 1',
    ):
        assert expected in lines


async def test_health(site: Website, session: aiohttp.ClientSession) -> None:
    await site.start()
    async with session.get(site.url + "/healthz") as answer:
        assert answer.status == 200
        assert (await answer.json())["status"] == "ok"
    site.state.broker.change(False, ago(0), "connection refused")
    async with session.get(site.url + "/healthz") as answer:
        assert answer.status == 503
        health = await answer.json()
    assert (health["broker"]["reason"], health["store"]["up"]) == ("connection refused", True)


async def test_health_before_the_first_connection(site: Website, session: aiohttp.ClientSession) -> None:
    site.state = State(started_at=ago(1))
    await site.start()
    async with session.get(site.url + "/healthz") as answer:
        assert answer.status == 503
        assert (await answer.json())["broker"] == {"up": False, "since": None, "reason": "not connected yet"}


async def test_a_fault_of_ours_is_answered_and_logged(
    site: Website, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Register):
        def sites(self, at: object) -> list[Site]:
            raise RuntimeError("the register is broken")

    site.register = Broken()
    await site.start()
    async with session.get(site.url + "/") as answer:
        assert answer.status == 500
        assert await answer.json() == {"error": "internal error, see the collector's log"}
    assert "the register is broken" in caplog.text


async def test_an_address_in_use_names_the_setting(site: Website) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        site.settings = Settings(other.getsockname()[1])
        with pytest.raises(OSError, match=r"web\.listen, web\.port: cannot listen on 127\.0\.0\.1:\d+: "):
            await serve(site.settings, site.state, site.store, site.register)  # type: ignore[arg-type]


def _basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": aiohttp.encode_basic_auth(user, password)}


def _login(tmp_path: Path, content: str = "open sesame\n", mode: int = 0o600) -> Login:
    path = tmp_path / "password"
    path.write_text(content)
    path.chmod(mode)
    return Login("ops", path)


async def test_login(
    site: Website, session: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.web.login.REFUSAL_S", 0.01)
    site.settings = Settings(free_port(), login=_login(tmp_path))
    await site.start()
    for path in (
        "/",
        "/fragment",
        "/api/overview",
        "/api/agents",
        "/api/venues/library",
        "/metrics",
        "/static/page.js",
    ):
        async with session.get(site.url + path) as answer:
            assert answer.status == 401, path
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")
            assert await answer.json() == {"error": "log in"}
        async with session.get(site.url + path, headers=_basic("ops", "open sesame")) as answer:
            assert answer.status == 200, path
    for user, password in (("ops", "open sesam"), ("root", "open sesame"), ("ops", ""), ("", "open sesame")):
        async with session.get(site.url + "/", headers=_basic(user, password)) as answer:
            assert answer.status == 401
    for header in ("Basic", "Basic !", "Basic \xff", "Bearer b3BzOm9wZW4gc2VzYW1l"):
        async with session.get(site.url + "/", headers={"Authorization": header}) as answer:
            assert answer.status == 401


async def test_health_is_open_but_keeps_its_reasons(
    site: Website, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    site.settings = Settings(free_port(), login=_login(tmp_path))
    site.state.broker.change(False, ago(0), "connection refused")
    await site.start()
    async with session.get(site.url + "/healthz") as answer:
        assert (answer.status, await answer.json()) == (503, {"status": "unavailable"})
    async with session.get(site.url + "/healthz", headers=_basic("ops", "open sesame")) as answer:
        assert (await answer.json())["broker"]["reason"] == "connection refused"


async def test_guessing_is_slow_and_hinders_nobody(
    site: Website, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    site.settings = Settings(free_port(), login=_login(tmp_path))
    await site.start()

    async def guess() -> int:
        async with session.get(site.url + "/", headers=_basic("ops", "wrong")) as answer:
            return answer.status

    guesses = [asyncio.create_task(guess()) for _ in range(GUESSERS + 30)]
    done, waiting = await asyncio.wait(guesses, timeout=2)
    assert [task.result() for task in done].count(429) >= 20
    assert waiting, "wrong passwords are answered one after another"
    started = time.monotonic()
    async with session.get(site.url + "/healthz", headers=_basic("ops", "open sesame")) as answer:
        assert answer.status == 200
    assert time.monotonic() - started < 5
    for task in waiting:
        task.cancel()
    await asyncio.gather(*guesses, return_exceptions=True)


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        ("secret\n", 0o644, r"is open to others; run: chmod 600 "),
        ("", 0o600, r"its first line must be the password"),
        ("\nsecret", 0o600, r"its first line must be the password"),
    ],
)
async def test_a_bad_password_file_names_the_fix(
    site: Website, tmp_path: Path, content: str, mode: int, message: str
) -> None:
    site.settings = Settings(free_port(), login=_login(tmp_path, content, mode))
    with pytest.raises(LoginError, match=r"^web\.login\.password_file: .*" + message) as error:
        await site.start()
    assert "secret" not in str(error.value)


async def test_a_missing_password_file_and_a_bad_user(site: Website, tmp_path: Path) -> None:
    site.settings = Settings(free_port(), login=Login("ops", tmp_path / "none"))
    with pytest.raises(LoginError, match=r"^web\.login\.password_file: .*No such file"):
        await site.start()
    site.settings = Settings(free_port(), login=Login("o:ps", tmp_path / "none"))
    with pytest.raises(LoginError, match=r"^web\.login\.user: "):
        await site.start()


async def test_listening_to_everyone_without_a_login_is_said(site: Website, caplog: pytest.LogCaptureFixture) -> None:
    # An address that no machine has: the refusal to bind comes after the warning, and no port is opened.
    site.settings = Settings(free_port(), listen="203.0.113.1")
    with pytest.raises(OSError, match="cannot listen on 203"):
        await site.start()
    assert "everyone who reaches 203.0.113.1 may read it; set web.login" in caplog.text


async def test_json_is_what_the_documentation_says(site: Website, session: aiohttp.ClientSession) -> None:
    """Every name of the overview stands in docs/api.md."""
    await site.start()
    site.state.agents["new"] = AgentState(status=birth(job("latency", "core")), status_at=ago(1))
    async with session.get(site.url + "/api/overview") as answer:
        overview = json.loads(await answer.read())
    documented = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    names: set[str] = set()

    def collect(tree: object) -> None:
        if isinstance(tree, dict):
            for name, child in tree.items():
                names.add(name)
                if name not in ("values", "states"):
                    collect(child)
        elif isinstance(tree, list):
            for child in tree:
                collect(child)

    collect(overview)
    assert not [name for name in sorted(names) if f"`{name}`" not in documented]
    async with session.get(site.url + "/metrics") as answer:
        metrics = set(re.findall(r"^# TYPE (\S+)", await answer.text(), re.MULTILINE))
    assert not [name for name in sorted(metrics) if f"`{name}`" not in documented]


async def test_it_stops_at_once_with_readers_connected(site: Website, session: aiohttp.ClientSession) -> None:
    await site.start()
    async with session.get(site.url + "/fragment") as answer:
        await answer.read()
    started = time.monotonic()
    await site.stop()
    assert time.monotonic() - started < 3
