"""What comes from the network is refused by name, or is sound; a bad record never costs its neighbours."""

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.codec import PayloadError, Refused, decode_ack, decode_batch, decode_record, encode, strip_controls
from contract.messages import MAX_BYTES, BatchId
from contract.record import Record

GOLDEN = Path(__file__).parent / "golden" / "v1"
RECORD: dict[str, Any] = json.loads((GOLDEN / "latency.ok.json").read_bytes())
BATCH: dict[str, Any] = json.loads((GOLDEN / "batch.json").read_bytes())


def payload(*records: Any, **fields: Any) -> bytes:
    return json.dumps(BATCH | {"records": list(records)} | fields).encode()


def refusals(data: bytes) -> list[str | None]:
    """Per place: the name of its refusal, or None where the record is sound."""
    return [place.error.refusal if isinstance(place, Refused) else None for place in decode_batch(data).places]


def nested(depth: int) -> Any:
    return [] if depth == 1 else [nested(depth - 1)]


BAD_RECORDS: dict[str, tuple[str, dict[str, Any]]] = {
    "NaN": ("not_finite", {"duration_s": float("nan")}),
    "infinity": ("not_finite", {"values": {"rtt_p50_ms": float("inf")}}),
    "minus infinity in an unknown field": ("not_finite", {"new": float("-inf")}),
    "newline": ("control_character", {"detail": "a\nb"}),
    "NUL": ("control_character", {"detail": "a\x00"}),
    "DEL": ("control_character", {"detail": "\x7f"}),
    "NEL": ("control_character", {"detail": "\x85"}),
    "line separator": ("control_character", {"detail": "\u2028"}),
    "paragraph separator": ("control_character", {"detail": "\u2029"}),
    "C1": ("control_character", {"detail": "\x9b31m"}),
    "right to left": ("control_character", {"detail": "a\u202eb"}),
    "lone surrogate": ("control_character", {"detail": "\ud800"}),
    "control character in a key": ("control_character", {"a\tb": 1}),
    "naive time": ("naive_time", {"slot": "2026-11-23T02:05:00"}),
    "long detail": ("string_too_long", {"detail": "x" * 201}),
    "long value": ("string_too_long", {"values": {"congestion_control": "x" * 256}, "probe": "throughput"}),
    "depth": ("too_deep", {"new": nested(4)}),
    "probe": ("unknown_probe", {"probe": "telepathy"}),
    "wrong type": ("bad_field", {"duration_s": "3"}),
    "negative time": ("bad_field", {"values": {"rtt_p50_ms": -1.0}}),
    "ratio over 1": ("bad_field", {"values": {"loss_ratio": 1.5}}),
    "beyond 64 bits": ("bad_field", {"values": {"sent": 2**63}}),
    "URL as target": ("bad_field", {"target": "https://example.org/"}),
    "unknown outcome": ("bad_field", {"outcome": "great"}),
    "reason on ok": ("bad_field", {"reason": "timeout"}),
    "failed without reason": ("bad_field", {"outcome": "failed"}),
    "failed for our own reason": ("bad_field", {"outcome": "failed", "reason": "cpu_limited"}),
    "unknown flag": ("bad_field", {"flags": ["wobbly"]}),
}


@pytest.mark.parametrize("mistake", BAD_RECORDS)
def test_bad_record_is_refused_by_name_and_its_neighbours_are_not(mistake: str) -> None:
    refusal, change = BAD_RECORDS[mistake]
    assert refusals(payload(RECORD, RECORD | change, RECORD)) == [None, refusal, None]


def test_refused_record_keeps_its_bytes_and_says_where() -> None:
    place = decode_batch(payload(RECORD | {"duration_s": "3"})).places[0]
    assert isinstance(place, Refused)
    assert "$.duration_s" in str(place.error)
    assert json.loads(place.raw)["duration_s"] == "3"


def test_duplicate_key() -> None:
    doubled = payload(RECORD, RECORD).replace(b'"sent": 60', b'"sent": 60, "sent": 61', 1)
    assert refusals(doubled) == ["duplicate_key", None]


def test_record_that_is_no_object() -> None:
    assert refusals(payload(RECORD, 7, None, [])) == [None, "bad_field", "bad_field", "bad_field"]


@pytest.mark.parametrize(
    ("refusal", "data"),
    [
        ("too_large", b" " * (MAX_BYTES + 1)),
        ("too_many_records", payload(*[{}] * 101)),
        ("not_json", b"\xff\xfe"),
        ("not_json", b'{"v":1'),
        ("not_json", b""),
        ("too_deep", b"[" * 30_000 + b"]" * 30_000),
        ("too_deep", payload(RECORD, new=nested(6))),
        ("duplicate_key", payload(RECORD).replace(b'"v": 1', b'"v": 1, "v": 1')),
        ("duplicate_key", b'{"\\ud800":1,"\\ud800":1}'),
        ("not_finite", payload(RECORD, config_version=float("nan"))),
        ("naive_time", payload(RECORD, sent_at="2026-11-23T02:05:00")),
        ("unknown_version", payload(RECORD, v=2)),
        ("bad_field", payload()),
        ("bad_field", payload(RECORD, agent="all")),
        ("bad_field", payload(RECORD, agent="../x")),
        ("bad_field", payload(RECORD, batch=-1)),
        ("bad_field", payload(RECORD, outbox="no uuid")),
        ("bad_field", b"[]"),
        ("bad_field", b"7"),
    ],
)
def test_payload_that_cannot_be_believed(refusal: str, data: bytes) -> None:
    with pytest.raises(PayloadError) as error:
        decode_batch(data)
    assert error.value.refusal == refusal


