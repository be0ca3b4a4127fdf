"""Bit rates as `iw` words them: legacy, HT, VHT, HE and EHT each in their own way."""

import re
from typing import Final, NamedTuple

_RATE: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9])?) MBit/s(?=\s|$)")
_MCS: Final = re.compile(r"(?:^| )((?:VHT|HE|EHT)-)?MCS ([0-9]{1,2})(?=\s|$)")
_STREAMS: Final = re.compile(r" (?:VHT|HE|EHT)-NSS ([0-9]{1,2})(?=\s|$)")
_HT_STREAMS: Final = 4
"""HT counts on: MCS 0-7 is one stream, 8-15 two, to 31. What follows has streams of different modulation."""


class Rate(NamedTuple):
    """A modulation and what it carries. A legacy rate has neither MCS nor streams."""

    mbps: float | None = None
    mcs: int | None = None
    streams: int | None = None


def parse(text: str | None) -> Rate:
    """``866.7 MBit/s VHT-MCS 9 80MHz short GI VHT-NSS 2`` and its like."""
    text = text or ""
    rate, mcs, streams = _RATE.match(text), _MCS.search(text), _STREAMS.search(text)
    index = int(mcs[2]) if mcs else None
    count = int(streams[1]) if streams else None
    if mcs and index is not None and not mcs[1]:
        count = index // 8 + 1 if index < 8 * _HT_STREAMS else None
    # No rate is 0: a driver that says so has none.
    return Rate((float(rate[1]) or None) if rate else None, index, count or None)
