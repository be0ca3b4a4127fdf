"""The reflector over HTTP through real sockets: what it answers, and what it does not put up with."""

import asyncio
import contextlib
import json
import logging
import re
import zlib

import pytest

from contract import portal_check
from contract.throughput import TEST_HEADER, Hello
from reflector import admission, web
from reflector.admission import Limits
from reflector.web import Web, portal_application
from tests.reflector.site import NONCE, PORTAL_KEY, Answer, ask, descriptors, say, serving, settle

# Portal check


async def test_the_204_is_signed_for_the_host_that_was_asked() -> None:
    async with serving() as site:
        answer = await ask(site, f"/generate_204?n={NONCE}", host="Reflector.Test:8863")
    assert (answer.status, answer.body) == (204, b"")
    signature = answer.fields["x-wanggan-signature"]
    assert portal_check.is_signed(PORTAL_KEY, NONCE, "reflector.test", signature)
    assert not portal_check.is_signed(PORTAL_KEY, "m" * 24, "reflector.test", signature)
    assert not portal_check.is_signed(PORTAL_KEY, NONCE, "other.test", signature)
    assert answer.fields["cache-control"] == "no-store"
    assert "location" not in answer.fields


async def test_the_204_is_unsigned_without_a_nonce_or_a_key() -> None:
    async with serving() as site:
        answer = await ask(site, "/generate_204")
        head = await ask(site, f"/generate_204?n={NONCE}", method="HEAD")
    assert (answer.status, "x-wanggan-signature" in answer.fields) == (204, False)
    assert (head.status, "x-wanggan-signature" in head.fields) == (204, True)
    async with serving(portal_key=None) as site:
        answer = await ask(site, f"/generate_204?n={NONCE}")
    assert (answer.status, "x-wanggan-signature" in answer.fields) == (204, False)


@pytest.mark.parametrize("nonce", ["", "short", "n" * 65, "nnnnnnnnnnnnnnnn%0a", "n%20" * 8, "%F0%9F%98%80" * 20])
async def test_a_bad_nonce_is_refused_by_name(nonce: str) -> None:
    async with serving() as site:
        answer = await ask(site, f"/generate_204?n={nonce}")
    assert answer.status == 400
    assert answer.body.startswith(b"n: 16 to 64 of")


@pytest.mark.parametrize("host", ["", "a b", "x" * 300, "a/b", "[::1", "a:b:c", "host:999999"])
async def test_a_bad_host_is_never_signed(host: str) -> None:
    async with serving() as site:
        answer = await ask(site, f"/generate_204?n={NONCE}", host=host)
    assert answer.status == 400
    assert "x-wanggan-signature" not in answer.fields


async def test_an_ipv6_host_is_signed_as_it_stands() -> None:
    async with serving() as site:
        answer = await ask(site, f"/generate_204?n={NONCE}", host="[2001:db8::1]:8863")
    assert portal_check.is_signed(PORTAL_KEY, NONCE, "[2001:db8::1]", answer.fields["x-wanggan-signature"])


async def test_the_portal_check_alone_serves_nothing_else() -> None:
    async with serving() as site:
        alone = Web("127.0.0.1", 0, portal_application(PORTAL_KEY), site.connections)
        alone.open()
        task = asyncio.create_task(alone.run(), name="port 80")
        port, site.web.port = site.web.port, alone.port
        assert (await ask(site, f"/generate_204?n={NONCE}")).fields["x-wanggan-signature"]
        assert (await ask(site, "/metrics")).status == 404
        site.web.port = port
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


# Segments


async def test_a_segment_is_random_and_as_long_as_asked() -> None:
    async with serving() as site:
        test = site.video()
        answer = await ask(site, "/segment?bytes=1500001", f"{TEST_HEADER}: {test.id}.{test.secret}")
    assert (answer.status, len(answer.body)) == (200, 1_500_001)
    assert answer.fields["content-length"] == "1500001"
    assert answer.fields["cache-control"] == "no-store"
    assert len(zlib.compress(answer.body[:1_000_000], 1)) > 990_000
    assert test.bytes == 1_500_001


