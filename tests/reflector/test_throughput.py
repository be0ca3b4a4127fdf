"""The throughput server over real sockets: what a good client gets, and what remains of every bad one (nothing)."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from contract import throughput
from contract.throughput import (
    LINE_S,
    MAX_LINE_BYTES,
    SERVER_GRACE_S,
    Greeting,
    Hello,
    Join,
    Joined,
    ProtocolError,
    Refused,
    Report,
    Start,
    sign,
)
from reflector import tcp
from reflector.admission import FAILED_HELLOS, Admission, Limits
from reflector.connections import Connections
from reflector.counts import Counts
from reflector.throughput import Throughput
from tests.reflector.peer import Peer, run_test

KEY, NEXT_KEY = b"the key of lib-01", b"the next key of it"


class House:
    """A server on a free port, and what it stands on."""

    def __init__(self, limits: Limits, keys: Mapping[str, tuple[bytes, ...]] | None, total: int, line_s: float) -> None:
        self.counts = Counts()
        self.connections = Connections(total, limits.connections, self.counts)
        self.admission = Admission(limits, keys, counts=self.counts, now=time.monotonic)
        self.server = Throughput(
            "127.0.0.1",
            0,
            admission=self.admission,
            connections=self.connections,
            counts=self.counts,
            line_s=line_s,
            udp_port=1234,
            http_port=5678,
        )

    @property
    def port(self) -> int:
        return self.server.port

    def peer(self, source: str = "127.0.0.1") -> Peer:
        return Peer(self.port, source)

    async def free(self) -> None:
        """Return when no test holds a slot."""
        async with asyncio.timeout(20):
            while self.admission.running:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(
    limits: Limits | None = None,
    keys: Mapping[str, tuple[bytes, ...]] | None = None,
    *,
    total: int = 256,
    line_s: float = LINE_S,
) -> AsyncIterator[House]:
    """Afterwards no slot, connection, task or descriptor is left of what happened."""
    house = House(limits or Limits(pause_s=0, per_test_mbps=400, capacity_mbps=10_000), keys, total, line_s)
    house.server.open()
    task = asyncio.create_task(house.server.run(), name="server")
    await asyncio.sleep(0)
    tasks, descriptors = len(asyncio.all_tasks()), _descriptors()
    try:
        yield house
        async with asyncio.timeout(20):
            while house.admission.running or house.connections.open or len(asyncio.all_tasks()) > tasks:
                await asyncio.sleep(0.01)
        assert _descriptors() == descriptors
        assert house.server._sessions == {}
        assert not task.done()
        assert house.counts.of("internal_errors") == 0
    finally:
        task.cancel()
        await asyncio.wait({task})


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


# What a good client gets


async def test_the_greeting_says_what_is_served() -> None:
    async with serving() as house, house.peer() as one, house.peer() as two:
        first, second = await one.greeted(), await two.greeted()
        assert (first.v, first.udp_port, first.http_port, first.draining) == (1, 1234, 5678, False)
        assert first.nonce != second.nonce


@pytest.mark.parametrize("streams", [1, 4, 16])
async def test_download(streams: int) -> None:
    async with serving() as house:
        result = await run_test(house.port, "down", streams=streams, byte_cap=400_000_000)
        report = result.report
        assert report.sent_bytes == sum(result.moved) > 1_000_000
        assert len([size for size in result.moved if size]) == streams, "every stream carries something"
        assert report.received_bytes is None
        assert report.bins == []
        assert report.tcp_rtt_ms is not None
        assert 0 < report.tcp_rtt_ms < 1000
        assert report.retransmits is not None
        assert 0 < (report.cpu_ratio or 0) <= 1
        assert report.concurrent == 1
        await house.free()
        assert house.counts.of("payload_bytes", "down") == report.sent_bytes


@pytest.mark.parametrize("streams", [1, 4, 16])
async def test_upload(streams: int) -> None:
    async with serving() as house:
        result = await run_test(house.port, "up", streams=streams, byte_cap=400_000_000)
        report = result.report
        assert report.received_bytes is not None
        assert report.received_bytes == sum(report.bins)
        # The last send of a stream may have been cut in the middle of a chunk.
        assert 0 <= report.received_bytes - sum(result.moved) <= streams * 64 * 1024
        assert report.first_byte_s is not None
        assert 0 <= report.first_byte_s < 0.5
        assert report.last_byte_s is not None
        assert 0.3 < report.last_byte_s < 1.5
        assert len(report.bins) == int(report.last_byte_s / 0.1) + 1
        assert report.sent_bytes is None
        assert report.tcp_rtt_ms is None
        assert not report.capped


@pytest.mark.parametrize("direction", ["down", "up"])
async def test_the_cap_ends_it(direction: str) -> None:
    async with serving() as house:
        started_s = time.monotonic()
        result = await run_test(house.port, direction, streams=4, byte_cap=3_000_000, duration_s=10)  # type: ignore[arg-type]
        assert time.monotonic() - started_s < 5
        assert result.report.capped
        if direction == "down":
            assert result.report.sent_bytes == sum(result.moved) == 3_000_000
        else:
            assert result.report.received_bytes == 3_000_000


async def test_the_kernel_keeps_a_test_within_its_share() -> None:
    async with serving(Limits(pause_s=0, capacity_mbps=1000, per_test_mbps=40)) as house:
        started_s = time.monotonic()
        result = await run_test(house.port, "down", streams=4, duration_s=2)
        assert result.admitted.capacity_mbps == 40
        # The end of it, too: what the kernel still holds when the time is over.
        assert 35 < sum(result.moved) * 8 / 1e6 / (time.monotonic() - started_s) <= 41


@pytest.mark.parametrize("wanted", ["cubic", "reno"])
async def test_congestion_control_is_what_was_asked_and_what_is_used(wanted: str) -> None:
    with socket.socket() as sock:
        usable = tcp.use_congestion_control(sock, wanted)
    async with serving() as house:
        result = await run_test(house.port, "down", congestion_control=wanted)
        assert result.admitted.congestion_control == result.report.congestion_control == usable


async def test_two_agents_at_once_know_of_each_other() -> None:
    async with serving() as house:
        one, two = await asyncio.gather(
            run_test(house.port, "down", agent="a-1"), run_test(house.port, "up", agent="a-2", source="127.0.0.2")
        )
        assert (one.report.concurrent, two.report.concurrent) == (2, 2)


async def test_down_then_up_within_the_pause() -> None:
    async with serving(Limits(per_test_mbps=1000)) as house:
        await run_test(house.port, "down")
        await run_test(house.port, "up")
        async with house.peer() as again:
            refused = await again.refused("down")
        assert refused.error == "no_slot"
        assert refused.retry_after_s is not None
        assert 50 < refused.retry_after_s < 60


async def test_a_carrier_may_change_the_address_of_a_data_connection() -> None:
    async with serving() as house, house.peer() as control, house.peer("127.0.0.77") as data:
        await data.join(await control.admitted())
        await control.say(Start(start=True))
        assert await data.download() == (await control.hear(Report)).sent_bytes


async def test_a_video_test_holds_its_slot_as_long_as_its_connection() -> None:
    async with serving(Limits(pause_s=0, per_test_mbps=1000)) as house:
        async with house.peer() as control:
            admitted = await control.admitted("video")
            assert house.admission.find(admitted.test, admitted.secret) is not None
            async with house.peer() as other:
                assert (await other.refused(agent="a-2")).error == "no_slot"
        await house.free()
        assert house.admission.find(admitted.test, admitted.secret) is None


# Who may not


async def test_old_and_new_key_and_no_other() -> None:
    async with serving(keys={"lib-01": (KEY, NEXT_KEY)}) as house:
        await run_test(house.port, key=KEY)
        await run_test(house.port, key=NEXT_KEY)
        for key in (b"somebody else's key", None):
            async with house.peer() as peer:
                assert (await peer.refused(key=key)).error == "bad_token"
        async with house.peer() as peer:
            assert (await peer.refused(agent="lib-02", key=KEY)).error == "bad_token"


async def test_a_token_of_another_connection_is_worth_nothing() -> None:
    async with serving(keys={"lib-01": (KEY,)}) as house, house.peer() as one, house.peer() as two:
        first = await one.greeted()
        await two.greeted()
        hello = Hello(agent="lib-01", direction="down", duration_s=1, streams=1, byte_cap=1000)
        await two.say(
            Hello(
                agent="lib-01",
                direction="down",
                duration_s=1,
                streams=1,
                byte_cap=1000,
                token=sign(KEY, first.nonce, hello),
            )
        )
        answer = await two.answer()
        assert isinstance(answer, Refused)
        assert answer.error == "bad_token"


async def test_a_source_of_bad_hellos_is_told_to_come_later_and_others_are_served() -> None:
    async with serving(keys={"lib-01": (KEY,)}) as house:
        for _ in range(FAILED_HELLOS):
            async with house.peer() as peer:
                assert (await peer.refused()).error == "bad_token"
        async with house.peer() as peer:
            refused = await peer.refused()
        assert refused.error == "no_slot"
        assert refused.retry_after_s is not None
        assert 40 < refused.retry_after_s <= 60
        await run_test(house.port, source="127.0.0.2", key=KEY)


async def test_one_test_of_an_agent_and_no_more_than_there_are_slots() -> None:
    limits = Limits(pause_s=0, capacity_mbps=100, per_test_mbps=40)
    async with serving(limits) as house, house.peer() as one, house.peer() as two:
        await one.admitted(agent="a-1")
        async with house.peer() as again:
            assert (await again.refused("up", agent="a-1")).detail == "this agent has a test running"
        await two.admitted(agent="a-2")
        async with house.peer() as third:
            refused = await third.refused(agent="a-3")
        assert (refused.error, refused.detail) == ("no_slot", "every slot is taken")
        assert refused.retry_after_s is not None
        assert 0 < refused.retry_after_s <= 0.5 + SERVER_GRACE_S


async def test_bytes_of_a_day() -> None:
    async with serving(Limits(pause_s=0, per_test_mbps=1000, bytes_per_day=1_000_000)) as house:
        result = await run_test(house.port, byte_cap=50_000_000)
        assert result.admitted.byte_cap == result.report.sent_bytes == 1_000_000
        await house.free()
        async with house.peer() as peer:
            assert (await peer.refused("up")).error == "over_budget"


async def test_draining_lets_end_what_runs() -> None:
    async with serving() as house, house.peer() as control, house.peer() as data:
        await data.join(await control.admitted())
        house.admission.draining = True
        async with house.peer() as late:
            assert (await late.greeted()).draining
        async with house.peer() as late:
            assert (await late.refused(agent="a-2")).error == "draining"
        await control.say(Start(start=True))
        assert await data.download() == (await control.hear(Report)).sent_bytes


# Bad clients


async def test_connections_of_a_source_are_bounded_and_of_others_too() -> None:
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(serving())
        async with AsyncExitStack() as held:
            for _ in range(64):
                await (await held.enter_async_context(house.peer())).greeted()
            async with house.peer() as one_more:
                assert throughput.decode_greeting(await one_more.line()) == Refused(
                    error="no_slot", detail="too many connections", retry_after_s=LINE_S
                )
                assert await one_more.rest() == b""
            async with house.peer("127.0.0.2") as elsewhere:
                await elsewhere.greeted()
        assert house.counts.of("connections_refused", "source") == 1


async def test_connections_in_all_are_bounded() -> None:
    async with serving(total=3) as house:
        async with AsyncExitStack() as held:
            for number in range(3):
                await (await held.enter_async_context(house.peer(f"127.0.0.{number + 1}"))).greeted()
            async with house.peer("127.0.0.9") as one_more:
                assert isinstance(throughput.decode_greeting(await one_more.line()), Refused)
                assert await one_more.rest() == b""
        assert house.counts.of("connections_refused", "total") == 1


NONSENSE = {
    "an HTTP request": b"GET / HTTP/1.1\r\n",
    "an empty line": b"\n",
    "no JSON": b"hello\n",
    "not UTF-8": b'{"v":1,"agent":"\xff\xfe"}\n',
    "zeros": bytes(100) + b"\n",
    "a list": b"[]\n",
    "deep": b"[" * 4000 + b"\n",
    "an older version": b'{"v":0,"agent":"lib-01","direction":"down","duration_s":1,"streams":1,"byte_cap":1}\n',
    "17 streams": b'{"v":1,"agent":"lib-01","direction":"down","duration_s":1,"streams":17,"byte_cap":1}\n',
    "16 seconds": b'{"v":1,"agent":"lib-01","direction":"down","duration_s":16,"streams":1,"byte_cap":1}\n',
    "never ending": b'{"v":1,"agent":"lib-01","direction":"down","duration_s":1e999,"streams":1,"byte_cap":1}\n',
    "too many bytes": b'{"v":1,"agent":"lib-01","direction":"down","duration_s":1,"streams":1,"byte_cap":400000001}\n',
    "sideways": b'{"v":1,"agent":"lib-01","direction":"sideways","duration_s":1,"streams":1,"byte_cap":1}\n',
    "a path": b'{"v":1,"agent":"../../x","direction":"down","duration_s":1,"streams":1,"byte_cap":1}\n',
    "two lines": b'{"v":1}\n{"v":1}\n',
    "a line of 1 MB": b"x" * 1_000_000 + b"\n",
    "1 MB without an end": b"{" * 1_000_000,
}


@pytest.mark.parametrize("line", NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_is_answered_with_its_reason_and_counted(line: bytes) -> None:
    async with serving() as house, house.peer() as peer:
        await peer.greeted()
        try:
            await peer.say(line)
        except ConnectionError:
            assert len(line) > MAX_LINE_BYTES
        said = await peer.line()
        if said:  # a peer that still sends when we close is reset, and may lose the answer
            refused = json.loads(said)
            assert refused["error"] == "bad_request"
            assert 0 < len(refused["detail"]) <= 200
        else:
            assert len(line) > MAX_LINE_BYTES
        assert await peer.rest() == b""
        assert house.counts.of("bad_lines") == 1


async def test_a_second_line_in_the_packet_of_the_first_is_out_of_turn() -> None:
    async with serving() as house, house.peer() as control:
        admitted = await control.admitted()
        async with house.peer() as data:
            await data.join(admitted)
            await control.say(b'{"start":true}\n{"start":true}\n')
            assert json.loads(await control.line())["error"] == "bad_request"
            assert await data.download() == 0


async def test_a_second_start_ends_the_test() -> None:
    async with serving() as house, house.peer() as control, house.peer() as data:
        await data.join(await control.admitted(duration_s=10, byte_cap=400_000_000))
        await control.say(Start(start=True))
        flow = asyncio.ensure_future(data.download())
        await asyncio.sleep(0.2)
        await control.say(Start(start=True))
        assert json.loads(await control.line()) == {
            "error": "bad_request",
            "detail": "nothing may be said while a test runs",
            "retry_after_s": None,
        }
        await house.free()
        async with asyncio.timeout(2):
            await flow


async def test_something_else_than_a_start() -> None:
    async with serving() as house, house.peer() as control, house.peer() as data:
        await data.join(await control.admitted())
        await control.say(b'{"start":false}\n')
        assert json.loads(await control.line())["detail"].startswith("start: ")
        assert await data.download() == 0


async def test_who_says_nothing_is_let_go() -> None:
    async with serving(line_s=0.3) as house, house.peer() as silent, house.peer() as slow:
        await silent.greeted()
        await slow.greeted()
        started_s = time.monotonic()

        async def drip() -> None:
            for byte in b'{"v":1,"agent":"lib-01"':
                await slow.say(bytes([byte]))
                await asyncio.sleep(0.05)

        dripping = asyncio.ensure_future(drip())
        assert await silent.rest() == b""
        assert await slow.rest() == b""
        assert 0.25 < time.monotonic() - started_s < 2
        await asyncio.wait({dripping})
        dripping.exception()
        assert house.counts.of("connections_lost", "late") == 2


async def test_who_connects_and_goes_is_no_fault() -> None:
    async with serving() as house:
        for _ in range(20):
            async with house.peer():
                pass
        async with house.peer() as polite:
            await polite.greeted()
            polite.socket.shutdown(socket.SHUT_WR)
            assert await polite.rest() == b""
        assert house.counts.of("bad_lines") == 0
        assert not house.admission.is_banned("127.0.0.1")


async def test_no_join_frees_the_slot_after_five_seconds_and_a_late_one_is_refused() -> None:
    async with serving() as house, house.peer() as control:
        admitted = await control.admitted(streams=2)
        async with house.peer() as data:
            await data.join(admitted, 0)
            started_s = time.monotonic()
            await house.free()
            assert 4 < time.monotonic() - started_s < 6
            assert await data.download() == 0
            assert await control.rest() == b""
        async with house.peer() as late:
            await late.greeted()
            await late.say(Join(test=admitted.test, secret=admitted.secret, stream=1))
            assert json.loads(await late.line())["error"] == "bad_request"


async def test_no_start_frees_the_slot_and_nothing_flows() -> None:
    async with serving(line_s=0.3) as house, house.peer() as control, house.peer() as data:
        await data.join(await control.admitted())
        assert await data.download() == 0
        assert await control.rest() == b""


@pytest.mark.parametrize(
    "change",
    [{"secret": "s" * 32}, {"test": "t" * 16}, {"stream": 1}, {"stream": 0}],
    ids=["a wrong secret", "no such test", "a stream too many", "a stream again"],
)
async def test_a_wrong_join_is_refused_and_carries_nothing(change: dict[str, object]) -> None:
    async with serving() as house, house.peer() as control, house.peer() as data, house.peer() as wrong:
        admitted = await control.admitted(streams=1)
        if change != {"stream": 1}:
            await data.join(admitted, 0)
        await wrong.greeted()
        await wrong.say(Join(**({"test": admitted.test, "secret": admitted.secret, "stream": 0} | change)))  # type: ignore[arg-type]
        assert json.loads(await wrong.line())["error"] == "bad_request"
        if change == {"stream": 1}:
            await data.join(admitted, 0)
        await control.say(Start(start=True))
        assert await data.download() == (await control.hear(Report)).sent_bytes
        assert await wrong.rest() == b""
        assert house.counts.of("joins_refused") == 1


async def test_a_secret_is_worth_nothing_after_its_test() -> None:
    async with serving() as house:
        used = (await run_test(house.port)).admitted
        await house.free()
        async with house.peer() as peer:
            await peer.greeted()
            await peer.say(Join(test=used.test, secret=used.secret, stream=0))
            with pytest.raises(ProtocolError):
                await peer.hear(Joined)


@pytest.mark.parametrize("direction", ["down", "up"])
async def test_a_client_that_vanishes_in_the_middle(direction: str) -> None:
    async with serving() as house:
        async with house.peer() as control, house.peer() as data:
            await data.join(await control.admitted(direction, duration_s=10, byte_cap=400_000_000))  # type: ignore[arg-type]
            await control.say(Start(start=True))
            await asyncio.sleep(0.2)
            if direction == "up":
                await data.upload(0.2)
            control.socket.close()
            started_s = time.monotonic()
            await house.free()
            assert time.monotonic() - started_s < 1
        assert house.counts.of("tests_broken") == 1


async def test_a_data_connection_that_goes_ends_only_its_own_stream() -> None:
    async with serving() as house, house.peer() as control, house.peer() as stays:
        admitted = await control.admitted(streams=2)
        await stays.join(admitted, 0)
        async with house.peer() as goes:
            await goes.join(admitted, 1)
            await control.say(Start(start=True))
            await asyncio.sleep(0.1)
        moved = await stays.download()
        report = await control.hear(Report)
        assert report.sent_bytes is not None
        assert report.sent_bytes >= moved > 0


async def test_when_every_data_connection_goes_the_report_comes_at_once() -> None:
    async with serving() as house, house.peer() as control:
        async with house.peer() as data:
            await data.join(await control.admitted(duration_s=10, byte_cap=400_000_000))
            await control.say(Start(start=True))
            await asyncio.sleep(0.1)
        async with asyncio.timeout(2):
            await control.hear(Report)


@pytest.mark.parametrize("pace_s", [None, 0.1], ids=["never reads", "reads a byte now and then"])
async def test_a_client_that_does_not_read_is_ended_by_the_server_s_own_clock(pace_s: float | None) -> None:
    async with serving() as house, house.peer() as control, house.peer() as data:
        data.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await data.join(await control.admitted(duration_s=0.5))
        await control.say(Start(start=True))
        started_s = time.monotonic()
        while house.admission.running and time.monotonic() - started_s < 10:
            await asyncio.sleep(pace_s or 0.1)
            if pace_s:
                data.socket.recv(1)
        assert time.monotonic() - started_s < 0.5 + SERVER_GRACE_S + 0.3


async def test_a_client_that_never_stops_sending_is_ended_by_the_server_s_own_clock() -> None:
    async with serving() as house, house.peer() as control, house.peer() as data:
        await data.join(await control.admitted("up", duration_s=0.5, byte_cap=400_000_000))
        await control.say(Start(start=True))

        async def drip() -> None:
            while True:
                await data.say(b"x" * 100)
                await asyncio.sleep(0.01)

        started_s = time.monotonic()
        dripping = asyncio.ensure_future(drip())
        report = await control.hear(Report)
        assert 1.3 < time.monotonic() - started_s < 2.5, "its duration, and a second to drain"
        control.socket.close()
        await asyncio.wait({dripping})
        assert isinstance(dripping.exception(), ConnectionError)
        assert report.received_bytes == sum(report.bins) > 5000


async def test_an_upload_without_a_byte_is_a_report_without_one() -> None:
    async with serving() as house, house.peer() as control, house.peer() as data:
        await data.join(await control.admitted("up", duration_s=0.3))
        await control.say(Start(start=True))
        report = await control.hear(Report)
        assert (report.received_bytes, report.first_byte_s, report.last_byte_s, report.bins) == (0, None, None, [])


async def test_stopping_in_the_middle_of_tests_leaves_nothing() -> None:
    before, descriptors = len(asyncio.all_tasks()), _descriptors()
    limits = Limits(pause_s=0, capacity_mbps=100_000, per_test_mbps=1000)
    house = House(limits, None, 256, LINE_S)
    house.server.open()
    serve = asyncio.create_task(house.server.run(), name="server")
    tests = [
        asyncio.ensure_future(
            run_test(house.port, direction, agent=f"a-{direction}-{n}", streams=3, duration_s=10, byte_cap=400_000_000)
        )
        for direction in ("down", "up")
        for n in range(3)
    ]
    await asyncio.sleep(0.7)
    assert house.admission.running == 6
    serve.cancel()
    await asyncio.wait({serve})
    await asyncio.wait(tests)
    for test in tests:
        assert isinstance(test.exception(), ProtocolError | ConnectionError)
    assert house.admission.running == 0
    assert house.connections.open == 0
    assert house.counts.of("internal_errors") == 0
    assert len(asyncio.all_tasks()) == before
    assert _descriptors() == descriptors


async def test_a_taken_port_is_an_error() -> None:
    async with serving() as house:
        second = House(Limits(), None, 1, LINE_S)
        second.server.port = house.port
        with pytest.raises(OSError, match="in use"):
            second.server.open()


async def test_the_first_line_comes_at_once() -> None:
    async with serving() as house, house.peer() as peer:
        started_s = time.monotonic()
        await peer.hear(Greeting)
        assert time.monotonic() - started_s < 1
