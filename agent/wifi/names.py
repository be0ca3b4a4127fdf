"""Names and addresses of networks: text that whoever runs an access point has chosen."""

import re
from typing import Final

from contract.codec import strip_controls

_ESCAPE: Final = re.compile(rb'\\(?:x([0-9A-Fa-f]{2})|([nret"\\]))')
_LETTERS: Final = {b"n": b"\n", b"r": b"\r", b"e": b"\x1b", b"t": b"\t"}
_BSSID: Final = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")


def ssid(text: str) -> str | None:
    r"""An SSID as `iw` and wpa_supplicant print it, with ``\xNN`` for what is no printable ASCII.

    32 bytes of whatever: read as UTF-8, else as GB18030, else shown as hex; control characters are blanked. None for a
    hidden network, which announces nothing or zeros.
    """
    raw = _ESCAPE.sub(_byte, text.encode("utf-8", "replace"))
    name = strip_controls(_decode(raw))
    return name if name.strip() else None


def bssid(text: str) -> str | None:
    """A BSSID in lower case; None when `text` is none."""
    lower = text.strip().lower()
    return lower if _BSSID.fullmatch(lower) else None


def _byte(found: re.Match[bytes]) -> bytes:
    number, letter = found.groups()
    return bytes([int(number, 16)]) if number else _LETTERS.get(letter, letter)


def _decode(raw: bytes) -> str:
    for encoding in ("utf-8", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.hex()
