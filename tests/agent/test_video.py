"""Video against the reflector's HTTP side over shaped links, and against servers that are late, break off and lie."""

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.facts import Facts
from agent.player import SEGMENT_S
from agent.probe import Context, Failure, Target
from agent.probes import video
from agent.probes.video import VideoSettings, ladder
from agent.uplink import Uplink
from contract.throughput import Admitted, Greeting, encode
from contract.values import Video
from reflector.admission import Limits
from tests.agent.lab import Namespace, cable
from tests.agent.reflector import reflector

pytestmark = pytest.mark.laboratory

NONCE = "n" * 24
SHORT = VideoSettings(duration_s=1.5)

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def context(port: int, *, key_file: str | None = None, metered: bool = False) -> Context:
    return Context(
        agent="lib-01",
        interface="lo",
        clock=SystemClock(),
        facts=Facts(),
        timeout_s=30.0,
        target=Target(role="core", host="127.0.0.1", port=port, key_file=key_file),
        uplink=Uplink(metered=metered),
    )


async def fails(port: int, settings: VideoSettings = SHORT) -> tuple[str, str, Video]:
    at = context(port)
    with pytest.raises(Failure) as caught:
        await video.measure(settings, at)
    assert isinstance(at.values, Video)
    return caught.value.reason, caught.value.detail or "", at.values


