"""Bytes to messages and back. Everything that comes from the network is refused here, by name, or is sound.

A batch that is exactly what our own encoder would have written is decoded and checked whole (one C call each way).
Anything else (unknown fields, another encoder, a bad record) takes the careful way, record by record, so that a bad
record never costs its neighbours.
"""

import functools
import json
import operator
import re
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from contract.messages import MAX_BYTES, MAX_RECORDS, VERSION, Ack, Batch, Status
from contract.record import RECORDS, Record

MAX_DEPTH: Final = 6
"""Nesting of objects and arrays in a payload, the payload itself included."""

RECORD_DEPTH: Final = MAX_DEPTH - 2
"""What of it is left to a record, which stands in an array in an object."""

Refusal = Literal[
    "too_large", "too_many_records", "not_json", "too_deep", "duplicate_key", "not_finite",
    "control_character", "naive_time", "string_too_long", "unknown_probe", "unknown_version", "bad_field",
]  # fmt: skip
"""Why a payload or a record was refused."""


class PayloadError(ValueError):
    """A payload that must not be believed. `refusal` is its name, the text says where and what was expected."""

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(f"{refusal}: {message}")
        self.refusal: Refusal = refusal


class Refused(Struct, frozen=True):
    """A record that was refused, at its place among its neighbours; `raw` is its JSON, for the dead letters."""

    error: PayloadError
    raw: bytes


class Decoded(Struct, kw_only=True):
    """A received batch. `batch.records` holds the sound records; `places` every place, the refused ones included."""

    batch: Batch
    places: list[Record | Refused]


_T = TypeVar("_T")
_AnyRecord: Any = functools.reduce(operator.or_, RECORDS.values())
_AnyRecords: Any = Annotated[list[_AnyRecord], Meta(min_length=1, max_length=MAX_RECORDS)]
_StrictBatch: Any = msgspec.defstruct("_StrictBatch", [("records", _AnyRecords)], bases=(Batch,), kw_only=True)
_strict_decoder: Final = msgspec.json.Decoder(_StrictBatch)
_encoder: Final = msgspec.json.Encoder()

CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What no text may hold: control characters (C0, DEL, C1), line separators, marks that turn the direction of writing
(a name would read as another one), lone surrogates."""

_SUSPECTS: Final = (b"\\", b"\x7f")
_WIDE_SUSPECTS: Final = re.compile(rb"\xc2[\x80-\x9f]|\xd8\x9c|\xe2(?:\x80[\x8e\x8f\xa8-\xae]|\x81[\xa6-\xa9])")
"""Bytes without which no string can hold one of :data:`CONTROL` (raw ones below 0x20 are not JSON); the second only
where a payload is not ASCII."""


def encode(message: Struct) -> bytes:
    """Any message as JSON bytes. NaN and infinities would become null: whoever makes a number checks it."""
    return _encoder.encode(message)


def strip_controls(text: str, limit: int = 200) -> str:
    """`text` with a blank for each of :data:`CONTROL`, at most `limit` characters: fit for `detail`."""
    return CONTROL.sub(" ", text)[:limit]


def decode_batch(payload: bytes) -> Decoded:
    """The batch in `payload`, with bad records marked in their places.

    :raises PayloadError: when the payload as a whole cannot be believed.
    """
    if len(payload) <= MAX_BYTES and not _may_hold_controls(payload):
        try:
            batch: Batch = _strict_decoder.decode(payload)
            # Equal to our own encoding: no unknown field, no duplicate key, no surplus depth can hide in it.
            if batch.v == VERSION and _encoder.encode(batch) == payload:
                return Decoded(batch=batch, places=list(batch.records))
        except (ValueError, RecursionError):  # msgspec's errors and UnicodeDecodeError are ValueErrors
            pass
    return _decode_carefully(payload)


def _may_hold_controls(payload: bytes) -> bool:
    if any(suspect in payload for suspect in _SUSPECTS):
        return True
    return not payload.isascii() and _WIDE_SUSPECTS.search(payload) is not None


def decode_record(raw: bytes) -> Record:
    """One record on its own.

    :raises PayloadError: when it must not be believed.
    """
    return _to_record(_parse(raw))


def decode_ack(payload: bytes) -> Ack:
    """:raises PayloadError: when it is no acknowledgement."""
    ack: Ack = _convert(_checked(_parse(payload), MAX_DEPTH), Ack)
    return ack


def decode_status(payload: bytes) -> Status:
    """:raises PayloadError: when it is no status."""
    status: Status = _convert(_checked(_parse(payload), MAX_DEPTH), Status)
    return status


def _decode_carefully(payload: bytes) -> Decoded:
    tree = _parse(payload)
    if not isinstance(tree, _Object):
        raise PayloadError("bad_field", "$: expected an object")
    if tree.duplicate is not None:
        raise PayloadError("duplicate_key", f"$.{strip_controls(tree.duplicate, 40)}")
    if tree.get("v", VERSION) != VERSION:
        raise PayloadError("unknown_version", f"$.v: {tree['v']!r}, this side speaks {VERSION}")
    records = tree.pop("records", None)
    if not isinstance(records, list) or not records:
        raise PayloadError("bad_field", f"$.records: expected an array of 1 to {MAX_RECORDS} records")
    if len(records) > MAX_RECORDS:
        raise PayloadError("too_many_records", f"$.records: {len(records)}, at most {MAX_RECORDS} are allowed")
    _checked(tree, MAX_DEPTH)
    places = [_to_place(record) for record in records]
    sound = [place for place in places if isinstance(place, Record)]
    # The least number of records is checked above: a batch of which none is sound still has its answer to get.
    batch = _convert(tree | {"records": []}, _Envelope)
    fields = {name: getattr(batch, name) for name in Batch.__struct_fields__}
    return Decoded(batch=Batch(**fields | {"records": sound}), places=places)


class _Envelope(Batch, kw_only=True):
    """A batch whose records are looked at one by one, elsewhere."""

    records: list[Record] = []


class _Object(dict[str, Any]):
    """A JSON object that remembers a key that came twice."""

    duplicate: str | None = None

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        if len(self) != len(pairs):
            keys = [key for key, _ in pairs]
            self.duplicate = next(key for key in keys if keys.count(key) > 1)


def _parse(payload: bytes) -> Any:
    """JSON as Python objects, tolerant of what :func:`_checked` then refuses by name."""
    if len(payload) > MAX_BYTES:
        raise PayloadError("too_large", f"{len(payload)} bytes, at most {MAX_BYTES} are allowed")
    try:
        return json.loads(payload.decode(), object_pairs_hook=_Object, strict=False)
    except RecursionError:
        raise PayloadError("too_deep", f"nested deeper than {MAX_DEPTH}") from None
    except ValueError as error:
        raise PayloadError("not_json", str(error)[:120]) from error


def _to_place(tree: Any) -> Record | Refused:
    try:
        return _to_record(tree)
    except PayloadError as error:
        return Refused(error, json.dumps(tree, ensure_ascii=True).encode())


def _to_record(tree: Any) -> Record:
    _checked(tree, RECORD_DEPTH)
    probe = tree.get("probe") if isinstance(tree, dict) else None
    if isinstance(probe, str) and probe not in RECORDS:
        raise PayloadError("unknown_probe", f"$.probe: {probe[:40]!r}")
    record: Record = _convert(tree, _AnyRecord)
    return record


def _convert(tree: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        message = str(error)
        if "with a timezone" in message:
            raise PayloadError("naive_time", message) from error
        if "`str` of length <=" in message:
            raise PayloadError("string_too_long", message) from error
        if "out of range" in message:
            raise PayloadError("not_finite", message) from error
        raise PayloadError("bad_field", message) from error


def _checked(tree: _T, depth: int, path: str = "$") -> _T:
    """`tree`, when its numbers are finite, its strings clean, its keys single and its nesting at most `depth`."""
    if isinstance(tree, str):
        if CONTROL.search(tree):
            raise PayloadError("control_character", path)
    elif isinstance(tree, float):
        if tree - tree != 0:
            raise PayloadError("not_finite", path)
    elif isinstance(tree, dict | list):
        if depth < 1:
            raise PayloadError("too_deep", f"{path}: nested deeper than {MAX_DEPTH}")
        if isinstance(tree, _Object) and tree.duplicate is not None:
            raise PayloadError("duplicate_key", f"{path}.{strip_controls(tree.duplicate, 40)}")
        children = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, child in children:
            if isinstance(key, str):
                _checked(key, 1, path)
            _checked(child, depth - 1, f"{path}.{str(key)[:40]}")
    return tree
