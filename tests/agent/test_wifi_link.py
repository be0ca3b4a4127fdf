"""The wifi_link probe with a fake `iw`: every driver family, counters over associations, every way to fail."""

import asyncio
import logging
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import command, once
from agent.clock import SystemClock
from agent.config import Job
from agent.facts import Facts
from agent.hours import ALWAYS_OPEN
from agent.probe import Context, Failure, Probe, Settings
from agent.probes import PROBES, wifi_link
from agent.probes.wifi_link import WifiLinkSettings
from agent.runner import Runner
from agent.uplinks import Uplinks
from agent.wifi import iw as iw_module
from agent.wifi import wireless
from contract.record import Record
from contract.values import Dns, Values, WifiLink
from tests.agent.test_command import descriptors, left
from tests.agent.wifi.fake_iw import (
    FLOODS,
    FORKS,
    HANGS,
    LEAVES_ONE_THAT_HOLDS_THE_PIPE,
    FakeIw,
    iw,
)  # fmt: skip
from tests.agent.wifi.families import text
from tests.fakes import FakeClock

__all__ = ["iw"]

AP = "00:00:5e:00:53:01"


class Sampler:
    """One agent's view of one interface, sample after sample."""

    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock(boot=812_345.0)
        self.facts = Facts()
        self.settings = WifiLinkSettings(**settings)
        self.context = self._context("lo")

    def _context(self, interface: str) -> Context:
        return Context(agent="a", interface=interface, clock=self.clock, facts=self.facts, timeout_s=20.0)

    async def sample(self, interface: str = "lo") -> WifiLink:
        self.context = self._context(interface)
        return await wifi_link.measure(self.settings, self.context)

    async def later(self) -> WifiLink:
        """A minute later."""
        await self.clock.advance(60.0)
        return await self.sample()

    async def fails(self, interface: str = "lo") -> str:
        with pytest.raises(Failure) as caught:
            await self.sample(interface)
        return caught.value.reason


# What a driver tells


