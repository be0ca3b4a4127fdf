"""The throughput protocol's lines and tokens."""

import re

import msgspec
import pytest

from contract.throughput import (
    Admitted,
    Greeting,
    Hello,
    Join,
    Joined,
    ProtocolError,
    Refused,
    Report,
    Start,
    decode,
    decode_answer,
    decode_greeting,
    encode,
    is_signed,
    sign,
)

NONCE = "n" * 20
HELLO = Hello(agent="venue-001", direction="down", duration_s=3.0, streams=4, byte_cap=50_000_000)


@pytest.mark.parametrize("message", [Greeting(nonce=NONCE), HELLO, Join(test=NONCE, secret=NONCE, stream=3), Report()])
def test_a_line_round_trip(message: msgspec.Struct) -> None:
    line = encode(message)
    assert line.endswith(b"\n")
    assert decode(line, type(message)) == message  # type: ignore[type-var]


def test_an_answer_is_an_admission_or_a_refusal() -> None:
    admitted = Admitted(test=NONCE, secret=NONCE, duration_s=3, byte_cap=1, congestion_control="cubic")
    assert decode_answer(encode(admitted)) == admitted
    refused = Refused(error="no_slot", retry_after_s=4)
    assert decode_answer(encode(refused)) == refused


def test_an_unknown_field_is_tolerated() -> None:
    assert decode(b'{"v":1,"nonce":"%s","more":1}' % NONCE.encode(), Greeting).nonce == NONCE


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b"", "hello"),
        (b"GET / HTTP/1.1\r\n", "hello"),
        (b"[" * 2000, "hello"),
        (b'{"agent":"\xff\xfe"}', "hello"),
        (encode(HELLO).replace(b'"streams":4', b'"streams":17'), "streams"),
        (encode(HELLO).replace(b'"v":1', b'"v":2'), "$.v"),
        (encode(HELLO).replace(b"venue-001", b"all"), "agent"),
        (encode(HELLO).replace(b'"duration_s":3.0', b'"duration_s":1e9'), "duration_s"),
    ],
)
def test_nonsense_is_refused_by_its_field(line: bytes, named: str) -> None:
    with pytest.raises(ProtocolError, match=re.escape(named)):
        decode(line, Hello)


def test_a_token_holds_for_one_nonce_one_key_and_one_hello() -> None:
    signed = msgspec.structs.replace(HELLO, token=sign(b"key", NONCE, HELLO))
    assert is_signed(b"key", NONCE, signed)
    assert not is_signed(b"other", NONCE, signed)
    assert not is_signed(b"key", "m" * 20, signed)
    assert not is_signed(b"key", NONCE, HELLO)
    for field, value in {"byte_cap": 1, "streams": 5, "duration_s": 4.0, "direction": "up", "agent": "venue-002",
                         "congestion_control": "bbr"}.items():  # fmt: skip
        assert not is_signed(b"key", NONCE, msgspec.structs.replace(signed, **{field: value})), field
    assert not is_signed(b"key", NONCE, msgspec.structs.replace(signed, token="ü"))


def test_what_says_no_is_no_yes() -> None:
    refused = encode(Refused(error="no_slot", retry_after_s=5.0))
    assert decode_greeting(refused) == Refused(error="no_slot", retry_after_s=5.0)
    with pytest.raises(ProtocolError, match=r"^joined: "):
        decode(refused, Joined)
    with pytest.raises(ProtocolError, match=r"^start: "):
        decode(refused, Start)
    greeting = Greeting(nonce=NONCE)
    assert decode_greeting(encode(greeting)) == greeting
    with pytest.raises(ProtocolError, match=r"^greeting: "):
        decode_greeting(b"220 mail.example ESMTP\n")


@pytest.mark.parametrize("line", [b'{"error":"\xff"}', b"[" * 4000, b'{"v":1e999}', b"\0"])
def test_nonsense_of_a_server_is_a_protocol_error(line: bytes) -> None:
    for read in (decode_greeting, decode_answer):
        with pytest.raises(ProtocolError):
            read(line)
