"""The figures of a packet train."""

import pytest

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