@asynccontextmanager
async def scripted(serve: Serve | None, *, http: bool = True) -> AsyncIterator[int]:
    """A reflector that admits everyone and whose HTTP side is `serve`; nobody listens there without one."""

    async def safely(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert serve is not None
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    segments = await asyncio.start_server(safely, "127.0.0.1", 0)
    http_port = segments.sockets[0].getsockname()[1]
    if serve is None:
        segments.close()

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        admitted = Admitted(test=NONCE, secret=NONCE, duration_s=12.0, byte_cap=25_000_000, congestion_control="cubic")
        writer.write(encode(Greeting(nonce=NONCE, http_port=http_port if http else None)))
        await reader.readline()
        writer.write(encode(admitted))
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    async with segments, await asyncio.start_server(control, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def read_request(reader: asyncio.StreamReader) -> int:
    """The size that is asked for."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    return int(head.split("bytes=")[1].split(" ")[0])


def head_of(size: int) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode()


# What a viewer would see


async def test_a_fast_line() -> None:
    said: list[str] = []
    async with reflector() as (_, port):
        at = context(port)
        at.progress = said.append
        values = await video.measure(VideoSettings(duration_s=5.0), at)
    assert values.start_s is not None
    assert values.start_s < 0.3
    assert (values.stall_count, values.stall_s, values.stall_ratio) == (0, 0.0, 0.0)
    assert values.played_s == pytest.approx(5.0 - values.start_s)
    # 0.8 first, then 8: while it plays 5 s it asks as long as no more than 10 s are ahead.
    assert values.switches == 1
    assert values.mean_mbps == pytest.approx((0.8 + 6 * 8) / 7, abs=0.5)
    assert "byte_cap" not in at.flags
    assert said[-1].startswith("8 Mbit/s, ")


async def test_stalls_are_counted_exactly() -> None:
    """Beside what the server's own times of sending imply, found by playing them in steps of a millisecond."""
    every = [(0.3, 1.5, 2.6, 0.4, 0.1), (0.1, 0.1, 0.1, 4.4), (0.5, 3.0), (0.2, 2.5, 2.5), (0.1, 0.2, 0.1, 0.2)]
    await asyncio.gather(*(check_stalls(delays) for delays in every))


async def check_stalls(delays: tuple[float, ...]) -> None:
    sent_s: list[float] = []
    started: list[float] = []
    loop = asyncio.get_running_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for delay_s in (*delays, *[99.0]):
            size = await read_request(reader)
            started.append(loop.time())
            await asyncio.sleep(delay_s)
            writer.write(head_of(size) + bytes(size))
            await writer.drain()
            sent_s.append(loop.time() - started[0])

    duration_s = 6.0
    async with scripted(serve) as port:
        values = await video.measure(VideoSettings(duration_s=duration_s), context(port))
    stalls, stalled_ms, played_ms = simulated([at_s for at_s in sent_s if at_s < duration_s], duration_s)
    assert values.start_s == pytest.approx(sent_s[0], abs=0.05)
    assert values.stall_count == stalls
    assert values.stall_s == pytest.approx(stalled_ms / 1000, abs=0.1)
    assert values.played_s == pytest.approx(played_ms / 1000, abs=0.1)
    assert values.stall_ratio == pytest.approx(stalled_ms / (stalled_ms + played_ms), abs=0.03)


def simulated(arrivals_s: list[float], duration_s: float) -> tuple[int, int, int]:
    """Stalls, stalled and played milliseconds, step by step."""
    stalls = stalled_ms = played_ms = 0
    ahead_ms, stalled, left = 0.0, False, [round(at_s * 1000) for at_s in arrivals_s]
    for now_ms in range(left[0], round(duration_s * 1000)):
        while left and left[0] <= now_ms:
            ahead_ms += SEGMENT_S * 1000
            left.pop(0)
            stalled = False
        if ahead_ms > 0:
            ahead_ms -= 1
            played_ms += 1
        else:
            stalls += not stalled
            stalled = True
            stalled_ms += 1
    return stalls, stalled_ms, played_ms


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@contextlib.contextmanager
def shaped(mbit: float) -> AsyncIterator[tuple[Namespace, int]]:  # type: ignore[misc]
    """An agent's namespace behind a link of this rate, and the reflector's port at 10.77.0.2."""
    with cable() as (here, there):
        there.run(
            "tc", "qdisc", "add", "dev", "v0", "root", "tbf", "rate", f"{mbit}mbit", "burst", "5kb", "latency", "300ms"
        )
        command = there.argv(sys.executable, "-m", "tests.agent.reflector", "10.77.0.2")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                yield here, int(process.stdout.readline())
            finally:
                process.kill()


def session(mbit: float) -> Video:
    with shaped(mbit) as (here, port):
        record = here.once("video", "--server", f"10.77.0.2:{port}", "--interface", "v0")
    assert record["outcome"] == "ok", record
    return Video(**record["values"])


@needs_root
async def test_shaped_links() -> None:
    """Side by side, each in its own namespaces: 12 s is the session."""
    slow, middle, fast = await asyncio.gather(*(asyncio.to_thread(session, mbit) for mbit in (0.3, 2, 20)))
    for values in (slow, middle, fast):
        assert values.start_s is not None
        assert values.stall_s is not None
        assert values.played_s is not None
        assert values.start_s + values.stall_s + values.played_s == pytest.approx(12.0, abs=0.02)
    # 1.6 Mbit over the goodput of the link.
    assert slow.start_s == pytest.approx(1.6 / (0.3 * 1448 / 1514), abs=0.2)
    assert slow.stall_count in (2, 3)
    assert slow.mean_mbps is not None
    assert slow.mean_mbps < 0.7
    assert middle.start_s == pytest.approx(1.6 / (2 * 1448 / 1514), abs=0.2)
    assert middle.stall_s < 0.5, "none, but on a machine that does other work"
    assert middle.mean_mbps == pytest.approx(1.41, abs=0.3)
    assert fast.start_s == pytest.approx(1.6 / (20 * 1448 / 1514), abs=0.2)
    assert fast.stall_s < 0.5
    assert fast.mean_mbps == pytest.approx(7.35, abs=0.3)


@needs_root
def test_other_peoples_traffic_is_flagged() -> None:
    flood = (
        "import socket, time\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nend = time.time() + 30\n"
        "while time.time() < end:\n    s.sendto(bytes(1400), ('10.77.0.2', 9)); time.sleep(0.0005)\n"
    )
    words = ("video", "--interface", "v0", "--set", "duration_s=4")
    with shaped(20) as (here, port):
        alone = here.once(*words, "--server", f"10.77.0.2:{port}")
        with subprocess.Popen(here.argv(sys.executable, "-c", flood)) as other:
            beside = here.once(*words, "--server", f"10.77.0.2:{port}")
            other.kill()
    assert (alone["outcome"], alone["flags"]) == ("ok", [])
    assert (beside["outcome"], beside["flags"]) == ("ok", ["cross_traffic"])


# Limits


async def test_it_holds_a_slot_while_it_runs_and_frees_it() -> None:
    async with reflector(Limits(pause_s=60)) as (site, port):
        running = asyncio.create_task(video.measure(SHORT, context(port)))
        await asyncio.sleep(0.5)
        assert site.admission.running == 1
        reason, detail, values = await fails(port)
        assert (reason, values) == ("no_slot", Video(stall_count=0, played_s=0.0))
        assert "no_slot" in detail
        await running
        for _ in range(100):
            if site.admission.running == 0:
                break
            await asyncio.sleep(0.01)
        assert site.admission.running == 0


async def test_metered_stays_small_and_says_so() -> None:
    async with reflector() as (site, port):
        at = context(port, metered=True)
        values = await video.measure(SHORT, at)
        for _ in range(100):
            if site.counts.of("payload_bytes"):
                break
            await asyncio.sleep(0.01)
        spent = site.counts.of("payload_bytes")
    assert "byte_cap" in at.flags
    assert values.mean_mbps is not None
    assert values.mean_mbps < 5
    assert 0 < spent <= 10_000_000


def test_the_ladder_fits_the_cap() -> None:
    assert ladder(12.0, 25_000_000)[-1] == 8.0
    assert ladder(12.0, 10_000_000)[-1] == 3.0
    assert ladder(12.0, 1) == (0.4,)
    assert VideoSettings().most_bytes(Uplink()) == 22_000_000
    assert VideoSettings().most_bytes(Uplink(metered=True)) == 8_250_000
    assert VideoSettings().least_s() == 12.0


async def test_memory_does_not_grow_with_the_segments() -> None:
    async with reflector() as (_, port):
        await video.measure(SHORT, context(port))
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await video.measure(VideoSettings(duration_s=4.0), context(port))
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 2_000


# Faults


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "reset"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "http_status"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "http_status"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://portal.test/\r\nContent-Length: 0\r\n\r\n", "portal"),
        (b"HTTP/1.1 511 Network Authentication Required\r\nContent-Length: 0\r\n\r\n", "portal"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nplease log in", "portal"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "portal"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "target_denied"),
        (b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", "target_denied"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 1000, "reset"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "http_status"),
    ],
)
async def test_answers_that_are_no_segment(answer: bytes, reason: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    async with scripted(serve) as port:
        found, detail, values = await fails(port)
    assert found == reason, detail
    assert values == Video(stall_count=0, played_s=0.0)


async def test_nobody_listens_for_http() -> None:
    async with scripted(None) as port:
        assert (await fails(port))[0] == "refused"
    async with scripted(None, http=False) as port:
        reason, detail, _ = await fails(port)
    assert (reason, "no HTTP" in detail) == ("target_denied", True)


async def test_a_break_in_the_middle_keeps_what_was_seen() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            size = await read_request(reader)
            writer.write(head_of(size) + bytes(size))
        await read_request(reader)
        await asyncio.sleep(0.5)
        writer.transport.abort()

    async with scripted(serve) as port:
        reason, _, values = await fails(port)
    assert reason == "reset"
    assert values.start_s is not None
    assert values.mean_mbps == pytest.approx((0.8 + 8) / 2)


async def test_no_segment_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10_000)
        await reader.read()

    async def trickles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head_of(await read_request(reader)))
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    monkeypatch.setattr(video, "NO_SEGMENT_S", 1.0)
    for serve in (silent, trickles):
        async with scripted(serve) as port:
            reason, detail, values = await fails(port)
        assert (reason, detail) == ("timeout", "no segment in 1 s")
        assert values == Video(stall_count=0, played_s=0.0)


async def test_an_outage_in_the_middle_is_a_stall() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = await read_request(reader)
        writer.write(head_of(size) + bytes(size))
        await reader.read()

    async with scripted(serve) as port:
        values = await video.measure(VideoSettings(duration_s=3.0), context(port))
    assert (values.stall_count, values.switches) == (1, 0)
    assert values.stall_s == pytest.approx(1.0, abs=0.2)
    assert values.played_s == pytest.approx(2.0, abs=0.01)


async def test_refusals_are_not_the_network_s_fault(tmp_path: Path) -> None:
    async with reflector(keys={"lib-01": (b"right",)}) as (_, port):
        assert (await fails(port))[0] == "no_permission"
        key = tmp_path / "key"
        key.write_text("right\n")
        values = await video.measure(SHORT, context(port, key_file=str(key)))
        assert values.stall_count == 0
    async with reflector(draining=True) as (_, port):
        assert (await fails(port))[0] == "target_down"


async def test_a_reflector_that_ends_the_test_is_said() -> None:
    async with reflector() as (site, port):
        task = asyncio.create_task(fails(port, VideoSettings(duration_s=10.0)))
        await asyncio.sleep(0.7)
        for test in list(site.admission._running.values()):
            test.release()
        reason, detail, values = await task
    assert reason in ("target_denied", "reset"), detail
    assert values.start_s is not None


async def test_cancelled_sessions_leave_nothing_behind() -> None:
    def descriptors() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    async with reflector() as (site, port):
        before = descriptors()
        for delay_s in (0.0, 0.001, 0.003, 0.01, 0.05, 0.3):
            task = asyncio.create_task(video.measure(SHORT, context(port)))
            await asyncio.sleep(delay_s)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        for _ in range(200):
            if site.admission.running == 0 and site.connections.open == 0 and descriptors() <= before:
                break
            await asyncio.sleep(0.01)
        assert site.admission.running == 0
        assert descriptors() <= before
