"""Watches a Wi-Fi interface through its supplicant: what happens there is recorded when it happens.

Records that nobody scheduled: a roam or a disconnect is a `wifi_event`, a join that we did not ask for a `wifi_join`.
Their slot is the moment, in ms. With `manager = "wpa"` the `wifi_join` probe may also lead the radio.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from agent.clock import Clock, utc
from agent.wifi.join import LEAVING, REASONS, Association, Joined, Moved
from agent.wifi.supplicant import RETRY_S, Supplicant, Unheard
from contract.codec import strip_controls
from contract.record import NO_TARGET, RECORDS, Record
from contract.values import WifiEvent, WifiJoin
from contract.vocabulary import Reason

LEAVE_S: Final = 3.0
"""What a disconnect that we asked for is waited for, and the reason code of a join that has failed."""
LOOK_S: Final = 0.05
EMPTY_SCANS: Final = 2
"""An access point that one scan does not hear may be heard by the next; phones scan again, too."""

_SCANNED: Final = "CTRL-EVENT-SCAN-RESULTS"
_SCAN_FAILED: Final = "CTRL-EVENT-SCAN-FAILED"

_UNDER_WAY: Final = frozenset(
    {"AUTHENTICATING", "ASSOCIATING", "ASSOCIATED", "4WAY_HANDSHAKE", "GROUP_HANDSHAKE", "COMPLETED"}
)
"""States of a supplicant that has not left."""

log = logging.getLogger(__name__)

Submit = Callable[[Record, float], None]


class Wifi(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Who leads the radio, and how it is listened to."""

    manager: Literal["observe", "wpa"] = "observe"
    """`observe`: somebody else leads it, and we never touch it. `wpa`: we may join and leave through wpa_supplicant."""
    control: Annotated[str, Meta(pattern=r"^/[^\x00-\x1f]{1,80}$")] = "/run/wpa_supplicant"
    """Folder of its control sockets, one per interface."""


