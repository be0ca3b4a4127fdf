"""The state of a venue, minute by minute: causes only. What is measured follows from it, in `simulator.probes`.

Every value is a function of the seed and the minute, so any window can be asked for, in any order.
"""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from simulator import calendar
from simulator.district import District, Venue
from simulator.faults import Fault
from simulator.streams import Floats, Ints, Stream

Texts = np.ndarray[tuple[int, ...], np.dtype[np.object_]]


class World:
    """A district and what goes wrong in it."""

    def __init__(self, district: District, faults: Iterable[Fault] = ()) -> None:
        self.district = district
        self.faults = list(faults)
        self._by_venue: dict[str, list[Fault]] = defaultdict(list)
        for fault in self.faults:
            self._by_venue[fault.venue].append(fault)

    def state(self, venue: Venue, minutes: Ints) -> "State":
        """The state at each of `minutes` (since 1970 UTC)."""
        return State(self.district.seed, venue, minutes, self._by_venue[venue.slug])

    def faults_at(self, venue: str) -> list[Fault]:
        return self._by_venue[venue]


class State:
    """Arrays, one value for each minute. Delays are means of a round trip, losses are of one direction."""

    def __init__(self, seed: int, venue: Venue, minutes: Ints, faults: list[Fault]) -> None:
        self.minutes = minutes
        self._faults = faults
        self._stream = Stream(seed, "state", venue.slug)
        self._fixed = Stream(seed, "built", venue.slug)
        self._load(venue)
        self._uplink(venue)
        self._outside()
        if venue.network == "wifi":
            self._radio(venue)
        else:
            self._wire()
        self._joining()

    def fault(self, kind: str, quantity: str) -> Floats:
        """What faults of a kind add up to (the largest of several)."""
        total = np.zeros(len(self.minutes))
        for fault in self._faults:
            if fault.kind == kind:
                on = (self.minutes >= fault.start_minute) & (self.minutes < fault.end_minute)
                total = np.where(on, np.maximum(total, fault.effect[quantity]), total)
        return total

    def during(self, kind: str) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Whether a fault of a kind goes on."""
        found = np.zeros(len(self.minutes), bool)
        for fault in self._faults:
            if fault.kind == kind:
                found |= (self.minutes >= fault.start_minute) & (self.minutes < fault.end_minute)
        return found

    def minutes_into(self, kind: str) -> Ints:
        """How many minutes a fault of a kind has lasted; 0 outside."""
        found = np.zeros(len(self.minutes), np.int64)
        for fault in self._faults:
            if fault.kind == kind:
                on = (self.minutes >= fault.start_minute) & (self.minutes < fault.end_minute)
                found = np.where(on, np.maximum(found, self.minutes - fault.start_minute), found)
        return found

    def target_fails(self, target: str) -> Floats:
        """The share of attempts that a target itself fails."""
        total = np.zeros(len(self.minutes))
        for fault in self._faults:
            if fault.kind == "target_down" and fault.target == target:
                on = (self.minutes >= fault.start_minute) & (self.minutes < fault.end_minute)
                total = np.where(on, np.maximum(total, fault.effect["fail_ratio"]), total)
        return total

    def _load(self, venue: Venue) -> None:
        """How full it is, 0 to 1: hours, working days, public holidays, and chance."""
        kind = venue.kind
        hour = calendar.minute_of_day(self.minutes) / 60
        free = calendar.is_free(calendar.local_day(self.minutes))
        noon = np.exp(-(((hour - 10.5) / 1.8) ** 2)) + np.exp(-(((hour - 15.0) / 2.2) ** 2))
        evening = kind.evening * np.exp(-(((hour - 19.3) / 1.7) ** 2))
        base = 0.02 + 0.85 * (noon + evening) * np.where(free, kind.weekend, 1.0)
        chance = 1 + 0.12 * self._stream.smooth(self.minutes, 45)
        self.load = np.clip(base * chance, 0.01, 1.0)
        self.stations = np.round(self.load * kind.people / 4).astype(np.int64)

    def _uplink(self, venue: Venue) -> None:
        """A queue: load over capacity gives delay, loss and what is left for us."""
        down, up = venue.kind.uplink_mbps
        self.capacity_down, self.capacity_up = down, up
        peak = self._fixed.between(0.3, 0.6)
        burst = 0.25 * self._stream.bursts(self.minutes, 90, 0.4, 12)
        saturated = np.maximum(self.fault("uplink_saturated", "rho"), self.fault("bufferbloat", "rho"))
        rho = np.maximum(np.clip(peak * self.load + burst, 0.0, 0.88), saturated)
        self.rho = rho
        self.buffer_ms = np.maximum(self._fixed.between(25, 70, 1), self.fault("bufferbloat", "buffer_ms"))
        waiting = 0.6 * rho / (1 - np.minimum(rho, 0.97))
        standing = self.buffer_ms * np.clip((rho - 0.88) / 0.15, 0, 1)
        self.uplink_ms = self._fixed.between(0.8, 3.0, 2) + np.minimum(waiting, self.buffer_ms) + standing
        self.queue_ms = waiting + standing
        self.uplink_loss = np.clip(1 - 1 / np.maximum(rho, 1.0), 0, 1) * 0.3 + self.fault(
            "uplink_outage", "uplink_loss_ratio"
        )
        self.uplink_loss = np.clip(self.uplink_loss, 0, 1)
        fair = 1 / (1 + 6 * rho)
        self.free_ratio = np.maximum(1 - rho, np.where(rho > 0.9, fair * 0.5, fair))

    def _outside(self) -> None:
        evening = np.exp(-(((calendar.minute_of_day(self.minutes) / 60 - 21) / 2.0) ** 2))
        self.exit_ms = 6 + 4 * evening + 1.5 * np.abs(self._stream.smooth(self.minutes, 30, 1))
        self.exit_loss = np.clip(self.fault("upstream_outage", "exit_loss_ratio"), 0, 1)
        self.dns_slow_ms = self.fault("dns_slow", "dns_ms")
        self.hijack = self.fault("dns_hijack", "hijack_ratio")
        self.lan_ms = self._fixed.between(0.3, 0.9, 3) + self.fault("lan_fault", "lan_ms")
        self.lan_loss = self.fault("lan_fault", "lan_loss_ratio")

    def _radio(self, venue: Venue) -> None:
        """Path loss, noise and airtime; delay, loss and rate follow."""
        old = venue.upgraded_minute is not None and self.minutes < venue.upgraded_minute
        self.old = np.broadcast_to(np.asarray(old), self.minutes.shape)
        rssi = self._fixed.between(-60, -50, 4) - np.where(self.old, 7.0, 0.0)
        self.rssi_dbm = (
            rssi + 1.5 * self._stream.smooth(self.minutes, 20, 2) - self.fault("weak_signal", "path_loss_db")
        )
        self.noise_dbm = (
            -93 + 0.7 * self._stream.smooth(self.minutes, 60, 3) + self.fault("interference", "noise_rise_db")
        )
        self.snr_db = self.rssi_dbm - self.noise_dbm
        crowd = np.where(self.old, 0.45, 0.3) * self.load
        self.busy_ratio = np.clip(
            0.08 + crowd + self.fault("congestion", "air_ratio") + self.fault("interference", "air_ratio"), 0, 0.98
        )
        poor = 1 / (1 + np.exp((self.snr_db - 13) / 2.5))
        self.retry_ratio = np.clip(0.02 + 0.2 * self.busy_ratio**2 + 0.8 * poor, 0, 0.97)
        self.radio_ms = 1.2 * (1 + 2 * self.retry_ratio) / (1 - self.busy_ratio)
        self.radio_loss = np.clip(self.retry_ratio**4 * 0.6, 0, 1)
        self.width_mhz = np.where(self.old, 40, 80)
        self.mcs = np.clip(np.floor((self.snr_db - 5) / 3), 0, 9).astype(np.int64)
        self.phy_mbps = self.width_mhz * (0.8 + self.mcs * 1.0)
        self.radio_mbps = 0.62 * self.phy_mbps * (1 - self.busy_ratio) * (1 - self.retry_ratio)

    def _wire(self) -> None:
        nothing = np.zeros(len(self.minutes))
        self.radio_ms, self.radio_loss = nothing, nothing
        self.radio_mbps = nothing + 940.0

    def _joining(self) -> None:
        """Whether the box is on the network: one that fails to join tries again every ten minutes."""
        self.assoc_fail = self.fault("assoc_failure", "assoc_fail_ratio")
        self.eap_fail = self.fault("eap_failure", "eap_fail_ratio")
        self.dhcp_fail = self.fault("dhcp_exhaustion", "dhcp_fail_ratio")
        caught = self.fault("portal_stuck", "caught_ratio")
        self.portal_ms = self.fault("portal_stuck", "portal_ms")
        tries = self.minutes // 10

        def fails(lane: int, ratio: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
            return np.asarray(self._stream.uniform(tries, 50 + lane) < ratio**1.5)

        self.unlinked = fails(1, self.eap_fail) | fails(2, self.assoc_fail)
        if hasattr(self, "snr_db"):
            self.unlinked |= self.snr_db < 3
        self.no_address = fails(0, self.dhcp_fail)
        self.caught = self._stream.uniform(tries, 60) < caught

    def at(self, places: Ints) -> "State":
        """The same at some of its minutes, by index."""
        found = object.__new__(State)
        size = len(self.minutes)
        for name, value in self.__dict__.items():
            whole = isinstance(value, np.ndarray) and value.shape[:1] == (size,)
            found.__dict__[name] = value[places] if whole else value
        return found
