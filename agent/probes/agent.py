"""The agent's own health: what its parts know of themselves, and what the kernel knows of its process."""

import os
import time
from pathlib import Path
from typing import Final

from agent.probe import Context, Probe, Settings
from contract.values import Agent

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_THERMAL: Final = Path("/sys/class/thermal")


class AgentSettings(Settings, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """An agent job has no settings of its own."""


async def measure(settings: AgentSettings, context: Context) -> Agent:
    """Never fails: what cannot be read is null."""
    facts = context.facts
    dropped = (
        facts.outbox_dropped_context,
        facts.outbox_dropped_light,
        facts.outbox_dropped_heavy,
        facts.outbox_dropped_rare,
    )
    now_s, cpu_s = context.clock.boot(), time.process_time()
    last, facts.cpu_read = facts.cpu_read, (now_s, cpu_s)
    return Agent(
        uptime_s=_uptime_s(),
        rss_bytes=_rss_bytes(),
        cpu_ratio=(cpu_s - last[1]) / (now_s - last[0]) if last and now_s > last[0] else None,
        loop_lag_p95_ms=facts.loop_lag_p95_ms,
        outbox_records=facts.outbox_records,
        outbox_oldest_s=facts.outbox_oldest_s,
        outbox_dropped=sum(dropped),
        outbox_dropped_context=dropped[0],
        outbox_dropped_light=dropped[1],
        outbox_dropped_heavy=dropped[2],
        outbox_dropped_rare=dropped[3],
        outbox_quarantined=facts.outbox_quarantined,
        disk_free_bytes=facts.disk_free_bytes,
        clock_offset_ms=facts.clock_offset_ms,
        restarts=facts.restarts,
        last_exit=facts.last_exit,
        config_version=facts.config_version,
        temperature_c=_temperature_c(_THERMAL),
        reconnects=facts.reconnects,
        degraded=facts.degraded,
        cert_days_left=_days_left(facts.cert_expires_s, context.clock.wall()),
    )


def _days_left(expires_s: float | None, now_s: float) -> float | None:
    """Below 0 once it has expired."""
    return None if expires_s is None else (expires_s - now_s) / 86_400


def _rss_bytes() -> int | None:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return None


def _uptime_s() -> float | None:
    """Age of this process."""
    try:
        # The name in brackets may hold spaces; starttime is the 20th field behind it.
        started_ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return None
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / _TICKS_PER_S)


def _temperature_c(zones: Path) -> float | None:
    """The hottest thermal zone; None where the machine has none."""
    found = []
    for zone in zones.glob("thermal_zone*/temp"):
        try:
            found.append(int(zone.read_text()) / 1000)
        except (OSError, ValueError):
            continue
    return max(found, default=None)


PROBE: Final = Probe(settings=AgentSettings, measure=measure, timeout_s=5.0)
