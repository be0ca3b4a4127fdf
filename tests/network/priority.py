"""Measurements that a busy machine does not spoil."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def ahead() -> Iterator[None]:
    """This thread, and the programs that it starts, run before everybody else's, where that is permitted."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


@contextmanager
def favoured() -> Iterator[None]:
    """This thread, and the programs that it starts, get most of a busy machine, where that is permitted; unlike
    :func:`ahead` they leave the others some of it."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)