async def test_segments_follow_on_one_connection() -> None:
    async with serving() as site:
        test = site.video()
        reader, writer = await asyncio.open_connection("127.0.0.1", site.web.port)
        for size in (100_000, 1, 200_000):
            request = f"GET /segment?bytes={size} HTTP/1.1\r\nHost: r\r\n{TEST_HEADER}: {test.id}.{test.secret}\r\n\r\n"
            writer.write(request.encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert head.startswith(b"HTTP/1.1 200")
            assert len(await asyncio.wait_for(reader.readexactly(size), 10)) == size
        writer.transport.abort()
        assert test.bytes == 300_001


@pytest.mark.parametrize(
    "field",
    [
        "X: y",
        f"{TEST_HEADER}: ",
        f"{TEST_HEADER}: {'t' * 16}.{'s' * 16}",
        f"{TEST_HEADER}: {'t' * 400}",
        f"{TEST_HEADER}: ../../etc/passwd",
    ],
)
async def test_no_segment_without_a_test(field: str) -> None:
    async with serving() as site:
        site.video()
        answer = await ask(site, "/segment?bytes=1000", field)
        assert site.counts.of("http_refused", "bad_token") == 1
    assert answer.status == 403
    assert len(answer.body) < 200


async def test_no_segment_with_another_s_secret_or_direction_or_after_the_end() -> None:
    async with serving(Limits(pause_s=0, capacity_mbps=10_000)) as site:
        one, two = site.video("lib-01"), site.video("lib-02")
        assert (await ask(site, "/segment?bytes=9", f"{TEST_HEADER}: {one.id}.{two.secret}")).status == 403
        down = site.admission.admit(
            Hello(agent="lib-03", direction="down", duration_s=3, streams=1, byte_cap=1000), NONCE, "127.0.0.1"
        )
        assert isinstance(down, admission.Test)
        assert (await ask(site, "/segment?bytes=9", f"{TEST_HEADER}: {down.id}.{down.secret}")).status == 403
        one.release()
        assert (await ask(site, "/segment?bytes=9", f"{TEST_HEADER}: {one.id}.{one.secret}")).status == 403


@pytest.mark.parametrize("size", ["", "0", "-1", "5000001", "99999999999999999999", "1e6", "٣"])
async def test_a_size_that_is_none(size: str) -> None:
    async with serving() as site:
        test = site.video()
        answer = await ask(site, f"/segment?bytes={size}", f"{TEST_HEADER}: {test.id}.{test.secret}")
    assert answer.status == 400
    assert test.bytes == 0


async def test_the_byte_cap_of_the_test_holds() -> None:
    async with serving() as site:
        test = site.video(byte_cap=1_000_000)
        field = f"{TEST_HEADER}: {test.id}.{test.secret}"
        assert (await ask(site, "/segment?bytes=600000", field)).status == 200
        refused = await ask(site, "/segment?bytes=600000", field)
        assert (refused.status, b"byte cap" in refused.body) == (429, True)
        assert (await ask(site, "/segment?bytes=400000", field)).status == 200
        assert test.bytes == 1_000_000


async def test_guessing_is_not_listened_to_for_long() -> None:
    async with serving() as site:
        test = site.video()
        statuses = [(await ask(site, "/segment?bytes=9", f"{TEST_HEADER}: {NONCE}.{NONCE}")).status for _ in range(12)]
        assert statuses == [403] * 10 + [429] * 2
        answer = await ask(site, "/segment?bytes=9", f"{TEST_HEADER}: {test.id}.{test.secret}")
    assert answer.status == 200, "whoever has the secret is no guesser"


async def test_a_segment_ends_with_its_test() -> None:
    async with serving() as site:
        test = site.video()
        reader, writer = await asyncio.open_connection("127.0.0.1", site.web.port, limit=1024)
        writer.write(
            f"GET /segment?bytes=5000000 HTTP/1.1\r\nHost: r\r\n{TEST_HEADER}: {test.id}.{test.secret}\r\n\r\n".encode()
        )
        await reader.readexactly(1000)
        test.release()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(5_000_000), 10)
        writer.transport.abort()
        await settle(site)


async def test_a_segment_is_paced() -> None:
    async with serving(Limits(pause_s=0, per_test_mbps=40)) as site:
        test = site.video()
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        answer = await ask(site, "/segment?bytes=4000000", f"{TEST_HEADER}: {test.id}.{test.secret}")
        elapsed_s = loop.time() - started_s
    assert len(answer.body) == 4_000_000
    assert 0.6 < elapsed_s < 2.0


# Metrics, health, page


