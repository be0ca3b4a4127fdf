"""The access point that an interface is associated with, from `iw dev X link`."""

import re
from typing import Final, NamedTuple

from agent.wifi import lines, names

_HEAD: Final = re.compile(r"^(?:Connected to|Joined IBSS) ([0-9a-f:]{17}) \(on .*\)$", re.MULTILINE)
_MLO_LINK: Final = re.compile(r"^\tLink [0-9]+ BSSID ([0-9a-f:]{17})$", re.MULTILINE)
_UNASSOCIATED: Final = re.compile(r"^Not connected\.$", re.MULTILINE)


class Link(NamedTuple):
    """Where we are."""

    associated: bool | None = None
    """None when the text does not say."""
    peer: str | None = None
    """Whom the station dump calls our station: the BSSID, or the address of a multi-link device (802.11be)."""
    bssid: str | None = None
    """Of a multi-link device that of its first link, to which `frequency_mhz` belongs."""
    ssid: str | None = None
    frequency_mhz: int | None = None


def parse(text: str) -> Link:
    """Everything that `text` tells."""
    head = _HEAD.search(text)
    if head is None:
        return Link(False if _UNASSOCIATED.search(text) else None)
    peer = names.bssid(head[1])
    first = _MLO_LINK.search(text)
    found = lines.fields(text)
    frequency = lines.count(found.get("freq"))
    bssid = names.bssid(first[1]) if first else peer
    return Link(
        associated=True,
        peer=peer,
        # Every access point has a frequency: a text without one is cut, perhaps before a first link.
        bssid=bssid if frequency is not None else None,
        ssid=names.ssid(found.get("ssid", "")),
        frequency_mhz=frequency,
    )
