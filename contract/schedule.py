"""The phase of a job: where its slots lie within its period. Who measures what decides, so all compute the same."""

import hashlib
from collections.abc import Iterable


def phase_s(agent: str, key: Iterable[str], period_s: float) -> float:
    """Wall time mod `period_s` of the job's slots: SHA-256 of agent and key, mod period, to the millisecond."""
    identity = "|".join((agent, *key)).encode()
    period_ms = round(period_s * 1000)
    return int.from_bytes(hashlib.sha256(identity).digest()[:8], "big") % period_ms / 1000