class Watch:
    """One per Wi-Fi interface; :meth:`run` listens."""

    def __init__(self, interface: str, wifi: Wifi, clock: Clock, submit: Submit) -> None:
        self.interface = interface
        self._may_lead = wifi.manager == "wpa"
        self._supplicant = Supplicant(interface, wifi.control, clock)
        self._clock = clock
        self._submit = submit
        self._association = Association()
        self._attached = asyncio.Event()
        self._led: asyncio.Queue[Joined | Moved] | None = None
        """Where what happens goes while we lead it."""
        self._told: WifiJoin | None = None
        """The failure that was recorded last; the supplicant tries again and again, and one record says it."""
        self._silence: str | None = None
        self._scan: asyncio.Future[str] | None = None
        """How a scan that we asked for has ended."""

    async def run(self) -> None:
        """Listen, and begin again when the supplicant is started again; ends only by cancellation."""
        while True:
            try:
                await self._supplicant.listen(self._on_event, self._on_attached)
            except Unheard as error:
                self._attached.clear()
                self._note_silence(error)
            await self._clock.sleep(RETRY_S)

    async def join(self, *, fresh: bool, timeout_s: float) -> Joined:
        """Leave, ask for a join, and follow it to its end; :data:`LEAVE_S` are on top of `timeout_s` at each end.

        :param fresh: forget the keys of earlier visits, as a new visitor has none.
        :raises Unheard: the supplicant does not do what it is asked.
        """
        assert self._may_lead, "checked with the configuration"
        if not self._attached.is_set():
            raise Unheard(self._silence or f"wpa_supplicant of {self.interface} is not heard yet")
        self._led = asyncio.Queue()
        try:
            await self._leave()
            if fresh:
                await self._supplicant.order("PMKSA_FLUSH")
            self._led = asyncio.Queue()  # what came until now was the end of something else
            self._association.ask(self._clock.boot())
            await self._supplicant.order("RECONNECT")
            return await self._follow(self._led, timeout_s)
        finally:
            self._led = None

    async def leave(self) -> None:
        """Leave the network and stay away.

        :raises Unheard: the supplicant does not do it.
        """
        assert self._may_lead
        self._led = asyncio.Queue()
        try:
            await self._leave()
        finally:
            self._led = None

    async def scan(self, timeout_s: float) -> Literal["done", "busy"]:
        """Have the supplicant look around, which changes nothing else; `busy` while somebody else does.

        :raises Unheard: it does not do it, or not within `timeout_s`.
        """
        reply = await self._supplicant.request("SCAN TYPE=ONLY")
        if reply == "FAIL-BUSY":
            return "busy"
        if reply != "OK":
            raise Unheard(f"wpa_supplicant says {reply[:40]!r} to SCAN")
        self._scan = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                ended = await self._scan
        except TimeoutError:
            raise Unheard(f"wpa_supplicant's scan did not end within {timeout_s:g} s") from None
        finally:
            self._scan = None
        if ended.startswith(_SCAN_FAILED):
            raise Unheard(f"wpa_supplicant's scan failed: {ended[len(_SCAN_FAILED) :].strip()}")
        return "done"

    async def attached(self, timeout_s: float) -> bool:
        """Whether the supplicant is heard, at once or within `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._attached.wait()
        except TimeoutError:
            return False
        return True

    async def _leave(self) -> None:
        """Whatever was under way is over when this returns, and its events have been heard."""
        await self._supplicant.order("DISCONNECT")
        for _ in range(round(LEAVE_S / LOOK_S)):
            await self._clock.sleep(LOOK_S)
            state = (await self._supplicant.status()).get("wpa_state")
            if state not in _UNDER_WAY and self._association.bssid is None:
                return
        raise Unheard(f"wpa_supplicant was told to disconnect and is {state}")

    async def _follow(self, led: asyncio.Queue[Joined | Moved], timeout_s: float) -> Joined:
        empty_scans = 0
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    happening = await self._next(led)
                    if not isinstance(happening, Joined):
                        continue
                    if happening.values.failed_stage != "scan":
                        return happening
                    empty_scans += 1
                    if empty_scans == EMPTY_SCANS:
                        return happening
        except TimeoutError:
            return self._association.give_up(self._clock.boot())

    async def _next(self, led: asyncio.Queue[Joined | Moved]) -> Joined | Moved:
        """What happens next; of an attempt that has failed the end is not waited for long."""
        while True:
            try:
                async with asyncio.timeout(LEAVE_S):
                    return await led.get()
            except TimeoutError:
                if self._association.failing:
                    return self._association.give_up(self._clock.boot())

    def _on_attached(self, bssid: str | None) -> None:
        self._association.sync(bssid)
        self._attached.set()
        if self._silence is not None:
            log.info("wpa_supplicant of %s is heard again", self.interface)
            self._silence = None

    def _on_event(self, event: str, at_s: float) -> None:
        if self._scan is not None and not self._scan.done() and event.startswith((_SCANNED, _SCAN_FAILED)):
            self._scan.set_result(event)
        happening = self._association.feed(event, at_s)
        if happening is None:
            return
        if self._led is not None:
            self._led.put_nowait(happening)
        elif isinstance(happening, Moved):
            self._told = None
            self._record_move(happening)
        elif not _same_failure(happening.values, self._told):
            self._told = happening.values if happening.values.failed_stage else None
            self._record_join(happening)

    def _record_move(self, moved: Moved) -> None:
        values = moved.values
        by_choice = values.kind == "roam" or (values.local is True and values.reason_code in LEAVING)
        self._record("wifi_event", values, moved.at_s - (values.roam_ms or 0.0) / 1000, moved.at_s,
                     None if by_choice else "no_link")  # fmt: skip

    def _record_join(self, joined: Joined) -> None:
        values, begun_s = joined.values, joined.begun_s
        reason = REASONS[values.failed_stage] if values.failed_stage is not None else None
        begun_s = joined.ended_s if begun_s is None else begun_s
        self._record("wifi_join", values, begun_s, joined.ended_s, reason, joined.detail)

    def _record(
        self,
        probe: Literal["wifi_event", "wifi_join"],
        values: WifiEvent | WifiJoin,
        begun_s: float,
        ended_s: float,
        reason: Reason | None,
        detail: str | None = None,
    ) -> None:
        at = utc(round(begun_s + self._clock.wall() - self._clock.boot(), 3))
        record = RECORDS[probe](
            target=NO_TARGET,
            interface=self.interface,
            slot=at,
            started_at=at,
            duration_s=ended_s - begun_s,
            outcome="failed" if reason else "ok",
            reason=reason,
            detail=strip_controls(detail) if detail else None,
            values=values,
        )
        log.info("%s: %s %s", self.interface, probe, reason or _word(values))
        self._submit(record, begun_s)

    def _note_silence(self, error: Unheard) -> None:
        if str(error) == self._silence:
            return
        self._silence = str(error)
        fix = "; let the agent's user into the group netdev" if error.denied else ""
        log.warning("%s%s: joins, roams and disconnects are not recorded", error, fix)


def _word(values: WifiEvent | WifiJoin) -> str:
    """For the log."""
    return "joined" if isinstance(values, WifiJoin) else str(values.kind)


def _same_failure(values: WifiJoin, told: WifiJoin | None) -> bool:
    return values.failed_stage is not None and told is not None and values.failed_stage == told.failed_stage
