"""Every way in which a record of the default schedule may end: what the simulator makes, and what it cannot."""

from collections.abc import Iterator
from typing import Final, get_args

import pytest

from contract.record import RECORDS, Record
from contract.vocabulary import REASONS, Flag
from simulator import faults
from tests.simulator.places import DISTRICT, fault, records

STRENGTHS: Final = (0.2, 0.5, 1.0)
WHOLE, SILENT, NODE = (
    0,
    next(n for n, box in enumerate(DISTRICT.boxes) if not box.venue.gateway_answers),
    next(n for n, box in enumerate(DISTRICT.boxes) if box.venue.network == "gov"),
)

MADE: Final[dict[str, str]] = {
    "latency": "no_link dns_failed unreachable all_lost internal clock_step busy",
    "throughput": "no_link dns_failed timeout cpu_limited clock_step no_slot budget busy quiet_hours",
    "dns": "no_link unreachable timeout dns_failed dns_hijacked internal clock_step busy",
    "web": "no_link dns_failed cert_invalid refused unreachable timeout reset tls_failed http_status internal "
    "clock_step busy",
    "video": "no_link dns_failed timeout cpu_limited clock_step busy quiet_hours",
    "path": "no_link dns_failed all_lost internal clock_step busy",
    "portal": "no_link dhcp_failed dns_failed dns_hijacked portal timeout internal clock_step busy",
    "wifi_link": "not_associated internal busy",
    "wifi_scan": "internal busy",
    "wifi_join": "not_associated auth_failed dhcp_failed dns_failed portal timeout internal clock_step busy",
    "wifi_event": "no_link",
    "agent": "",
}
"""Reasons by probe; every probe also ends `ok`."""

FLAGS: Final[dict[str, str]] = {
    "latency": "cross_traffic method_fallback",
    "throughput": "byte_cap short_test not_saturated cross_traffic",
    "dns": "cross_traffic",
    "web": "cross_traffic",
    "video": "",
    "path": "",
    "portal": "cross_traffic",
    "wifi_link": "",
    "wifi_scan": "",
    "wifi_join": "",
    "wifi_event": "",
    "agent": "",
}
"""Beside those of the clock and of a replay."""

NEVER: Final[dict[str, str]] = {
    "nxdomain": "the sites that are asked for exist, and the hijackers here answer with an address",
    "no_interface": "no box loses its adapter",
    "wrong_interface": "no box has a second interface that could take the traffic",
    "no_permission": "every box is set up right, with ICMP and the reflector's key",
    "tool_missing": "every box is set up right, with iw",
    "target_denied": "the one reflector serves video, and its own limits are wide",
    "target_down": "a reflector that is down is silent here, it does not drain; the hours make theirs of failures",
    "cross_traffic": "the default is to measure and flag",
    "suppressed": "no agent takes commands yet",
}
"""Reasons without a cause in the model."""


@pytest.fixture(scope="module")
def found() -> tuple[set[tuple[str, str, str | None]], set[tuple[str, str]]]:
    """Every (probe, outcome, reason) and (probe, flag)."""
    ends, flags = set(), set()
    for record in _everything():
        probe = record.probe
        ends.add((probe, record.outcome, record.reason))
        flags.update((probe, flag) for flag in record.flags)
    return ends, flags


def _everything() -> Iterator[Record]:
    for kind, what in faults.KINDS.items():
        for box in (WHOLE, SILENT) if what.wifi_only else (WHOLE, SILENT, NODE):
            for target in ("core", "news") if kind == "target_down" else ("news",):
                for strength in STRENGTHS:
                    yield from records(box, 24, [fault(kind, strength, box, 0, 24, target)])
    # What is rare: a clock that is put right again and again, and ten days of tests that want a slot.
    for box in range(6):
        yield from records(box, 24, [fault("clock_wrong", 0.1, box, h / 60, (h + 1) / 60) for h in range(0, 1440, 2)])
    yield from records(WHOLE, 240)


def test_records_end_in_exactly_these_ways(found: tuple[set[tuple[str, str, str | None]], object]) -> None:
    outcomes = {reason: outcome for outcome, reasons in REASONS.items() for reason in reasons}
    expected = {(probe, outcomes[word], word) for probe, words in MADE.items() for word in words.split()}
    assert found[0] == expected | {(probe, "ok", None) for probe in RECORDS}


def test_records_carry_exactly_these_flags(found: tuple[object, set[tuple[str, str]]]) -> None:
    always = {"clock_unsynced", "clock_corrected", "replayed"}
    # An event that happens while the clock is wrong or nobody listens is told as any other.
    timed = {(probe, flag) for probe in FLAGS for flag in always if probe != "wifi_event"}
    assert found[1] == timed | {(probe, flag) for probe, words in FLAGS.items() for flag in words.split()}


def test_every_reason_and_flag_is_made_or_said_to_be_never() -> None:
    made = {word for words in MADE.values() for word in words.split()}
    assert made | set(NEVER) == {reason for reasons in REASONS.values() for reason in reasons}
    assert not made & set(NEVER)
    flags = {word for words in FLAGS.values() for word in words.split()}
    assert flags | {"clock_unsynced", "clock_corrected", "replayed"} == set(get_args(Flag))


def test_a_box_on_no_network_says_so_as_the_runner_does() -> None:
    """An interface without a carrier is not measured at all; the radio's own probe says why."""
    for record in records(hours=2, script=[fault("eap_failure", 1.0, first=0, last=2)]):
        if record.reason == "no_link" and record.probe != "wifi_event":
            assert (record.values, record.duration_s) == (None, 0.0)
        if record.probe == "wifi_link":
            assert record.reason in (None, "not_associated")


def test_without_an_address_nothing_is_sent() -> None:
    """As `wanggan agent once` does on an interface without one."""
    away = records(hours=24, script=[fault("dhcp_exhaustion", 1.0, first=0, last=24)])
    gateway = next(r for r in away if r.reason == "unreachable" and r.probe == "latency")
    assert gateway.target == "gateway"
    assert (gateway.values.sent, gateway.values.loss_ratio) == (0, None)
    named = next(r for r in away if r.reason == "dns_failed" and r.probe == "latency")
    assert named.values is None
    assert named.duration_s > 5


def test_a_capped_test_moved_its_cap_and_no_more() -> None:
    for record in records(hours=240):
        if record.probe == "throughput" and "byte_cap" in record.flags:
            assert max(record.values.down_bytes, record.values.up_bytes) in (100_000_000, 300_000_000)
