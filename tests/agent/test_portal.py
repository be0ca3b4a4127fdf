"""Portal against real servers: the reflector's own signed 204, and everybody who may answer in its place."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import portal_check
from agent.clock import SystemClock
from agent.config import ConfigError, parse
from agent.facts import Facts
from agent.probe import Context, Failure, Target
from agent.probes import portal
from agent.probes.portal import PortalSettings
from contract.values import Portal
from tests.agent.lab import Namespace, cable
from tests.reflector.site import PORTAL_KEY, serving

EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlogin"
TO_LOGIN = (
    b"HTTP/1.1 302 Found\r\nLocation: http://Login.Portal.test:8080/auth?usermac=02-00-00-00-01-00&token=abc\r\n"
    b"Content-Length: 0\r\n\r\n"
)
LOG_IN_FIRST = b"HTTP/1.1 511 Network Authentication Required\r\nContent-Length: 5\r\n\r\nlogin"
FORGED = b"HTTP/1.1 204 No Content\r\nX-Wanggan-Signature: " + b"0" * 64 + b"\r\n\r\n"
BROKEN = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


@asynccontextmanager
async def saying(answer: bytes | None) -> AsyncIterator[int]:
    """A server that gives everybody one answer; None: that accepts and keeps silent. Its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is not None:
            writer.write(answer)
            writer.close()
        else:
            await reader.read()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def reflector() -> AsyncIterator[int]:
    async with serving(keys=None) as site:
        yield site.web.port


@asynccontextmanager
async def others(*answers: bytes | None) -> AsyncIterator[tuple[str, ...]]:
    """Second opinions that give these answers; their addresses."""
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(saying(answer)) for answer in answers]
        yield tuple(f"http://127.0.0.1:{port}/generate_204" for port in ports)


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    (tmp_path / "portal.key").write_bytes(PORTAL_KEY + b"\n")
    (tmp_path / "portal.key").chmod(0o600)
    return str(tmp_path / "portal.key")


def context(key_file: str, port: int) -> Context:
    return Context(
        agent="lib-01",
        interface="lo",
        clock=SystemClock(),
        facts=Facts(),
        timeout_s=25.0,
        target=Target(role="core", host="127.0.0.1", port=port, key_file=key_file),
    )


async def state(key_file: str, port: int, urls: tuple[str, ...] = (), **more: Any) -> tuple[Portal, str | None]:
    """The values, and the reason of the failure that brought them."""
    at = context(key_file, port)
    settings = PortalSettings(second_opinions=urls, internet_expected=bool(urls), **more)
    try:
        return await portal.measure(settings, at), None
    except Failure as failure:
        assert isinstance(at.values, Portal)
        return at.values, failure.reason


async def test_open_by_the_reflector_s_signature_and_one_second_opinion(key_file: str) -> None:
    async with reflector() as port, others(EMPTY, PAGE) as urls:
        values, reason = await state(key_file, port, urls)
    assert (values.state, reason, values.http_status, values.portal_ms) == ("open", None, 204, None)
    assert values.detect_ms is not None
    assert values.detect_ms > 0


async def test_open_where_no_internet_is_expected(key_file: str) -> None:
    async with reflector() as port:
        values, reason = await state(key_file, port)
    assert (values.state, reason) == ("open", None)


async def test_open_by_two_others_when_the_reflector_is_gone(key_file: str, unused_tcp_port: int) -> None:
    async with others(EMPTY, EMPTY, PAGE) as urls:
        values, reason = await state(key_file, unused_tcp_port, urls)
    assert (values.state, reason) == ("open", None)
    async with saying(BROKEN) as port, others(EMPTY, EMPTY) as urls:
        values, reason = await state(key_file, port, urls)
    assert (values.state, reason) == ("open", None)


async def test_one_other_alone_proves_nothing(key_file: str, unused_tcp_port: int) -> None:
    async with others(EMPTY) as urls:
        values, _ = await state(key_file, unused_tcp_port, urls)
    assert values.state == "unknown"


async def test_walled_when_only_our_own_is_let_through(key_file: str) -> None:
    async with reflector() as port, others(TO_LOGIN, PAGE) as urls:
        values, reason = await state(key_file, port, urls)
    assert (values.state, reason) == ("walled", "portal")


