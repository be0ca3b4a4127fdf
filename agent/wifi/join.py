"""What the supplicant's events say about joining, roaming and leaving: lines in, happenings out; no I/O.

Whatever a line holds, nothing is raised. Lines and their order: wpa_supplicant 2.10 (`wpa_msg` in its `events.c`,
`sme.c`, `wpa_supplicant.c`); names of networks, which strangers choose, stand behind what is read here.
"""

import re
from typing import Final, Literal

from msgspec import Struct

from agent.wifi import names
from contract.values import WifiEvent, WifiJoin
from contract.vocabulary import Reason

Stage = Literal["scan", "auth", "assoc", "eap", "handshake", "dhcp", "dns", "portal", "internet"]

REASONS: Final[dict[Stage, Reason]] = {
    "scan": "not_associated",
    "auth": "auth_failed",
    "assoc": "not_associated",
    "eap": "auth_failed",
    "handshake": "auth_failed",
    "dhcp": "dhcp_failed",
    "dns": "dns_failed",
    "portal": "portal",
    "internet": "timeout",
}
"""Of a join that failed at a stage, where nothing better is known."""

LEAVING: Final = frozenset({3, 8})
"""IEEE 802.11 reason codes of a station that leaves by its own will."""

_ADDRESS: Final = r"([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5})"
_NOBODY: Final = "00:00:00:00:00:00"

_AUTHENTICATING: Final = re.compile(rf"SME: Trying to authenticate with {_ADDRESS}")
_ASSOCIATING: Final = re.compile(rf"Trying to associate with (?:{_ADDRESS}|SSID )")
"""A driver that chooses the access point itself gives no address."""
_ASSOCIATED: Final = re.compile(rf"Associated with {_ADDRESS}")
_CONNECTED: Final = re.compile(rf"CTRL-EVENT-CONNECTED - Connection to {_ADDRESS} completed")
_DISCONNECTED: Final = re.compile(
    rf"CTRL-EVENT-DISCONNECTED bssid={_ADDRESS} reason=(\d{{1,5}})\b( locally_generated=1)?"
)
_AUTH_REJECT: Final = re.compile(rf"CTRL-EVENT-AUTH-REJECT {_ADDRESS} .*?\bstatus_code=(\d{{1,5}})\b")
_ASSOC_REJECT: Final = re.compile(rf"CTRL-EVENT-ASSOC-REJECT (?:bssid={_ADDRESS} )?.*?\bstatus_code=(\d{{1,5}})\b")
_DISABLED: Final = re.compile(r"CTRL-EVENT-SSID-TEMP-DISABLED .*\breason=(\w+)$")


class Joined(Struct, frozen=True):
    """An attempt to join that has ended."""

    values: WifiJoin
    """Stages up to the key handshake."""
    begun_s: float | None
    """Boot seconds of its request, or of the disconnect before it; None when that was before we listened."""
    ended_s: float
    detail: str | None = None
    """Why it failed."""


class Moved(Struct, frozen=True):
    """A roam or a disconnect."""

    values: WifiEvent
    at_s: float


class _Attempt(Struct):
    """Boot seconds of the marks of one attempt; None is not seen."""

    bssid: str | None = None
    auth_s: float | None = None
    assoc_s: float | None = None
    associated_s: float | None = None
    eap_s: float | None = None
    eap_end_s: float | None = None
    keyed_s: float | None = None
    failed: Stage | None = None
    reason_code: int | None = None
    status_code: int | None = None
    detail: str | None = None

    @property
    def stage(self) -> Stage:
        """Where it stands."""
        if self.failed is not None:
            return self.failed
        if self.associated_s is not None:
            return "eap" if self.eap_s is not None and self.eap_end_s is None else "handshake"
        if self.assoc_s is not None:
            return "assoc"
        return "auth" if self.auth_s is not None else "scan"

    def values(self, begun_s: float | None) -> WifiJoin:
        found_s = self.auth_s if self.auth_s is not None else self.assoc_s
        eap = self.eap_s is not None
        return WifiJoin(
            scan_ms=_ms(begun_s, found_s),
            auth_ms=_ms(self.auth_s, self.assoc_s),
            assoc_ms=_ms(self.assoc_s, self.associated_s),
            eap_ms=_ms(self.eap_s, self.eap_end_s),
            handshake_ms=_ms(self.eap_end_s if eap else self.associated_s, self.keyed_s),
            reason_code=self.reason_code,
            status_code=self.status_code,
            bssid=self.bssid,
        )


