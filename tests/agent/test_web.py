"""Web against a real server (nginx) and servers that stall, reset, refuse and lie: each reason from its own fault."""

import asyncio
import contextlib
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from agent.clock import SystemClock
from agent.facts import Facts
from agent.probe import Context, Failure, Target
from agent.probes import web
from agent.probes.web import WebSettings
from contract.values import Web

CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log stderr crit;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{http}; listen 127.0.0.1:{https} ssl; listen [::1]:{http};
    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;
    root {folder}/pages;
    location = /moved {{ return 302 /index.html; }}
    location = /moved-to-tls {{ return 301 https://127.0.0.1:{https}/index.html; }}
    location = /loop {{ return 302 /loop; }}
    location = /elsewhere {{ return 302 http://portal.test/login?mac=02:00:00:00:00:01; }}
    location = /by-name {{ return 302 http://localhost:{http}/index.html; }}
    location = /to-a-file {{ return 302 ftp://127.0.0.1/; }}
    location = /log-in-first {{ return 511; }}
    location = /broken {{ return 503; }}
    location = /nothing {{ return 204; }}
  }}
}}
"""


class Site(NamedTuple):
    http: int
    https: int
    authority: trustme.CA
    ca_file: str


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_pem.write_to_path(folder / "server.key")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(folder / "server.pem", append=True)
    (folder / "pages").mkdir()
    (folder / "pages/index.html").write_text("<h1>City portal</h1>")
    (folder / "pages/big").write_bytes(b"x" * 2_000_000)
    found = Site(free_port(), free_port(), authority, str(folder / "ca.pem"))
    (folder / "nginx.conf").write_text("user root;" + CONFIG.format(folder=folder, http=found.http, https=found.https))
    with subprocess.Popen(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]) as process:
        try:
            for _ in range(200):
                with socket.socket() as sock:
                    if sock.connect_ex(("127.0.0.1", found.http)) == 0:
                        break
                time.sleep(0.02)
            yield found
        finally:
            process.terminate()


def context(url: str) -> Context:
    return Context(
        agent="lib-01",
        interface="lo",
        clock=SystemClock(),
        facts=Facts(),
        timeout_s=10.0,
        target=Target(role="internet", url=url),
    )


async def fails(url: str, settings: WebSettings | None = None) -> tuple[str, str, Web]:
    at = context(url)
    with pytest.raises(Failure) as caught:
        await web.measure(settings or WebSettings(), at)
    assert isinstance(at.values, Web)
    return caught.value.reason, caught.value.detail or "", at.values


async def test_plain_page(site: Site) -> None:
    values = await web.measure(WebSettings(expect_text="City portal"), context(f"http://127.0.0.1:{site.http}/"))
    assert (values.status, values.bytes, values.redirects, values.http_version) == (200, 20, 0, "1.1")
    assert (values.dns_ms, values.tls_ms, values.cert_days_left) == (None, None, None), "not measured, not 0"
    assert values.tcp_ms is not None
    assert values.ttfb_ms is not None
    assert values.total_ms is not None
    assert 0 < values.tcp_ms < values.ttfb_ms <= values.total_ms < 5000


async def test_page_over_tls(site: Site) -> None:
    at = context(f"https://localhost:{site.https}/index.html")
    values = await web.measure(WebSettings(ca_file=site.ca_file), at)
    assert values.status == 200
    assert values.dns_ms is not None
    assert values.tcp_ms is not None
    assert values.tls_ms is not None
    assert values.ttfb_ms is not None
    assert values.dns_ms + values.tcp_ms + values.tls_ms < values.ttfb_ms
    assert values.cert_days_left is not None
    assert values.cert_days_left > 1
    assert at.flags == []


async def test_page_over_ipv6(site: Site) -> None:
    assert (await web.measure(WebSettings(), context(f"http://[::1]:{site.http}/"))).status == 200


async def test_redirects_are_followed_at_home(site: Site) -> None:
    values = await web.measure(WebSettings(), context(f"http://127.0.0.1:{site.http}/moved"))
    assert (values.status, values.redirects) == (200, 1)
    values = await web.measure(WebSettings(ca_file=site.ca_file), context(f"http://127.0.0.1:{site.http}/moved-to-tls"))
    assert (values.status, values.redirects) == (200, 1)
    assert values.tls_ms is not None


async def test_at_most_three_redirects(site: Site) -> None:
    reason, detail, values = await fails(f"http://127.0.0.1:{site.http}/loop")
    assert (reason, detail) == ("http_status", "more than 3 redirects")
    assert (values.status, values.redirects) == (302, 3)


async def test_redirect_to_another_host_is_a_portal(site: Site) -> None:
    reason, detail, values = await fails(f"http://127.0.0.1:{site.http}/elsewhere")
    assert (reason, values.status) == ("portal", 302)
    assert detail == "sent to another host: portal.test", "and no query: it may hold a MAC address"


async def test_redirect_to_a_host_that_is_allowed(site: Site) -> None:
    url = f"http://127.0.0.1:{site.http}/by-name"
    assert (await fails(url))[0] == "portal"
    assert (await web.measure(WebSettings(hosts=("localhost",)), context(url))).status == 200


async def test_redirect_to_something_that_is_no_page(site: Site) -> None:
    assert (await fails(f"http://127.0.0.1:{site.http}/to-a-file"))[0] == "http_status"


async def test_log_in_first_is_a_portal(site: Site) -> None:
    reason, _, values = await fails(f"http://127.0.0.1:{site.http}/log-in-first")
    assert (reason, values.status) == ("portal", 511)


async def test_another_page_in_place_of_the_expected_is_a_portal(site: Site) -> None:
    reason, _, values = await fails(f"http://127.0.0.1:{site.http}/", WebSettings(expect_text="Library"))
    assert (reason, values.status) == ("portal", 200)


@pytest.mark.parametrize(("page", "status"), [("broken", 503), ("no-such-page", 404)])
async def test_status_that_says_no(site: Site, page: str, status: int) -> None:
    reason, _, values = await fails(f"http://127.0.0.1:{site.http}/{page}")
    assert (reason, values.status) == ("http_status", status)
    assert values.ttfb_ms is not None


async def test_page_without_a_body(site: Site) -> None:
    values = await web.measure(WebSettings(), context(f"http://127.0.0.1:{site.http}/nothing"))
    assert (values.status, values.bytes) == (204, 0)


async def test_long_body_is_cut_and_flagged(site: Site) -> None:
    at = context(f"http://127.0.0.1:{site.http}/big")
    values = await web.measure(WebSettings(), at)
    assert (values.bytes, at.flags) == (512 * 1024, ["byte_cap"])


async def test_certificate_of_an_unknown_authority(site: Site) -> None:
    reason, _, values = await fails(f"https://127.0.0.1:{site.https}/")
    assert reason == "cert_invalid"
    assert values.tcp_ms is not None
    assert values.tls_ms is None


async def test_certificate_of_another_name(tmp_path: Path, site: Site) -> None:
    settings = WebSettings(ca_file=site.ca_file)
    async with tls_server(site.authority.issue_cert("other.test")) as port:
        reason, detail, _ = await fails(f"https://127.0.0.1:{port}/", settings)
    assert reason == "cert_invalid"
    assert "127.0.0.1" in detail


async def test_certificate_that_has_expired(site: Site) -> None:
    expired = site.authority.issue_cert("127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    async with tls_server(expired) as port:
        reason, detail, _ = await fails(f"https://127.0.0.1:{port}/", WebSettings(ca_file=site.ca_file))
    assert reason == "cert_invalid"
    assert "expired" in detail


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_old_tls_only(site: Site) -> None:
    async with tls_server(site.authority.issue_cert("127.0.0.1"), newest=ssl.TLSVersion.TLSv1_1) as port:
        reason, _, _ = await fails(f"https://127.0.0.1:{port}/", WebSettings(ca_file=site.ca_file))
    assert reason in ("tls_failed", "reset")


async def test_no_tls_where_tls_is_expected(site: Site) -> None:
    reason, _, values = await fails(f"https://127.0.0.1:{site.http}/")
    assert reason == "tls_failed"
    assert values.tcp_ms is not None


async def test_nobody_listens(unused_tcp_port: int) -> None:
    reason, _, values = await fails(f"http://127.0.0.1:{unused_tcp_port}/")
    assert (reason, values.tcp_ms) == ("refused", None)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


@asynccontextmanager
async def tls_server(
    certificate: trustme.LeafCert, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> AsyncIterator[int]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = min(newest, ssl.TLSVersion.TLSv1_2)
    tls.maximum_version = newest
    tls.set_ciphers("ALL:@SECLEVEL=0")
    certificate.configure_cert(tls)
    async with server(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), tls) as port:
        yield port


def saying(*parts: bytes, reset: bool = False) -> Serve:
    """Reads the request, sends `parts`, then closes, politely or by a reset."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        if reset:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            writer.close()

    return serve


async def stalling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says nothing until the other side goes away."""
    with contextlib.suppress(ConnectionError):
        while await reader.read(1000):
            pass
    writer.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


@pytest.mark.parametrize(
    ("serve", "reason"),
    [
        (saying(), "reset"),
        (saying(reset=True), "reset"),
        (saying(HEAD[:20]), "reset"),
        (saying(HEAD, b"half"), "reset"),
        (saying(HEAD, b"half", reset=True), "reset"),
        (saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"), "reset"),
        (saying(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "http_status"),
        (saying(b"HTTP/1.1 20x OK\r\n\r\n"), "http_status"),
        (saying(b"HTTP/1.1 20\r\n\r\n"), "http_status"),
        (saying(b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000), "http_status"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n"), "http_status"),
        (saying(b"HTTP/1.1 099 OK\r\n\r\n"), "http_status"),
        (saying(b"HTTP/1.\x1b 200 OK\r\n\r\n"), "http_status"),
        (saying(b"HTTP/1." + b"1" * 60_000 + b" 200 OK\r\n\r\n"), "http_status"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), "http_status"),
        (saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"), "http_status"),
        (saying(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000), "http_status"),
        (saying(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 40_000 + b"\r\n"), "http_status"),
        (saying(b"HTTP/1.1 302 Found\r\nLocation: http://[broken/\r\nContent-Length: 0\r\n\r\n"), "http_status"),
        (saying(b"HTTP/1.1 302 Found\r\nLocation: //-oProxyCommand=x/\r\nContent-Length: 0\r\n\r\n"), "http_status"),
    ],
)  # fmt: skip
async def test_answers_that_are_none(serve: Serve, reason: str) -> None:
    async with server(serve) as port:
        found, _, values = await fails(f"http://127.0.0.1:{port}/")
    assert found == reason
    assert values.tcp_ms is not None
    assert values.total_ms is None


async def test_silence_of_every_stage_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "IDLE_S", 0.3)
    async with server(stalling) as port:
        reason, detail, values = await fails(f"http://127.0.0.1:{port}/")
        assert (reason, values.ttfb_ms) == ("timeout", None)
        assert "answer" in detail
        reason, detail, values = await fails(f"https://127.0.0.1:{port}/")
        assert (reason, values.tls_ms) == ("timeout", None)
        assert "TLS" in detail

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"half")
        await stalling(reader, writer)

    async with server(half) as port:
        reason, _, values = await fails(f"http://127.0.0.1:{port}/")
    assert (reason, values.status) == ("timeout", 200)
    assert values.ttfb_ms is not None


async def test_connection_that_is_never_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "IDLE_S", 0.5)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        try:
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", port))
            reason, detail, values = await fails(f"http://127.0.0.1:{port}/")
        finally:
            for sock in waiting:
                sock.close()
    assert (reason, values.tcp_ms) == ("timeout", None)
    assert "connecting" in detail


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200\nContent-Length: 5\n\nhello",
    ],
)
async def test_every_way_to_end_a_body(answer: bytes) -> None:
    async with server(saying(answer)) as port:
        values = await web.measure(WebSettings(expect_text="hello"), context(f"http://127.0.0.1:{port}/"))
    assert (values.status, values.bytes) == (200, 5)


async def test_chunks_beyond_the_cap() -> None:
    chunk = b"2000\r\n" + b"x" * 0x2000 + b"\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with server(saying(head + chunk * 4 + b"0\r\n\r\n")) as port:
        at = context(f"http://127.0.0.1:{port}/")
        values = await web.measure(WebSettings(max_bytes=10_000), at)
    assert (values.bytes, at.flags) == (10_000, ["byte_cap"])


@pytest.mark.parametrize("chunk", [b"1\r\nx\r\n", b"1;" + b"e" * 8000 + b"\r\nx\r\n"])
async def test_chunks_that_are_mostly_frame(chunk: bytes) -> None:
    """The cap is on what travels, not only on what is kept."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with server(saying(head + chunk * (1_000_000 // len(chunk)))) as port:
        with pytest.raises(Failure) as caught:
            await web.measure(WebSettings(max_bytes=50_000), context(f"http://127.0.0.1:{port}/"))
    assert (caught.value.reason, "mostly frame" in (caught.value.detail or "")) == ("http_status", True)


async def test_cancelled_visit_leaves_nothing_behind() -> None:
    async with server(stalling) as port:
        before = sum(1 for _ in Path("/proc/self/fd").iterdir())
        for _ in range(20):
            visit = asyncio.create_task(web.measure(WebSettings(), context(f"http://127.0.0.1:{port}/")))
            await asyncio.sleep(0.01)
            visit.cancel()
            with pytest.raises(asyncio.CancelledError):
                await visit
        await asyncio.sleep(0.1)
        assert sum(1 for _ in Path("/proc/self/fd").iterdir()) <= before + 1


async def test_beside_curl(site: Site) -> None:
    url = f"https://127.0.0.1:{site.https}/"
    settings = WebSettings(ca_file=site.ca_file)
    ours = sorted([(await web.measure(settings, context(url))).ttfb_ms or 1e9 for _ in range(7)])[3]
    said = [
        subprocess.run(
            ["curl", "--silent", "--cacert", site.ca_file, "-o", "/dev/null", "-w", "%{time_starttransfer}", url],
            check=True, capture_output=True, text=True, timeout=10,
        ).stdout
        for _ in range(7)
    ]  # fmt: skip
    theirs = sorted(float(seconds) * 1000 for seconds in said)[3]
    print(f"ttfb: ours {ours:.2f} ms, curl {theirs:.2f} ms")
    assert ours < theirs * 3 + 30
