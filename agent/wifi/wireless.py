"""`/proc/net/wireless`: signal and noise of drivers that know wireless extensions only, and where `iw` is missing."""

from pathlib import Path
from typing import Final, NamedTuple

from agent.wifi import lines

FILE: Final = Path("/proc/net/wireless")
MAX_BYTES: Final = 64 * 1024
_INTERFACES: Final = Path("/sys/class/net")


class Wireless(NamedTuple):
    """One row."""

    rssi_dbm: float | None = None
    noise_dbm: float | None = None


def radios(interfaces: Path = _INTERFACES) -> list[str]:
    """The interfaces that are radios, by name."""
    found = (file.parent.name for kind in ("phy80211", "wireless") for file in interfaces.glob(f"*/{kind}"))
    return sorted(set(found))


def associated() -> str | None:
    """The first radio with a row."""
    return next((name for name in radios() if read(name) is not None), None)


def read(interface: str) -> Wireless | None:
    """The row of `interface`; None without one: most drivers have it only while they are associated."""
    try:
        with FILE.open("rb") as rows:
            return parse(rows.read(MAX_BYTES).decode("utf-8", "replace"), interface)
    except OSError:
        return None


def parse(text: str, interface: str) -> Wireless | None:
    """The same of the file's text. Levels that are not in dBm (drivers with a scale of their own) are None."""
    for line in lines.whole(text):
        name, colon, values = line.partition(":")
        if colon and name.strip() == interface:
            words = values.split()
            level, noise = (words[2], words[3]) if len(words) > 3 else (None, None)
            return Wireless(_dbm(level), _dbm(noise))
    return None


def _dbm(word: str | None) -> float | None:
    """The dot says that the value is new."""
    return lines.dbm(word.removesuffix(".")) if word else None
