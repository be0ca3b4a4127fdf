"""The fault script: what goes wrong, where, when and how badly. It speaks of causes; symptoms follow.

A strength of 0 is where a fault begins to matter, 1 is beyond doubt. What a strength means physically stands here.
"""

import difflib
import re
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from simulator.district import District
from simulator.streams import Stream


class Kind(Struct, frozen=True):
    """A kind of fault: the segment that is to blame, and its quantities at strength 0 and 1."""

    segment: str
    effect: dict[str, tuple[float, float]] = {}
    wifi_only: bool = False


KINDS: Final[dict[str, Kind]] = {
    "weak_signal": Kind("radio", {"path_loss_db": (8, 45)}, wifi_only=True),
    "interference": Kind("radio", {"noise_rise_db": (4, 35), "air_ratio": (0.05, 0.45)}, wifi_only=True),
    "congestion": Kind("radio", {"air_ratio": (0.3, 0.9)}, wifi_only=True),
    "assoc_failure": Kind("join", {"assoc_fail_ratio": (0.2, 0.98)}, wifi_only=True),
    "eap_failure": Kind("join", {"eap_fail_ratio": (0.2, 0.98)}, wifi_only=True),
    "dhcp_exhaustion": Kind("dhcp", {"dhcp_fail_ratio": (0.2, 0.98)}, wifi_only=True),
    "portal_stuck": Kind("portal", {"caught_ratio": (0.2, 1.0), "portal_ms": (2000, 15000)}, wifi_only=True),
    "dns_slow": Kind("dns", {"dns_ms": (120, 2600)}),
    "dns_hijack": Kind("dns", {"hijack_ratio": (0.15, 1.0)}),
    "lan_fault": Kind("lan", {"lan_loss_ratio": (0.01, 0.4), "lan_ms": (8, 200)}),
    "uplink_saturated": Kind("uplink", {"rho": (0.9, 1.6)}),
    "bufferbloat": Kind("uplink", {"buffer_ms": (120, 1500), "rho": (0.85, 1.0)}),
    "uplink_outage": Kind("uplink", {"uplink_loss_ratio": (0.05, 1.0)}),
    "upstream_outage": Kind("internet", {"exit_loss_ratio": (0.05, 1.0)}),
    "target_down": Kind("target", {"fail_ratio": (0.25, 1.0)}),
    "cpu_starved": Kind("agent", {"invalid_ratio": (0.05, 0.9), "cpu_ratio": (0.8, 1.0)}),
    "agent_offline": Kind("agent"),
    "clock_wrong": Kind("agent", {"offset_s": (3, 40000)}),
    "power_cut": Kind("agent"),
}
TARGETS: Final = ("core", "internet", "news", "search")
SEGMENTS: Final = ("radio", "join", "dhcp", "portal", "dns", "lan", "uplink", "internet", "target", "agent")
"""From the user outwards."""

_KEYS: Final = ("kind", "venue", "start", "length", "strength", "target")
_LENGTH: Final = re.compile(r"(?:(\d{1,5})d)?(?:(\d{1,5})h)?(?:(\d{1,7})m)?")


class ScriptError(ValueError):
    """A fault script that cannot be used; a line for each mistake, with the field and the fix."""


class Fault(Struct, frozen=True):
    """One thing that goes wrong at one venue, over whole minutes."""

    kind: str
    venue: str
    start_minute: int
    end_minute: int
    strength: float
    target: str = "news"
    """Of `target_down`."""

    @property
    def segment(self) -> str:
        return KINDS[self.kind].segment

    @property
    def effect(self) -> dict[str, float]:
        """Its quantities at its strength."""
        found = KINDS[self.kind].effect
        return {name: round(low + (high - low) * self.strength, 4) for name, (low, high) in found.items()}


