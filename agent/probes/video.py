"""A virtual player (ABR simulation) that fetches segments from a reflector over one kept connection: how soon a video
starts, how often it stalls, and in which quality it is seen."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

from msgspec import Meta

from agent import control, http1, sockets, tcp
from agent.gates import Gates
from agent.player import BUFFER_S, LADDER_MBPS, SEGMENT_S, Player, next_mbps, segment_bytes
from agent.probe import Context, Failure, Probe, Settings
from agent.uplink import Uplink
from contract.throughput import TEST_HEADER, Admitted, Hello
from contract.values import Video

NO_SEGMENT_S: Final = 10.0
"""Without one in this time it is no video at all, but a `timeout`."""
METERED_MB: Final = 10.0
CONNECT_S: Final = 5.0
SLOT_WAIT_S: Final = 10.0
"""For a free slot of the reflector."""
_NETWORK_AUTHENTICATION_REQUIRED: Final = 511


class VideoSettings(Settings, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Settings of a video job."""

    duration_s: Annotated[float, Meta(ge=4, le=15)] = 12.0
    """From the first request to the end, wherever the player is then."""
    max_mb: Annotated[float, Meta(ge=2, le=25)] = 25.0
    """Megabytes (10^6) at most: qualities with which they could be passed are left out; metered at most 10."""

    def least_s(self) -> float:
        return self.duration_s

    def most_bytes(self, uplink: Uplink) -> int:
        top_mbps = ladder(self.duration_s, self.byte_cap(uplink))[-1]
        return round((self.duration_s + BUFFER_S) * top_mbps * 1e6 / 8)

    def byte_cap(self, uplink: Uplink) -> int:
        return round(min(self.max_mb, METERED_MB if uplink.metered else self.max_mb) * 1e6)


def ladder(duration_s: float, byte_cap: int) -> tuple[float, ...]:
    """The qualities in which a whole session stays within `byte_cap`; at least the lowest."""
    most_s = duration_s + BUFFER_S + SEGMENT_S
    fitting = tuple(rate for rate in LADDER_MBPS if rate * 1e6 / 8 * most_s <= byte_cap)
    return fitting or LADDER_MBPS[:1]


async def measure(settings: VideoSettings, context: Context) -> Video:
    """One session. Stalls are values, not failures."""
    context.values = Video(stall_count=0, played_s=0.0)
    hello = Hello(
        agent=context.agent,
        direction="video",
        duration_s=settings.duration_s,
        streams=1,
        byte_cap=settings.byte_cap(context.uplink),
    )
    address = await control.address_of(context)
    async with control.admission(hello, context, address, wait_s=SLOT_WAIT_S) as admitted:
        port = admitted.greeting.http_port
        if port is None:
            raise Failure("target_denied", "this reflector serves no HTTP, so no video")
        with _faults(f"video from {address} port {port}"):
            # Connected before the clock runs: what is measured is the network under a running player.
            sock = await tcp.connect(address, port, context.interface, CONNECT_S)
            reader, writer = await asyncio.open_connection(sock=sock, limit=http1.MAX_HEAD_BYTES)
            try:
                session = _Session(context, admitted.admitted, settings.duration_s, reader, writer)
                with Gates(context) as gates:
                    values = await session.run()
                gates.judge(session.moved_bytes)
                return values
            finally:
                writer.transport.abort()


