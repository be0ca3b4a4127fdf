"""Messages of every contract version stay readable for ever, and are written back byte for byte."""

from pathlib import Path

import pytest

from contract.codec import Decoded, decode_ack, decode_batch, decode_record, decode_status, encode
from contract.record import RECORDS, Record
from contract.vocabulary import REASONS

GOLDEN = Path(__file__).parent / "golden" / "v1"


@pytest.mark.parametrize("kind", ["ok", "failed"])
@pytest.mark.parametrize("probe", sorted(RECORDS))
def test_record(probe: str, kind: str) -> None:
    raw = (GOLDEN / f"{probe}.{kind}.json").read_bytes().strip()
    record = decode_record(raw)
    assert isinstance(record, RECORDS[probe])
    assert (record.probe, record.outcome) == (probe, kind)
    assert record.reason in (REASONS[kind] or {None})
    assert encode(record) == raw


def test_hundred_percent_loss_keeps_its_loss_and_has_no_round_trip_time() -> None:
    record = decode_record((GOLDEN / "latency.failed.json").read_bytes())
    assert record.reason == "all_lost"
    assert record.values.loss_ratio == 1.0
    assert record.values.received == 0
    assert record.values.rtt_p50_ms is None


@pytest.mark.parametrize(
    ("pattern", "decode"), [("ack.*.json", decode_ack), ("status.json", decode_status), ("batch.json", decode_batch)]
)
def test_message(pattern: str, decode: object) -> None:
    files = sorted(GOLDEN.glob(pattern))
    assert files
    for file in files:
        raw = file.read_bytes().strip()
        message = decode(raw)  # type: ignore[operator]
        assert encode(message.batch if isinstance(message, Decoded) else message) == raw


def test_every_file_is_looked_at() -> None:
    known = {f"{probe}.{kind}.json" for probe in RECORDS for kind in ("ok", "failed")}
    others = {"batch.json", "status.json"} | {file.name for file in GOLDEN.glob("ack.*.json")}
    assert {file.name for file in GOLDEN.iterdir()} == known | others


def test_batch_holds_records_of_two_probes() -> None:
    places = decode_batch((GOLDEN / "batch.json").read_bytes().strip()).places
    assert [place.probe for place in places if isinstance(place, Record)] == ["latency", "dns"]