def load(path: Path, district: District, start: datetime) -> list[Fault]:
    """:raises ScriptError: for anything that is wrong with the file."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ScriptError(f"{path}: cannot be read: {error}") from error
    return parse(text, district, start, str(path))


def parse(text: str, district: District, start: datetime, name: str = "faults") -> list[Fault]:
    """:raises ScriptError: one line for each mistake."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScriptError(f"{name}: not TOML: {error}") from error
    mistakes = [f"{key}: unknown key; faults stand in [[faults]] tables" for key in table if key != "faults"]
    rows = table.get("faults", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ScriptError(f"{name}: faults: expected [[faults]] tables")
    faults: list[Fault] = []
    for place, row in enumerate(rows):
        try:
            faults += _faults(row, place, district, start)
        except ScriptError as error:
            mistakes += [f"faults[{place}].{line}" for line in str(error).splitlines()]
    if mistakes:
        raise ScriptError("\n".join(f"{name}: {mistake}" for mistake in mistakes))
    return faults


def _faults(row: dict[str, Any], place: int, district: District, start: datetime) -> list[Fault]:
    mistakes = []
    for key in row:
        if key not in _KEYS:
            close = difflib.get_close_matches(key, _KEYS, n=1)
            mistakes.append(f"{key}: unknown key; " + (f"did you mean {close[0]}?" if close else "remove it"))
    mistakes += [f"{key}: missing; add {key} = ..." for key in ("kind", "venue", "start", "length") if key not in row]
    if mistakes:
        raise ScriptError("\n".join(mistakes))
    kind = row["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise ScriptError(f"kind: no such fault {kind!r}; one of {', '.join(KINDS)}")
    if "target" in row and kind != "target_down":
        raise ScriptError("target: only target_down has one; remove it")
    if row.get("target", "news") not in TARGETS:
        raise ScriptError(f"target: no such target {row['target']!r}; one of {', '.join(TARGETS)}")
    begin = _minute(row["start"], start)
    minutes = _minutes(row["length"], "length")
    if not minutes:
        raise ScriptError("length: nothing; write like '90m', at least '1m'")
    low, high = _strength(row.get("strength", [0.0, 1.0]))
    found = []
    for venue in _venues(row["venue"], kind, district):
        strength = Stream(district.seed, "fault", str(place), venue).between(low, high)
        found.append(Fault(kind, venue, begin, begin + minutes, strength, row.get("target", "news")))
    return found


def _venues(named: Any, kind: str, district: District) -> list[str]:
    wifi = {venue.slug: venue.network == "wifi" for venue in district.venues}
    only_wifi = KINDS[kind].wifi_only
    if named == "*":
        return [slug for slug, has in wifi.items() if has or not only_wifi]
    names = named if isinstance(named, list) else [named]
    if not names:
        raise ScriptError("venue: an empty list; name a venue, or write venue = '*' for all")
    for slug in names:
        if not isinstance(slug, str) or slug not in wifi:
            close = difflib.get_close_matches(str(slug), wifi, n=1)
            fix = f"did you mean {close[0]}?" if close else "the site register names them; venue = '*' means all"
            raise ScriptError(f"venue: no such venue {slug!r}; {fix}")
        if only_wifi and not wifi[slug]:
            raise ScriptError(f"venue: {slug} is a government node without Wi-Fi; {kind} needs a Wi-Fi venue")
    return list(names)


def _minute(value: Any, start: datetime) -> int:
    if isinstance(value, str) and value.startswith("+"):
        at = start + timedelta(minutes=_minutes(value[1:], "start"))
    elif isinstance(value, datetime):
        if value.tzinfo is None:
            raise ScriptError("start: a time without an offset; write like 2026-11-20T09:00:00+08:00, or '+26h'")
        at = value
    else:
        raise ScriptError(
            f"start: {str(value)!r} is no time; write like 2026-11-20T09:00:00+08:00, or '+26h' after --from"
        )
    seconds = at.astimezone(UTC).timestamp()
    if seconds % 60:
        raise ScriptError("start: faults begin on whole minutes; leave the seconds at 00")
    return int(seconds // 60)


def _minutes(value: Any, field: str) -> int:
    match = _LENGTH.fullmatch(value) if isinstance(value, str) and value else None
    if match is None:
        raise ScriptError(f"{field}: {value!r} is no length; write like '90m', '6h' or '1d12h'")
    days, hours, minutes = (int(part or 0) for part in match.groups())
    return days * 1440 + hours * 60 + minutes


def _strength(value: Any) -> tuple[float, float]:
    ends = value if isinstance(value, list) else [value, value]
    numbers = [end for end in ends if isinstance(end, int | float) and not isinstance(end, bool) and 0 <= end <= 1]
    if len(ends) != 2 or len(numbers) != 2 or ends[0] > ends[1]:
        raise ScriptError(f"strength: {value!r}; write a number from 0 to 1, or two of them like [0.2, 0.8]")
    return float(ends[0]), float(ends[1])
