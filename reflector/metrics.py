"""The reflector's figures in Prometheus text (exposition format 0.0.4). No label grows with its users."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Final

from reflector.status import Status

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_LABELS: Final = {"tests_admitted": "protocol", "payload_bytes": "direction"}
"""What the second part of a count says, where it is not a `reason`."""
_HELP: Final = {
    "connections": "TCP connections accepted.",
    "connections_refused": "TCP connections closed unheard.",
    "http_requests": "HTTP requests by path.",
    "http_refused": "HTTP requests that were refused.",
    "payload_bytes": "Payload of ended tests, seen from the client.",
    "tests_admitted": "Tests that got a slot.",
    "tests_refused": "Tests that got none.",
}

Sample = tuple[Mapping[str, str], float]


def exposition(status: Status) -> str:
    """Every metric, as one text."""
    gauges: list[tuple[str, str, float | None]] = [
        ("draining", "1 while running tests end and new ones are refused.", int(status.draining)),
        ("slots", "Tests that may run at once.", status.slots),
        ("slots_in_use", "Tests that run.", status.slots_in_use),
        ("public_slots", "Tests without a token that may run at once.", status.public_slots),
        ("public_slots_in_use", "Tests without a token that run.", status.public_slots_in_use),
        ("connections_open", "TCP connections open.", status.connections),
        ("loop_lag_p95_seconds", "How late the event loop woke in the last minute.", status.loop_lag_p95_s),
        ("resident_memory_bytes", "Resident memory.", status.rss_bytes),
        ("uptime_seconds", "Since the start.", status.uptime_s),
    ]
    families = [_family("build_info", "gauge", "Version of the reflector.", [({"version": status.version}, 1)])]
    families += [_family(name, "gauge", help_, [({}, value)]) for name, help_, value in gauges if value is not None]
    families.append(_family("cpu_seconds_total", "counter", "CPU time.", [({}, status.cpu_s)]))
    for name, rows in groupby(status.counts, key=lambda row: row[0]):
        label = _LABELS.get(name, "reason")
        samples = [({label: reason} if reason else {}, value) for _, reason, value in rows]
        families.append(_family(f"{name}_total", "counter", _HELP.get(name, "Counted since the start."), samples))
    return "".join(families)


def _family(name: str, kind: str, help_: str, samples: Iterable[Sample]) -> str:
    name = f"wanggan_reflector_{name}"
    lines = [f"# HELP {name} {help_}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        lines.append(f"{name}{{{inside}}} {value}" if inside else f"{name} {value}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
