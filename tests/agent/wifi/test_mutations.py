"""Any text whatever: no exception, nothing outside the contract's bounds. A cut text tells less, never otherwise."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.values import WifiLink, WifiScan
from tests.agent.wifi.families import NAMES, OUTPUTS, text
from tests.agent.wifi.reading import Texts, read

families = st.sampled_from(NAMES)
outputs = st.sampled_from(OUTPUTS)


def texts(family: str) -> Texts:
    return Texts(*(text(family, output) for output in OUTPUTS))


def check(mutated: Texts) -> tuple[WifiLink, WifiScan]:
    seen = read(mutated)
    for values in seen:
        msgspec.convert(msgspec.to_builtins(values), type(values))
    return seen


@given(families, outputs, st.data())
def test_a_cut_text_tells_less_and_never_otherwise(family: str, output: str, data: st.DataObject) -> None:
    whole = texts(family)
    length = data.draw(st.integers(0, len(text(family, output))))
    cut = whole._replace(**{output: text(family, output)[:length]})
    known = msgspec.structs.asdict(check(whole)[0])
    for name, value in msgspec.structs.asdict(check(cut)[0]).items():
        assert value is None or value == known[name], name


@given(families, outputs, st.data())
def test_a_flipped_byte(family: str, output: str, data: st.DataObject) -> None:
    raw = bytearray(text(family, output).encode())
    for _ in range(data.draw(st.integers(1, 5)) if raw else 0):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    check(texts(family)._replace(**{output: raw.decode("utf-8", "replace")}))


@given(families, outputs, st.text(max_size=200))
def test_anything_at_all(family: str, output: str, anything: str) -> None:
    check(texts(family)._replace(**{output: anything}))


@given(families, st.sampled_from(["signal", "frequency", "freq", "tx packets", "tx bitrate", "SSID"]), st.text())
def test_any_value(family: str, key: str, value: str) -> None:
    def changed(lines: str) -> str:
        rows = [f"\t{key}: {value}" if row.strip().startswith(f"{key}:") else row for row in lines.split("\n")]
        return "\n".join(rows)

    check(Texts(*map(changed, texts(family))))


@pytest.mark.parametrize("piece", ["\x00", "\tsignal: ", "BSS ", "Station 00:00:5e:00:53:01 (on wlan0)\n", "9", ":\n"])
def test_ten_megabytes(piece: str) -> None:
    flood = piece * (10_000_000 // len(piece))
    for output in OUTPUTS:
        check(texts("ath9k")._replace(**{output: flood}))
