"""The virtual player with times by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.player import BUFFER_S, LADDER_MBPS, SEGMENT_S, Player, next_mbps, segment_bytes


def played(arrivals: list[float], end_s: float, rates: list[float] | None = None) -> Player:
    player = Player()
    for i, at_s in enumerate(arrivals):
        player.add(at_s, rates[i] if rates else 0.4)
    player.advance(end_s)
    return player


def test_without_a_stall() -> None:
    player = played([0.5, 1.0, 1.5, 4.0, 6.0, 8.0], 10.0)
    assert (player.start_s, player.stall_count, player.stall_s) == (0.5, 0, 0.0)
    assert player.played_s == pytest.approx(9.5)
    assert player.ahead_s == pytest.approx(2.5)


def test_a_stall_lasts_from_the_empty_buffer_to_the_next_segment() -> None:
    player = played([1.0, 4.0, 5.5, 9.5], 12.0)
    # Plays 1-3, stalls 3-4, plays 4-8, stalls 8-9.5, plays 9.5-11.5, stalls to the end.
    assert (player.start_s, player.stall_count) == (1.0, 3)
    assert player.stall_s == pytest.approx(1.0 + 1.5 + 0.5)
    assert player.played_s == pytest.approx(8.0)


def test_a_segment_at_the_very_last_moment_is_in_time() -> None:
    player = played([1.0, 3.0, 5.0], 7.0)
    assert (player.stall_count, player.stall_s, player.played_s) == (0, 0.0, 6.0)


def test_one_stall_however_often_one_looks() -> None:
    player = Player()
    player.add(0.0, 0.4)
    for at_s in (1.0, 2.5, 3.0, 3.5, 4.0):
        player.advance(at_s)
    assert (player.stall_count, player.stall_s) == (1, 2.0)
    player.add(4.0, 0.4)
    player.advance(7.0)
    assert (player.stall_count, player.stall_s) == (2, 3.0)


def test_nothing_arrived() -> None:
    player = played([], 12.0)
    assert (player.start_s, player.played_s, player.stall_count) == (None, 0.0, 0)


def test_room_for_another() -> None:
    player = Player()
    for _ in range(5):
        player.add(1.0, 0.4)
    assert (player.ahead_s, player.wait_s) == (BUFFER_S, 0.0)
    player.add(1.0, 0.4)
    assert player.wait_s == SEGMENT_S
    player.advance(2.5)
    assert player.wait_s == pytest.approx(0.5)


def test_switches() -> None:
    assert played([1, 2, 3, 4], 5.0, [0.4, 1.5, 1.5, 0.8]).switches == 2
    assert played([1], 5.0, [0.4]).switches == 0


@given(st.lists(st.floats(0.001, 5.0), max_size=20), st.floats(0.0, 10.0))
def test_every_second_is_waited_played_or_stalled(gaps: list[float], rest_s: float) -> None:
    at_s, player = 0.0, Player()
    for gap_s in gaps:
        at_s += gap_s
        player.add(at_s, 0.4)
    player.advance(at_s + rest_s)
    waited_s = at_s + rest_s if player.start_s is None else player.start_s
    assert waited_s + player.played_s + player.stall_s == pytest.approx(at_s + rest_s)
    assert player.played_s + player.ahead_s == pytest.approx(SEGMENT_S * len(gaps))
    assert player.stall_count <= len(gaps)


def test_the_first_quality_knows_nothing() -> None:
    assert next_mbps([]) == 0.8
    assert next_mbps([], (0.4,)) == 0.4


@pytest.mark.parametrize(
    ("throughputs", "expected"),
    [
        ([1.9], 1.5),
        ([1.87], 0.8),
        ([100.0], 8.0),
        ([0.1], 0.4),
        ([10.0, 10.0, 10.0, 10.0, 10.0], 8.0),
        ([9.9] * 5, 5.0),
        ([1000.0, 1.0], 1.5),  # harmonic mean 2.0
        ([0.1, *[10.0] * 5], 8.0),  # what is past is past
    ],
)
def test_the_next_quality(throughputs: list[float], expected: float) -> None:
    assert next_mbps(throughputs) == expected


def test_a_ladder_with_fewer_rungs() -> None:
    assert next_mbps([100.0], LADDER_MBPS[:4]) == 3.0


def test_segments_have_their_bitrate() -> None:
    assert [segment_bytes(rate) for rate in LADDER_MBPS] == [100_000, 200_000, 375_000, 750_000, 1_250_000, 2_000_000]
