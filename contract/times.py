"""Times and zones as people write them, on a command line or in a file."""

import argparse
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def when(text: str) -> datetime:
    """The type of an argument that is an instant.

    :raises ArgumentTypeError: for what is no time, or has no offset; says what to write.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write like 2026-11-16T00:00:00+08:00") from None
    if at.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no offset; add +08:00, or Z")
    return at


def known_zone(name: str) -> str:
    """`name`, when it is a time zone's.

    :raises ValueError: when it is none; says what to write.
    """
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"no such time zone: {name!r}; write one like 'Asia/Shanghai'") from None
    return name
