"""The figures of a packet train."""

from collections.abc import Collection, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.train import Train, percentile


def train_of(rtts_ms: list[float | None], warm_ups: int = 2) -> Train:
    train = Train(warm_ups)
    for sequence in range(warm_ups + len(rtts_ms)):
        train.note_sent(sequence)
    for sequence in range(warm_ups):
        train.note_reply(sequence, 999.0)
    for i, rtt_ms in enumerate(rtts_ms):
        if rtt_ms is not None:
            train.note_reply(warm_ups + i, rtt_ms)
    return train


def test_percentile_is_nearest_rank() -> None:
    assert percentile([15.0, 20.0, 35.0, 40.0, 50.0], 0.05) == 15.0
    assert percentile([15.0, 20.0, 35.0, 40.0, 50.0], 0.30) == 20.0
    assert percentile([15.0, 20.0, 35.0, 40.0, 50.0], 0.40) == 20.0
    assert percentile([15.0, 20.0, 35.0, 40.0, 50.0], 0.50) == 35.0
    assert percentile([15.0, 20.0, 35.0, 40.0, 50.0], 1.00) == 50.0
    assert percentile([7.0], 0.99) == 7.0


def test_figures() -> None:
    values = train_of([10.0, 14.0, None, 11.0, 21.0]).values("icmp", packet_bytes=44, interval_ms=100.0)
    assert (values.sent, values.received, values.loss_ratio) == (5, 4, pytest.approx(0.2))
    assert (values.rtt_min_ms, values.rtt_mean_ms, values.rtt_max_ms) == (10.0, 14.0, 21.0)
    assert (values.rtt_p50_ms, values.rtt_p95_ms) == (11.0, 21.0)
    assert values.rt_pdv_p95_ms == 11.0
    assert values.ipdv_mean_ms == pytest.approx((4 + 10) / 2), "only pairs that were sent one after the other"
    assert (values.duplicates, values.reordered) == (0, 0)


def test_nothing_received_has_a_loss_and_no_times() -> None:
    values = train_of([None, None]).values("icmp", packet_bytes=44, interval_ms=100.0)
    assert (values.sent, values.received, values.loss_ratio) == (2, 0, 1.0)
    assert values.rtt_min_ms is None
    assert values.rtt_p50_ms is None
    assert values.ipdv_mean_ms is None


def test_nothing_sent_has_no_loss() -> None:
    assert Train(2).values("icmp", packet_bytes=44, interval_ms=100.0).loss_ratio is None


def test_duplicates_and_reordering_are_counted_and_change_no_time() -> None:
    train = Train(0)
    for sequence in range(4):
        train.note_sent(sequence)
    for sequence, rtt_ms in ((0, 5.0), (2, 5.0), (1, 105.0), (1, 300.0), (3, 5.0), (3, 400.0), (9, 1.0)):
        train.note_reply(sequence, rtt_ms)
    values = train.values("icmp", packet_bytes=44, interval_ms=100.0)
    assert (values.received, values.duplicates, values.reordered) == (4, 2, 1)
    assert values.rtt_max_ms == 105.0


def test_tcp_knows_neither_duplicates_nor_reordering() -> None:
    values = train_of([5.0]).values("tcp", packet_bytes=None, interval_ms=100.0)
    assert (values.duplicates, values.reordered, values.packet_bytes) == (None, None, None)
    assert values.ipdv_mean_ms is None


# Loss by direction, from the numbers that a stateful reflector gives its replies

WARM_UPS = 2
LAST = 19
"""Of the counted packets."""


def reflected(up: Collection[int], down: Collection[int], trailers: Sequence[int] = (), twice: int = -1) -> Train:
    """A train whose packets of `up` never arrived and whose replies of `down` never came back; `trailers` were sent.

    `twice` arrived two times, and both replies came back, unless it is among `down`: then the second one did.
    """
    train = Train(WARM_UPS)
    for sequence in range(LAST + 1):
        train.note_sent(sequence)
    for trailer in trailers:
        train.note_trailer(trailer)
    number = 0
    for sequence in [*range(WARM_UPS, LAST + 1), *trailers]:
        for time in range(2 if sequence == twice else 1):
            if sequence in up:
                continue
            if sequence not in down or (sequence == twice and time):
                train.note_reply(sequence, 5.0, number)
            number += 1
    return train


COUNTED = st.sets(st.integers(WARM_UPS, LAST))


@given(COUNTED, COUNTED)
def test_loss_by_direction_is_exact_when_the_first_trailer_is_answered(up: set[int], down: set[int]) -> None:
    assert reflected(up, down - up, [LAST + 1]).lost == (len(up), len(down - up))