def test_unknown_fields_are_tolerated() -> None:
    newer = RECORD | {"new": {"a": [1]}, "values": RECORD["values"] | {"newer": 1}}
    decoded = decode_batch(payload(newer, RECORD, also_new=True))
    assert refusals(payload(newer, RECORD, also_new=True)) == [None, None]
    assert decoded.places[0] == decoded.places[1]


def test_both_ways_of_decoding_agree() -> None:
    canonical = (GOLDEN / "batch.json").read_bytes().strip()
    other_encoder = json.dumps(json.loads(canonical), indent=1).encode()
    quick, careful = decode_batch(canonical), decode_batch(other_encoder)
    assert quick.places == careful.places
    assert encode(quick.batch) == encode(careful.batch) == canonical


def test_limits_hold_on_the_quick_way_too() -> None:
    """101 records and 64 KiB + 1 as our own encoder would write them."""
    small = json.loads((GOLDEN / "wifi_link.failed.json").read_bytes())
    quick = json.dumps(BATCH | {"records": [small] * 101}, separators=(",", ":")).encode()
    assert len(quick) < MAX_BYTES
    with pytest.raises(PayloadError, match="too_many_records"):
        decode_batch(quick)
    with pytest.raises(PayloadError, match="too_large"):
        decode_batch(json.dumps(BATCH | {"records": [RECORD] * 100}, separators=(",", ":")).encode() + b" " * 9_000)


HOSTILE = [
    chr(code) for code in (*range(0x7F, 0xA0), 0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
]


@pytest.mark.parametrize("character", HOSTILE, ids=ascii)
def test_control_characters_are_refused_as_our_own_encoder_writes_them_too(character: str) -> None:
    bad = RECORD | {"detail": f"馆{character}"}
    data = json.dumps(BATCH | {"records": [RECORD, bad]}, separators=(",", ":"), ensure_ascii=False).encode()
    assert refusals(data) == [None, "control_character"]


def test_chinese_text_takes_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "图书馆“三楼”·…—°‧\u2065\u206a\u200d\xa0"
    data = json.dumps(BATCH | {"records": [RECORD | {"detail": words}]}, separators=(",", ":"), ensure_ascii=False)
    monkeypatch.setattr("contract.codec._decode_carefully", None)
    assert decode_batch(data.encode()).batch.records[0].detail == words


MUTANT = (GOLDEN / "batch.json").read_bytes().strip()


@given(at=st.integers(0, len(MUTANT) - 1), byte=st.integers(0, 255))
def test_any_flipped_byte_is_refused_by_name_or_sound(at: int, byte: int) -> None:
    _decode_or_named(decode_batch, MUTANT[:at] + bytes([byte]) + MUTANT[at + 1 :])


@given(st.integers(0, len(MUTANT)))
def test_any_cut_is_refused_by_name(at: int) -> None:
    _decode_or_named(decode_batch, MUTANT[:at])


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    _decode_or_named(decode_batch, data)
    _decode_or_named(decode_record, data)
    _decode_or_named(decode_ack, data)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(string.ascii_letters, max_size=8), inner),
    max_leaves=8,
)


@given(field=st.sampled_from(sorted(RECORD)), value=JSON_VALUES)
def test_any_value_in_any_field(field: str, value: Any) -> None:
    places = decode_batch(payload(RECORD, RECORD | {field: value})).places
    assert isinstance(places[0], Record)


def _decode_or_named(decode: Callable[[bytes], object], data: bytes) -> None:
    try:
        decode(data)
    except PayloadError as error:
        assert str(error).startswith(error.refusal)  # noqa: PT017


@given(st.text())
def test_stripped_text_passes_the_codec(text: str) -> None:
    detail = strip_controls(text)
    assert len(detail) <= 200
    assert decode_record(json.dumps(RECORD | {"detail": detail}).encode()).detail == detail


def test_stripped_text_has_a_blank_for_each_hostile_character() -> None:
    assert strip_controls("馆".join(HOSTILE) + "\ud800") == "馆".join(" " for _ in HOSTILE) + " "


def test_batch_identity_round_trips() -> None:
    batch = decode_batch(MUTANT).batch
    identity = BatchId(batch.outbox, batch.batch)
    assert BatchId.decode(identity.encode()) == identity
