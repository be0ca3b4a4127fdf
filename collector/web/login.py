"""One user and one password, by HTTP Basic (RFC 7617): no session, no cookie, nothing to forge.

Put TLS in front where the port is not on loopback; Basic sends the password with every request.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import stat
from typing import Final

from collector.web.seams import Login

REFUSAL_S: Final = 0.5
"""Wrong passwords are answered one after another, one in this time, whoever sends them: about two guesses a second."""
GUESSERS: Final = 20
"""Wrong answers that may wait; more are answered 429 at once."""


class LoginError(ValueError):
    """The login as configured cannot be used; the text names the fix."""


class Guard:
    """Knows the one right Authorization header."""

    def __init__(self, login: Login) -> None:
        """:raises LoginError: when the password file is missing, empty or open to others, or the user has a colon."""
        if not login.user or ":" in login.user:
            raise LoginError(f"web.login.user: {login.user!r} must not be empty or contain a colon")
        self._right = _digest(f"{login.user}:{_read_password(login)}".encode())
        self._refusing = asyncio.Lock()
        self._guessers = 0

    def admits(self, authorization: str | None) -> bool:
        """Whether the header is the right one; takes the same time for every wrong one."""
        scheme, _, credentials = (authorization or "").partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            given = base64.b64decode(credentials.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(_digest(given), self._right)

    async def refuse(self) -> bool:
        """Wait for the turn of a wrong password; False when too many wait."""
        if self._guessers >= GUESSERS:
            return False
        self._guessers += 1
        try:
            async with self._refusing:
                await asyncio.sleep(REFUSAL_S)
        finally:
            self._guessers -= 1
        return True


def _digest(text: bytes) -> bytes:
    """Equal length for the comparison in constant time."""
    return hashlib.sha256(text).digest()


def _read_password(login: Login) -> str:
    path = login.password_file
    try:
        mode = path.stat().st_mode
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LoginError(f"web.login.password_file: {path}: {getattr(error, 'strerror', None) or error}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise LoginError(f"web.login.password_file: {path} is open to others; run: chmod 600 {path}")
    if not lines or not lines[0]:
        raise LoginError(f"web.login.password_file: {path}: its first line must be the password")
    return lines[0]
