"""Channels: which frequencies they are, and which of them a width takes (IEEE 802.11-2020, 17.3.8.4, Annex E)."""

import re
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from agent.wifi import lines

Band = Literal["2.4", "5", "6"]

Span = tuple[float, float]
"""From and to, in MHz."""

_CHANNEL: Final = re.compile(
    r"^\s*channel [0-9]{1,3} \(([0-9]{1,5})(?:\.[0-9]+)? MHz\), width: ([0-9]{1,3})(\+80)? MHz[^,\n]*"
    r"(?:, center1: ([0-9]{1,5})(?:\.[0-9]+)? MHz)?(?:, center2: ([0-9]{1,5})(?:\.[0-9]+)? MHz)?[^,\n]*$",
)
_BANDS: Final[dict[Band, tuple[int, int, int]]] = {
    "2.4": (2407, 2412, 2484), "5": (5000, 5150, 5895), "6": (5950, 5935, 7115)
}  # fmt: skip
"""Frequency of channel 0, and of the first and the last that there is, in MHz."""


class Channel(NamedTuple):
    """What one radio uses."""

    width_mhz: int | None = None
    spans: tuple[Span, ...] = ()
    """One, or two for 80+80 MHz."""


def band(frequency_mhz: int | None) -> Band | None:
    """None outside the three bands."""
    for name, (_, first, last) in _BANDS.items():
        if frequency_mhz is not None and first <= frequency_mhz <= last:
            return name
    return None


def number(frequency_mhz: int | None) -> int | None:
    """The channel whose 20 MHz are around `frequency_mhz`."""
    where = band(frequency_mhz)
    if where is None or frequency_mhz is None:
        return None
    if frequency_mhz == 2484:
        return 14
    if frequency_mhz == 5935:
        return 2  # the one channel of operating class 136, below the grid
    steps, rest = divmod(frequency_mhz - _BANDS[where][0], 5)
    return None if rest else steps


def center_mhz(where: Band, channel: int) -> float:
    """The middle of a channel of any width, by its number."""
    return float(_BANDS[where][0] + 5 * channel)


def span(center: float, width_mhz: float) -> Span:
    """What a width takes around its middle."""
    return center - width_mhz / 2, center + width_mhz / 2


def overlap(ours: Sequence[Span], theirs: Sequence[Span]) -> bool:
    """Whether they share a frequency; spans that only touch do not."""
    return any(a[0] < b[1] and b[0] < a[1] for a in ours for b in theirs)


def parse_info(text: str, frequency_mhz: int | None) -> Channel:
    """The width on `frequency_mhz`, from `iw dev X info`. One that is on another channel by now tells nothing."""
    for line in lines.whole(text):
        found = _CHANNEL.match(line)
        if found is None or int(found[1]) != frequency_mhz:
            continue
        width, plus = int(found[2]), bool(found[3])
        middles = [float(middle) for middle in found.group(4, 5) if middle] or [float(found[1])]
        spans = tuple(span(middle, width) for middle in middles[: 2 if plus else 1])
        return Channel((2 * width if plus else width) or None, spans)
    return Channel()