class Association:
    """Follows one interface's events. A roam is a connection to another access point without a disconnect."""

    def __init__(self) -> None:
        self.bssid: str | None = None
        """Whom it is connected to."""
        self._begun_s: float | None = None
        self._attempt = _Attempt()

    def sync(self, bssid: str | None) -> None:
        """Begin, or begin again after silence, from what the supplicant says now; what was missed stays unknown."""
        self.bssid = names.bssid(bssid) if bssid else None
        self._begun_s = None
        self._attempt = _Attempt()

    def ask(self, at_s: float) -> None:
        """A join is requested now."""
        self._begun_s = at_s
        self._attempt = _Attempt()

    def give_up(self, at_s: float) -> Joined:
        """The attempt as it stands, failed where it stands."""
        return self._fail(at_s)

    @property
    def failing(self) -> bool:
        """Something said that the attempt has failed; the disconnect that would end it is still to come."""
        return self._attempt.failed is not None

    def feed(self, event: str, at_s: float) -> Joined | Moved | None:
        """What `event`, received at boot seconds `at_s`, makes known."""
        if found := _CONNECTED.match(event):
            return self._connect(found[1].lower(), at_s)
        if found := _DISCONNECTED.match(event):
            return self._disconnect(found[1].lower(), int(found[2]), found[3] is not None, at_s)
        if found := _AUTHENTICATING.match(event):
            unended = self._fail(at_s) if self.failing else None
            self._attempt = _Attempt(bssid=found[1].lower(), auth_s=at_s)
            return unended
        self._mark(event, at_s)
        return self._reject(event, at_s)

    def _mark(self, event: str, at_s: float) -> None:
        """The marks between the stages."""
        attempt = self._attempt
        if found := _ASSOCIATING.match(event):
            if attempt.assoc_s is not None:
                attempt = self._attempt = _Attempt()
            attempt.assoc_s = at_s
            attempt.bssid = names.bssid(found[1] or "") or attempt.bssid
        elif found := _ASSOCIATED.match(event):
            attempt.associated_s, attempt.bssid = at_s, found[1].lower()
        elif event.startswith("CTRL-EVENT-EAP-STARTED") and attempt.eap_s is None:
            attempt.eap_s = at_s
        elif event.startswith("CTRL-EVENT-EAP-SUCCESS"):
            attempt.eap_end_s = at_s
        elif event.startswith("WPA: Key negotiation completed") and attempt.keyed_s is None:
            attempt.keyed_s = at_s

    def _connect(self, bssid: str, at_s: float) -> Joined | Moved | None:
        attempt, before, begun_s = self._attempt, self.bssid, self._begun_s
        self._attempt, self.bssid, self._begun_s = _Attempt(), bssid, None
        if before is None:
            attempt.bssid = bssid
            return Joined(attempt.values(begun_s), begun_s, at_s)
        if before == bssid:
            return None
        roam_ms = _ms(attempt.auth_s if attempt.auth_s is not None else attempt.assoc_s, at_s)
        return Moved(WifiEvent(kind="roam", from_bssid=before, to_bssid=bssid, roam_ms=roam_ms), at_s)

    def _disconnect(self, bssid: str, reason_code: int, local: bool, at_s: float) -> Joined | Moved | None:
        if self.bssid is None:
            if self._attempt.stage == "scan":
                return None
            self._attempt.reason_code = reason_code
            return self._fail(at_s)
        came_from = self.bssid if bssid == _NOBODY else bssid
        self.bssid, self._begun_s, self._attempt = None, at_s, _Attempt()
        values = WifiEvent(kind="disconnect", from_bssid=came_from, reason_code=reason_code, local=local)
        return Moved(values, at_s)

    def _reject(self, event: str, at_s: float) -> Joined | None:
        """The lines that say why an attempt has not succeeded."""
        attempt = self._attempt
        if found := _AUTH_REJECT.match(event):
            attempt.failed, attempt.status_code, attempt.bssid = "auth", int(found[2]), found[1].lower()
            return self._fail(at_s)
        if found := _ASSOC_REJECT.match(event):
            attempt.failed, attempt.status_code = "assoc", int(found[2])
            attempt.bssid = names.bssid(found[1] or "") or attempt.bssid
            return self._fail(at_s)
        if event.startswith("CTRL-EVENT-NETWORK-NOT-FOUND") and self.bssid is None:
            self._attempt = _Attempt(failed="scan", detail="no access point of the network")
            return self._fail(at_s)
        if attempt.associated_s is None:
            return None
        # A disconnect with its reason code follows these.
        if event.startswith("CTRL-EVENT-EAP-FAILURE"):
            attempt.failed, attempt.detail = "eap", "EAP failure"
        elif event.startswith("WPA: 4-Way Handshake failed"):
            attempt.failed = "handshake"
        elif found := _DISABLED.match(event):
            attempt.failed = attempt.stage
            attempt.detail = attempt.detail or found[1][:30].lower().replace("_", " ")
        return None

    def _fail(self, at_s: float) -> Joined:
        """The attempt ends where it stands; one that was a roam has cost the connection, too."""
        attempt, begun_s = self._attempt, self._begun_s
        if self.bssid is not None:
            self.bssid, self._begun_s = None, at_s
        self._attempt = _Attempt()
        values = attempt.values(begun_s)
        values.failed_stage = attempt.stage
        detail = attempt.detail or ("the key may be wrong" if attempt.stage == "handshake" else None)
        return Joined(values, begun_s, at_s, detail)


def _ms(begin_s: float | None, end_s: float | None) -> float | None:
    return None if begin_s is None or end_s is None else max(0.0, (end_s - begin_s) * 1000)