async def test_a_redirect_is_not_followed_and_only_its_host_is_kept(key_file: str) -> None:
    async with saying(TO_LOGIN) as port, others(TO_LOGIN) as urls:
        values, reason = await state(key_file, port, urls)
    assert (values.state, reason) == ("portal", "portal")
    assert (values.portal_host, values.http_status) == ("login.portal.test", 302)
    assert values.portal_ms is not None
    assert values.detect_ms is not None
    assert values.portal_ms >= values.detect_ms > 0


@pytest.mark.parametrize("answer", [PAGE, LOG_IN_FIRST, FORGED, EMPTY], ids=["page", "511", "forged", "unsigned"])
async def test_answers_of_somebody_else_are_a_portal(key_file: str, answer: bytes) -> None:
    async with saying(answer) as port, others(EMPTY, EMPTY) as urls:
        values, reason = await state(key_file, port, urls)
    assert (values.state, reason, values.portal_host) == ("portal", "portal", None)
    assert values.http_status == int(answer.split()[1])


async def test_a_signature_for_another_nonce_or_with_another_key_is_a_portal(key_file: str) -> None:
    Path(key_file).write_text("some other key\n")
    async with reflector() as port, others(EMPTY) as urls:
        values, reason = await state(key_file, port, urls)
    assert (values.state, reason, values.http_status) == ("portal", "portal", 204)


async def test_a_second_opinion_shows_the_portal_when_our_own_gets_no_answer(
    key_file: str, unused_tcp_port: int
) -> None:
    async with others(TO_LOGIN) as urls:
        values, reason = await state(key_file, unused_tcp_port, urls)
    assert (values.state, reason, values.portal_host) == ("portal", "portal", "login.portal.test")


async def test_limited_when_nobody_speaks(key_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portal_check, "CHECK_S", 0.4)
    async with saying(None) as port, others(None) as urls:
        values, reason = await state(key_file, port, urls)
    assert (values.state, reason, values.detect_ms) == ("limited", "timeout", None)
    async with saying(b"SSH-2.0-x\r\n\r\n") as port:
        values, reason = await state(key_file, port)
    assert (values.state, reason) == ("limited", "http_status")


async def test_limited_when_only_tls_fails(key_file: str, unused_tcp_port: int) -> None:
    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EMPTY)
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        values, reason = await state(key_file, unused_tcp_port, (f"https://127.0.0.1:{port}/generate_204",))
    assert (values.state, reason) == ("limited", "tls_failed")


async def test_no_internet_when_nothing_gets_out(key_file: str, unused_tcp_port: int) -> None:
    values, reason = await state(key_file, unused_tcp_port, (f"http://127.0.0.1:{unused_tcp_port}/generate_204",))
    assert (values.state, reason, values.http_status) == ("no_internet", "refused", None)


async def test_unknown_when_the_check_itself_fails(key_file: str) -> None:
    async with saying(BROKEN) as port, others(BROKEN) as urls:
        values, reason = await state(key_file, port, urls)
    assert (values.state, reason, values.http_status) == ("unknown", "http_status", 503)


async def test_an_allow_listed_box_does_not_say_good(key_file: str) -> None:
    async with reflector() as port, others(EMPTY) as urls:
        values, reason = await state(key_file, port, urls, allow_listed=True)
    assert (values, reason) == (Portal(), None)
    async with saying(TO_LOGIN) as port, others(EMPTY) as urls:
        values, reason = await state(key_file, port, urls, allow_listed=True)
    assert (values.state, reason) == ("portal", "portal"), "its entry has ended: that must be seen"


async def test_a_long_page_is_read_to_its_cap_only(key_file: str) -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536
        except ConnectionError:
            pass

    async with await asyncio.start_server(flood, "127.0.0.1", 0) as server:
        values, reason = await state(key_file, server.sockets[0].getsockname()[1])
    assert (values.state, reason) == ("portal", "portal")
    assert sent < 20_000_000, "what the kernel's buffers take, not the flood"


async def test_a_key_that_cannot_be_read_is_our_own_fault(key_file: str) -> None:
    Path(key_file).unlink()
    with pytest.raises(Failure) as caught:
        await portal.measure(PortalSettings(), context(key_file, 9))
    assert caught.value.reason == "no_permission"


@given(st.text(max_size=60))
def test_of_any_location_only_a_host_is_kept(location: str) -> None:
    asked = portal_check.http1.Place(False, "check.test", 80, "/")
    host = portal_check._host_of(location, asked)
    assert host is None or not set(host) & set(" /?#@=&\n\r\0\u2028")


