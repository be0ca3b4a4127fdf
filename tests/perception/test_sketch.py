"""The sketch against the exact quantile of the same numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception.sketch import ACCURACY_RATIO, LARGEST, SMALLEST, Sketch, add_encoded, keys, value_of

POSITIVE = st.floats(min_value=SMALLEST, max_value=1e9)
MEASURED = st.one_of(st.just(0.0), POSITIVE, POSITIVE.map(lambda x: -x))
SKETCHES = st.builds(Sketch.of, st.lists(MEASURED), st.integers(0, 1000))


def exact(values: list[float], failures: int, p: float) -> float:
    """Type 7, or nearest rank where something failed: written out, sharing nothing with the sketch."""
    ranked = sorted(values) + [math.inf] * failures
    if failures:
        return ranked[max(1, math.ceil(p * len(ranked) - 1e-9)) - 1]
    place = p * (len(ranked) - 1)
    low, high = ranked[math.floor(place)], ranked[math.ceil(place)]
    return low + (place - math.floor(place)) * (high - low)


@given(st.lists(st.one_of(st.just(0.0), POSITIVE), min_size=1), st.integers(0, 5), st.floats(0, 1))
def test_a_quantile_is_within_one_percent_of_the_exact_one(values: list[float], failures: int, p: float) -> None:
    assert Sketch.of(values, failures).quantile(p) == pytest.approx(
        exact(values, failures, p), rel=ACCURACY_RATIO * (1 + 1e-9), abs=0
    )


@given(st.lists(POSITIVE.map(lambda x: -x), min_size=1), st.floats(0, 1))
def test_a_quantile_of_levels_in_dbm_is_as_good(values: list[float], p: float) -> None:
    assert Sketch.of(values).quantile(p) == pytest.approx(exact(values, 0, p), rel=ACCURACY_RATIO * (1 + 1e-9))


@given(st.lists(MEASURED), st.lists(MEASURED), st.integers(0, 9), st.integers(0, 9))
def test_the_sum_is_the_sketch_of_all(one: list[float], other: list[float], failed: int, lost: int) -> None:
    assert Sketch.of(one, failed) + Sketch.of(other, lost) == Sketch.of(one + other, failed + lost)


@given(SKETCHES, SKETCHES, SKETCHES)
def test_sums_do_not_depend_on_order(a: Sketch, b: Sketch, c: Sketch) -> None:
    assert (a + b) + c == a + (b + c) == Sketch.total([c, b, a])
    assert ((a + b) + c).encode() == Sketch.total([c, a, b]).encode()


@given(SKETCHES)
def test_the_string_gives_the_sketch_back(sketch: Sketch) -> None:
    again = Sketch.decode(sketch.encode())
    assert again == sketch
    assert again.encode() == sketch.encode()
    assert hash(again) == hash(sketch)


@given(SKETCHES)
def test_the_count_has_values_and_failures(sketch: Sketch) -> None:
    assert sketch.count == sum(sketch.buckets.values()) + sketch.failures


@given(st.lists(MEASURED, min_size=2))
def test_buckets_are_ordered_as_their_values(values: list[float]) -> None:
    found = keys(sorted(values)).tolist()
    assert found == sorted(found)
    assert [value_of(key) for key in found] == sorted(value_of(key) for key in found)


def test_zeros_are_exact_and_apart_from_small_values() -> None:
    sketch = Sketch.of([0, 0, 0, 0.001])
    assert sketch.quantile(0.5) == 0.0
    assert sketch.encode().startswith("0;0:3,")


def test_failures_are_above_everything() -> None:
    sketch = Sketch.of([10.0] * 9, failures=1)
    assert sketch.quantile(0.9) == pytest.approx(10, rel=0.01)
    assert sketch.quantile(0.91) == math.inf
    assert Sketch.of([], failures=2).quantile(0) == math.inf


def test_nothing_has_no_quantile() -> None:
    assert Sketch.of([]).quantile(0.5) is None
    assert Sketch.decode("0;").count == 0


def test_the_string_is_as_documented() -> None:
    assert Sketch.of([1.0, 1.0, 0.0, -1.0], 3).encode() == "3;-692,0,692:2"


def test_an_hour_of_latency_is_a_short_string() -> None:
    sketch = Sketch.of([20 + (17 * i % 61) / 10 for i in range(60)])
    assert len(sketch.encode()) < 120


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, LARGEST * 2])
def test_numbers_that_no_bucket_holds_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Sketch.of([1.0, value])


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_a_quantile_outside_zero_to_one_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="0 to 1"):
        Sketch.of([1.0]).quantile(p)


@pytest.mark.parametrize(
    "text",
    ["", "3", "0;2,1", "0;01", "0;1:01", "00;", "0;-0", "0;1,", "0; 1", "0;1\n",
      "x;", ";1", "-1;1", "0;1,1", "0;1:0", "0;1:-2", "0;1:x", "0;,", "0;1:2:3", "0;99999", "0;1.5", "0;１",
     "0;" + "9" * 5000],
)  # fmt: skip
def test_what_is_no_sketch_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="no sketch"):
        Sketch.decode(text)


@given(st.text())
def test_no_text_does_more_than_a_value_error(text: str) -> None:
    try:
        Sketch.decode(text)
    except ValueError as error:
        assert str(error).startswith("no sketch")  # noqa: PT017


def test_encoded_sketches_are_added_as_decoded_ones_are() -> None:
    sketches = [Sketch.of([1.0, 1.0, -3.0, 0.0], 2), Sketch.of([1.0, 9.5]), Sketch({}, 3), Sketch({})]
    buckets: dict[int, int] = {}
    failures = sum(add_encoded(buckets, sketch.encode()) for sketch in sketches)
    assert Sketch(buckets, failures) == Sketch.total(sketches)
    for text in ("", "1,2", "x;1", "1;a"):
        with pytest.raises(ValueError):
            add_encoded({}, text)
