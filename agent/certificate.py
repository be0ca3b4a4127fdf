"""How long our own certificate is good. Python's ssl tells it of the other side's only, so its DER is read here."""

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17


def expires_at(file: Path) -> datetime | None:
    """`notAfter` of the first certificate in a PEM file; None when that cannot be read (RFC 5280, 4.1)."""
    try:
        text = file.read_text()
        end = text.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)
        der = ssl.PEM_cert_to_DER_cert(text[text.index(ssl.PEM_HEADER) : end])
        certificate = _inside(der, _SEQUENCE)
        fields = _values(_inside(certificate, _SEQUENCE))
        if fields[0][0] == _VERSION:
            del fields[0]
        # serial number, signature, issuer, validity
        tag, moment = _values(fields[3][1])[1]
        form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
        return datetime.strptime(moment.decode("ascii"), form).replace(tzinfo=UTC)
    except (OSError, ValueError, IndexError):
        return None


def _inside(der: bytes, tag: int) -> bytes:
    found, value = _values(der)[0]
    if found != tag:
        raise ValueError(f"expected the tag {tag:#x}")
    return value


def _values(der: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of each value, one behind the other.

    :raises IndexError: when the bytes end too soon.
    """
    found = []
    at = 0
    while at < len(der):
        tag, size = der[at], der[at + 1]
        at += 2
        if size & 0x80:
            count = size & 0x7F
            size = int.from_bytes(der[at : at + count])
            at += count
        found.append((tag, der[at : at + size]))
        at += size
    return found
