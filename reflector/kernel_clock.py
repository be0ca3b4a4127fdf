"""What the kernel knows of its clock (adjtimex(2))."""

import ctypes
from typing import Final

from contract.stamp import ErrorEstimate

_STA_UNSYNC: Final = 0x40
_ROOM_BYTES: Final = 512
"""More than struct timex takes anywhere."""


class _Timex(ctypes.Structure):
    """The head of struct timex (linux/timex.h); nothing is set while `modes` is 0."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror_us", ctypes.c_long),
        ("esterror_us", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * _ROOM_BYTES),
    ]


def error_estimate() -> ErrorEstimate | None:
    """How far the system's clock can be trusted; None where the kernel does not say."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None
    found = _Timex()
    if adjtimex(ctypes.byref(found)) < 0:
        return None
    return ErrorEstimate(seconds=found.maxerror_us / 1e6, synchronised=not found.status & _STA_UNSYNC)
