"""The neighbourhood of a radio: how many networks there are, and how many of them share its air. Nothing but counts
leaves this file: whose networks they are is nobody's business."""

from typing import Final

from agent import sockets
from agent.command import Killed
from agent.probe import Context, Failure, Probe, Settings
from agent.wifi import channels, iw, link, scan
from agent.wifi.channels import Channel
from agent.wifi.link import Link
from agent.wifi.scan import Bss
from agent.wifi.supplicant import Unheard
from contract.values import WifiScan

SCAN_EVERY_S: Final = 1800.0
"""An active scan keeps the radio from serving anybody: not more often."""
FRESH_S: Final = 60.0
"""How long ago a network may have been heard; the kernel forgets it sooner unless somebody holds it."""
SUPPLICANT_S: Final = 25.0
"""A supplicant says when its scan is done: one that is slow is no scan that hangs."""


class WifiScanSettings(Settings, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Settings of a wifi_scan job."""

    active: bool = False
    """Scan, alone: 4 to 13 s without any other test. Else what the last scan of the radio's owner has found."""

    def least_period_s(self) -> float:
        return SCAN_EVERY_S if self.active else 0.0

    def alone(self) -> bool:
        return self.active


async def measure(settings: WifiScanSettings, context: Context) -> WifiScan:
    """One look around.

    :raises Failure: `no_interface`, `tool_missing`; `busy` while somebody else scans; `no_permission` when an active
        scan is not allowed; `internal` when `iw` hangs and has left nothing.
    """
    if sockets.link(context.interface) == "missing":
        raise Failure("no_interface", f"there is no interface {context.interface}")
    heard = await (_scan(context) if settings.active else _cached(context, FRESH_S))
    where = link.parse(await iw.ask(context.interface, "link"))
    own = channels.parse_info(await iw.ask(context.interface, "info"), where.frequency_mhz)
    values = count(heard, where, own)
    if settings.active or values.ap_count != sum(_is_own(bss, where) for bss in heard):
        return values
    # Nobody has looked around lately: that is no proof that nobody is there.
    return WifiScan()


def count(heard: list[Bss], where: Link, own: Channel) -> WifiScan:
    """The networks heard, and how many of them share the air with ours: on its primary channel, or beside it with a
    width that reaches into ours. Without an association nobody shares it: null."""
    neighbours = [bss for bss in heard if not _is_own(bss, where)]
    spans = own.spans or ((channels.span(where.frequency_mhz, 20),) if where.frequency_mhz else ())
    co_channel = [bss for bss in neighbours if bss.frequency_mhz == where.frequency_mhz]
    overlapping = [bss for bss in neighbours if bss not in co_channel and channels.overlap(spans, bss.spans)]
    return WifiScan(
        ap_count=len(heard),
        co_channel_count=len(co_channel) if where.frequency_mhz else None,
        overlap_count=len(overlapping) if where.frequency_mhz else None,
        strongest_neighbour_dbm=max((bss.rssi_dbm for bss in neighbours if bss.rssi_dbm is not None), default=None),
    )


async def _scan(context: Context) -> list[Bss]:
    """What a scan hears: the supplicant's, which is the radio's owner and says when it is done; else that of `iw`."""
    context.progress("scanning")
    began_s = context.clock.boot()
    if context.watch is not None and await context.watch.attached(0):
        try:
            ended = await context.watch.scan(SUPPLICANT_S)
        except Unheard as error:
            raise Failure("internal", str(error)) from error
        if ended == "busy":
            raise Failure("busy", "another scan is under way")
        return await _cached(context, context.clock.boot() - began_s)
    try:
        text = await iw.ask(context.interface, "scan")
    except Killed as failure:
        # The kernel has most often finished: its results are there all the same.
        heard = await _cached(context, context.clock.boot() - began_s)
        if not heard:
            raise failure from None
        context.flags.append("method_fallback")
        return heard
    return _since(text, context.clock.boot() - began_s)


async def _cached(context: Context, age_s: float) -> list[Bss]:
    return _since(await iw.ask(context.interface, "scan", "dump"), age_s)


def _since(text: str, age_s: float) -> list[Bss]:
    return [bss for bss in scan.parse(text) if bss.seen_ms is None or bss.seen_ms <= age_s * 1000]


def _is_own(bss: Bss, where: Link) -> bool:
    return bss.associated or bss.bssid == where.bssid


PROBE: Final = Probe(settings=WifiScanSettings, measure=measure, timeout_s=45.0, needs=frozenset({"radio"}))
