"""The signed 204 of the reflector: a captive portal can invent a 204, but not its signature."""

import hashlib
import hmac
import re
from typing import Final

PATH: Final = "/generate_204"
"""Asked for as ``/generate_204?n=NONCE``, over plain HTTP."""

SIGNATURE_HEADER: Final = "X-Wanggan-Signature"

MAKE_KEY: Final = "(umask 077; openssl rand -hex 24 > {})"
"""A command that makes a key, for a person; it wants the file's name."""

NONCE: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")


def sign(key: bytes, nonce: str, host: str) -> str:
    """HMAC-SHA256 in hex over the nonce and the host that was asked, lower case and without port."""
    return hmac.new(key, f"{nonce}\n{host.lower()}".encode(), hashlib.sha256).hexdigest()


def is_signed(key: bytes, nonce: str, host: str, signature: str) -> bool:
    """Whether `signature` was made with `key`; compared in constant time."""
    return hmac.compare_digest(signature.encode(), sign(key, nonce, host).encode())
