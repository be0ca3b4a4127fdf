"""Records that can be computed again: everything in one follows from its agent, its number and the run's start."""

import random
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec

from contract.fields import Time
from contract.record import RECORDS, Record
from contract.series import FieldValue
from contract.values import VALUES

KINDS = ("latency", "dns", "latency", "web", "wifi_link", "latency", "throughput", "dns", "portal", "latency")
"""Probe of record n: KINDS[n % 10]."""

HOSTILE = 'hall 图书馆 "二楼", a=b \\,'


class Source(NamedTuple):
    """One agent's endless list of records."""

    agent: str
    start: Time
    """Slot of record 0."""
    period_ms: int
    """Distance of two slots."""
    odd: Mapping[int, str] = {}
    """Probe of the records that a scenario makes special: `video`, or `path` with more hops than any real one."""

    def record(self, number: int) -> Record:
        """Record `number`, the same one every time. Its `detail` carries agent and number."""
        chance = random.Random(f"{self.agent}/{number}")
        probe = self.odd.get(number) or KINDS[number % len(KINDS)]
        slot = self.start + timedelta(milliseconds=number * self.period_ms)
        outcome, reason = ("ok", None)
        if number % 17 == 3:
            outcome, reason = ("failed", "timeout")
        elif number % 29 == 7:
            outcome, reason = ("invalid", "cpu_limited")
        elif number % 41 == 11:
            outcome, reason = ("skipped", "no_slot")
        return RECORDS[probe](
            target=("core", "gateway", "internet")[number % 3] if probe == "latency" else "gov-portal",
            interface="wlan0",
            provider="reflector" if probe == "throughput" else None,
            resolver=f"isp-{'ab'[number % 2]}" if probe == "dns" else None,
            slot=slot,
            started_at=slot + timedelta(milliseconds=chance.randrange(500)),
            duration_s=round(chance.uniform(0.1, 9.9), 3),
            outcome=outcome,  # type: ignore[arg-type]
            reason=reason,  # type: ignore[arg-type]
            detail=f"{self.agent}#{number} {HOSTILE if number % 3 == 0 else 'plain'} {chance.randrange(10**9)}",
            values=None if outcome == "skipped" else _values(probe, chance),
        )


def identity(detail: object) -> tuple[str, int] | None:
    """Agent and number of a stored record by its `detail`; None when it is not one of ours."""
    agent, hash_sign, number = str(detail).partition(" ")[0].partition("#")
    return (agent, int(number)) if hash_sign and number.isdecimal() else None


def stored_fields(record: Record) -> dict[str, FieldValue]:
    """What the store must hold of `record`, nulls left out. Written from the contract, not from the collector."""
    values = msgspec.to_builtins(record.values) if record.values is not None else {}
    fields = {name: int(value) if isinstance(value, bool) else value for name, value in values.items()}
    fields |= {
        "ok": int(record.outcome == "ok"),
        "attempted": int(record.outcome in ("ok", "failed")),
        "outcome": record.outcome,
        "reason": record.reason,
        "detail": record.detail,
        "flags": ",".join(record.flags),
        "clock": record.clock,
        "duration_s": record.duration_s,
    }
    return {name: value for name, value in fields.items() if value not in (None, "")}


def time_ns(time: Time) -> int:
    """Nanoseconds since 1970 UTC, exact to the microsecond that a datetime holds."""
    return round(time.timestamp() * 1_000_000) * 1_000


def _values(probe: str, chance: random.Random) -> Any:
    ms = [round(chance.uniform(0.2, 400.0), 3) for _ in range(4)]
    count = chance.randrange(1, 10_000)
    values: dict[str, dict[str, Any]] = {
        "latency": {"method": "icmp", "sent": 60, "received": count % 61, "rtt_p50_ms": ms[0], "rtt_p95_ms": ms[1]},
        "dns": {"name": "www.shanghai.gov.cn", "rcode": "NOERROR", "rtt_ms": ms[0], "answers": count % 9},
        "web": {"status": 200, "dns_ms": ms[0], "ttfb_ms": ms[1], "total_ms": float(round(ms[2])), "bytes": count},
        "wifi_link": {"ssid": "i-Shanghai, 2=楼", "channel": 6, "rssi_dbm": -ms[0], "stations": count},
        "throughput": {"mode": "quick", "down_mbps": ms[0], "up_mbps": ms[1], "down_bytes": count * 10**6},
        "video": {"start_s": ms[0], "stall_count": count % 5, "played_s": 30.0},
        "path": {"hops": [{"address": "hop." + "x" * 200, "rtt_ms": ms[0]} for _ in range(100)], "hop_count": 100},
        "portal": {"state": "open", "detect_ms": ms[0], "http_status": 204},
    }
    return msgspec.convert(values[probe], VALUES[probe])
