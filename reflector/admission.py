"""Who may run a heavy test, and when: slots, tokens and limits. No I/O; the clock is given.

One test of an agent at a time. An agent's run is a download with the upload that follows it at once, so the pause
between two tests of an agent counts for each direction, from the start of its last test. Its bytes a day are those of
the last 24 hours, to the hour: a reflector serves agents of any time zone and knows no midnight. What is remembered is
in memory: a restart forgets it.
"""

import math
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct, field

from contract.throughput import (
    MAX_BYTES,
    MAX_DURATION_S,
    MAX_STREAMS,
    SERVER_GRACE_S,
    Direction,
    Hello,
    Refusal,
    Refused,
    is_signed,
)
from reflector.counts import Counts

SHARE: Final = 0.8
"""Of the capacity that tests may take together."""
FAILED_HELLOS: Final = 10
FAILED_S: Final = 60.0
"""A source with this many bad hellos in this time is not listened to."""
MAX_SOURCES: Final = 10_000
"""Sources and agents whose past is remembered; the oldest is forgotten."""
DAY_S: Final = 86_400.0
HOUR_S: Final = 3600.0


class Limits(Struct, kw_only=True, frozen=True):
    """What this reflector gives at most."""

    capacity_mbps: float = 1000.0
    """Of its own way out."""
    per_test_mbps: float = 300.0
    """No test gets more; the sender paces itself."""
    duration_s: float = MAX_DURATION_S
    byte_cap: int = MAX_BYTES
    """Per direction."""
    streams: int = MAX_STREAMS
    pause_s: float = 60.0
    """Between two tests of an agent in the same direction."""
    bytes_per_day: int = 20_000_000_000
    """Of an agent, both directions, in any 24 h."""
    connections: int = 64
    """Open at once from one source address: a venue's boxes may share one."""
    public_slots: int = 0
    """Tests that browsers may run at once (NDT7, without a token); 0: none."""

    @property
    def slots(self) -> int:
        return max(1, math.floor(SHARE * self.capacity_mbps / self.per_test_mbps))


class Test:
    """An admitted test; holds its slot until :meth:`release`."""

    def __init__(self, admission: "Admission", agent: str, hello: Hello, ends_s: float) -> None:
        self.id = secrets.token_urlsafe(12)
        self.secret = secrets.token_urlsafe(24)
        self.agent = agent
        self.direction: Direction = hello.direction
        self.duration_s = hello.duration_s
        self.byte_cap = hello.byte_cap
        self.streams = hello.streams
        self.congestion_control = hello.congestion_control
        self.ends_s = ends_s
        """When it is over at the latest."""
        self.bytes = 0
        """Payload moved; whoever moves it counts here."""
        self.concurrent = 1
        self._admission = admission

    def release(self) -> None:
        """Give the slot back; again does nothing."""
        self._admission.release(self)


