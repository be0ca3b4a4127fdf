"""STAMP's packets: octet for octet by the RFC's figures, and beside scapy as an independent builder and parser."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib import stamp as scapy

from contract import stamp
from contract.stamp import ErrorEstimate, Reply, Request

SENT_NS = 1_795_000_000_250_000_000
UNSIGNED16 = st.integers(0, 2**16 - 1)
UNSIGNED32 = st.integers(0, 2**32 - 1)
TIMES = st.integers(0, (2**32 + 2**31 - stamp._NTP_EPOCH_S) * 10**9 - 1)
"""Until 2104."""


def test_a_request_octet_for_octet() -> None:
    """RFC 8762, figure 2, with RFC 8972, figure 1. Half a second is the highest bit of NTP's fraction (RFC 5905, 6)."""
    request = Request(1, 500_000_000, error_estimate=0x8001, session=0xABCD)
    assert stamp.pack_request(request).hex() == "00000001" + "83aa7e8080000000" + "8001" + "abcd" + 28 * "00"


def test_a_reply_octet_for_octet() -> None:
    """RFC 8762, figure 5, with RFC 8972, figure 2."""
    request = bytes.fromhex("01020304" + "1112131415161718" + "2122" + "3132" + 28 * "00") + b"padding"
    reply = stamp.pack_reply(request, sequence=5, received_ns=0, sent_ns=10**9, error_estimate=0x1234, ttl=63)
    assert reply.hex() == (
        "00000005" "83aa7e8100000000" "1234" "3132"
        "83aa7e8000000000" "01020304" "1112131415161718" "2122" "0000" "3f" "000000"
    ) + b"padding".hex()  # fmt: skip


@pytest.mark.parametrize("size", [44, 45, 47, 48, 60, 1400])
def test_a_longer_request_is_padded(size: int) -> None:
    """RFC 8972, figures 3 and 4: an Extra Padding TLV with the U flag, where its head has room."""
    packet = stamp.pack_request(Request(1, 0), size)
    assert len(packet) == size
    expected = "" if size < 48 else f"8001{size - 48:04x}"
    assert packet[44:].hex() == expected.ljust(2 * (size - 44), "0")


@given(UNSIGNED32, TIMES, UNSIGNED16.map(lambda error: error & ~0x4000), UNSIGNED16, st.integers(44, 1400))
def test_a_request_there_and_back(sequence: int, sent_ns: int, error: int, session: int, size: int) -> None:
    request = Request(sequence, sent_ns, error, session)
    assert stamp.unpack_request(stamp.pack_request(request, size)) == request


@given(UNSIGNED32, TIMES, TIMES, st.integers(0, 255))
def test_a_reply_there_and_back(sequence: int, received_ns: int, sent_ns: int, ttl: int) -> None:
    request = stamp.pack_request(Request(9, SENT_NS, session=77), 100)
    reply = stamp.pack_reply(
        request, sequence=sequence, received_ns=received_ns, sent_ns=sent_ns, error_estimate=1, ttl=ttl
    )
    assert len(reply) == 100
    expected = Reply(sequence, sent_ns, 1, 77, received_ns, 9, SENT_NS, stamp.UNSYNCHRONISED, ttl)
    assert stamp.unpack_reply(reply) == expected
    assert expected.dwell_ns == sent_ns - received_ns


@given(st.binary(max_size=200))
def test_anything_is_a_packet_or_none(packet: bytes) -> None:
    assert (stamp.unpack_request(packet) is None) == (len(packet) < 44)
    assert (stamp.unpack_reply(packet) is None) == (len(packet) < 44)


def test_time_stamps_of_ptp() -> None:
    """The Z bit (RFC 8186): a router may send these, and the dwell is computed from them."""
    stamps = bytes.fromhex("000000000000000a00000064400100000000000a00000001").ljust(44, b"\0")
    reply = stamp.unpack_reply(stamps)
    assert reply is not None
    assert (reply.received_ns, reply.sent_ns, reply.dwell_ns) == (10_000_000_001, 10_000_000_100, 99)