@given(COUNTED, COUNTED)
def test_loss_by_direction_is_exact_without_a_trailer_when_the_last_is_answered(up: set[int], down: set[int]) -> None:
    up, down = up - {LAST}, down - {LAST}
    assert reflected(up, down - up).lost == (len(up), len(down - up))


@given(COUNTED, COUNTED, st.integers(1, 4), st.sets(st.integers(LAST + 1, LAST + 4)))
def test_when_trailers_are_lost_too_it_is_exact_or_unknown(
    up: set[int], down: set[int], lost: int, lost_up: set[int]
) -> None:
    trailers = list(range(LAST + 1, LAST + 2 + lost))
    gone_up = lost_up & set(trailers[:-1])
    train = reflected(up | gone_up, (down | set(trailers[:-1])) - up - gone_up, trailers)
    assert train.lost in (None, (len(up), len(down - up)))


@pytest.mark.parametrize(
    ("up", "down", "lost"),
    [
        ({5, LAST, LAST + 1}, {7}, (2, 1)),
        ({5}, {7, LAST, LAST + 1}, (1, 2)),
        ({5, LAST}, {7, LAST + 1}, None),
        ({5, LAST + 1}, {7, LAST}, None),
        ({5, LAST + 1}, {7}, (1, 1)),
    ],
    ids=["all up", "all down", "either", "or", "the last was answered"],
)
def test_a_lost_trailer_leaves_doubt_only_when_both_ways_lost_at_the_end(
    up: set[int], down: set[int], lost: tuple[int, int] | None
) -> None:
    assert reflected(up, down, [LAST + 1, LAST + 2]).lost == lost


def test_no_trailer_answered_is_unknown() -> None:
    train = reflected({LAST, LAST + 1}, {4, LAST + 2}, [LAST + 1, LAST + 2])
    assert train.lost is None
    values = train.values("stamp", packet_bytes=44, interval_ms=50.0)
    assert (values.loss_up_ratio, values.loss_down_ratio) == (None, None)
    assert values.loss_ratio == pytest.approx(2 / 18)


def test_only_a_trailer_came_back() -> None:
    everything = set(range(WARM_UPS, LAST + 1))
    assert reflected(everything, set(), [LAST + 1]).lost == (18, 0)
    assert reflected(set(), everything, [LAST + 1]).lost == (0, 18)
    values = reflected(everything, set(), [LAST + 1]).values("stamp", packet_bytes=44, interval_ms=50.0)
    assert (values.loss_up_ratio, values.loss_down_ratio) == (1.0, None), "nothing was sent on the way down"


def test_each_direction_has_its_own_ratio() -> None:
    values = reflected({3, 4, 5, 6, 7, 8}, {9, 10, 11}).values("stamp", packet_bytes=44, interval_ms=50.0)
    assert (values.loss_ratio, values.loss_up_ratio, values.loss_down_ratio) == (0.5, 6 / 18, 3 / 12)


def test_a_packet_that_arrives_twice_is_no_loss() -> None:
    assert reflected({5}, {7}, twice=9).lost == (1, 1)
    assert reflected({5}, {7, 9}, twice=9).lost is not None
    train = reflected({5}, {7}, twice=9)
    assert train.values("stamp", packet_bytes=44, interval_ms=50.0).duplicates == 1


def test_packets_that_overtake_one_another_are_no_loss() -> None:
    train = Train(0)
    for sequence in range(4):
        train.note_sent(sequence)
    for number, sequence in enumerate((0, 2, 1, 3)):
        train.note_reply(sequence, 5.0, number)
    assert train.lost == (0, 0)
    swapped_at_the_end = Train(0)
    for sequence in range(3):
        swapped_at_the_end.note_sent(sequence)
    for number, sequence in enumerate((0, 2, 1)):
        swapped_at_the_end.note_reply(sequence, 5.0, number)
    assert swapped_at_the_end.lost == (0, 0)


def test_a_reflector_that_copies_our_numbers_says_nothing() -> None:
    train = Train(2)
    for sequence in range(10):
        train.note_sent(sequence)
        if sequence not in (4, 5):
            # The warm-ups are another session's.
            train.note_reply(sequence, 5.0, sequence if sequence >= 2 else None)
    assert train.lost is None


def test_a_reflector_that_forgot_the_session_says_nothing() -> None:
    """It was restarted, or had too many sessions: its count begins anew."""
    train = Train(0)
    for sequence in range(10):
        train.note_sent(sequence)
        train.note_reply(sequence, 5.0, sequence % 5)
    assert train.lost is None


def test_without_numbers_there_is_no_direction() -> None:
    assert train_of([5.0, None, 5.0]).lost is None