class _Session:
    """One player, one connection."""

    def __init__(
        self,
        context: Context,
        admitted: Admitted,
        duration_s: float,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._context = context
        self._duration_s = min(duration_s, admitted.duration_s)
        self._ladder = ladder(self._duration_s, admitted.byte_cap)
        self._test = f"{admitted.test}.{admitted.secret}"
        self._stream = http1.Stream(reader, self._duration_s)
        self._writer = writer
        self._player = Player()
        self._throughputs_mbps: list[float] = []
        self._started_s = context.clock.boot()

    @property
    def moved_bytes(self) -> int:
        """Of segments, and of the one that was not waited for."""
        return self._stream.taken_bytes

    async def run(self) -> Video:
        """Ask, play and wait until the time is over.

        :raises Failure: `timeout` when no segment came.
        :raises OSError: as the network has it.
        """
        player = self._player
        while (left_s := self._duration_s - self._since_s()) > 0:
            player.advance(self._since_s())
            if player.wait_s > 0:
                await self._context.clock.sleep(min(player.wait_s, left_s))
                continue
            try:
                async with asyncio.timeout(min(left_s, NO_SEGMENT_S)):
                    await self._next_segment()
            except TimeoutError:
                if left_s > NO_SEGMENT_S or player.start_s is None:
                    raise Failure("timeout", f"no segment in {min(left_s, NO_SEGMENT_S):.0f} s") from None
                break
        player.advance(self._duration_s)
        return self._note()

    async def _next_segment(self) -> None:
        rate_mbps = self._choose()
        size = segment_bytes(rate_mbps)
        asked_s = self._since_s()
        self._writer.write(self._request(size))
        head = await http1.read_head(self._stream)
        _judge(head, size)
        await http1.drop_body(self._stream, head)
        arrived_s = self._since_s()
        self._throughputs_mbps.append(size * 8 / 1e6 / max(arrived_s - asked_s, 1e-6))
        self._player.add(arrived_s, rate_mbps)
        self._note()
        self._context.progress(
            f"{rate_mbps:g} Mbit/s, {self._player.ahead_s:.0f} s ahead, {self._player.stall_count} stalls"
        )

    def _choose(self) -> float:
        """The next quality; a cap that forbids a better one is flagged."""
        rate_mbps = next_mbps(self._throughputs_mbps, self._ladder)
        if rate_mbps < next_mbps(self._throughputs_mbps) and "byte_cap" not in self._context.flags:
            self._context.flags.append("byte_cap")
        return rate_mbps

    def _request(self, size: int) -> bytes:
        return (
            f"GET /segment?bytes={size} HTTP/1.1\r\nHost: reflector\r\nUser-Agent: wanggan\r\n"
            f"{TEST_HEADER}: {self._test}\r\n\r\n"
        ).encode("ascii")

    def _note(self) -> Video:
        """Keep what the player knows by now."""
        player = self._player
        started, rates = player.start_s is not None, player.bitrates_mbps
        self._context.values = values = Video(
            start_s=player.start_s,
            stall_count=player.stall_count,
            stall_s=player.stall_s if started else None,
            stall_ratio=player.stall_s / (player.stall_s + player.played_s) if player.played_s else None,
            played_s=player.played_s,
            mean_mbps=sum(rates) / len(rates) if rates else None,
            switches=player.switches if started else None,
        )
        return values

    def _since_s(self) -> float:
        return self._context.clock.boot() - self._started_s


def _judge(head: http1.Head, size: int) -> None:
    """:raises Failure: when the answer is not the segment that was asked for."""
    if head.status in (403, 429):
        raise Failure("target_denied", f"the reflector ended the test: status {head.status}")
    if 300 <= head.status < 400 or head.status == _NETWORK_AUTHENTICATION_REQUIRED:
        raise Failure("portal", f"status {head.status}")
    if head.status != 200:
        raise Failure("http_status", f"status {head.status}")
    if head.fields.get("content-length") != str(size):
        raise Failure("portal", "another page in the place of the segment")


@contextmanager
def _faults(what: str) -> Iterator[None]:
    """What goes wrong inside becomes a Failure."""
    try:
        yield
    except http1.Malformed as error:
        raise Failure("http_status", f"{what}: {error}") from error
    except OSError as error:
        raise sockets.failure(error, what) from error


PROBE: Final = Probe(
    settings=VideoSettings, measure=measure, timeout_s=30.0, needs=frozenset({"host", "interface"}), heavy=True
)
