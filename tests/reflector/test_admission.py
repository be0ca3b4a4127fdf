"""Slots, tokens and limits on a clock of our own."""

import pytest

from contract.throughput import Direction, Hello, Refused, sign
from reflector import admission
from reflector.admission import FAILED_HELLOS, FAILED_S, HOUR_S, MAX_SOURCES, Admission, Limits
from reflector.counts import Counts

NONCE = "n" * 24
SOURCE = "192.0.2.1"
OLD, NEW, OTHER = b"an old key of 16", b"a new key of 16.", b"another's key 16"


class Desk:
    """An admission, and the time that it sees."""

    def __init__(self, limits: Limits | None = None, keys: dict[str, tuple[bytes, ...]] | None = None) -> None:
        self.now_s = 5.0
        self.counts = Counts()
        # A day's bytes must not be in the way of what is tested.
        self.admission = Admission(
            limits or Limits(bytes_per_day=10**15), keys, counts=self.counts, now=lambda: self.now_s
        )

    def ask(
        self,
        agent: str = "lib-01",
        direction: Direction = "down",
        *,
        key: bytes | None = None,
        source: str = SOURCE,
        duration_s: float = 3.0,
        byte_cap: int = 50_000_000,
        streams: int = 4,
    ) -> admission.Test | Refused:
        asked = {
            "agent": agent,
            "direction": direction,
            "duration_s": duration_s,
            "streams": streams,
            "byte_cap": byte_cap,
        }
        token = sign(key, NONCE, Hello(**asked)) if key else None
        return self.admission.admit(Hello(**asked, token=token), NONCE, source)

    def admit(self, agent: str = "lib-01", direction: Direction = "down", **wanted: object) -> admission.Test:
        test = self.ask(agent, direction, **wanted)  # type: ignore[arg-type]
        assert isinstance(test, admission.Test), test
        return test

    def refuse(self, agent: str = "lib-01", direction: Direction = "down", **wanted: object) -> Refused:
        refused = self.ask(agent, direction, **wanted)  # type: ignore[arg-type]
        assert isinstance(refused, Refused)
        return refused


@pytest.mark.parametrize(
    ("capacity_mbps", "per_test_mbps", "slots"),
    [(1000, 300, 2), (1000, 100, 8), (100, 100, 1), (1000, 250, 3), (10, 300, 1), (1250, 125, 8)],
)
def test_slots_are_four_fifths_of_the_capacity(capacity_mbps: float, per_test_mbps: float, slots: int) -> None:
    assert Limits(capacity_mbps=capacity_mbps, per_test_mbps=per_test_mbps).slots == slots


def test_no_queue_but_the_time_until_a_slot_is_free() -> None:
    desk = Desk(Limits(capacity_mbps=1000, per_test_mbps=300))
    first = desk.admit("a-1", duration_s=3)
    desk.now_s += 2
    desk.admit("a-2", duration_s=10)
    refused = desk.refuse("a-3")
    assert (refused.error, refused.detail) == ("no_slot", "every slot is taken")
    assert refused.retry_after_s == pytest.approx(3 + 3 - 2), "the first one's duration and grace, less what has passed"
    assert desk.admission.running == 2
    first.release()
    desk.admit("a-3")
    assert desk.counts.of("tests_refused", "no_slot") == 1
    assert desk.counts.of("tests_admitted", "down") == 3


def test_an_overdue_test_is_no_reason_to_come_back_at_once() -> None:
    desk = Desk(Limits(capacity_mbps=1, per_test_mbps=1))
    desk.admit("a-1")
    desk.now_s += 3600
    assert desk.refuse("a-2").retry_after_s == pytest.approx(0.1)


def test_one_test_of_an_agent_at_a_time_and_its_own_end_is_told() -> None:
    desk = Desk(Limits(capacity_mbps=1000, per_test_mbps=100))
    desk.admit("a-1", duration_s=1)
    desk.admit("a-2", duration_s=10)
    refused = desk.refuse("a-2", "up")
    assert (refused.error, refused.detail) == ("no_slot", "this agent has a test running")
    assert refused.retry_after_s == pytest.approx(13)


