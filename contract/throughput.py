"""The throughput protocol, version 1: lines of JSON on one control connection, payload on joined data connections.

1. Server: :class:`Greeting`, or :class:`Refused` when it has too many connections. 2. Client: :class:`Hello`.
3. Server: :class:`Admitted` or :class:`Refused`.
4. Client opens `streams` data connections to the same port, each with one :class:`Join`; one :class:`Joined` answers.
5. Client: :class:`Start`; the clock runs from the receiver's first payload byte.
6. When the test is over the server sends its :class:`Report` on the control connection: the receiver's counts of an
   upload, the sender's facts of a download.

A `video` test has no data connections: it takes the slot, and its segments are fetched over HTTP with the header
:data:`TEST_HEADER`; the slot is free again when the control connection closes.

Lines are UTF-8 JSON that ends in LF, at most :data:`MAX_LINE_BYTES` (a report :data:`MAX_REPORT_BYTES`), each within
:data:`LINE_S`. Unknown fields are tolerated.
"""

import hashlib
import hmac
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from contract.fields import AgentId, Bytes, Count, Mbps, Ms, Name, Ratio, Seconds, Text

VERSION: Final = 1
PORT: Final = 8862
"""Where a reflector listens unless it is told otherwise: TCP and UDP; HTTP on the next one."""
MAX_LINE_BYTES: Final = 4096
MAX_REPORT_BYTES: Final = 16 * 1024
LINE_S: Final = 5.0
"""What each line gets to arrive, and what the data connections get to join."""
DRAIN_S: Final = 1.0
"""What the receiver still takes after the sender stopped."""
BIN_S: Final = 0.1
"""Width of one of a report's `bins`."""
MAX_BINS: Final = 200
SERVER_GRACE_S: Final = 3.0
"""The server ends a test this long after its duration, whatever the client does."""
CLIENT_GRACE_S: Final = 5.0
MAX_STREAMS: Final = 16
MAX_DURATION_S: Final = 15.0
MAX_BYTES: Final = 400_000_000
"""Of payload, per direction: the most that any server gives."""

TEST_HEADER: Final = "X-Wanggan-Test"
"""Of a segment's HTTP request: ``<test>.<secret>``."""

Direction = Literal["down", "up", "video"]
"""Seen from the client."""

CongestionControl = Literal["default", "cubic", "bbr", "reno"]

Refusal = Literal["no_slot", "bad_token", "bad_request", "over_budget", "draining"]
"""What the agent makes of it: `skipped no_slot`, `invalid no_permission`, `invalid internal`, `skipped budget`,
`invalid target_down`."""

Nonce = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{16,64}$")]
"""Also the form of test ids and secrets."""

Port = Annotated[int, Meta(ge=1, le=65535)]


class ProtocolError(ValueError):
    """A line that is not of this protocol; the text names the field."""


class Greeting(Struct, kw_only=True, frozen=True):
    """First line of the server. A nonce and not a time stamp: a box with a wrong clock can log in."""

    v: Count = VERSION
    nonce: Nonce
    udp_port: Port | None = None
    """Of STAMP; null where it is not served."""
    http_port: Port | None = None
    draining: bool = False
    """Running tests end, new ones are refused: the server is about to stop."""


class Hello(Struct, kw_only=True, frozen=True):
    """What the client wants."""

    v: Annotated[int, Meta(ge=VERSION, le=VERSION)] = VERSION
    agent: AgentId
    direction: Direction
    duration_s: Annotated[float, Meta(gt=0, le=MAX_DURATION_S)]
    streams: Annotated[int, Meta(ge=1, le=MAX_STREAMS)]
    byte_cap: Annotated[int, Meta(ge=1, le=MAX_BYTES)]
    congestion_control: CongestionControl = "default"
    token: Annotated[str, Meta(max_length=64)] | None = None
    """:func:`sign`; null only towards a laboratory server that asks for none."""


class Admitted(Struct, kw_only=True, frozen=True):
    """The test may run, within these limits of the server's own."""

    ok: Literal[True] = True
    test: Nonce
    secret: Nonce
    """Joins connections to the test: a carrier's NAT may change addresses."""
    duration_s: Seconds
    byte_cap: Bytes
    congestion_control: Name
    """What the server's kernel really uses."""
    capacity_mbps: Mbps | None = None
    """The most that this test can reach at this server; above 90 % of it the result is a lower bound."""


