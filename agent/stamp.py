"""The sender of STAMP (RFC 8762), timed by the kernel's stamps less what the reflector kept the packet.

A round trip is (T4 - T1) - (T3 - T2): from our kernel's sending to its receiving, less from the reflector's receiving
to its sending.
"""

import itertools
import random
import socket
from collections.abc import Callable
from typing import Final, NamedTuple, Self

from agent import sockets, stamps
from agent.probe import Context, Failure
from agent.train import Train
from contract.stamp import PACKET_BYTES, Reply, Request, pack_request, unpack_reply

TRAILERS: Final = 5
"""Sent at the most behind a train whose last packet stays unanswered, and not counted: the answer to one tells how many
packets of the train the reflector had answered."""


class Sample(NamedTuple):
    """One round trip."""

    sent_s: float
    """Boot time."""
    rtt_ms: float


async def reflect(
    address: str,
    port: int,
    train: Train,
    context: Context,
    *,
    packets: int,
    interval_s: float,
    late_s: float,
    packet_bytes: int = PACKET_BYTES,
    patience_s: float | None = None,
) -> None:
    """Send `train.warm_ups` and then `packets`, `interval_s` apart; wait `late_s` for late replies.

    :param patience_s: return when nothing at all was answered for so long; None: go on.
    :raises Failure: `clock_step` when wall time moved while packets were under way; a send error's own reason.
    """
    clock = context.clock
    # The warm-ups have a session of their own: the reflector counts its replies to the others from 0.
    warm_up_session, session = _session_ids(2)

    def note(reply: Reply, rtt_ms: float) -> None:
        # A reflector that knows no sessions has counted the warm-ups, too.
        train.note_reply(reply.sender_sequence, rtt_ms, reply.sequence if reply.session == session else None)

    with (
        stamps.steady(clock),
        _Sender(address, port, context.interface, packet_bytes, note, train.note_no_way) as sender,
    ):
        first_s = clock.boot()
        end = train.warm_ups + packets
        for sequence in range(end):
            await clock.sleep(first_s + sequence * interval_s - clock.boot())
            if patience_s is not None and not train.heard and clock.boot() - first_s > patience_s:
                return
            if sender.send(sequence, warm_up_session if sequence < train.warm_ups else session):
                train.note_sent(sequence)
        ended_s = clock.boot()
        if patience_s is not None and not await sender.until(lambda: train.heard, first_s + patience_s - ended_s):
            return
        for trailer in range(end, end + TRAILERS):
            if await sender.until(lambda: train.tail_answered, late_s / (TRAILERS + 1)):
                break
            if sender.send(trailer, session):
                train.note_trailer(trailer)
        await sender.until(lambda: train.complete, ended_s + late_s - clock.boot())


async def sample(address: str, port: int, context: Context, every_s: float, samples: list[Sample]) -> None:
    """Send a packet every `every_s` until cancelled; each round trip joins `samples` when its reply comes.

    Beside a load, to see what it does to the delay::

        samples: list[stamp.Sample] = []
        task = asyncio.create_task(stamp.sample(address, port, context, 0.05, samples), name="loaded round trips")
        ...
        task.cancel()

    A round trip while which the wall clock stepped is left out. Silence is no failure here.

    :raises Failure: when `address` cannot be reached from the interface; a send error's own reason.
    """
    clock = context.clock
    under_way: dict[int, tuple[float, float]] = {}
    """When it was sent in boot time, and what wall time was ahead of that."""
    (session,) = _session_ids(1)

    def note(reply: Reply, rtt_ms: float) -> None:
        if reply.sender_sequence not in under_way:
            return
        sent_s, ahead_s = under_way.pop(reply.sender_sequence)
        step_ms = abs(clock.wall() - clock.boot() - ahead_s) * 1000
        if step_ms <= stamps.STEP_MS + stamps.DRIFT_RATIO * rtt_ms:
            samples.append(Sample(sent_s, rtt_ms))

    with _Sender(address, port, context.interface, PACKET_BYTES, note) as sender:
        due_s = clock.boot()
        for sequence in itertools.count():
            sent_s = clock.boot()
            under_way[sequence] = sent_s, clock.wall() - sent_s
            sender.send(sequence, session)
            # When the event loop was late by more than a beat, no bunch is sent to make up for it.
            due_s = (due_s if sent_s - due_s < every_s else sent_s) + every_s
            await clock.sleep(due_s - clock.boot())


async def idle_rtts_ms(address: str, port: int, context: Context, *, packets: int, every_s: float) -> list[float]:
    """Round trips of an idle path, in ascending order; empty where no reflector answers, or the wall clock stepped.

    :raises Failure: when the interface leads nowhere.
    """
    train = Train(0)
    try:
        await reflect(
            address, port, train, context, packets=packets, interval_s=every_s, late_s=0.5, patience_s=packets * every_s
        )
    except Failure as failure:
        if failure.reason != "clock_step":
            raise
        return []
    return train.rtts_ms()


class _Sender:
    """One socket with a port of its own, so that no NAT keeps an old one dead.

    :param note: gets each reply to a packet of ours, a second one too, and its round trip in ms.
    :param no_way: see :class:`agent.stamps.Datagrams`.
    :raises Failure: when `address` cannot be reached from `interface`.
    """

    def __init__(
        self,
        address: str,
        port: int,
        interface: str,
        packet_bytes: int,
        note: Callable[[Reply, float], None],
        no_way: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._packet_bytes = packet_bytes
        self._note = note
        self._sent: dict[int, stamps.Sent] = {}
        family, peer = sockets.numeric(address, port, interface)
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._datagrams = stamps.Datagrams(sock, peer, interface, receive=self._receive, no_way=no_way)
        self.until = self._datagrams.until

    def __enter__(self) -> Self:
        self._datagrams.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._datagrams.__exit__()

    def send(self, sequence: int, session: int) -> bool:
        """Whether there was room for it.

        :raises Failure: what keeps us from sending.
        """
        sent = self._datagrams.send(
            lambda made_ns: pack_request(Request(sequence, made_ns, session=session), self._packet_bytes)
        )
        if sent is not None:
            self._sent[sequence] = sent
        return sent is not None

    def _receive(self, packet: bytes, received_ns: int) -> None:
        reply = unpack_reply(packet)
        sent = None if reply is None else self._sent.get(reply.sender_sequence)
        if reply is None or sent is None or reply.sender_ns != sent.made_ns:
            return
        elapsed_ns = received_ns - sent.left_ns
        # A dwell that is negative, or longer than the whole trip, is not believed.
        dwell_ns = reply.dwell_ns if 0 <= reply.dwell_ns <= elapsed_ns else 0
        self._note(reply, (elapsed_ns - dwell_ns) / 1e6)


def _session_ids(number: int) -> list[int]:
    """Random ones, other than those of the last run."""
    return random.sample(range(1, 65536), number)