def test_down_then_up_is_one_run_and_the_next_run_waits() -> None:
    desk = Desk()
    desk.admit(direction="down").release()
    desk.now_s += 4
    desk.admit(direction="up").release()
    desk.now_s += 4
    refused = desk.refuse(direction="down")
    assert (refused.error, refused.detail) == ("no_slot", "too soon after this agent's last test: again in 52 s")
    assert refused.retry_after_s == pytest.approx(60 - 8)
    assert desk.refuse(direction="up").retry_after_s == pytest.approx(60 - 4)
    desk.now_s += 52
    desk.admit(direction="down").release()
    desk.admit("another-agent").release()


def test_the_pause_may_be_none() -> None:
    desk = Desk(Limits(pause_s=0))
    for _ in range(5):
        desk.admit().release()


def test_bytes_of_a_day_are_each_agent_s_own() -> None:
    desk = Desk(Limits(pause_s=0, bytes_per_day=1000))
    first = desk.admit("a-1")
    first.bytes = 600
    first.release()
    second = desk.admit("a-1")
    assert second.byte_cap == 400, "what is left"
    second.bytes = 400
    second.release()
    refused = desk.refuse("a-1")
    assert (refused.error, refused.retry_after_s) == ("over_budget", None)
    assert desk.admit("a-2").byte_cap == 1000


def test_bytes_are_given_back_after_24_hours_to_the_hour() -> None:
    desk = Desk(Limits(pause_s=0, bytes_per_day=1000))
    for size in (300, 700):
        test = desk.admit()
        test.bytes = size
        test.release()
        desk.now_s += 2 * HOUR_S
    desk.now_s += 22 * HOUR_S  # 26 h after the first, 24 h after the second
    assert desk.admit().byte_cap == 300
    desk.admission.release(next(iter(desk.admission._running.values())))
    desk.now_s += HOUR_S
    assert desk.admit().byte_cap == 1000


def test_a_day_of_tests_is_remembered_in_25_numbers() -> None:
    desk = Desk(Limits(pause_s=0))
    for _ in range(3000):
        desk.admit().release()
        desk.now_s += 60
    assert len(desk.admission._past["lib-01"].spent) <= 25


def test_what_is_asked_is_clamped_to_the_server_s_own_maxima() -> None:
    desk = Desk(Limits(duration_s=5, byte_cap=1_000_000, streams=4))
    test = desk.admit(duration_s=15, byte_cap=400_000_000)
    assert (test.duration_s, test.byte_cap, test.streams) == (5, 1_000_000, 4)
    assert test.ends_s == desk.now_s + 5 + 3
    test.release()
    desk.now_s += 60
    refused = desk.refuse(streams=5)
    assert (refused.error, refused.detail) == ("bad_request", "streams: at most 4")


def test_old_and_new_key_are_both_good_and_no_other() -> None:
    desk = Desk(Limits(pause_s=0), {"lib-01": (OLD, NEW), "lib-02": (OTHER,)})
    desk.admit(key=OLD).release()
    desk.admit(key=NEW).release()
    desk.admit("lib-02", key=OTHER).release()
    for agent, key in (("lib-01", OTHER), ("lib-02", OLD), ("lib-03", OTHER), ("lib-01", None)):
        assert desk.refuse(agent, key=key).error == "bad_token"
    assert desk.counts.of("tests_refused", "bad_token") == 4
    assert desk.admission.running == 0


def test_a_token_holds_for_its_nonce_and_its_fields_alone() -> None:
    desk = Desk(Limits(pause_s=0), {"lib-01": (OLD,)})
    hello = Hello(agent="lib-01", direction="down", duration_s=3, streams=4, byte_cap=1)
    other = Hello(agent="lib-01", direction="down", duration_s=3, streams=4, byte_cap=2, token=sign(OLD, NONCE, hello))
    assert isinstance(desk.admission.admit(other, NONCE, SOURCE), Refused)
    again = Hello(
        agent="lib-01", direction="down", duration_s=3, streams=4, byte_cap=1, token=sign(OLD, "m" * 24, hello)
    )
    assert isinstance(desk.admission.admit(again, NONCE, SOURCE), Refused)


