"""How each probe's values are shown: which field comes first, in which unit, and its last hour as a line."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from collector.web.messages import TEXTS, Words
from contract.series import FieldValue

THIN: Final = "\u202f"
"""Narrow space that does not break, between a number and its unit."""


class Face(NamedTuple):
    """What of a probe is shown."""

    value: str
    """The field that stands first."""
    beside: tuple[str, ...] = ()
    drawn: str | None = None
    """The numeric field of the last hour's line, where it is not `value`."""
    worded: str | None = None
    """Family of texts that says the words of `value`."""


FACES: Final[dict[str, Face]] = {
    "latency": Face("rtt_p50_ms", ("loss_ratio",)),
    "throughput": Face("down_mbps", ("up_mbps",)),
    "dns": Face("rtt_ms", ("rcode",)),
    "web": Face("total_ms", ("ttfb_ms", "status")),
    "video": Face("start_s", ("stall_ratio",)),
    "path": Face("hop_count", ("pmtu_bytes",)),
    "wifi_link": Face("rssi_dbm", ("snr_db", "ssid")),
    "wifi_scan": Face("ap_count", ("co_channel_count",)),
    "wifi_join": Face("online_ms", ("dhcp_ms", "failed_stage")),
    "wifi_event": Face("kind", ("roam_ms", "reason_code"), drawn="roam_ms", worded="kind"),
    "portal": Face("state", ("detect_ms",), drawn="detect_ms", worded="portal"),
    "agent": Face("outbox_records", ("rss_bytes", "cpu_ratio")),
}

_BYTES: Final = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def number(value: float) -> str:
    """Three digits that count: 0.42, 12.3, 456, 12,345."""
    size = abs(value)
    places = 0 if size >= 99.95 or value == int(value) == 0 else 1 if size >= 9.995 else 2
    return f"{value:,.{places}f}"


def spoken(field: str, value: FieldValue) -> str:
    """`value` in the unit that the field's name states, as people write it. A dash for null: not measured, never 0."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    unit = re.search(r"_(ms|s|mbps|bytes|ratio|dbm|db)$", field)
    match unit and unit[1]:
        case "ms" if abs(value) >= 9999.5:
            return f"{number(value / 1000)}{THIN}s"
        case "ms" | "s" as name:
            return f"{number(value)}{THIN}{name}"
        case "mbps":
            return f"{number(value)}{THIN}Mbps"
        case "ratio":
            return f"{value * 100:.1f}{THIN}%"
        case "dbm":
            return f"{value:.0f}{THIN}dBm"
        case "db":
            return f"{value:.0f}{THIN}dB"
        case "bytes" if field != "pmtu_bytes":
            for name, size in _BYTES:
                if value >= size:
                    return f"{number(value / size)}{THIN}{name}"
            return f"{value:.0f}{THIN}B"
        case "bytes":
            return f"{value:.0f}"
    return f"{value:,}" if isinstance(value, int) else number(value)


class Part(NamedTuple):
    """One shown value: its field, the stored value, and its words."""

    field: str
    value: FieldValue
    text: str


def newest(probe: str, values: Mapping[str, FieldValue], words: Words) -> Part:
    """The value that stands first."""
    face = FACES[probe]
    value = values.get(face.value)
    if face.worded and isinstance(value, str):
        return Part(face.value, value, words.name(face.worded, value))
    return Part(face.value, value, _worded(face.value, value, words))


def beside(probe: str, values: Mapping[str, FieldValue], words: Words) -> list[Part]:
    """The values that stand below it; those not measured are left out."""
    fields = [(field, values.get(field)) for field in FACES[probe].beside]
    return [Part(field, value, _worded(field, value, words)) for field, value in fields if value is not None]


def _worded(field: str, value: FieldValue, words: Words) -> str:
    said = words.name("stage", value) if field == "failed_stage" and isinstance(value, str) else spoken(field, value)
    key = f"value.{field}"
    return words(key, value=said) if value is not None and key in TEXTS else said


def drawn_field(probe: str) -> str:
    """The field that the line of the last hour draws."""
    return FACES[probe].drawn or FACES[probe].value
