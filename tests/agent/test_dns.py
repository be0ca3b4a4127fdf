"""DNS against a real resolver (dnsmasq) and against sockets that misbehave."""

import asyncio
import gc
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from agent.clock import SystemClock
from agent.facts import Facts
from agent.probe import Context, Failure, NameServer, Target
from agent.probes import dns
from agent.probes.dns import DnsSettings
from agent.resolver import AresError, Resolver, resolve
from contract.values import Dns
from tests.agent.lab import latency_job, namespace


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def dnsmasq(*words: str) -> Iterator[int]:
    """A resolver on loopback that knows nothing but what `words` say; its port."""
    port = free_udp_port()
    argv = [
        "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file=",
        "--user=root", "--bind-interfaces", "--listen-address=127.0.0.1,::1", f"--port={port}", *words,
    ]  # fmt: skip
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(200):
                with socket.socket() as sock:
                    if sock.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            yield port
        finally:
            process.terminate()


NAMES = (
    "--host-record=www.test,9.9.9.9,2620:fe::fe",
    "--host-record=portal.test,10.0.0.1",
    "--cname=alias.test,www.test",
    "--host-record=four.test,8.8.4.4",
    "--local=/test/",
    *(f"--host-record=many.test,8.8.{n // 250}.{n % 250 + 1}" for n in range(120)),
)
"""All else is refused: there is nobody to ask."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with dnsmasq(*NAMES) as found:
        yield found


def context(name: str, port: int, address: str = "127.0.0.1") -> Context:
    return Context(
        agent="lib-01",
        interface="lo",
        clock=SystemClock(),
        facts=Facts(),
        timeout_s=5.0,
        target=Target(role="service", host=name),
        resolver=NameServer(address=address, port=port),
    )


async def fails(settings: DnsSettings, at: Context) -> tuple[str, Dns]:
    with pytest.raises(Failure) as caught:
        await dns.measure(settings, at)
    assert isinstance(at.values, Dns)
    return caught.value.reason, at.values


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_answer(port: int, address: str) -> None:
    values = await dns.measure(DnsSettings(), context("www.test", port, address))
    assert (values.name, values.rcode, values.answers, values.family) == ("www.test", "NOERROR", 1, "a")
    assert values.transport == "udp"
    assert values.rtt_ms is not None
    assert 0 < values.rtt_ms < 1000


async def test_other_family_and_alias(port: int) -> None:
    assert (await dns.measure(DnsSettings(family="aaaa"), context("www.test", port))).answers == 1
    assert (await dns.measure(DnsSettings(), context("alias.test", port))).answers == 2


async def test_long_answer_comes_over_tcp(port: int) -> None:
    values = await dns.measure(DnsSettings(), context("many.test", port))
    assert (values.transport, values.answers) == ("tcp", 120)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_tcp_from_the_start(port: int, address: str) -> None:
    values = await dns.measure(DnsSettings(transport="tcp"), context("www.test", port, address))
    assert (values.transport, values.answers, values.rcode) == ("tcp", 1, "NOERROR")
    reason, values = await fails(DnsSettings(transport="tcp"), context("none.test", port))
    assert (reason, values.transport, values.rcode) == ("nxdomain", "tcp", "NXDOMAIN")


async def test_name_that_is_missing(port: int) -> None:
    reason, values = await fails(DnsSettings(), context("none.test", port))
    assert (reason, values.rcode, values.answers) == ("nxdomain", "NXDOMAIN", 0)
    assert values.rtt_ms is not None
    with pytest.raises(Failure, match=r"^nxdomain: none\.test$"):  # reason and rcode say the rest
        await dns.measure(DnsSettings(), context("none.test", port))


async def test_name_without_an_address_of_the_family(port: int) -> None:
    reason, values = await fails(DnsSettings(family="aaaa"), context("four.test", port))
    assert (reason, values.rcode) == ("nxdomain", "NOERROR")


async def test_resolver_that_refuses_to_answer(port: int) -> None:
    reason, values = await fails(DnsSettings(), context("www.example.com", port))
    assert (reason, values.rcode) == ("dns_failed", "REFUSED")


async def test_closed_port_is_refused_at_once() -> None:
    started_s = time.monotonic()
    reason, values = await fails(DnsSettings(), context("www.test", free_udp_port()))
    assert (reason, values.rtt_ms, values.rcode) == ("refused", None, None)
    assert time.monotonic() - started_s < 1.5, "and not when its 2 s are over"


async def test_private_answer_is_a_hijack_unless_expected(port: int) -> None:
    reason, values = await fails(DnsSettings(), context("portal.test", port))
    assert (reason, values.answers) == ("dns_hijacked", 1)
    assert (await dns.measure(DnsSettings(expect=("10.0.0.0/8",)), context("portal.test", port))).answers == 1


async def test_answer_outside_of_what_is_expected(port: int) -> None:
    reason, _ = await fails(DnsSettings(expect=("10.0.0.0/8",)), context("www.test", port))
    assert reason == "dns_hijacked"


async def test_invented_name(port: int) -> None:
    values = await dns.measure(DnsSettings(random_label=True), context("www.test", port))
    assert (values.rcode, values.answers) == ("NXDOMAIN", 0)
    assert values.name is not None
    assert re.fullmatch(r"[0-9a-f]{16}\.www\.test", values.name)
    with dnsmasq("--address=/#/9.9.9.9") as lying:
        reason, _ = await fails(DnsSettings(random_label=True), context("www.test", lying))
    assert reason == "dns_hijacked"


async def test_no_answer_is_a_timeout_after_two_seconds() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        started_s = time.monotonic()
        reason, values = await fails(DnsSettings(), context("www.test", silent.getsockname()[1]))
    assert (reason, values.rtt_ms, values.transport) == ("timeout", None, "udp")
    assert 1.9 < time.monotonic() - started_s < 4


class Saying(asyncio.DatagramProtocol):
    """A resolver that answers every question with one rcode, or with rubbish."""

    def __init__(self, rcode: int | None) -> None:
        self._rcode = rcode

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._rcode is None:
            self._transport.sendto(b"\xff" * 5, addr)
            return
        end = data.index(b"\0", 12) + 5
        header = data[:2] + struct.pack("!HHHHH", 0x8180 | self._rcode, 1, 0, 0, 0)
        self._transport.sendto(header + data[12:end], addr)


@pytest.mark.parametrize(("rcode", "name"), [(2, "SERVFAIL"), (5, "REFUSED"), (4, "NOTIMP")])
async def test_error_of_the_resolver(rcode: int, name: str) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Saying(rcode), local_addr=("127.0.0.1", 0))
    try:
        port = transport.get_extra_info("sockname")[1]
        reason, values = await fails(DnsSettings(), context("www.test", port))
    finally:
        transport.close()
    assert (reason, values.rcode) == ("dns_failed", name)
    assert values.rtt_ms is not None


async def test_rubbish_is_no_answer() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Saying(None), local_addr=("127.0.0.1", 0))
    try:
        reason, values = await fails(DnsSettings(), context("www.test", transport.get_extra_info("sockname")[1]))
    finally:
        transport.close()
    assert reason in ("timeout", "dns_failed")
    assert values.rtt_ms is None


async def test_no_cache_of_ours(port: int) -> None:
    """The second question reaches the resolver as the first did: when it is gone, there is no answer."""
    with dnsmasq(*NAMES) as short_lived:
        await dns.measure(DnsSettings(), context("www.test", short_lived))
    reason, _ = await fails(DnsSettings(), context("www.test", short_lived))
    assert reason == "refused"


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_fifty_questions_without_an_answer_leave_nothing_behind() -> None:
    async def ask() -> None:
        async with Resolver("lo", servers=[f"127.0.0.1:{port}"], timeout_s=0.05) as resolver:
            with pytest.raises(AresError):
                await resolver.query("www.test", "a")

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        await ask()
        before = descriptors()
        for _ in range(5):
            await asyncio.gather(*(ask() for _ in range(10)))
        for _ in range(100):
            if descriptors() <= before + 2:
                break
            await asyncio.sleep(0.02)
        assert descriptors() <= before + 2
        assert threading.active_count() <= 8


async def test_cancelled_question_leaves_nothing_behind() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        task = asyncio.create_task(dns.measure(DnsSettings(), context("www.test", silent.getsockname()[1])))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.1)


async def test_cancelled_question_complains_to_nobody() -> None:
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about["message"]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await dns.measure(DnsSettings(), context("www.test", silent.getsockname()[1]))
    await asyncio.sleep(0)
    gc.collect()
    assert complaints == []


async def test_literal_addresses_are_not_asked_for() -> None:
    assert await resolve("192.0.2.7", "lo") == ["192.0.2.7"]
    assert await resolve("[2001:db8::7]", "lo") == ["2001:db8::7"]


def test_names_of_targets_come_from_the_systems_resolver(tmp_path: Path) -> None:
    with namespace() as here:
        folder = Path("/etc/netns") / here.name
        folder.mkdir(parents=True)
        try:
            (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
            argv = here.argv(
                "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file=",
                "--user=root", "--local=/test/", "--host-record=core.test,127.0.0.1",
            )  # fmt: skip
            none = here.once("latency", "--config", latency_job(tmp_path, "core.test", "lo"))
            with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
                try:
                    for _ in range(200):
                        if " 0100007F:0035 " in here.run("cat", "/proc/net/tcp"):
                            break
                        time.sleep(0.02)
                    found = here.once("latency", "--config", latency_job(tmp_path, "core.test", "lo"))
                    missing = here.once("latency", "--config", latency_job(tmp_path, "other.test", "lo"))
                finally:
                    process.terminate()
        finally:
            (folder / "resolv.conf").unlink()
            folder.rmdir()
    assert (found["outcome"], found["target"]) == ("ok", "core")
    assert (missing["outcome"], missing["reason"]) == ("failed", "nxdomain")
    assert (none["outcome"], none["reason"]) == ("failed", "dns_failed")


async def test_beside_dig(port: int) -> None:
    ours = [await dns.measure(DnsSettings(), context("www.test", port)) for _ in range(5)]
    said = subprocess.run(
        ["dig", "@127.0.0.1", "-p", str(port), "www.test", "A", "+short"],
        check=True,
        capture_output=True,
        text=True,
        timeout=10,
    )
    assert said.stdout.split() == ["9.9.9.9"]
    assert min(values.rtt_ms or 1e9 for values in ours) < 20
