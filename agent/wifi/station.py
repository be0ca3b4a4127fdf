"""Signal, rates and counters of an association, from `iw dev X station dump`."""

import re
from typing import Final, NamedTuple

from agent.wifi import lines, names, rates
from agent.wifi.rates import Rate

_HEAD: Final = re.compile(r"^Station ([0-9a-f:]{17}) \(on .*\)$", re.MULTILINE)


class Station(NamedTuple):
    """What the driver says. Counters run from the association on; what it does not count is None."""

    rssi_dbm: float | None = None
    tx: Rate = Rate()
    rx: Rate = Rate()
    tx_packets: int | None = None
    tx_retries: int | None = None
    tx_failed: int | None = None
    beacon_loss: int | None = None
    associated_at_s: float | None = None
    """Boot time of the association."""
    connected_s: int | None = None
    """The same as a whole number of seconds since then, for an `iw` or a kernel before 5.6."""


def parse(text: str, peer: str | None) -> Station:
    """What is said of `peer`; others (direct links to a neighbour's phone, say) are nobody's business."""
    for head, block in lines.blocks(text, _HEAD):
        if peer is not None and names.bssid(head[1]) == peer:
            return _station(lines.fields(block))
    return Station()


def _station(found: dict[str, str]) -> Station:
    return Station(
        rssi_dbm=lines.dbm(found.get("signal")),
        tx=rates.parse(found.get("tx bitrate")),
        rx=rates.parse(found.get("rx bitrate")),
        tx_packets=lines.count(found.get("tx packets")),
        tx_retries=lines.count(found.get("tx retries")),
        tx_failed=lines.count(found.get("tx failed")),
        beacon_loss=lines.count(found.get("beacon loss")),
        associated_at_s=lines.number(found.get("associated at [boottime]", "").removesuffix("s")),
        connected_s=lines.count(found.get("connected time")),
    )
