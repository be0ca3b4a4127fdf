"""Dead letters: on disk, capped, readable."""

from datetime import UTC, datetime
from pathlib import Path

from collector.deadletters import MAX_PAYLOAD_BYTES, DeadLetters, Letter, letter


def made(number: int, payload: bytes = b"{}", batch: int | None = None) -> Letter:
    return letter(
        at=datetime.now(UTC), agent="box-1", outbox="o", batch=number if batch is None else batch, index=number,
        reason="invalid", refusal="not_json", words="why", payload=payload,
    )  # fmt: skip


def test_letters_come_back_as_they_were(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path, 2**20)
    text, binary = made(1, '{"ssid":"图书馆"}'.encode()), made(2, b"\xff\x00")
    assert letters.keep([text, binary]) == 2
    found = list(DeadLetters(tmp_path, 2**20).letters())
    assert found == [text, binary]
    assert [one.bytes() for one in found] == ['{"ssid":"图书馆"}'.encode(), b"\xff\x00"]


def test_the_same_letter_again_is_not_written_again(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path, 2**20)
    assert letters.keep([made(1)]) == 1
    assert letters.keep([made(1), made(2)]) == 1
    assert len(list(letters.letters())) == 2


def test_the_files_stay_within_the_cap_and_the_oldest_go_first(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path, 40_000)
    for number in range(300):
        letters.keep([made(number, b"x" * 200)])
        size = sum(file.stat().st_size for file in (tmp_path / "dead-letters").iterdir())
        assert size <= 40_000
    kept = [one.index for one in letters.letters()]
    assert kept == list(range(300 - len(kept), 300))
    assert letters.forgotten == 300 - len(kept) > 0


def test_a_long_payload_is_cut_and_says_so(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path, 2**20)
    letters.keep([made(1, b"x" * (MAX_PAYLOAD_BYTES + 1))])
    (found,) = letters.letters()
    assert found.size_bytes == MAX_PAYLOAD_BYTES + 1
    assert found.payload is not None
    assert len(found.payload) == MAX_PAYLOAD_BYTES
    assert found.bytes() is None


def test_a_line_that_a_crash_cut_costs_no_other(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path, 2**20)
    letters.keep([made(1)])
    with (tmp_path / "dead-letters/letters.jsonl").open("ab") as file:
        file.write(b'{"id":"half')
    letters.keep([made(2)])
    assert [one.index for one in letters.letters()] == [1, 2]


def test_marks_outlive_their_letters_not(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path, 2**20)
    one = made(1)
    letters.keep([one])
    letters.mark_replayed([one.id, "gone"])
    assert letters.replayed() == {one.id}
