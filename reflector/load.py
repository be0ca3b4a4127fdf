"""What this process costs, and whether it is itself what limits its tests."""

import asyncio
import math
import os
import time
from collections import deque
from pathlib import Path
from typing import Final

_EVERY_S: Final = 0.25
_SAMPLES: Final = 240
"""One minute."""
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Load:
    """Looks at the event loop inside :meth:`run`."""

    def __init__(self) -> None:
        self.started_s = time.monotonic()
        self._late_s: deque[float] = deque(maxlen=_SAMPLES)

    async def run(self) -> None:
        """Note how late a sleeper wakes, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + _EVERY_S
            await asyncio.sleep(_EVERY_S)
            self._late_s.append(max(0.0, loop.time() - due_s))

    @property
    def loop_lag_p95_s(self) -> float | None:
        """Of the last minute; None before the first sample."""
        if not self._late_s:
            return None
        return sorted(self._late_s)[math.ceil(0.95 * len(self._late_s)) - 1]

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self.started_s

    @property
    def cpu_s(self) -> float:
        """CPU time of the process, all threads."""
        return time.process_time()

    @property
    def rss_bytes(self) -> int:
        """Resident memory of the process."""
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
