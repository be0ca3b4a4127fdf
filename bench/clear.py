"""When a fault is clear: what it affects is beyond its limit by a factor of 2. From the simulator's state alone.

Levels in dB count a factor of 2 as 3 dB. Airtime, which ends at 1, is beyond by a factor of 2 where half of what the
limit leaves is left. What an agent of the venue cannot see (noise and airtime without a survey) is no affected metric.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from perception.scoring.profile import Verdict as Limits
from simulator.district import Venue
from simulator.faults import Fault
from simulator.world import State

Bools = NDArray[np.bool_]
FACTOR: Final = 2.0
DB: Final = 3.0
MINUTES: Final = 30
"""Half of the hour."""
MEDIAN_OF_EXPONENTIAL: Final = float(np.log(2))
MISSING_RATIO: Final = 1.0
"""Of a box that is off, or whose records do not come."""


def _gateway(state: State, limits: Limits) -> Any:
    ms = state.lan_ms + MEDIAN_OF_EXPONENTIAL * (state.radio_ms + 0.05)
    kept = (1 - state.lan_loss) * (1 - state.radio_loss)
    return (ms >= FACTOR * limits.rise_ms.gateway) | _loses(1 - kept, limits)


def _loses(one_way: Any, limits: Limits) -> Any:
    return 1 - (1 - one_way) ** 2 >= FACTOR * limits.loss_rise_ratio


def _radio(state: State, venue: Venue, limits: Limits) -> Any:
    clear = (state.rssi_dbm <= limits.rssi_dbm - DB) | _gateway(state, limits)
    clear = clear | (state.retry_ratio >= FACTOR * limits.tx_retry_ratio)
    if venue.survey:
        clear = clear | (state.snr_db <= limits.snr_db - DB) | (state.busy_ratio >= (1 + limits.busy_ratio) / 2)
    return clear


def _uplink(state: State, venue: Venue, limits: Limits) -> Any:
    rise = MEDIAN_OF_EXPONENTIAL * np.minimum(state.queue_ms, state.buffer_ms)
    return (rise >= FACTOR * limits.rise_ms.core) | _loses(state.uplink_loss, limits)


def _off(name: str) -> Callable[[State, Venue, Limits], Any]:
    """Tries fail in runs of ten minutes: a share p of joins keeps a box off for p**1.5 of the time."""
    return lambda state, venue, limits: getattr(state, name) ** 1.5 >= FACTOR * limits.slots_ratio


def _always(state: State, venue: Venue, limits: Limits) -> Any:
    return np.full(len(state.minutes), FACTOR * limits.invalid_ratio <= MISSING_RATIO)


_CLEAR: Final[dict[str, Callable[[State, Venue, Limits], Any]]] = {
    "weak_signal": _radio,
    "interference": _radio,
    "congestion": _radio,
    "assoc_failure": _off("assoc_fail"),
    "eap_failure": _off("eap_fail"),
    "dhcp_exhaustion": _off("dhcp_fail"),
    "portal_stuck": lambda s, v, x: s.fault("portal_stuck", "caught_ratio") >= FACTOR * x.slots_ratio,
    "dns_slow": lambda s, v, x: (0.5 + MEDIAN_OF_EXPONENTIAL) * s.dns_slow_ms >= FACTOR * x.dns_rtt_ms,
    "dns_hijack": lambda s, v, x: s.hijack >= FACTOR * x.slots_ratio,
    "lan_fault": lambda s, v, x: _gateway(s, x),
    "uplink_saturated": _uplink,
    "bufferbloat": _uplink,
    "uplink_outage": _uplink,
    "upstream_outage": lambda s, v, x: _loses(s.exit_loss, x),
    # A busy box skips 15 % of what it has no time for.
    "cpu_starved": lambda s, v, x: 0.85 * s.fault("cpu_starved", "invalid_ratio") >= FACTOR * x.invalid_ratio,
    "agent_offline": _always,
    "clock_wrong": _always,
    "power_cut": _always,
}


def minutes(fault: Fault, state: State, venue: Venue, limits: Limits) -> Bools:
    """Of each minute of `state`, whether the fault goes on and is clear."""
    on = (state.minutes >= fault.start_minute) & (state.minutes < fault.end_minute)
    if fault.kind == "target_down":
        return np.asarray(on & (state.target_fails(fault.target) >= FACTOR * limits.failed_ratio))
    return np.asarray(on & _CLEAR[fault.kind](state, venue, limits))