FAMILIES: dict[str, dict[str, Any]] = {
    "iwlwifi": {
        "ssid": "i-Shanghai 图书馆", "bssid": AP, "frequency_mhz": 5180, "channel": 36, "width_mhz": 80, "band": "5",
        "rssi_dbm": -61.0, "tx_mbps": 866.7, "rx_mbps": 780.0, "mcs": 9, "streams": 2, "stations": 23,
        "busy_ratio": 107 / 255,
    },
    "ath9k": {
        "ssid": "venue", "bssid": AP, "frequency_mhz": 2437, "channel": 6, "width_mhz": 40, "band": "2.4",
        "rssi_dbm": -54.0, "noise_dbm": -94.0, "snr_db": 40.0, "tx_mbps": 300.0, "rx_mbps": 120.0, "mcs": 15,
        "streams": 2, "stations": 31,
    },
    "brcmfmac": {
        "ssid": "venue", "bssid": AP, "frequency_mhz": 2462, "channel": 11, "width_mhz": 20, "band": "2.4",
        "rssi_dbm": -66.0, "tx_mbps": 72.2, "rx_mbps": 65.0, "stations": 9, "busy_ratio": 0.2,
    },
    "rtw88": {
        "ssid": "venue", "bssid": AP, "frequency_mhz": 5765, "channel": 153, "width_mhz": 80, "band": "5",
        "rssi_dbm": -72.0, "tx_mbps": 390.0, "rx_mbps": 351.0, "mcs": 4, "streams": 2,
    },
    "rtw89": {
        "ssid": "图书馆", "bssid": AP, "frequency_mhz": 5220, "channel": 44, "width_mhz": 80, "band": "5",
        "rssi_dbm": -55.0, "noise_dbm": -93.0, "snr_db": 38.0, "tx_mbps": 600.4, "rx_mbps": 6.0, "mcs": 11,
        "streams": 1,
    },
    "eht_mlo": {
        "ssid": "venue 7", "bssid": "00:00:5e:00:53:0b", "frequency_mhz": 6135, "channel": 37, "width_mhz": 320,
        "band": "6", "rssi_dbm": -51.0, "noise_dbm": -95.0, "snr_db": 44.0, "tx_mbps": 5764.7, "rx_mbps": 5187.0,
        "mcs": 13, "streams": 2, "stations": 3,
    },
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
async def test_first_sample(iw: FakeIw, family: str) -> None:
    iw.is_driver(family)
    sampler = Sampler()
    assert await sampler.sample() == WifiLink(**FAMILIES[family])
    from_access_point = "busy_ratio" in FAMILIES[family]
    assert sampler.context.flags == (["method_fallback"] if from_access_point else [])


async def test_every_field_but_the_differences_of_a_driver_that_counts_all(iw: FakeIw) -> None:
    iw.is_driver("ath9k")
    sampler = Sampler()
    await sampler.sample()
    iw.changes("station dump", "tx packets:\t91022", "tx packets:\t91922")
    iw.changes("station dump", "tx retries:\t3120", "tx retries:\t3220")
    iw.changes("station dump", "tx failed:\t11", "tx failed:\t29")
    iw.changes("station dump", "beacon loss:\t0", "beacon loss:\t3")
    iw.changes("survey dump", "active time:\t\t4021330", "active time:\t\t4081330")
    iw.changes("survey dump", "busy time:\t\t1688958", "busy time:\t\t1714158")
    values = await sampler.later()
    assert None not in msgspec.structs.astuple(values)
    assert (values.tx_retry_ratio, values.tx_failed_ratio, values.beacon_loss, values.busy_ratio) == (
        0.1,
        0.02,
        3,
        0.42,
    )
    assert sampler.context.flags == []


# Counters


def count_on(iw: FakeIw) -> None:
    iw.changes("station dump", "tx packets:\t91022", "tx packets:\t92022")
    iw.changes("survey dump", "active time:\t\t4021330", "active time:\t\t4081330")
    iw.changes("survey dump", "busy time:\t\t1688958", "busy time:\t\t1714158")


def differences(values: WifiLink) -> tuple[float | None, ...]:
    return values.tx_retry_ratio, values.tx_failed_ratio, values.beacon_loss, values.busy_ratio


NOTHING = (None, None, None, None)


async def test_another_association_begins_anew(iw: FakeIw) -> None:
    iw.is_driver("ath9k")
    sampler = Sampler()
    await sampler.sample()
    count_on(iw)
    iw.changes("station dump", "808324.101s", "812390.000s")
    assert differences(await sampler.later()) == NOTHING
    iw.changes("station dump", "tx packets:\t92022", "tx packets:\t92032")
    assert differences(await sampler.later()) == (0.0, 0.0, 0, None)


async def test_another_access_point_begins_anew(iw: FakeIw) -> None:
    iw.is_driver("ath9k")
    sampler = Sampler()
    await sampler.sample()
    count_on(iw)
    for question in ("link", "station dump"):
        iw.changes(question, AP, "00:00:5e:00:53:02")
    values = await sampler.later()
    assert (values.bssid, differences(values)) == ("00:00:5e:00:53:02", NOTHING)


async def test_a_disconnect_between_two_samples_begins_anew(iw: FakeIw) -> None:
    iw.is_driver("ath9k")
    sampler = Sampler()
    await sampler.sample()
    iw.says("link", text("unassociated", "link"))
    assert await sampler.fails() == "not_associated"
    iw.is_driver("ath9k")
    count_on(iw)
    assert differences(await sampler.later()) == NOTHING


async def test_a_roam_between_the_questions_tells_nothing_of_the_station(iw: FakeIw) -> None:
    iw.is_driver("ath9k")
    iw.changes("station dump", AP, "00:00:5e:00:53:02")
    values = await Sampler().sample()
    assert (values.bssid, values.rssi_dbm, values.tx_mbps) == (AP, None, None)


@pytest.mark.parametrize(
    ("question", "old", "new", "null"),
    [
        ("station dump", "tx packets:\t92022", "tx packets:\t100", (0, 1)),
        ("station dump", "tx packets:\t92022", "tx packets:\t91022", (0, 1)),
        ("station dump", "tx retries:\t3120", "tx retries:\t3", (0,)),
        ("station dump", "tx failed:\t11", "tx failed:\t0", (1,)),
        ("survey dump", "active time:\t\t4081330", "active time:\t\t4021330", (3,)),
        ("survey dump", "active time:\t\t4081330", "active time:\t\t12", (3,)),
        ("survey dump", "busy time:\t\t1714158", "busy time:\t\t1688958", (3,)),
        ("survey dump", "busy time:\t\t1714158", "busy time:\t\t9", (3,)),
        ("survey dump", "busy time:\t\t1714158", "busy time:\t\t9988958", (3,)),
        ("link", "freq: 2437", "freq: 2412", (3,)),
    ],
)
async def test_a_counter_that_stands_or_goes_back(
    iw: FakeIw, question: str, old: str, new: str, null: tuple[int, ...]
) -> None:
    iw.is_driver("ath9k")
    sampler = Sampler()
    await sampler.sample()
    count_on(iw)
    iw.changes(question, old, new)
    found = differences(await sampler.later())
    assert tuple(place for place, value in enumerate(found) if value is None) == null


async def test_a_driver_without_time_of_association(iw: FakeIw) -> None:
    """Whole seconds of `connected time` have to do; without them nothing can be compared."""
    iw.is_driver("rtw88")
    sampler = Sampler()
    await sampler.sample()
    iw.changes("station dump", "tx packets:\t91022", "tx packets:\t91122")
    iw.changes("station dump", "connected time:\t4021", "connected time:\t4082")
    assert differences(await sampler.later())[:3] == (0.0, 0.0, 0)
    iw.changes("station dump", "tx packets:\t91122", "tx packets:\t92000")
    iw.changes("station dump", "connected time:\t4082", "connected time:\t3")
    assert differences(await sampler.later()) == NOTHING
    for _ in range(2):
        iw.says("station dump", text("rtw88", "station").replace("connected time:\t4021 seconds\n", ""))
        assert differences(await sampler.later()) == NOTHING


# Two sources, one series


async def test_a_survey_that_fails_once_does_not_change_the_source(iw: FakeIw) -> None:
    iw.is_driver("ath9k")
    sampler = Sampler()
    await sampler.sample()
    iw.fails("survey dump", 251, "Input/output error (-5)")
    values = await sampler.later()
    assert (values.busy_ratio, values.noise_dbm, values.stations, sampler.context.flags) == (None, None, 31, [])


async def test_a_survey_that_fails_from_the_start_decides_nothing(iw: FakeIw) -> None:
    iw.is_driver("ath9k")
    iw.fails("survey dump", 251, "Input/output error (-5)")
    sampler = Sampler()
    assert (await sampler.sample()).busy_ratio is None
    iw.is_driver("ath9k")
    await sampler.later()
    assert sampler.facts.radios["lo"].air == "survey"


async def test_what_the_driver_lacks_is_asked_once(iw: FakeIw, caplog: pytest.LogCaptureFixture) -> None:
    iw.is_driver("brcmfmac")
    sampler = Sampler()
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert (await sampler.later()).busy_ratio == 0.2
    assert iw.asked.count("survey dump") == 1
    assert [r.getMessage() for r in caplog.records] == [
        "lo: iw survey dump: command failed: Operation not supported (-95); not asked again"
    ]


async def test_load_of_long_ago_is_none(iw: FakeIw) -> None:
    iw.is_driver("iwlwifi")
    iw.changes("scan dump", "last seen: 300 ms ago", "last seen: 60001 ms ago")
    values = await Sampler().sample()
    assert (values.stations, values.busy_ratio) == (None, None)


async def test_without_iw_the_kernel_s_file_serves_and_goes_on_serving(iw: FakeIw) -> None:
    iw.is_gone()
    wireless.FILE.write_text(text("wext", "wireless").replace("wlan0", "lo"))
    sampler = Sampler()
    values = WifiLink(rssi_dbm=-58.0, noise_dbm=-97.0, snr_db=39.0)
    assert await sampler.sample() == values
    assert sampler.context.flags == ["method_fallback"]
    iw.comes_back()
    iw.is_driver("ath9k")
    assert await sampler.later() == values
    wireless.FILE.write_text(text("unassociated", "wireless"))
    assert await sampler.fails() == "not_associated"


async def test_where_iw_has_served_nothing_takes_its_place(iw: FakeIw) -> None:
    iw.is_driver("ath9k")
    wireless.FILE.write_text(text("wext", "wireless").replace("wlan0", "lo"))
    sampler = Sampler()
    await sampler.sample()
    iw.is_gone()
    assert await sampler.fails() == "tool_missing"


@pytest.mark.parametrize("error", ["No such device (-19)", "Operation not supported (-95)"])
async def test_a_driver_that_knows_wireless_extensions_only(iw: FakeIw, error: str) -> None:
    iw.fails("link", 256 - int(error[-3:-1]), error)
    wireless.FILE.write_text(text("wext", "wireless").replace("wlan0", "lo"))
    assert (await Sampler().sample()).rssi_dbm == -58.0


async def test_the_method_that_a_job_names_and_no_other(iw: FakeIw) -> None:
    iw.is_driver("ath9k")
    wireless.FILE.write_text(text("wext", "wireless").replace("wlan0", "lo"))
    assert (await Sampler(method="wireless").sample()).rssi_dbm == -58.0
    assert (await Sampler(method="iw").sample()).rssi_dbm == -54.0
    iw.is_gone()
    assert await Sampler(method="iw").fails() == "tool_missing"


def test_by_hand_the_first_radio_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("lo", "eth0", "wlp3s0/phy80211", "wlan0/wireless", "wlan0/phy80211"):
        (tmp_path / folder).mkdir(parents=True)
    assert wireless.radios(tmp_path) == ["wlan0", "wlp3s0"]
    rows = tmp_path / "wireless"
    rows.write_text(text("wext", "wireless"))
    monkeypatch.setattr(wireless, "FILE", rows)
    monkeypatch.setattr(wireless, "radios", lambda: ["p2p0", "wlan0"])
    assert wireless.associated() == "wlan0"
    monkeypatch.setattr(wireless, "radios", lambda: ["wlan7"])
    assert wireless.associated() is None
    assert once.plan("wifi_link", None, once.Wish()).job.interface == "wlan7"
    assert once.plan("wifi_link", None, once.Wish(interface="lo")).job.interface == "lo"
    assert once.plan("agent", None, once.Wish()).job.interface != "wlan7"


# Ways to fail


async def test_unassociated(iw: FakeIw) -> None:
    iw.is_driver("unassociated")
    assert await Sampler().fails() == "not_associated"


async def test_no_such_interface(iw: FakeIw) -> None:
    assert await Sampler().fails("nowhere0") == "no_interface"
    assert iw.asked == []


async def test_an_interface_that_is_no_radio(iw: FakeIw) -> None:
    iw.fails("link", 237, "No such device (-19)")
    assert await Sampler().fails() == "no_interface"


async def test_a_kernel_without_radios(iw: FakeIw) -> None:
    iw.does("link", "echo 'nl80211 not found.' >&2; exit 1")
    assert await Sampler().fails() == "no_interface"


async def test_no_iw(iw: FakeIw) -> None:
    iw.is_gone()
    assert await Sampler().fails() == "tool_missing"


@pytest.mark.parametrize(
    ("code", "error", "reason"),
    [
        (240, "Device or resource busy (-16)", "busy"),
        (255, "Operation not permitted (-1)", "no_permission"),
        (156, "Network is down (-100)", "no_link"),
        (234, "Invalid argument (-22)", "internal"),
    ],
)
async def test_iw_fails(iw: FakeIw, code: int, error: str, reason: str) -> None:
    iw.fails("link", code, error)
    assert await Sampler().fails() == reason


async def test_iw_says_what_nobody_knows(iw: FakeIw) -> None:
    iw.is_driver("empty")
    assert await Sampler().fails() == "internal"


@pytest.mark.parametrize("question", ["link", "station dump"])
async def test_iw_hangs(iw: FakeIw, monkeypatch: pytest.MonkeyPatch, question: str) -> None:
    monkeypatch.setattr(iw_module, "SHORT_S", 0.3)
    iw.is_driver("ath9k")
    iw.does(question, HANGS)
    sampler = Sampler()
    assert await sampler.fails() == "internal"
    assert sampler.context.values == (None if question == "link" else WifiLink(
        ssid="venue", bssid=AP, frequency_mhz=2437, channel=6, band="2.4"
    ))  # fmt: skip


@pytest.mark.parametrize("script", [HANGS, FORKS, FLOODS])
async def test_a_question_in_vain_leaves_the_others(
    iw: FakeIw, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, script: str
) -> None:
    monkeypatch.setattr(iw_module, "SHORT_S", 0.5)
    iw.is_driver("ath9k")
    iw.does("survey dump", script)
    sampler = Sampler()
    for _ in range(2):
        values = await sampler.sample()
        assert (values.rssi_dbm, values.noise_dbm, values.stations) == (-54.0, None, 31)
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1, "the change, not the state"


async def test_a_child_that_holds_the_pipe(iw: FakeIw) -> None:
    iw.is_driver("ath9k")
    iw.does("survey dump", f"{LEAVES_ONE_THAT_HOLDS_THE_PIPE} cat {iw.folder}/survey_dump.txt")
    assert (await Sampler().sample()).noise_dbm == -94.0


# Beside others


async def answer(settings: Settings, context: Context) -> Values:
    await asyncio.sleep(0.02)
    return Dns(answers=1)


async def test_a_hanging_iw_delays_nobody_and_leaves_nothing(iw: FakeIw, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three radios whose `iw` hangs and forks, and others that want to be measured meanwhile."""
    monkeypatch.setattr(iw_module, "SHORT_S", 1.5)
    mark = f"{time.time_ns():x}"
    monkeypatch.setenv("MARK", mark)
    iw.does("link", FORKS + "; exec sleep 100")
    await command.run("true", timeout_s=5.0)
    before = descriptors()
    for _ in range(2):
        records = await run_once(
            [("wifi_link", name) for name in ("a", "b", "c")] + [("dns", str(n)) for n in range(8)]
        )
        links = [record for record in records if record.probe == "wifi_link"]
        assert [(r.outcome, r.reason) for r in links] == [("invalid", "internal")] * 3
        others = [record for record in records if record.probe == "dns"]
        first_killed = min(r.started_at + timedelta(seconds=r.duration_s) for r in links)
        assert max(r.started_at for r in others) < first_killed, "nobody waited for one that hangs"
    assert descriptors() == before
    assert await left(mark) == []


async def run_once(jobs: list[tuple[str, str]]) -> list[Record]:
    records: list[Record] = []
    clock = SystemClock()
    dns = Probe(settings=Settings, measure=answer, timeout_s=5.0)
    settings = {"wifi_link": WifiLinkSettings(), "dns": Settings()}
    runner = Runner(
        "a",
        [
            Job(probe=probe, target=name, interface="lo", period_s=60.0, timeout_s=20.0, settings=settings[probe])
            for probe, name in jobs
        ],
        targets={},
        resolvers={},
        clock=clock,
        facts=Facts(),
        submit=lambda record, _: records.append(record),
        uplinks=Uplinks({}, ALWAYS_OPEN, clock=clock),
        probes={**PROBES, "dns": dns},
    )
    await runner.once()
    return records
