"""RPM, responsiveness under working conditions: round trips a minute (draft-ietf-ippm-responsiveness-09).

The bands are our own choice (自定), and so is the integer arithmetic of the trimmed mean.
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

MINUTE_MS: Final = 60_000
CONVERGED_INTERVALS: Final = 4
CONVERGED_RATIO: Final = 0.05


class Rpm(NamedTuple):
    """Round trips a minute of one direction."""

    rpm: float | None
    foreign_rpm: float | None
    """Of new connections; None when none was made."""
    loaded_rpm: float | None
    """Of requests on the loaded connections."""
    trimmed_ms: dict[str, float | None]
    """The trimmed means that it is made of."""


def trimmed_mean(samples: Sequence[float]) -> float | None:
    """The mean of the lowest 95 %, rounded up to whole samples; None of nothing."""
    kept = sorted(samples)[: (95 * len(samples) + 99) // 100]
    return sum(kept) / len(kept) if kept else None


def rpm(
    *,
    tcp_ms: Sequence[float] = (),
    tls_ms: Sequence[float] = (),
    http_ms: Sequence[float] = (),
    loaded_http_ms: Sequence[float],
) -> Rpm:
    """From times of the foreign probes (TCP handshake, TLS per round trip, first byte) and of the loaded ones.

    Without TLS the foreign part is the mean of two, never of three with a zero; without foreign probes the loaded part
    is all there is.

    :raises ValueError: when only one of `tcp_ms` and `http_ms` was measured: half a connection is no round trip.
    """
    tcp, tls, http, loaded = (trimmed_mean(samples) for samples in (tcp_ms, tls_ms, http_ms, loaded_http_ms))
    if (tcp is None) != (http is None) or (tls is not None and tcp is None):
        raise ValueError("tcp_ms and http_ms belong together, tls_ms needs both; give both, or none of the three")
    steps = [step for step in (tcp, tls, http) if step is not None]
    foreign_rpm = _per_minute(sum(steps) / len(steps)) if steps else None
    loaded_rpm = None if loaded is None else _per_minute(loaded)
    trimmed = {"tcp_ms": tcp, "tls_ms": tls, "http_ms": http, "loaded_http_ms": loaded}
    if loaded_rpm is None:
        return Rpm(None, foreign_rpm, None, trimmed)
    return Rpm(loaded_rpm if foreign_rpm is None else (foreign_rpm + loaded_rpm) / 2, foreign_rpm, loaded_rpm, trimmed)


def _per_minute(time_ms: float) -> float:
    if time_ms <= 0:
        raise ValueError("a round trip takes more than 0 ms")
    return MINUTE_MS / time_ms


def confidence(averages: Sequence[float]) -> Literal["low", "medium", "high"]:
    """How far the test had settled, from the moving average after each interval of 5 s."""
    if len(averages) < CONVERGED_INTERVALS:
        return "low"
    last = averages[-CONVERGED_INTERVALS:]
    return "high" if max(last) - min(last) <= CONVERGED_RATIO * sum(last) / len(last) else "medium"


def band(value: float | None) -> Literal["差", "中", "良", "优"] | None:
    """In words."""
    if value is None:
        return None
    return "差" if value < 200 else "中" if value < 600 else "良" if value < 1500 else "优"
