"""The default schedule, and the slots of a job: where an agent itself would put them."""

from typing import Final

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from contract import messages
from contract.record import NO_TARGET
from contract.schedule import phase_s
from contract.vocabulary import Role
from simulator.district import Box
from simulator.streams import Ints

JITTER_RATIO: Final = 0.05
LEAST_S: Final = 600


class Job(Struct, frozen=True):
    """One of an agent's jobs."""

    probe: str
    period_s: int
    target: str = NO_TARGET
    role: Role | None = None
    resolver: str | None = None
    provider: str | None = None
    mode: str | None = None

    def phase_ms(self, box: Box) -> int:
        key = [self.probe, self.target, box.interface, self.provider or "", self.resolver or ""]
        return round(1000 * phase_s(box.agent, [*key, self.mode] if self.mode else key, self.period_s))

    def announced(self, box: Box) -> messages.Job:
        return messages.Job(
            probe=self.probe,
            target=self.target,
            role=self.role,
            interface=box.interface,
            provider=self.provider,
            resolver=self.resolver,
            period_s=self.period_s,
        )


def jobs(box: Box, spare: float = 1) -> list[Job]:
    """The default schedule of the contract, as far as the venue has what it needs; light tests `spare` times rarer, but
    none rarer than every 10 minutes."""
    return [_spared(job, spare) for job in _default(box)]


def _spared(job: Job, spare: float) -> Job:
    period_s = max(job.period_s, min(round(job.period_s * spare), LEAST_S))
    return job if period_s == job.period_s else replace(job, period_s=period_s)


def _default(box: Box) -> list[Job]:
    found = [
        Job("latency", 60, "core", "core"),
        Job("latency", 60, "gateway", "gateway"),
        Job("latency", 60, "internet", "internet"),
        *(Job("dns", 300, target, role, resolver) for target, role in _NAMES for resolver in box.venue.resolvers),
        Job("web", 600, "news", "internet"),
        Job("web", 600, "search", "internet"),
        Job("video", 3600, "core", "core"),
        Job("path", 3600, "internet", "internet"),
        Job("agent", 60),
    ]
    if box.venue.network == "gov":
        return [*found, Job("throughput", 43_200, "core", "core", provider="reflector", mode="quick")]
    found += [
        Job("throughput", 3600, "core", "core", provider="reflector", mode="quick"),
        Job("throughput", 43_200, "core", "core", provider="reflector", mode="working"),
        Job("portal", 300),
        Job("wifi_link", 60),
        Job("wifi_scan", 1800),
    ]
    return [*found, Job("wifi_join", 3600)] if box.venue.joins else found


_NAMES: Final[tuple[tuple[str, Role], ...]] = (("gov-portal", "service"), ("news", "internet"))


def slots(box: Box, job: Job, start_ms: int, end_ms: int) -> tuple[Ints, Ints]:
    """Numbers since 1970 and times (ms) of the slots in [start, end)."""
    period_ms, phase_ms = job.period_s * 1000, job.phase_ms(box)
    first, last = -(-(start_ms - phase_ms) // period_ms), -(-(end_ms - phase_ms) // period_ms)
    numbers = np.arange(first, last, dtype=np.int64)
    return numbers, numbers * period_ms + phase_ms
