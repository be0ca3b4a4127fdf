"""Noise and air time of a channel, from `iw dev X survey dump`."""

import re
from typing import Final, NamedTuple

from agent.wifi import lines

_HEAD: Final = re.compile(r"^Survey data from .*$(?=\n)", re.MULTILINE)


class Survey(NamedTuple):
    """One channel. The times only grow, until the driver starts them anew."""

    noise_dbm: float | None = None
    active_ms: int | None = None
    busy_ms: int | None = None


def parse(text: str, frequency_mhz: int | None) -> Survey:
    """The block of `frequency_mhz`: many drivers mark none as in use, and some mark the last one that was scanned."""
    for _, block in lines.blocks(text, _HEAD):
        found = lines.fields(block)
        if frequency_mhz is not None and lines.count(found.get("frequency")) == frequency_mhz:
            return Survey(
                lines.dbm(found.get("noise")),
                lines.count(found.get("channel active time")),
                lines.count(found.get("channel busy time")),
            )
    return Survey()
