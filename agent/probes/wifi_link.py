"""The radio link, as the driver tells it: where we are associated, how well we hear, how crowded the air is."""

import logging
from typing import Final

from agent import sockets
from agent.probe import Context, Failure, Probe, Settings
from agent.wifi import channels, counters, iw, link, scan, station, survey, wireless
from agent.wifi.channels import Channel
from agent.wifi.counters import Sample
from agent.wifi.link import Link
from agent.wifi.radio import Method, Radio
from agent.wifi.scan import Load
from agent.wifi.station import Station
from agent.wifi.survey import Survey
from contract.values import WifiLink

STALE_MS: Final = 60_000
"""What an access point said longer ago about its load is not true any more."""

log = logging.getLogger(__name__)


class WifiLinkSettings(Settings, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Settings of a wifi_link job."""

    method: Method | None = None
    """None: `iw`, and where it knows nothing of this radio, `/proc/net/wireless`."""


async def measure(settings: WifiLinkSettings, context: Context) -> WifiLink:
    """One sample. What counts only as a difference is null in the first one of every association.

    :raises Failure: `not_associated`; `no_interface` when there is no such interface or it is no radio;
        `tool_missing` without `iw` where `/proc/net/wireless` has nothing either; `internal` when `iw` hangs.
    """
    if sockets.link(context.interface) == "missing":
        raise Failure("no_interface", f"there is no interface {context.interface}")
    radio = context.facts.radios.setdefault(context.interface, Radio())
    method = settings.method or radio.method
    if method == "wireless":
        return _by_wireless(radio, context)
    try:
        values = await _by_iw(radio, context)
    except iw.Unknown:
        if method == "iw" or wireless.read(context.interface) is None:
            raise
        return _by_wireless(radio, context)
    radio.method = "iw"
    return values


def _by_wireless(radio: Radio, context: Context) -> WifiLink:
    row = wireless.read(context.interface)
    if row is None:
        raise Failure("not_associated", f"{wireless.FILE} has no row of {context.interface}")
    radio.method = "wireless"
    context.flags.append("method_fallback")
    return WifiLink(rssi_dbm=row.rssi_dbm, noise_dbm=row.noise_dbm, snr_db=_snr_db(row.rssi_dbm, row.noise_dbm))


async def _by_iw(radio: Radio, context: Context) -> WifiLink:
    interface = context.interface
    where = link.parse(await iw.ask(interface, "link"))
    if not where.associated:
        radio.sample = None
        if where.associated is None:
            raise Failure("internal", "iw link says nothing that is known")
        raise Failure("not_associated", f"{interface} is not connected to any access point")
    context.values = describe(where, Station(), Channel(), Survey(), Load())
    own = station.parse(await iw.ask(interface, "station", "dump"), where.peer)
    channel = channels.parse_info(await _try(radio, context, "info"), where.frequency_mhz)
    air = survey.parse(await _try(radio, context, "survey", "dump"), where.frequency_mhz)
    load = load_of(await _try(radio, context, "scan", "dump"), where)
    values = describe(where, own, channel, air, load)
    now = Sample(context.clock.boot(), where.bssid, where.frequency_mhz, own, air)
    since = counters.change(radio.sample, now)
    radio.sample = now
    values.tx_retry_ratio, values.tx_failed_ratio = since.tx_retry_ratio, since.tx_failed_ratio
    values.beacon_loss = since.beacon_loss
    _choose_air(radio, air, load)
    if radio.air == "survey":
        values.busy_ratio = since.busy_ratio
    elif radio.air == "access_point" and load.busy_ratio is not None:
        values.busy_ratio = load.busy_ratio
        context.flags.append("method_fallback")
    return values


def describe(where: Link, own: Station, channel: Channel, air: Survey, load: Load) -> WifiLink:
    """What one look tells, without what takes two."""
    return WifiLink(
        ssid=where.ssid,
        bssid=where.bssid,
        frequency_mhz=where.frequency_mhz,
        channel=channels.number(where.frequency_mhz),
        width_mhz=channel.width_mhz,
        band=channels.band(where.frequency_mhz),
        rssi_dbm=own.rssi_dbm,
        noise_dbm=air.noise_dbm,
        snr_db=_snr_db(own.rssi_dbm, air.noise_dbm),
        tx_mbps=own.tx.mbps,
        rx_mbps=own.rx.mbps,
        mcs=own.tx.mcs,
        streams=own.tx.streams,
        stations=load.stations,
    )


def load_of(text: str, where: Link) -> Load:
    """What our access point last said of its load, in the scan results; nothing when that was long ago."""
    bss = scan.of(text, where.bssid) if where.bssid else None
    if bss is None or bss.seen_ms is None or bss.seen_ms > STALE_MS:
        return Load()
    return bss.load


async def _try(radio: Radio, context: Context, *words: str) -> str:
    """What `iw` says, or nothing: a driver that lacks one thing still has the others."""
    name = " ".join(words)
    if name in radio.unknown:
        return ""
    try:
        text = await iw.ask(context.interface, *words)
    except iw.Unknown as failure:
        radio.unknown.add(name)
        log.info("%s: %s; not asked again", context.interface, failure.detail)
        return ""
    except Failure as failure:
        if name not in radio.silent:
            log.warning("%s: %s", context.interface, failure.detail)
        radio.silent.add(name)
        return ""
    radio.silent.discard(name)
    return text


def _choose_air(radio: Radio, air: Survey, load: Load) -> None:
    """Once and for all. Not while the survey is merely late."""
    if radio.air is not None:
        return
    if air.active_ms is not None and air.busy_ms is not None:
        radio.air = "survey"
    elif load.busy_ratio is not None and "survey dump" not in radio.silent:
        radio.air = "access_point"


def _snr_db(rssi_dbm: float | None, noise_dbm: float | None) -> float | None:
    return rssi_dbm - noise_dbm if rssi_dbm is not None and noise_dbm is not None else None


PROBE: Final = Probe(settings=WifiLinkSettings, measure=measure, timeout_s=20.0, needs=frozenset({"radio"}))