class _Past(Struct):
    """What is remembered of an agent."""

    started_s: dict[str, float] = {}
    """By direction."""
    spent: deque[tuple[int, int]] = field(default_factory=deque)
    """Hours, and bytes in each."""

    def spend(self, now_s: float, size: int) -> None:
        hour = int(now_s // HOUR_S)
        if self.spent and self.spent[-1][0] == hour:
            size += self.spent.pop()[1]
        self.spent.append((hour, size))

    def spent_bytes(self, now_s: float) -> int:
        """Of the last 24 h."""
        while self.spent and (self.spent[0][0] + 1) * HOUR_S <= now_s - DAY_S:
            self.spent.popleft()
        return sum(size for _, size in self.spent)


class Admission:
    """One per reflector.

    :param keys: of each agent, one or two (while one replaces the other); None admits anyone without a token.
    :param now: monotonic seconds.
    """

    def __init__(
        self,
        limits: Limits,
        keys: Mapping[str, tuple[bytes, ...]] | None,
        *,
        counts: Counts,
        now: Callable[[], float],
    ) -> None:
        self.limits = limits
        self.draining = False
        self.keys = keys
        """May be replaced at any time: a test that was admitted has a secret of its own."""
        self._nobody = (secrets.token_bytes(32),)
        """Keys of an unknown agent: it costs the same time as a wrong token."""
        self._counts = counts
        self._now = now
        self._running: dict[str, Test] = {}
        self._public: set[Test] = set()
        self._past: dict[str, _Past] = {}
        self._failed: dict[str, list[float]] = {}
        """When each source failed last, the one that failed longest ago first."""

    @property
    def running(self) -> int:
        """Tests that hold a slot."""
        return len(self._running)

    @property
    def public_running(self) -> int:
        return len(self._public)

    @property
    def open(self) -> bool:
        """Whether no token is asked for."""
        return self.keys is None

    def admit(self, hello: Hello, nonce: str, source: str) -> Test | Refused:
        """A test with this server's own limits, or why not. `source` is an address."""
        refused = self._refusal(hello, nonce, source)
        if refused is not None:
            self._counts.add("tests_refused", refused.error)
            return refused
        limits = self.limits
        duration_s = min(hello.duration_s, limits.duration_s)
        granted = Hello(
            agent=hello.agent,
            direction=hello.direction,
            duration_s=duration_s,
            streams=hello.streams,
            byte_cap=min(hello.byte_cap, limits.byte_cap, self._left_bytes(hello.agent)),
            congestion_control=hello.congestion_control,
        )
        test = Test(self, hello.agent, granted, self._now() + duration_s + SERVER_GRACE_S)
        self._running[test.id] = test
        for other in self._running.values():
            other.concurrent = max(other.concurrent, len(self._running))
        self._of(hello.agent).started_s[hello.direction] = self._now()
        self._counts.add("tests_admitted", hello.direction)
        return test

    def public(self, direction: Direction, duration_s: float) -> Test | Refused:
        """A browser's test, from a pool of its own."""
        if self.draining:
            return self._refused("draining", "the server is about to stop")
        if len(self._public) >= self.limits.public_slots:
            return self._refused("no_slot", "every public slot is taken", duration_s)
        hello = Hello(agent="public", direction=direction, duration_s=duration_s, streams=1, byte_cap=MAX_BYTES)
        test = Test(self, "public", hello, self._now() + duration_s + SERVER_GRACE_S)
        self._public.add(test)
        self._counts.add("tests_admitted", "ndt7")
        return test

    def find(self, test: str, secret: str) -> Test | None:
        """The running test that `secret` opens."""
        found = self._running.get(test)
        if found is None or not secrets.compare_digest(found.secret.encode(), secret.encode()):
            return None
        return found

    def note_failed(self, source: str) -> None:
        """`source` said something that was no good hello."""
        now_s = self._now()
        self._failed[source] = [*self._failed.pop(source, []), now_s][-FAILED_HELLOS:]
        while len(self._failed) > MAX_SOURCES or next(iter(self._failed.values()))[-1] < now_s - FAILED_S:
            del self._failed[next(iter(self._failed))]

    def is_banned(self, source: str) -> bool:
        """Whether `source` has failed too often of late to be listened to."""
        times = self._failed.get(source)
        return times is not None and len(times) == FAILED_HELLOS and self._now() - times[0] < FAILED_S

    def release(self, test: Test) -> None:
        if test in self._public:
            self._public.remove(test)
        elif self._running.pop(test.id, None) is not None:
            self._of(test.agent).spend(self._now(), test.bytes)
        else:
            return
        self._counts.add("payload_bytes", test.direction, test.bytes)

    def _refusal(self, hello: Hello, nonce: str, source: str) -> Refused | None:
        if self.draining:
            return Refused(error="draining", detail="the server is about to stop")
        signed = self._is_signed(hello, nonce)
        # A guest behind the same address must not be able to silence an agent that has its key.
        if self.is_banned(source) and (self.keys is None or not signed):
            wait_s = self._failed[source][0] + FAILED_S - self._now()
            return Refused(error="no_slot", detail="too many bad hellos from this address", retry_after_s=wait_s)
        if not signed:
            self.note_failed(source)
            return Refused(error="bad_token", detail="no key of this agent made this token")
        if hello.streams > self.limits.streams:
            return Refused(error="bad_request", detail=f"streams: at most {self.limits.streams}")
        own = [test for test in self._running.values() if test.agent == hello.agent]
        if own:
            return Refused(
                error="no_slot", detail="this agent has a test running", retry_after_s=self._until_free_s(own)
            )
        started_s = self._of(hello.agent).started_s.get(hello.direction, -math.inf)
        wait_s = started_s + self.limits.pause_s - self._now()
        if wait_s > 0:
            return Refused(
                error="no_slot",
                detail=f"too soon after this agent's last test: again in {math.ceil(wait_s)} s",
                retry_after_s=wait_s,
            )
        if self._left_bytes(hello.agent) <= 0:
            return Refused(error="over_budget", detail="this agent's bytes of 24 h are spent")
        if len(self._running) >= self.limits.slots:
            wait_s = self._until_free_s(self._running.values())
            return Refused(error="no_slot", detail="every slot is taken", retry_after_s=wait_s)
        return None

    def _is_signed(self, hello: Hello, nonce: str) -> bool:
        """Every key is tried, whatever the first one says."""
        if self.keys is None:
            return True
        keys = self.keys.get(hello.agent, self._nobody)
        return sum(is_signed(key, nonce, hello) for key in keys) > 0

    def _refused(self, error: Refusal, detail: str, retry_after_s: float | None = None) -> Refused:
        self._counts.add("tests_refused", error)
        return Refused(error=error, detail=detail, retry_after_s=retry_after_s)

    def _until_free_s(self, tests: Iterable[Test]) -> float:
        return max(0.1, min(test.ends_s for test in tests) - self._now())

    def _left_bytes(self, agent: str) -> int:
        return self.limits.bytes_per_day - self._of(agent).spent_bytes(self._now())

    def _of(self, agent: str) -> _Past:
        past = self._past.setdefault(agent, _Past())
        if len(self._past) > MAX_SOURCES:
            del self._past[next(iter(self._past))]
        return past
