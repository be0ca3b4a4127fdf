"""Everything that is read of a radio, at once: what the probes do with texts, without `iw`."""

from typing import NamedTuple

from agent.probes import wifi_link, wifi_scan
from agent.wifi import channels, counters, link, scan, station, survey, wireless
from agent.wifi.counters import Sample
from contract.values import WifiLink, WifiScan


class Texts(NamedTuple):
    """One per source."""

    link: str
    info: str
    station: str
    survey: str
    scan: str
    wireless: str


def read(texts: Texts) -> tuple[WifiLink, WifiScan]:
    """Values as the two probes would make them."""
    where = link.parse(texts.link)
    channel = channels.parse_info(texts.info, where.frequency_mhz)
    own = station.parse(texts.station, where.peer)
    air = survey.parse(texts.survey, where.frequency_mhz)
    load = wifi_link.load_of(texts.scan, where)
    values = wifi_link.describe(where, own, channel, air, load)
    values.busy_ratio = load.busy_ratio
    now = Sample(4100.0, where.bssid, where.frequency_mhz, own, air)
    before = now._replace(boot_s=4040.0, station=own._replace(tx_packets=0, tx_retries=0, tx_failed=0))
    since = counters.change(before, now)
    values.tx_retry_ratio, values.tx_failed_ratio = since.tx_retry_ratio, since.tx_failed_ratio
    row = wireless.parse(texts.wireless, "wlan0")
    if row is not None and values.rssi_dbm is None:
        values.rssi_dbm, values.noise_dbm = row
    return values, wifi_scan.count(scan.parse(texts.scan), where, channel)
