"""Texts in both languages, and how values are said."""

import string
from typing import get_args

import pytest

from collector.web.faces import FACES, THIN, beside, drawn_field, newest, number, spoken
from collector.web.messages import TEXTS, Words, choose_language
from collector.web.overview import JOB_LEVEL
from contract.series import RAW_SERIES
from contract.values import VALUES
from contract.vocabulary import Reason, Role

EN = Words("en")
ZH = Words("zh")


def _placeholders(text: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(text)} - {None}


def test_every_text_is_there_in_both_languages_with_the_same_placeholders() -> None:
    for key, text in TEXTS.items():
        assert text.zh.strip(), key
        assert text.en.strip(), key
        assert _placeholders(text.zh) == _placeholders(text.en), key


def _words_of(literal: object) -> set[str]:
    found: set[str] = set()
    for word in get_args(literal):
        found |= {word} if isinstance(word, str) else _words_of(word)
    return found


@pytest.mark.parametrize(
    ("family", "vocabulary"),
    [
        ("reason", _words_of(Reason)),
        ("role", _words_of(Role)),
        ("probe", set(VALUES)),
        ("state", set(JOB_LEVEL)),
        ("portal", _words_of(get_args(VALUES["portal"].__annotations__["state"])[0])),
        ("kind", _words_of(get_args(VALUES["wifi_event"].__annotations__["kind"])[0])),
    ],
)
def test_every_word_of_the_contract_has_a_text(family: str, vocabulary: set[str]) -> None:
    assert vocabulary
    assert vocabulary == {key.removeprefix(f"{family}.") for key in TEXTS if key.startswith(f"{family}.")}


def test_a_word_that_is_not_known_is_shown_as_it_is() -> None:
    assert EN.name("type", "aquarium") == "aquarium"
    assert ZH.name("type", "library") == "图书馆"


@pytest.mark.parametrize(
    ("query", "accept", "language"),
    [
        ("en", "zh-CN", "en"),
        ("zh", "en", "zh"),
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "en-GB,en;q=0.9,zh;q=0.5", "en"),
        (None, "fr, en;q=0.3, zh;q=0.2", "en"),
        (None, "", "zh"),
        (None, "fr", "zh"),
        (None, "en;q=nonsense", "zh"),
        (None, "en;q=nan", "zh"),
        (None, "en;q=0", "zh"),
        ("<script>", "en", "en"),
    ],
)
def test_language(query: str | None, accept: str, language: str) -> None:
    assert choose_language(query, accept) == language


def test_every_probe_has_a_face_of_stored_fields() -> None:
    assert FACES.keys() == RAW_SERIES.keys()
    for probe, face in FACES.items():
        fields = RAW_SERIES[probe].fields
        assert {face.value, *face.beside} <= fields.keys()
        assert fields[drawn_field(probe)] in ("float", "int"), probe
        assert (face.worded is not None) == (fields[face.value] == "str"), probe


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.042, "0.04"), (9.994, "9.99"), (9.996, "10.0"), (99.96, "100"), (12345.6, "12,346")],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("rtt_p50_ms", 12.345, "12.3 ms"),
        ("total_ms", 12_345.0, "12.3 s"),
        ("loss_ratio", 0.017, "1.7 %"),
        ("loss_ratio", 0.0, "0.0 %"),
        ("rssi_dbm", -57.4, "-57 dBm"),
        ("snr_db", 30.0, "30 dB"),
        ("rss_bytes", 34 * 2**20, "34.0 MiB"),
        ("rss_bytes", 12, "12 B"),
        ("pmtu_bytes", 1492, "1492"),
        ("down_mbps", 186.34, "186 Mbps"),
        ("hop_count", 7, "7"),
        ("rtt_p50_ms", None, "–"),
    ],
)
def test_spoken(field: str, value: float | None, text: str) -> None:
    assert spoken(field, value) == text.replace(" ", THIN)


def test_what_was_not_measured_is_a_dash_and_never_zero() -> None:
    part = newest("latency", {"rtt_p50_ms": None, "loss_ratio": 1.0}, EN)
    assert (part.value, part.text) == (None, "–")
    assert [part.text for part in beside("latency", {"rtt_p50_ms": None, "loss_ratio": 1.0}, EN)] == [
        f"loss 100.0{THIN}%"
    ]
    assert beside("latency", {"loss_ratio": None}, EN) == []


def test_words_are_said_in_the_readers_language() -> None:
    assert newest("portal", {"state": "portal"}, ZH).text == "需认证"
    assert [part.text for part in beside("wifi_join", {"failed_stage": "assoc"}, ZH)] == ["止于关联"]
    assert newest("throughput", {"down_mbps": 9.5}, EN).text == f"↓ 9.50{THIN}Mbps"