def test_a_source_that_fails_too_often_is_not_listened_to_for_a_while() -> None:
    desk = Desk(Limits(pause_s=0), {"lib-01": (OLD,)})
    for _ in range(FAILED_HELLOS):
        assert not desk.admission.is_banned(SOURCE)
        assert desk.refuse(key=NEW).error == "bad_token"
        desk.now_s += 1
    assert desk.admission.is_banned(SOURCE)
    refused = desk.refuse(key=NEW)
    assert (refused.error, refused.detail) == ("no_slot", "too many bad hellos from this address")
    desk.admit(key=OLD).release()
    assert refused.retry_after_s == pytest.approx(FAILED_S - FAILED_HELLOS)
    desk.admit(key=OLD, source="192.0.2.2").release()
    desk.now_s += FAILED_S - FAILED_HELLOS
    desk.admit(key=OLD).release()


def test_draining_refuses_what_is_new_and_lets_run_what_runs() -> None:
    desk = Desk()
    test = desk.admit()
    desk.admission.draining = True
    assert desk.refuse("a-2").error == "draining"
    public = desk.admission.public("down", 10)
    assert isinstance(public, Refused)
    assert public.error == "draining"
    assert desk.admission.find(test.id, test.secret) is test


def test_only_the_secret_of_a_running_test_opens_it() -> None:
    desk = Desk(Limits(pause_s=0))
    test = desk.admit()
    assert desk.admission.find(test.id, test.secret) is test
    assert desk.admission.find(test.id, test.secret[:-1]) is None
    assert desk.admission.find(test.id, "") is None
    assert desk.admission.find("no-such-test-here", test.secret) is None
    test.release()
    assert desk.admission.find(test.id, test.secret) is None
    other = desk.admit()
    assert other.id != test.id
    assert other.secret != test.secret


def test_release_counts_once() -> None:
    desk = Desk(Limits(pause_s=0, bytes_per_day=1000))
    test = desk.admit()
    test.bytes = 100
    test.release()
    test.release()
    assert desk.admission.running == 0
    assert desk.admit().byte_cap == 900
    assert desk.counts.of("payload_bytes", "down") == 100


def test_the_most_that_ran_at_once_is_remembered_of_each() -> None:
    desk = Desk(Limits(capacity_mbps=1000, per_test_mbps=100))
    first, second = desk.admit("a-1"), desk.admit("a-2")
    second.release()
    third = desk.admit("a-3")
    first.release()
    fourth = desk.admit("a-4")
    assert [test.concurrent for test in (first, second, third, fourth)] == [2, 2, 2, 2]
    desk.admit("a-5")
    assert [test.concurrent for test in (first, second, third, fourth)] == [2, 2, 3, 3]


def test_browsers_have_a_small_pool_of_their_own_or_none() -> None:
    assert isinstance(Desk().admission.public("down", 10), Refused)
    desk = Desk(Limits(public_slots=1, capacity_mbps=1, per_test_mbps=1))
    public = desk.admission.public("down", 10)
    assert isinstance(public, admission.Test)
    busy = desk.admission.public("up", 10)
    assert isinstance(busy, Refused)
    assert (busy.error, busy.retry_after_s) == ("no_slot", 10)
    desk.admit("a-1")
    assert (desk.admission.running, desk.admission.public_running) == (1, 1)
    assert desk.admission.find(public.id, public.secret) is None, "no connection joins a browser's test"
    public.release()
    assert isinstance(desk.admission.public("up", 10), admission.Test)


def test_what_is_remembered_is_bounded() -> None:
    desk = Desk(Limits(pause_s=0), {})
    for number in range(MAX_SOURCES + 10):
        desk.refuse(f"a-{number}", source=f"source {number}")
    assert len(desk.admission._failed) == MAX_SOURCES
    desk.now_s += FAILED_S + 1
    desk.refuse("a-0", source="another source")
    assert len(desk.admission._failed) == 1, "and forgotten when it matters no more"
    assert not desk.admission._past, "nothing is remembered of agents that nobody knows"
    desk = Desk(Limits(pause_s=0))
    for number in range(MAX_SOURCES + 10):
        desk.admit(f"a-{number}").release()
    assert len(desk.admission._past) == MAX_SOURCES
