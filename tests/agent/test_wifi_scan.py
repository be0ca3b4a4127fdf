"""The wifi_scan probe with a fake `iw`: counts of overlapping widths, cached and active, and nobody else's names."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.clock import SystemClock
from agent.facts import Facts
from agent.probe import Context, Failure
from agent.probes import wifi_scan
from agent.probes.wifi_scan import WifiScanSettings
from agent.wifi import iw as iw_module
from agent.wifi.watch import Watch, Wifi
from contract.values import WifiScan
from tests.agent.supplicant import Event, Supplicant, supplicant
from tests.agent.wifi.fake_iw import FLOODS, HANGS, FakeIw, iw
from tests.agent.wifi.families import text
from tests.fakes import FakeClock

__all__ = ["iw"]


async def look(
    flags: list[Any] | None = None, interface: str = "lo", watch: Watch | None = None, **settings: Any
) -> WifiScan:
    context = Context(
        agent="a",
        interface=interface,
        clock=FakeClock(),
        facts=Facts(),
        timeout_s=45.0,
        watch=watch,
        flags=[] if flags is None else flags,
    )
    return await wifi_scan.measure(WifiScanSettings(**settings), context)


async def reason(**settings: Any) -> str:
    with pytest.raises(Failure) as caught:
        await look(**settings)
    return caught.value.reason


@pytest.mark.parametrize(
    ("family", "values"),
    [
        # 80 MHz from 5170 on: one on our primary channel, one of 40 MHz inside, a wide one that begins where ours ends.
        ("iwlwifi", WifiScan(ap_count=4, co_channel_count=1, overlap_count=1, strongest_neighbour_dbm=-52.0)),
        # 40 MHz from channel 6 up: 11 with 40 MHz below and 10 reach into it, 1 ends where it begins.
        ("ath9k", WifiScan(ap_count=5, co_channel_count=1, overlap_count=2, strongest_neighbour_dbm=-48.0)),
        # 160 MHz: its upper half, and the second half of an 80+80.
        ("mt76", WifiScan(ap_count=3, co_channel_count=0, overlap_count=2, strongest_neighbour_dbm=-40.0)),
        # 20 MHz on channel 11, beside one of 20 on 11 and one of 40 from 7 up to 11's lower edge.
        ("brcmfmac", WifiScan(ap_count=3, co_channel_count=1, overlap_count=1, strongest_neighbour_dbm=-70.0)),
        ("hwsim", WifiScan(ap_count=2, co_channel_count=0, overlap_count=0, strongest_neighbour_dbm=-30.0)),
        # Two links of our own multi-link access point are no neighbours.
        ("eht_mlo", WifiScan(ap_count=5, co_channel_count=0, overlap_count=1, strongest_neighbour_dbm=-40.0)),
    ],
)
async def test_counts(iw: FakeIw, family: str, values: WifiScan) -> None:
    iw.is_driver(family)
    assert await look() == values
    assert "scan" not in iw.asked


async def test_without_an_association_nobody_shares_our_air(iw: FakeIw) -> None:
    iw.is_driver("unassociated")
    iw.says("scan dump", text("ath9k", "scan").replace(" -- associated", ""))
    assert await look() == WifiScan(ap_count=5, strongest_neighbour_dbm=-48.0)


async def test_the_mark_of_our_own_may_be_missing(iw: FakeIw) -> None:
    iw.is_driver("ath9k")
    iw.changes("scan dump", " -- associated", "")
    assert (await look()).co_channel_count == 1


async def test_a_width_that_the_driver_does_not_tell_is_20_mhz(iw: FakeIw) -> None:
    iw.is_driver("ath9k")
    iw.changes("info", "channel 6 (2437 MHz), width: 40 MHz, center1: 2447 MHz", "txpower 1.00 dBm")
    assert (await look()).overlap_count == 1, "that of 40 MHz below channel 11, and no longer the one on 10"


@pytest.mark.parametrize("family", ["ath10k", "unassociated"])
async def test_where_nobody_has_scanned_lately_nothing_is_known(iw: FakeIw, family: str) -> None:
    iw.is_driver(family)
    assert await look() == WifiScan()


async def test_what_was_heard_long_ago_is_gone(iw: FakeIw) -> None:
    iw.is_driver("ath9k")
    iw.says("scan dump", text("ath9k", "scan").replace("last seen: 300 ms", "last seen: 60001 ms"))
    assert await look() == WifiScan()


async def test_an_active_scan_that_hears_nobody_else_has_counted(iw: FakeIw) -> None:
    iw.is_driver("ath10k")
    iw.says("scan", text("ath10k", "scan").replace("last seen: 300 ms", "last seen: 0 ms"))
    assert await look(active=True) == WifiScan(ap_count=1, co_channel_count=0, overlap_count=0)


async def test_a_crowded_place(iw: FakeIw) -> None:
    """Hundreds of networks are more text than other commands may print."""
    iw.is_driver("ath9k")
    one = text("ath9k", "scan").partition("BSS 00:00:5e:00:53:10")[2].partition("BSS ")[0]
    elements = "\t\t * an element that nobody asks for\n" * 100
    many = [f"BSS 00:00:5e:00:{n // 256:02x}:{n % 256:02x}{one}{elements}" for n in range(0x5400, 0x5400 + 400)]
    iw.says("scan dump", text("ath9k", "scan") + "".join(many))
    values = await look()
    assert values.ap_count == 405


async def test_nothing_of_anybody_leaves(iw: FakeIw) -> None:
    iw.is_driver("iwlwifi")
    sent = msgspec.json.encode(await look()).decode()
    assert "00:00:5e" not in sent
    assert "other" not in sent


# Active


async def test_a_hanging_scan_leaves_the_kernel_s_results(iw: FakeIw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iw_module, "SCAN_S", 0.3)
    iw.is_driver("ath9k")
    iw.says("scan dump", text("ath9k", "scan").replace("last seen: 300 ms", "last seen: 0 ms"))
    iw.does("scan", HANGS)
    flags: list[Any] = []
    assert (await look(flags, active=True)).ap_count == 5
    assert flags == ["method_fallback"]


def test_a_hanging_scan_holds_the_others_hardly_longer_than_a_slow_one() -> None:
    slowest_s = 13.0
    assert slowest_s + 1 < iw_module.SCAN_S < 1.25 * slowest_s


@pytest.mark.parametrize("old", ["", text("ath9k", "scan")])
async def test_a_hanging_scan_that_left_nothing_new(iw: FakeIw, monkeypatch: pytest.MonkeyPatch, old: str) -> None:
    monkeypatch.setattr(iw_module, "SCAN_S", 0.3)
    iw.is_driver("unassociated")
    iw.says("scan dump", old)
    iw.does("scan", HANGS)
    assert await reason(active=True) == "internal"


@pytest.mark.parametrize(
    ("code", "error", "why"),
    [
        (240, "Device or resource busy (-16)", "busy"),
        (255, "Operation not permitted (-1)", "no_permission"),
        (156, "Network is down (-100)", "no_link"),
    ],
)
async def test_a_scan_that_is_refused(iw: FakeIw, code: int, error: str, why: str) -> None:
    iw.is_driver("ath9k")
    iw.fails("scan", code, error)
    assert await reason(active=True) == why


async def test_a_flood(iw: FakeIw) -> None:
    iw.is_driver("ath9k")
    iw.does("scan dump", FLOODS)
    assert await reason() == "internal"


async def test_no_iw(iw: FakeIw) -> None:
    iw.is_gone()
    assert await reason() == "tool_missing"


async def test_no_such_interface(iw: FakeIw) -> None:
    assert await reason(interface="nowhere0") == "no_interface"


# Through the supplicant


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[tuple[Supplicant, Watch]]:
    async with supplicant(folder, "lo") as fake, asyncio.TaskGroup() as tasks:
        watch = Watch("lo", Wifi(control=str(folder)), SystemClock(), lambda *_: None)
        running = tasks.create_task(watch.run())
        assert await watch.attached(10.0)
        try:
            yield fake, watch
        finally:
            running.cancel()


SCANNED = [Event(0.0, "CTRL-EVENT-SCAN-STARTED"), Event(0.1, "CTRL-EVENT-SCAN-RESULTS")]
FAILED = [Event(0.0, "CTRL-EVENT-SCAN-FAILED ret=-100")]


async def test_the_supplicant_scans_and_tells_when_it_is_done(iw: FakeIw, tmp_path: Path) -> None:
    iw.is_driver("ath9k")
    iw.says("scan dump", text("ath9k", "scan").replace("last seen: 300 ms", "last seen: 0 ms"))
    async with watching(tmp_path) as (fake, watch):
        fake.plays["SCAN TYPE=ONLY"] = SCANNED
        flags: list[Any] = []
        assert (await look(flags, watch=watch, active=True)).ap_count == 5
    assert flags == []
    assert "scan" not in iw.asked


@pytest.mark.parametrize(
    ("reply", "plays", "why"),
    [("FAIL-BUSY\n", [], "busy"), ("FAIL\n", [], "internal"), ("OK\n", FAILED, "internal"), ("OK\n", [], "internal")],
)
async def test_the_supplicant_does_not_scan(
    iw: FakeIw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: str, plays: list[Event], why: str
) -> None:
    monkeypatch.setattr(wifi_scan, "SUPPLICANT_S", 0.3)
    iw.is_driver("ath9k")
    async with watching(tmp_path) as (fake, watch):
        fake.replies["SCAN TYPE=ONLY"] = reply
        fake.plays["SCAN TYPE=ONLY"] = plays
        assert await reason(watch=watch, active=True) == why
    assert "scan" not in iw.asked


async def test_a_supplicant_that_is_not_heard_is_not_waited_for(iw: FakeIw, tmp_path: Path) -> None:
    iw.is_driver("ath9k")
    iw.says("scan", text("ath9k", "scan").replace("last seen: 300 ms", "last seen: 0 ms"))
    watch = Watch("lo", Wifi(control=str(tmp_path)), SystemClock(), lambda *_: None)
    assert (await look(watch=watch, active=True)).ap_count == 5


def test_only_an_active_scan_wants_to_be_alone() -> None:
    assert WifiScanSettings(active=True).alone()
    assert not WifiScanSettings().alone()