class Refused(Struct, kw_only=True, frozen=True):
    """The test may not run."""

    error: Refusal
    detail: Text | None = None
    retry_after_s: Seconds | None = None


class Join(Struct, kw_only=True, frozen=True):
    """First line of a data connection."""

    test: Nonce
    secret: Nonce
    stream: Annotated[int, Meta(ge=0, lt=MAX_STREAMS)]


class Joined(Struct, kw_only=True, frozen=True):
    """The one line that answers a :class:`Join`; behind it there is only payload. A :class:`Refused` is none."""

    ok: Literal[True]


class Start(Struct, kw_only=True, frozen=True):
    """Every data connection has joined: go."""

    start: Literal[True]


class Report(Struct, kw_only=True):
    """What the server saw. Times count from the first payload byte at the receiver; null is not known."""

    received_bytes: Bytes | None = None
    """Payload that the server received (upload only)."""
    sent_bytes: Bytes | None = None
    """Payload that the server gave to its kernel (download only)."""
    first_byte_s: Seconds | None = None
    """From start to first payload byte."""
    last_byte_s: Seconds | None = None
    """From first payload byte to the last."""
    bins: Annotated[list[Bytes], Meta(max_length=MAX_BINS)] = []
    """Payload bytes of each :data:`BIN_S`, from the first payload byte on (upload only)."""
    tcp_rtt_ms: Ms | None = None
    """The kernel's smoothed round-trip time, mean over connections, at the end (download only)."""
    retransmits: Count | None = None
    congestion_control: Name | None = None
    cpu_ratio: Ratio | None = None
    """CPU of the server's process over one core, during the test."""
    capped: bool = False
    """Ended by `byte_cap`."""
    concurrent: Count | None = None
    """The most tests that ran at once during this one, itself included."""
    rwnd_limited_ratio: Ratio | None = None
    """Share of the time in which the client's window held the server back (TCP_INFO; download only)."""
    sndbuf_limited_ratio: Ratio | None = None


class Tally(Struct, kw_only=True):
    """Payload as one side counts it, in the bins of a :class:`Report`. Times are the caller's monotonic seconds."""

    bytes: int = 0
    bins: list[int] = []
    """Of each :data:`BIN_S`, from the first byte on; at most :data:`MAX_BINS`."""
    first_s: float | None = None
    """When the first byte came."""
    last_s: float = 0.0
    capped: bool = False
    """Whether the cap ended it."""

    def note(self, size: int, now_s: float) -> None:
        """`size` bytes more."""
        if self.first_s is None:
            self.first_s = now_s
        self.last_s = now_s
        place = int((now_s - self.first_s) / BIN_S)
        if place < MAX_BINS:
            self.bins.extend([0] * (place + 1 - len(self.bins)))
            self.bins[place] += size
        self.bytes += size


Message = TypeVar("Message", Greeting, Hello, Join, Joined, Start, Report)


def encode(message: Struct) -> bytes:
    """One line, its LF included."""
    return msgspec.json.encode(message) + b"\n"


def decode(line: bytes, kind: type[Message]) -> Message:
    """:raises ProtocolError: when `line` is no such message."""
    return _decode(line, kind)


def decode_greeting(line: bytes) -> Greeting | Refused:
    """The server's first line.

    :raises ProtocolError: when it is neither.
    """
    try:
        return _decode(line, Refused)
    except ProtocolError:
        return _decode(line, Greeting)


def decode_answer(line: bytes) -> Admitted | Refused:
    """The server's answer to a hello.

    :raises ProtocolError: when it is neither.
    """
    try:
        return _decode(line, Admitted)
    except ProtocolError:
        return _decode(line, Refused)


_T = TypeVar("_T")


def _decode(line: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"{kind.__name__.lower()}: {error}") from error


def sign(key: bytes, nonce: str, hello: Hello) -> str:
    """The token of `hello`: HMAC-SHA256 in hex over the nonce and every other field, in their order."""
    fields = (
        nonce, hello.v, hello.agent, hello.direction, f"{hello.duration_s:.3f}", hello.streams, hello.byte_cap,
        hello.congestion_control,
    )  # fmt: skip
    return hmac.new(key, "\n".join(map(str, fields)).encode(), hashlib.sha256).hexdigest()


def is_signed(key: bytes, nonce: str, hello: Hello) -> bool:
    """Whether the token of `hello` was made with `key`; compared in constant time."""
    token = (hello.token or "").encode()
    return hmac.compare_digest(token, sign(key, nonce, hello).encode())
