"""Run a program that cannot outlive the process that started it.

``python -m wanggan.tether PARENT_PID PROGRAM ARGUMENT...`` asks the kernel to kill this process when its parent dies,
and becomes the program. The request survives exec but not fork: what the program itself starts is swept (see
:mod:`wanggan.sweep`).
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def tethered(argv: Sequence[str]) -> list[str]:
    """`argv` so that it dies with this process; start it from the main thread, which is what the kernel watches."""
    # -P: a folder named `agent` in the current directory must not be taken for ours.
    return [sys.executable, "-P", "-m", "wanggan.tether", str(os.getpid()), *argv]


def main(parent: int, argv: list[str]) -> None:
    """Become `argv`; does not return."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit("the parent died before this process could be tied to it")
    os.execvp(argv[0], argv)  # noqa: S606 (a program of ours, as an argument list)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
