"""Lines, letter by letter."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.series import SERIES
from store.line import _Heads, _Texts, encode
from store.point import MAX_TIME_NS, Point, flaw
from tests.store.points import point


def one(point: Point) -> str:
    encoded = encode([point])
    assert (encoded.places, encoded.refusals) == ([0], [])
    return encoded.lines[0]


def at(second: int, **options: object) -> Point:
    return point(0, **options)._replace(time_ns=second)  # type: ignore[arg-type]


HEAD = "latency,agent=a-1,venue=lib,network=wifi,target=core,interface=wlan0"


def test_the_declared_type_decides_the_suffix() -> None:
    assert one(at(7, sent=3, rtt_p50_ms=3, ok=True, method="icmp")) == (
        f'{HEAD} rtt_p50_ms=3,method="icmp",sent=3i,ok=1i 7'
    )
    assert one(at(7, sent=0, rtt_p50_ms=0.5, ok=False)) == f"{HEAD} rtt_p50_ms=0.5,sent=0i,ok=0i 7"


def test_null_is_left_out_and_zero_is_not() -> None:
    assert one(at(0, sent=0)) == f"{HEAD} sent=0i 0"
    assert one(at(-1, loss_ratio=0.0)) == f"{HEAD} loss_ratio=0.0 -1"


def test_a_point_without_fields_has_no_line() -> None:
    assert encode([at(1), at(2, sent=1), at(3)]) == ([f"{HEAD} sent=1i 2"], [1], [])


def test_strings_escape_quotes_and_backslashes() -> None:
    assert one(at(1, detail='a "b" \\ c, d=e')) == f'{HEAD} detail="a \\"b\\" \\\\ c, d=e" 1'
    assert one(at(1, detail="")) == f'{HEAD} detail="" 1'


def test_tags_escape_comma_blank_and_equals() -> None:
    tags = {"venue": "a,b c=d", "provider": 'x"y', "agent": "", "network": "", "target": "", "interface": ""}
    assert one(at(1, tags=tags, sent=1)) == 'latency,venue=a\\,b\\ c\\=d,provider=x"y sent=1i 1'


def test_a_series_without_floats_or_strings() -> None:
    assert one(Point("jobs", ("a",) * 6, 1, ("core", None, 1))) == (
        'jobs,agent=a,probe=a,target=a,interface=a,provider=a,resolver=a role="core",announced=1i 1'
    )
    assert one(Point("collector", ("",), 1, (1,) + (None,) * 9)) == "collector received=1i 1"


def test_caches_are_bounded_and_right_after_they_were_emptied() -> None:
    texts, heads = _Texts("detail", "str"), _Heads("dns", ("agent",))
    for number in range(50_000):
        assert texts[f"n-{number}"] == f',detail="n-{number}"'
        assert heads[(f"n-{number}",)] == f"dns,agent=n-{number}"
        assert len(texts) <= 1_000
        assert len(heads) <= 20_000
    assert texts[None] == ""
    assert texts["x" * 200] == f',detail="{"x" * 200}"'
    assert "x" * 200 not in texts, "free text is not worth keeping"


def test_an_unknown_series_is_an_error_and_no_refusal() -> None:
    with pytest.raises(KeyError):
        encode([at(1, sent=1), Point("other", (), 1, ())])


_ANY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=3),
    st.lists(st.none()),
)


@settings(max_examples=60)
@given(st.sampled_from(sorted(SERIES)), st.data())
def test_anything_becomes_one_line_or_a_refusal_with_words(series: str, data: st.DataObject) -> None:
    table = SERIES[series]
    tags = data.draw(st.tuples(*[st.text(max_size=8)] * len(table.tags)))
    fields = data.draw(st.tuples(*[_ANY] * len(table.fields)))
    candidate = Point(series, tags, data.draw(st.integers(-(2**65), 2**65)), fields)
    encoded = encode([candidate])
    assert len(encoded.refusals) == (flaw(candidate) is not None)
    if encoded.refusals:
        assert encoded.lines == []
        assert encoded.refusals[0].message
    elif any(value is not None for value in fields):
        (text,) = encoded.lines
        assert text.startswith(series)
        assert not set(text) & set("\n\r\0\u2028")
        assert text.endswith(f" {candidate.time_ns}")
        assert abs(candidate.time_ns) <= MAX_TIME_NS
    else:
        assert encoded.lines == []
