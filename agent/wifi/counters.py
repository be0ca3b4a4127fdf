"""What happened between two looks at a radio: counters mean something only as differences within one association."""

from typing import Final, NamedTuple

from agent.wifi.station import Station
from agent.wifi.survey import Survey

_TOLERANCE_S: Final = 2.0
"""Of a time of association that was computed from whole seconds."""


class Sample(NamedTuple):
    """Counters as they were read at one moment."""

    boot_s: float
    bssid: str | None
    frequency_mhz: int | None
    station: Station
    survey: Survey


class Change(NamedTuple):
    """From one sample to the next; None where a driver does not count, or counted backwards."""

    tx_retry_ratio: float | None = None
    """Share of retries in all transmissions."""
    tx_failed_ratio: float | None = None
    """Share of frames that were given up."""
    beacon_loss: int | None = None
    busy_ratio: float | None = None
    """Share of the air time in which the channel was in use, by whomever."""


def change(before: Sample | None, now: Sample) -> Change:
    """Nothing when `before` belongs to another association, or when that cannot be told."""
    if before is None or not _same_association(before, now):
        return Change()
    old, new = before.station, now.station
    packets = _difference(old.tx_packets, new.tx_packets)
    retries = _difference(old.tx_retries, new.tx_retries)
    failed = _difference(old.tx_failed, new.tx_failed)
    return Change(
        tx_retry_ratio=retries / (packets + retries) if packets and retries is not None else None,
        tx_failed_ratio=min(1.0, failed / packets) if packets and failed is not None else None,
        beacon_loss=_difference(old.beacon_loss, new.beacon_loss),
        busy_ratio=_busy_ratio(before, now),
    )


def _busy_ratio(before: Sample, now: Sample) -> float | None:
    """No air is silent where an access point sends its beacons: a busy time that stands still is not counted."""
    if before.frequency_mhz != now.frequency_mhz:
        return None
    active = _difference(before.survey.active_ms, now.survey.active_ms)
    busy = _difference(before.survey.busy_ms, now.survey.busy_ms)
    return busy / active if active and busy and busy <= active else None


def _same_association(before: Sample, now: Sample) -> bool:
    if before.bssid is None or before.bssid != now.bssid:
        return False
    old, new = before.station, now.station
    if old.associated_at_s is not None and new.associated_at_s is not None:
        return old.associated_at_s == new.associated_at_s
    if old.connected_s is None or new.connected_s is None:
        return False
    began_s = now.boot_s - new.connected_s
    return abs(before.boot_s - old.connected_s - began_s) <= _TOLERANCE_S


def _difference(before: int | None, now: int | None) -> int | None:
    """How far a counter went; None when it was started anew or wrapped."""
    return now - before if before is not None and now is not None and now >= before else None
