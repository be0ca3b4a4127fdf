"""A site's Wi-Fi in one look: the link, the last join stage by stage, what the portal check found."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct

from contract.series import FieldValue

STAGES: Final = ("scan", "auth", "assoc", "eap", "handshake", "dhcp", "first_dns", "first_byte")
"""In the order in which a visitor meets them; a field `<stage>_ms` of `wifi_join` each."""
BAR: Final = 1000
"""Length of the whole bar."""
MARKS_DBM: Final = (-80.0, -72.0, -65.0, -55.0)
"""Signal from which one more of the four marks is lit; from -65 dBm on a link is good."""


class Stage(Struct, kw_only=True):
    """A stage of a join that took place, and its piece of the bar."""

    name: str
    ms: float
    begin: float
    """Where its piece begins, of :data:`BAR`."""
    length: float


class JoinView(Struct, kw_only=True):
    """The newest join, led or watched."""

    at: datetime
    stages: list[Stage]
    total_ms: float
    """Until the first byte, where it came so far; else the sum of the stages."""
    failed_stage: str | None
    """Where it ended; null when it succeeded."""


class WifiView(Struct, kw_only=True):
    """Every part is null when no record tells of it."""

    ssid: str | None
    rssi_dbm: float | None
    marks: int | None
    """0 to 4, of the signal."""
    channel: int | None
    band: str | None
    width_mhz: int | None
    busy_ratio: float | None
    link_reason: str | None
    """Why there is no link."""
    join: JoinView | None
    portal: str | None
    portal_host: str | None


class Told(Struct):
    """The newest record of one of the probes that tell of a radio."""

    probe: str
    at: datetime
    outcome: str | None
    reason: str | None
    values: Mapping[str, FieldValue]


def view(told: Iterable[Told]) -> WifiView | None:
    """What the newest records say together; None when none of them is of a radio."""
    newest: dict[str, Told] = {}
    for record in told:
        known = newest.get(record.probe)
        if known is None or record.at > known.at:
            newest[record.probe] = record
    link, joined, portal = (newest.get(probe) for probe in ("wifi_link", "wifi_join", "portal"))
    if link is None and joined is None:
        return None
    of_link = link.values if link is not None and link.outcome == "ok" else {}
    of_portal = portal.values if portal is not None else {}
    rssi_dbm = _number(of_link.get("rssi_dbm"))
    return WifiView(
        ssid=_text(of_link.get("ssid")),
        rssi_dbm=rssi_dbm,
        marks=None if rssi_dbm is None else sum(rssi_dbm >= mark for mark in MARKS_DBM),
        channel=_count(of_link.get("channel")),
        band=_text(of_link.get("band")),
        width_mhz=_count(of_link.get("width_mhz")),
        busy_ratio=_number(of_link.get("busy_ratio")),
        link_reason=link.reason if link is not None and link.outcome != "ok" else None,
        join=_join(joined) if joined is not None and joined.outcome in ("ok", "failed") else None,
        portal=_text(of_portal.get("state")),
        portal_host=_text(of_portal.get("portal_host")),
    )


def _join(record: Told) -> JoinView:
    took = {name: _number(record.values.get(f"{name}_ms")) for name in STAGES}
    known = {name: ms for name, ms in took.items() if ms is not None}
    sum_ms = sum(known.values())
    online_ms = _number(record.values.get("online_ms"))
    total_ms = sum_ms if online_ms is None else max(online_ms, sum_ms)
    stages = []
    begin = 0.0
    for name, ms in known.items():
        length = BAR * ms / total_ms if total_ms else 0.0
        stages.append(Stage(name=name, ms=ms, begin=round(begin, 1), length=round(length, 1)))
        begin += length
    return JoinView(
        at=record.at, stages=stages, total_ms=total_ms, failed_stage=_text(record.values.get("failed_stage"))
    )


def _text(value: FieldValue) -> str | None:
    return None if value is None else str(value)


def _number(value: FieldValue) -> float | None:
    return float(value) if isinstance(value, float | int) else None


def _count(value: FieldValue) -> int | None:
    return int(value) if isinstance(value, float | int) else None
