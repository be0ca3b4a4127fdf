"""The networks in the air, from `iw dev X scan` and `scan dump`. What is read here stays here: only counts go on."""

import re
from typing import Final, NamedTuple

from agent.wifi import channels, lines, names
from agent.wifi.channels import Band, Span

_HEAD: Final = re.compile(r"^BSS ([0-9a-f:]{17}) ?\(on [^)]*\)(.*)$(?=\n)", re.MULTILINE)
_LOAD: Final = re.compile(r"([0-9]{1,3})/255$")
_SEEN: Final = re.compile(r"^\tlast seen: ([0-9]{1,12}) ms ago$", re.MULTILINE)
_WIDTH: Final = re.compile(r"([0-9]{2,3}) MHz\)?$")
_WIDE: Final = (
    ("eht operation", "center frequency segment 0", "center frequency segment 1"),
    ("he operation", "center frequency segment 0", "center frequency segment 1"),
    ("vht operation", "center freq segment 1", "center freq segment 2"),
)
"""Elements that tell a width above 40 MHz (and at 6 GHz any), and what they call their two middles."""
_MIDDLES: Final = {8: 160, 16: 320}
"""Width in MHz where the second middle is this many channel numbers off the first: it is that of the whole."""


class Load(NamedTuple):
    """What an access point says of itself (BSS Load, element 11)."""

    stations: int | None = None
    busy_ratio: float | None = None


class Bss(NamedTuple):
    """One network on one radio."""

    bssid: str
    associated: bool
    frequency_mhz: int | None
    rssi_dbm: float | None
    seen_ms: int | None
    """How long ago."""
    spans: tuple[Span, ...]
    load: Load


def parse(text: str) -> list[Bss]:
    """Every network, the first of equal BSSIDs."""
    found: dict[str, Bss] = {}
    for head, block in lines.blocks(text, _HEAD):
        bssid = names.bssid(head[1])
        if bssid is not None and bssid not in found:
            found[bssid] = _bss(bssid, "-- associated" in head[2], block)
    return list(found.values())


def of(text: str, bssid: str) -> Bss | None:
    """That network alone, without reading the others: a crowded place has hundreds of kilobytes of them."""
    start = text.find(f"BSS {bssid}")
    if start < 0:
        return None
    end = text.find("\nBSS ", start)
    return next(iter(parse(text[start : end + 1 if end >= 0 else None])), None)


def _bss(bssid: str, associated: bool, block: str) -> Bss:
    found = lines.nested(block)
    frequency = lines.count(found.get(("", "freq")))
    seen = _SEEN.search(block)
    return Bss(
        bssid=bssid,
        associated=associated,
        frequency_mhz=frequency,
        rssi_dbm=lines.dbm(found.get(("", "signal"))),
        seen_ms=int(seen[1]) if seen else None,
        spans=_spans(frequency, found),
        load=_load(found),
    )


def _load(found: dict[tuple[str, str], str]) -> Load:
    used = _LOAD.match(found.get(("bss load", "channel utilisation"), ""))
    return Load(
        stations=lines.count(found.get(("bss load", "station count"))),
        busy_ratio=min(1.0, int(used[1]) / 255) if used else None,
    )


def _spans(frequency_mhz: int | None, found: dict[tuple[str, str], str]) -> tuple[Span, ...]:
    """What it takes of the band: the widest that it announces, else 20 MHz."""
    where = channels.band(frequency_mhz)
    if frequency_mhz is None or where is None:
        return ()
    for section, *middles in _WIDE:
        width = found.get((section, "channel width"), "")
        first, second = (lines.count(found.get((section, middle))) or 0 for middle in middles)
        if first and (match := _WIDTH.search(width)) and "20 or 40" not in width:
            return _wide(where, int(match[1]), first, second)
    off = {"above": 10, "below": -10}.get(found.get(("ht operation", "secondary channel offset"), ""))
    if off is None or found.get(("ht operation", "sta channel width")) == "20 MHz":
        return (channels.span(frequency_mhz, 20),)
    return (channels.span(frequency_mhz + off, 40),)


def _wide(where: Band, width_mhz: int, first: int, second: int) -> tuple[Span, ...]:
    middle = channels.center_mhz(where, first)
    if not second:
        return (channels.span(middle, width_mhz),)
    other = channels.center_mhz(where, second)
    whole = _MIDDLES.get(abs(second - first))
    return (channels.span(other, whole),) if whole else (channels.span(middle, 80), channels.span(other, 80))
