"""The line of the last hour: gaps where nothing was measured, ticks where it failed."""

from collector.web.sparkline import HEIGHT, WIDTH, Slot, draw


def _hour(*values: float | None, step_s: float = 60.0, outcome: str = "failed") -> list[Slot]:
    return [Slot(index * step_s, value, "ok" if value is not None else outcome) for index, value in enumerate(values)]


def _points(path: str) -> list[tuple[float, float]]:
    pairs = path.replace("M", " L").replace("h0", "").split("L")
    return [(float(x), float(y)) for x, y in (pair.split() for pair in pairs if pair.strip())]


def test_higher_values_are_higher_and_zero_is_the_floor() -> None:
    line = draw(_hour(0.0, 5.0, 10.0), 0, 120, 60)
    (x0, y0), (x1, y1), (x2, y2) = _points(line.line)
    assert (x0, x1, x2) == (0, WIDTH / 2, WIDTH)
    assert y0 > y1 > y2 > 0
    assert y0 - y1 == y1 - y2
    assert (line.low, line.high, line.failed) == (0.0, 10.0, 0)


def test_a_failed_slot_is_a_gap_and_a_tick() -> None:
    line = draw(_hour(5.0, 5.0, None, 5.0, 5.0), 0, 240, 60)
    assert line.line.count("M") == 2
    assert line.ticks == f"M{WIDTH / 2:.1f} {HEIGHT - 4}v4"
    assert line.failed == 1


def test_a_skipped_slot_is_a_gap_without_a_tick() -> None:
    line = draw(_hour(5.0, 5.0, None, 5.0, 5.0, outcome="skipped"), 0, 240, 60)
    assert (line.line.count("M"), line.ticks, line.failed) == (2, "", 0)


def test_missing_slots_are_a_gap() -> None:
    slots = [Slot(0, 1.0, "ok"), Slot(60, 1.0, "ok"), Slot(300, 1.0, "ok"), Slot(360, 1.0, "ok")]
    assert draw(slots, 0, 360, 60).line.count("M") == 2
    assert draw(slots, 0, 360, 300).line.count("M") == 1


def test_without_a_period_the_usual_distance_counts() -> None:
    slots = [Slot(at, 1.0, "ok") for at in (0, 10, 20, 30, 100, 110)]
    assert draw(slots, 0, 110, None).line.count("M") == 2


def test_a_value_alone_is_a_dot() -> None:
    line = draw(_hour(None, 7.0, None), 0, 120, 60)
    assert (line.line, line.dots.count("M"), line.failed) == ("", 1, 2)


def test_nothing_and_all_failed() -> None:
    assert draw([], 0, 3600, 60) == ("", "", "", None, None, 0)
    line = draw(_hour(None, None), 0, 120, 60)
    assert (line.line, line.low, line.failed) == ("", None, 2)


def test_negative_values_stay_inside() -> None:
    line = draw(_hour(-70.0, -50.0, -60.0), 0, 120, 60)
    heights = [y for _, y in _points(line.line)]
    assert all(0 <= y <= HEIGHT for y in heights)
    assert heights[0] > heights[2] > heights[1]


def test_slots_outside_the_hour_are_not_drawn() -> None:
    line = draw(_hour(1.0, 1.0, 99.0), 0, 60, 60)
    assert line.high == 1.0