@given(st.floats(0, 1e6), st.booleans(), st.booleans())
def test_an_error_estimate_is_never_less_than_the_error(seconds: float, synchronised: bool, ptp: bool) -> None:
    packed = ErrorEstimate(seconds, synchronised, ptp).pack()
    assert packed & 0xFF, "RFC 4656, 4.1.2: a multiplier of 0 makes the packet corrupt"
    read = stamp.error_estimate(packed)
    assert (read.synchronised, read.ptp) == (synchronised, ptp)
    assert seconds <= read.seconds <= 2**-32 + seconds * 129 / 128


@pytest.mark.parametrize(
    ("seconds", "packed"),
    [(0.0, 0x0001), (2.0**-32, 0x0001), (255 * 2.0**-32, 0x00FF), (255.5 * 2.0**-32, 0x0180), (16.0, 0x1D80)],
)
def test_scale_and_multiplier(seconds: float, packed: int) -> None:
    assert ErrorEstimate(seconds).pack() == packed
    assert ErrorEstimate(seconds, synchronised=True).pack() == packed | 0x8000


def test_what_cannot_be_said_is_said_as_the_most() -> None:
    assert stamp.error_estimate(ErrorEstimate(1e30).pack()).seconds == 255 * 2.0 ** (63 - 32)
    assert math.isfinite(stamp.error_estimate(0xFFFF).seconds)


# scapy's contrib.stamp


def test_scapy_reads_our_request() -> None:
    parsed = scapy.STAMPSessionSenderTestUnauthenticated(stamp.pack_request(Request(7, SENT_NS, session=99), 60))
    assert (parsed.seq, parsed.ssid, parsed.mbz) == (7, 99, 0)
    assert (parsed.err_estimate.S, parsed.err_estimate.Z) == (0, 0)
    assert (parsed.err_estimate.scale, parsed.err_estimate.multiplier) == (29, 128)
    assert parsed.ts - 2_208_988_800 == pytest.approx(SENT_NS / 1e9, abs=1e-6)
    (padding,) = parsed.tlv_objects
    # scapy 2.8 names the flags from the wrong end; the RFC's U is the first bit.
    assert (padding.type, padding.len, int(padding.flags)) == (1, 12, 0x80)


def test_scapy_reads_our_reply() -> None:
    request = stamp.pack_request(Request(7, SENT_NS, session=99))
    received_ns, sent_ns = SENT_NS + 10_000_000, SENT_NS + 20_000_000
    error = ErrorEstimate(0.001, synchronised=True).pack()
    parsed = scapy.STAMPSessionReflectorTestUnauthenticated(
        stamp.pack_reply(request, sequence=3, received_ns=received_ns, sent_ns=sent_ns, error_estimate=error, ttl=63)
    )
    assert (parsed.seq, parsed.ssid, parsed.seq_sender, parsed.ttl_sender) == (3, 99, 7, 63)
    assert (parsed.mbz1, parsed.mbz2) == (0, 0)
    assert (parsed.err_estimate.S, parsed.err_estimate_sender.S) == (1, 0)
    for stamped, expected_ns in ((parsed.ts_sender, SENT_NS), (parsed.ts_rx, received_ns), (parsed.ts, sent_ns)):
        assert stamped - 2_208_988_800 == pytest.approx(expected_ns / 1e9, abs=1e-6)


def test_we_read_what_scapy_builds() -> None:
    error = scapy.ErrorEstimate(S=1, Z=0, scale=3, multiplier=5)
    ntp_s = SENT_NS // 10**9 + 2_208_988_800 + 0.25
    request = stamp.unpack_request(
        bytes(scapy.STAMPSessionSenderTestUnauthenticated(seq=8, ts=ntp_s, err_estimate=error, ssid=12))
    )
    assert request == Request(8, SENT_NS, 0x8305, 12)
    reply = stamp.unpack_reply(
        bytes(
            scapy.STAMPSessionReflectorTestUnauthenticated(
                seq=2, ts=ntp_s, ts_rx=ntp_s, ts_sender=ntp_s, seq_sender=8, err_estimate=error, ssid=12, ttl_sender=61
            )
        )
    )
    assert reply is not None
    assert (reply.sequence, reply.sender_sequence, reply.session, reply.sender_ttl) == (2, 8, 12, 61)
    assert (reply.sent_ns, reply.received_ns, reply.sender_ns) == (SENT_NS, SENT_NS, SENT_NS)