async def test_metrics_are_prometheus_text() -> None:
    async with serving(Limits(pause_s=0, capacity_mbps=1000, per_test_mbps=100)) as site:
        test = site.video()
        await ask(site, "/segment?bytes=1000", f"{TEST_HEADER}: {test.id}.{test.secret}")
        test.release()
        site.video("lib-02")
        await ask(site, "/segment?bytes=1000")
        site.counts.add("stamp_dropped", 'od"d\\')
        await asyncio.sleep(0.3)
        answer = await ask(site, "/metrics")
    assert answer.fields["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = answer.body.decode()
    for line in text.splitlines():
        assert re.fullmatch(
            r"# (HELP|TYPE) wanggan_reflector_\w+ .+|wanggan_reflector_\w+(\{\w+=\"([^\"\\]|\\.)*\"\})? [0-9.e+-]+",
            line,
        ), line
    for line in (
        "wanggan_reflector_slots 8",
        "wanggan_reflector_slots_in_use 1",
        'wanggan_reflector_tests_admitted_total{protocol="video"} 2',
        'wanggan_reflector_payload_bytes_total{direction="video"} 1000',
        'wanggan_reflector_http_refused_total{reason="bad_token"} 1',
        'wanggan_reflector_stamp_dropped_total{reason="od\\"d\\\\"} 1',
        "wanggan_reflector_connections_open 1",
        "wanggan_reflector_draining 0",
    ):
        assert f"\n{line}\n" in text, line
    assert re.search(r"\nwanggan_reflector_loop_lag_p95_seconds 0\.\d+\n", text)
    assert int(re.findall(r"\nwanggan_reflector_resident_memory_bytes (\d+)\n", text)[0]) > 10_000_000
    names = re.findall(r"# TYPE (\S+)", text)
    assert len(names) == len(set(names))


async def test_health_says_when_it_drains() -> None:
    async with serving() as site:
        well = await ask(site, "/health")
        site.admission.draining = True
        drains = await ask(site, "/health")
        page = await ask(site, "/", "Accept-Language: en")
    assert (well.status, drains.status) == (200, 503)
    assert json.loads(well.body)["draining"] is False
    assert json.loads(drains.body)["draining"] is True
    assert b"About to stop" in page.body


async def test_the_page_in_two_languages() -> None:
    async with serving() as site:
        zh = await ask(site, "/", "Accept-Language: zh-CN,zh;q=0.9,en;q=0.8")
        en = await ask(site, "/", "Accept-Language: en-GB,en;q=0.9,zh;q=0.1")
        other = await ask(site, "/")
        head = await ask(site, "/", method="HEAD")
    assert "网感反射器" in zh.body.decode()
    assert "运行正常" in other.body.decode()
    assert "In service" in en.body.decode()
    assert "NDT7 (HTTP)</td><td>off</td>" in en.body.decode()
    assert zh.fields["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in zh.fields["content-security-policy"]
    assert (head.status, head.body) == (200, b"")
    assert not re.search(r"(src|href)=", zh.body.decode()), "it needs no second request"


async def test_the_page_says_what_is_wrong() -> None:
    async with serving(Limits(pause_s=0, capacity_mbps=100, per_test_mbps=100)) as site:
        site.video()
        await ask(site, "/segment?bytes=1")
        full = (await ask(site, "/", "Accept-Language: en")).body.decode()
        site.load._late_s.extend([0.5] * 240)
        late = (await ask(site, "/", "Accept-Language: en")).body.decode()
    assert "Every slot is taken" in full
    assert "<td>video</td><td>1</td>" in full
    assert "<td>HTTP requests: bad token</td><td>1</td>" in full
    assert "too busy" in late
    assert "500.0 ms" in late


# What it does not put up with


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n", 404),
        (b"POST / HTTP/1.1\r\nHost: r\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 405),
        (b"DELETE /generate_204 HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n", 405),
        (b"POST /generate_204 HTTP/1.1\r\nHost: r\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 100_000, 405),
        (b"GET / HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n" + b"x" * 1000, 200),
        (b"\x00\xff\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: r\r\nExpect: 100-\xf4\r\n\r\n", 400),
        (b"GET /nowhere HTTP/1.1\r\nHost: r\r\nExpect: \xff\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500, 400),
        (b"GET / SMTP\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: r\r\nX: " + b"a" * 10_000 + b"\r\n\r\n", 400),
        (b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: r\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: r\r\n" + b"".join(b"X%d: y\r\n" % i for i in range(200)) + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: r\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: r\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    ],
)
async def test_nonsense_is_answered_shortly_and_closed(
    request_head: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serving() as site:
        answer = Answer(await say(site, request_head))
        assert answer.status in (status, 0), "a reset may overtake the answer to what is left unread"
        assert len(answer.body) < 5_000
        await settle(site)
        assert (await ask(site, "/generate_204")).status == 204
    assert caplog.records == [], "hostile input costs no log line"


async def test_a_plain_request_is_answered_though_it_has_a_body() -> None:
    async with serving() as site:
        answer = Answer(await say(site, b"GET /health HTTP/1.1\r\nHost: r\r\nContent-Length: 5\r\n\r\nhello"))
        assert answer.status == 200
        await settle(site)


@pytest.mark.parametrize("start", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nX: y\r\n"])
async def test_who_keeps_still_is_let_go(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "IDLE_S", 0.2)
    async with serving() as site:
        assert await say(site, start, 5) == b""
        await settle(site)


async def test_a_head_that_trickles_in_does_not_keep_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "IDLE_S", 0.3)
    async with serving() as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.web.port)
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        with contextlib.suppress(ConnectionError):
            for byte in b"GET / HTTP/1.1\r\nX-Slow: " + b"a" * 1000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)
                if reader.at_eof():
                    break
        assert loop.time() - started_s < 2
        writer.transport.abort()
        await settle(site)


async def test_a_kept_connection_that_keeps_still_is_let_go_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "IDLE_S", 0.3)
    async with serving() as site:
        raw = await say(site, b"GET /generate_204 HTTP/1.1\r\nHost: r\r\n\r\nGET / HTTP/1.1\r\nHo", 5)
        assert raw.startswith(b"HTTP/1.1 204")
        await settle(site)


async def test_no_connection_lives_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks and asks and reads nothing blocks its own connection, and that not for long."""
    monkeypatch.setattr(web, "LIFE_S", 0.5)
    async with serving() as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.web.port, limit=256)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(20_000):
            writer.write(b"GET / HTTP/1.1\r\nHost: r\r\n\r\n")
        await asyncio.sleep(0.2)
        assert (await ask(site, "/health")).status == 200
        await settle(site)
        writer.transport.abort()


async def test_connections_of_one_source_are_bounded_and_free_again() -> None:
    async with serving(Limits(pause_s=0, connections=5)) as site:
        held = [await asyncio.open_connection("127.0.0.1", site.web.port) for _ in range(5)]
        await settle(site, 5)
        assert await say(site, b"GET / HTTP/1.1\r\nHost: r\r\n\r\n", 5) == b""
        assert site.counts.of("connections_refused", "source") >= 1
        for _, writer in held:
            writer.transport.abort()
        await settle(site)
        assert (await ask(site, "/generate_204")).status == 204


async def test_a_thousand_connections_leave_nothing() -> None:
    async with serving(Limits(pause_s=0, connections=1000), total=100) as site:
        await ask(site, "/")
        before = descriptors()
        tasks_before = len(asyncio.all_tasks())
        for _ in range(10):
            held = await asyncio.gather(
                *(asyncio.open_connection("127.0.0.1", site.web.port) for _ in range(100)), return_exceptions=True
            )
            for number, pair in enumerate(held):
                if isinstance(pair, BaseException):
                    continue
                with contextlib.suppress(ConnectionError):
                    pair[1].write([b"", b"GET / HTTP/1.1\r\nHost: r\r\n\r\n", b"\xff" * 50, b"GET"][number % 4])
            await asyncio.sleep(0.05)
            for pair in held:
                if not isinstance(pair, BaseException):
                    pair[1].transport.abort()
        await settle(site)
        await asyncio.sleep(0.1)
        assert descriptors() <= before
        assert len(asyncio.all_tasks()) <= tasks_before
        assert (await ask(site, "/generate_204")).status == 204


async def test_stopping_closes_what_is_open() -> None:
    async with serving() as site:
        test = site.video()
        reader, writer = await asyncio.open_connection("127.0.0.1", site.web.port, limit=1024)
        writer.write(
            f"GET /segment?bytes=5000000 HTTP/1.1\r\nHost: r\r\n{TEST_HEADER}: {test.id}.{test.secret}\r\n\r\n".encode()
        )
        await reader.readexactly(1000)
        idle = await asyncio.open_connection("127.0.0.1", site.web.port)
        loop = asyncio.get_running_loop()
        started_s = loop.time()
    assert loop.time() - started_s < 1
    assert site.connections.open == 0
    writer.transport.abort()
    idle[1].transport.abort()
