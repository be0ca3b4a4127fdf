"""Joins, roams and disconnects from recorded events of wpa_supplicant, and a supplicant that misbehaves."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import SystemClock
from agent.wifi import supplicant as control
from agent.wifi.join import Association, Joined, Moved
from agent.wifi.supplicant import Unheard
from agent.wifi.watch import Watch, Wifi
from contract.codec import decode_record, encode
from contract.record import Record
from contract.values import WifiEvent, WifiJoin
from tests.agent.supplicant import AP, DATA, OTHER_AP, Event, Supplicant, recorded, supplicant

ALL = sorted(path.stem for path in DATA.glob("*.events"))


def follow(events: list[Event], bssid: str | None = None, asked: bool = False) -> list[Joined | Moved]:
    association = Association()
    association.sync(bssid)
    if asked:
        association.ask(events[0].at_s)
    found = (association.feed(event.text, event.at_s) for event in events)
    return [happening for happening in found if happening is not None]


def rounded(values: WifiJoin) -> tuple[float | None, ...]:
    times = (values.scan_ms, values.auth_ms, values.assoc_ms, values.eap_ms, values.handshake_ms)
    return tuple(None if ms is None else round(ms) for ms in times)


# Events alone


def test_first_join_with_peap() -> None:
    [joined] = follow(recorded("peap"), asked=True)
    assert isinstance(joined, Joined)
    assert rounded(joined.values) == (3864, 48, 68, 1141, 148)
    assert (joined.values.bssid, joined.values.failed_stage) == (AP, None)


def test_join_with_a_shared_key_has_no_eap() -> None:
    [joined] = follow(recorded("psk"), asked=True)
    assert isinstance(joined, Joined)
    assert rounded(joined.values) == (3861, 41, 51, None, 88)


def test_a_roam_names_both_access_points() -> None:
    [moved] = follow(recorded("roam"), AP)
    assert isinstance(moved, Moved)
    values = moved.values
    assert (values.kind, values.from_bssid, values.to_bssid) == ("roam", AP, OTHER_AP)
    assert round(values.roam_ms or 0) == 618


def test_thrown_off_and_back_with_a_cached_key() -> None:
    moved, joined = follow(recorded("deauth"), OTHER_AP)
    assert isinstance(moved, Moved)
    assert moved.values == WifiEvent(kind="disconnect", from_bssid=OTHER_AP, reason_code=5, local=False)
    assert isinstance(joined, Joined)
    assert rounded(joined.values) == (205, 11, 17, None, 36), "the scan begins with the disconnect; no EAP is no 0"
    assert joined.values.bssid == AP


def test_both_access_points_off() -> None:
    moved, first, second = follow(recorded("both_off"), AP)
    assert isinstance(moved, Moved)
    assert (moved.values.kind, moved.values.reason_code) == ("disconnect", 3)
    for joined in (first, second):
        assert isinstance(joined, Joined)
        assert joined.values.failed_stage == "scan"


@pytest.mark.parametrize(
    ("name", "stage", "reason_code", "status_code"),
    [
        ("wrong_key", "handshake", 15, None),
        ("eap_failure", "eap", 23, None),
        ("auth_reject", "auth", None, 1),
        ("assoc_reject", "assoc", None, 17),
        ("not_found", "scan", None, None),
    ],
)
def test_failed_joins(name: str, stage: str, reason_code: int | None, status_code: int | None) -> None:
    joined = follow(recorded(name), asked=True)[0]
    assert isinstance(joined, Joined)
    values = joined.values
    assert (values.failed_stage, values.reason_code, values.status_code) == (stage, reason_code, status_code)
    assert values.bssid == (None if stage == "scan" else AP)
    assert values.online_ms is None
    assert values.handshake_ms is None


def test_one_failure_is_told_once() -> None:
    for name in ("wrong_key", "eap_failure", "auth_reject", "assoc_reject"):
        assert len(follow(recorded(name), asked=True)) == 1, name


def test_a_failure_without_a_disconnect_ends_with_the_next_attempt() -> None:
    again = [Event(event.at_s + 70, event.text) for event in recorded("psk")]
    failed, joined = follow([*recorded("disabled"), *again], asked=True)
    assert isinstance(failed, Joined)
    assert (failed.values.failed_stage, failed.detail) == ("handshake", "conn failed")
    assert isinstance(joined, Joined)
    assert joined.values.failed_stage is None


def test_a_roam_that_is_refused_costs_the_connection() -> None:
    failed, joined = follow([*recorded("assoc_reject"), *recorded("psk")], OTHER_AP)
    assert isinstance(failed, Joined)
    assert failed.values.status_code == 17
    assert isinstance(joined, Joined)
    assert joined.values.bssid == AP


def test_a_driver_that_chooses_for_itself_has_no_auth() -> None:
    [joined] = follow(
        [
            Event(2.0, "Trying to associate with SSID 'venue'"),
            Event(2.5, f"Associated with {AP}"),
            Event(2.6, f"WPA: Key negotiation completed with {AP} [PTK=CCMP GTK=CCMP]"),
            Event(2.7, f"CTRL-EVENT-CONNECTED - Connection to {AP} completed [id=0 id_str=]"),
        ]
    )
    assert isinstance(joined, Joined)
    assert rounded(joined.values) == (None, None, 500, None, 100)


def test_the_second_access_point_takes_us_when_the_first_is_silent() -> None:
    silent = Event(1.0, f"SME: Trying to authenticate with {OTHER_AP} (SSID='venue' freq=2462 MHz)")
    association = Association()
    association.ask(0.0)
    assert association.feed(silent.text, silent.at_s) is None
    happenings = [association.feed(event.text, event.at_s + 2) for event in recorded("psk")]
    joined = happenings[-1]
    assert isinstance(joined, Joined)
    assert rounded(joined.values) == (5861, 41, 51, None, 88), "the search lasted until the one that took us"


def test_a_name_that_looks_like_an_event_is_none() -> None:
    association = Association()
    evil = f"SME: Trying to authenticate with {AP} (SSID='CTRL-EVENT-CONNECTED - Connection to {OTHER_AP} completed')"
    assert association.feed(evil, 1.0) is None
    assert association.bssid is None


@given(st.data())
def test_a_damaged_event_is_no_exception_and_keeps_its_types(data: st.DataObject) -> None:
    """Cut or flipped anywhere: whatever comes of it can be sent."""
    events = recorded(data.draw(st.sampled_from(ALL)))
    damaged = []
    for event in events:
        raw = bytearray(event.text.encode())
        if data.draw(st.booleans()) and raw:
            place = data.draw(st.integers(0, len(raw) - 1))
            raw[place] ^= data.draw(st.integers(1, 255))
            del raw[data.draw(st.integers(0, len(raw))) :]
        damaged.append(Event(event.at_s, raw.decode("utf-8", "replace")))
    for happening in follow(damaged, data.draw(st.sampled_from([None, AP]))):
        assert isinstance(happening.values, WifiJoin | WifiEvent)


@given(st.lists(st.text(max_size=200), max_size=5))
def test_any_text_is_no_exception(texts: list[str]) -> None:
    follow([Event(float(number), text) for number, text in enumerate(texts)] or [Event(0.0, "")])


# A supplicant on its socket


@asynccontextmanager
async def watching(folder: Path, manager: str = "wpa") -> AsyncIterator[tuple[Watch, list[Record]]]:
    records: list[Record] = []
    wifi = Wifi(manager=manager, control=str(folder))  # type: ignore[arg-type]
    watch = Watch("wlan0", wifi, SystemClock(), lambda record, _: records.append(record))
    task = asyncio.create_task(watch.run(), name="watch")
    try:
        yield watch, records
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(happened: Callable[[], bool], timeout_s: float = 15.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not happened():
            await asyncio.sleep(0.01)


async def test_what_happens_is_recorded_when_it_happens(tmp_path: Path) -> None:
    async with supplicant(tmp_path) as fake, watching(tmp_path, "observe") as (watch, records):
        fake.bssid, fake.speed = AP, 2.0
        assert await watch.attached(5)
        await until(lambda: "STATUS" in fake.commands)
        await fake.play(recorded("roam"))
        await fake.play(recorded("deauth"))
        await until(lambda: len(records) == 3)
    roam, disconnect, join = records
    assert [record.probe for record in records] == ["wifi_event", "wifi_event", "wifi_join"]
    assert (roam.outcome, disconnect.outcome, disconnect.reason, join.outcome) == ("ok", "failed", "no_link", "ok")
    assert isinstance(roam.values, WifiEvent)
    assert (roam.values.from_bssid, roam.values.to_bssid) == (AP, OTHER_AP)
    assert 300 <= (roam.values.roam_ms or 0) < 2000
    assert isinstance(join.values, WifiJoin)
    assert join.values.eap_ms is None
    assert 100 <= (join.values.scan_ms or 0) < 1000
    for record in records:
        assert decode_record(encode(record)) == record
        assert record.slot.microsecond % 1000 == 0
    assert set(fake.commands) <= {"ATTACH", "PING", "STATUS"}, "observed, never led"


async def test_a_network_that_stays_away_is_recorded_once(tmp_path: Path) -> None:
    async with supplicant(tmp_path) as fake, watching(tmp_path) as (watch, records):
        assert await watch.attached(5)
        fake.speed = 20.0
        for _ in range(3):
            await fake.play(recorded("not_found"))
        await fake.play(recorded("psk"))
        await until(lambda: len(records) == 2)
        await fake.play(recorded("both_off"))
        await until(lambda: len(records) == 4)
    ends = [(record.probe, record.outcome, record.reason) for record in records]
    assert ends == [
        ("wifi_join", "failed", "not_associated"),
        ("wifi_join", "ok", None),
        ("wifi_event", "failed", "no_link"),
        ("wifi_join", "failed", "not_associated"),
    ]


async def test_a_restart_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "PING_S", 0.2)
    async with watching(tmp_path) as (watch, records):
        async with supplicant(tmp_path) as fake:
            fake.bssid = AP
            assert await watch.attached(5)
            fake.say(f"SME: Trying to authenticate with {OTHER_AP} (SSID='venue' freq=2462 MHz)")
            await asyncio.sleep(0.05)
        async with supplicant(tmp_path) as fake:
            fake.bssid = OTHER_AP
            await until(lambda: fake.heard)
            await until(lambda: "STATUS" in fake.commands)
            fake.say(f"CTRL-EVENT-DISCONNECTED bssid={OTHER_AP} reason=4 locally_generated=1")
            await until(lambda: len(records) == 1)
    values = records[0].values
    assert values == WifiEvent(kind="disconnect", from_bssid=OTHER_AP, reason_code=4, local=True)
    assert records[0].reason == "no_link", "the driver gave up, nobody wanted to leave"


async def test_a_supplicant_that_forgot_us_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "PING_S", 0.2)
    monkeypatch.setattr(control, "ANSWER_S", 0.2)
    async with supplicant(tmp_path) as fake, watching(tmp_path) as (watch, _):
        assert await watch.attached(5)
        fake.silent = True
        count = len(fake.commands)
        await until(lambda: len(fake.commands) > count)
        assert fake.commands[count] == "PING"
        fake.silent = False
        await until(lambda: fake.commands.count("ATTACH") >= 2)


async def test_no_supplicant_is_said_once_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("agent.wifi.watch.RETRY_S", 0.05)
    with caplog.at_level(logging.INFO):
        async with watching(tmp_path) as (watch, _):
            await asyncio.sleep(0.3)
            with pytest.raises(Unheard, match="No such file"):
                await watch.join(fresh=True, timeout_s=1)
            async with supplicant(tmp_path):
                assert await watch.attached(5)
    told = [record.message for record in caplog.records if "wlan0" in record.message]
    assert len([line for line in told if "not recorded" in line]) <= 2
    assert any("heard again" in line for line in told)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who is let in nowhere")
async def test_who_is_not_let_in_is_told_how(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with supplicant(tmp_path):
        tmp_path.chmod(0o700)
        os.seteuid(65534)
        try:
            async with watching(tmp_path) as (watch, _):
                assert not await watch.attached(0.3)
        finally:
            os.seteuid(0)
    assert "Permission denied; let the agent's user into the group netdev" in caplog.text


async def test_a_refused_attach_is_no_attach(tmp_path: Path) -> None:
    async with supplicant(tmp_path) as fake, watching(tmp_path) as (watch, _):
        fake.replies["ATTACH"] = "FAIL\n"
        assert not await watch.attached(0.3)


async def test_garbage_between_the_events(tmp_path: Path) -> None:
    async with supplicant(tmp_path) as fake, watching(tmp_path) as (watch, records):
        fake.bssid = AP
        assert await watch.attached(5)
        await until(lambda: "STATUS" in fake.commands)
        await asyncio.sleep(0.05)
        for data in (b"", b"<", b"<3>", b"<x>CTRL", b"\xff\xfe\x00", b"PONG", b"3>x", b"<3>" + b"A" * 60_000):
            fake.send(data)
            await asyncio.sleep(0.01)
        fake.say(f"CTRL-EVENT-DISCONNECTED bssid={AP} reason=99999999")
        fake.say(f"CTRL-EVENT-DISCONNECTED bssid={AP} reason=5")
        await until(lambda: len(records) == 1)
    assert isinstance(records[0].values, WifiEvent)
    assert records[0].values.reason_code == 5


Lead = Callable[[Watch, Supplicant], Awaitable[Joined]]


async def test_a_led_join_leaves_first_and_is_recorded_by_nobody_else(tmp_path: Path) -> None:
    async with supplicant(tmp_path) as fake, watching(tmp_path) as (watch, records):
        fake.bssid, fake.speed = OTHER_AP, 5.0
        fake.plays["RECONNECT"] = recorded("peap")
        assert await watch.attached(5)
        joined = await watch.join(fresh=True, timeout_s=20)
    assert [word for word in fake.commands if word not in ("PING", "STATUS", "ATTACH")] == [
        "DISCONNECT", "PMKSA_FLUSH", "RECONNECT",
    ]  # fmt: skip
    assert joined.values.failed_stage is None
    assert (joined.values.eap_ms or 0) > 1141 / 5 * 0.9
    assert (joined.values.scan_ms or 0) > 3864 / 5 * 0.9
    assert records == []


async def test_an_attempt_that_was_under_way_is_not_the_led_one(tmp_path: Path) -> None:
    late = Event(0.02, f"CTRL-EVENT-DISCONNECTED bssid={OTHER_AP} reason=3 locally_generated=1")
    async with supplicant(tmp_path) as fake, watching(tmp_path) as (watch, _):
        assert await watch.attached(5)
        for event in recorded("assoc_reject")[:2]:
            fake.say(event.text)
        fake.plays["DISCONNECT"], fake.plays["RECONNECT"] = [late], recorded("psk")[2:]
        joined = await watch.join(fresh=False, timeout_s=20)
    assert (joined.values.failed_stage, joined.values.bssid) == (None, AP)


async def test_a_supplicant_that_does_not_leave_is_our_own_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.wifi.watch.LEAVE_S", 0.3)
    async with supplicant(tmp_path) as fake, watching(tmp_path) as (watch, _):
        assert await watch.attached(5)
        fake.state = "ASSOCIATING"
        with pytest.raises(Unheard, match="is ASSOCIATING"):
            await watch.join(fresh=False, timeout_s=1)


@pytest.mark.parametrize(
    ("name", "stage"),
    [("wrong_key", "handshake"), ("eap_failure", "eap"), ("auth_reject", "auth"), ("assoc_reject", "assoc"),
     ("disabled", "handshake"), ("not_found", "scan")],
)  # fmt: skip
async def test_a_led_join_ends_at_the_first_failure(
    tmp_path: Path, name: str, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.wifi.watch.LEAVE_S", 0.5)
    async with supplicant(tmp_path) as fake, watching(tmp_path) as (watch, _):
        fake.plays["RECONNECT"], fake.speed = recorded(name), 10.0
        assert await watch.attached(5)
        joined = await watch.join(fresh=False, timeout_s=20)
    assert joined.values.failed_stage == stage
    assert "PMKSA_FLUSH" not in fake.commands


async def test_a_led_join_that_never_ends_fails_where_it_stands(tmp_path: Path) -> None:
    async with supplicant(tmp_path) as fake, watching(tmp_path) as (watch, _):
        fake.plays["RECONNECT"], fake.speed = recorded("psk")[:4], 50.0
        assert await watch.attached(5)
        joined = await watch.join(fresh=False, timeout_s=1)
        assert (joined.values.failed_stage, joined.values.bssid) == ("assoc", AP)
        fake.plays["RECONNECT"] = []
        joined = await watch.join(fresh=False, timeout_s=0.2)
    assert joined.values.failed_stage == "scan"