def test_of_a_hostile_location_nothing_is_kept() -> None:
    asked = portal_check.http1.Place(False, "check.test", 80, "/")
    for location in ("http://[broken", "http://user:pass@/", "http://a b/", "http://x\x00y/", "http://" + "a" * 300):
        assert portal_check._host_of(location, asked) in (None, "check.test"), location
    assert portal_check._host_of("http://user:secret@h.test/?mac=1", asked) == "h.test"
    assert portal_check._host_of("/login?mac=1", asked) == "check.test"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("", "portal checks a signature; add key_file to [targets.core]"),
        ('second_opinions = ["http://-x/"]\n', "cannot be visited"),
        ('second_opinions = ["ftp://x/"]\n', "an address that starts with http:// or https://"),
        ("internet_expect = false\n", "unknown key; did you mean internet_expected?"),
    ],
)
def test_mistakes_in_its_configuration(tmp_path: Path, key_file: str, more: str, words: str) -> None:
    key = f"key_file = {json.dumps(key_file)}\n" if more else ""
    text = (
        'agent = "lib-01"\nstate = "state"\ninterface = "wlan0"\n[mqtt]\nhost = "127.0.0.1"\ntls = false\n'
        f'[targets.core]\nrole = "core"\nhost = "192.0.2.1"\n{key}'
        f'[[jobs]]\nprobe = "portal"\ntarget = "core"\nperiod_s = 300\n{more}'
    )
    with pytest.raises(ConfigError) as caught:
        parse(text, tmp_path)
    assert words in str(caught.value)


# States of the network itself, each in a namespace of its own


@contextmanager
def dnsmasq(space: Namespace, *words: str) -> Iterator[None]:
    argv = space.argv(
        "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file=",
        "--user=root", "--listen-address=10.77.0.2", *words,
    )  # fmt: skip
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
        try:
            space_ready(space)
            yield
        finally:
            process.terminate()


def space_ready(space: Namespace) -> None:
    space.run("sh", "-c", "for i in $(seq 200); do ss -lun | grep -q :53 && exit; sleep 0.02; done; exit 1")


def once(space: Namespace, key_file: str, host: str, *urls: str) -> dict[str, Any]:
    words = ["--server", host, "--key-file", key_file, "--interface", "v0", "--set"]
    return space.once("portal", *words, f"second_opinions={json.dumps(urls)}")


OTHERS = ("http://one.test/generate_204", "http://two.example/generate_204")


def ends(record: dict[str, Any]) -> tuple[str, str, str]:
    return record["values"]["state"], record["outcome"], record["reason"]


def test_no_ip(key_file: str) -> None:
    with cable() as (here, _):
        here.ip("addr", "flush", "dev", "v0")
        here.ip("addr", "add", "169.254.7.7/16", "dev", "v0")
        record = once(here, key_file, "10.77.0.2", *OTHERS)
    assert ends(record) == ("no_ip", "failed", "dhcp_failed"), record


def test_no_dns_when_the_resolver_is_silent(key_file: str) -> None:
    with cable() as (here, there):
        there.nft("add table ip f; add chain ip f c { type filter hook input priority 0; };"
                  "add rule ip f c udp dport 53 drop")  # fmt: skip
        here.files(hosts="127.0.0.1 localhost\n", resolv="nameserver 10.77.0.2\noptions timeout:1 attempts:1\n")
        record = once(here, key_file, "10.77.0.2", *OTHERS)
    assert ends(record) == ("no_dns", "failed", "dns_failed"), record


@pytest.mark.parametrize(
    "answers",
    [["--address=/#/8.8.8.8"], ["--address=/one.test/10.0.0.1", "--address=/two.example/8.8.4.4"]],
    ids=["one place", "a private one"],
)
def test_dns_hijack(key_file: str, answers: list[str]) -> None:
    with cable() as (here, there), dnsmasq(there, *answers):
        here.files(hosts="127.0.0.1 localhost\n", resolv="nameserver 10.77.0.2\n")
        record = once(here, key_file, "10.77.0.2", *OTHERS)
    assert ends(record) == ("dns_hijack", "failed", "dns_hijacked"), record


def test_no_internet_behind_a_gateway_that_drops(key_file: str) -> None:
    with cable() as (here, _):
        here.ip("route", "add", "default", "via", "10.77.0.2")
        record = once(here, key_file, "8.8.1.1")
    assert ends(record) == ("no_internet", "failed", "timeout"), record
