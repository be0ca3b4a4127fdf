"""A visitor's way in, walked by ourselves: leave, join, get an address, a name and the first byte.

Only where the radio is ours (``manager = "wpa"`` in ``[wifi]``). Joins that merely happen are recorded by
:mod:`agent.wifi.watch`.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta

from agent.portal_check import ask_reflector
from agent.probe import Context, Failure, Probe, Settings
from agent.wifi import dhcp
from agent.wifi.dhcp import Client
from agent.wifi.join import REASONS, Joined, Stage
from agent.wifi.supplicant import Unheard
from agent.wifi.watch import Watch
from contract.values import WifiJoin
from contract.vocabulary import Reason

HEARD_S: Final = 3.0
"""What the supplicant gets to be heard: our first look may come before our ears are open."""


class WifiJoinSettings(Settings, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Settings of a wifi_join job."""

    join_s: Annotated[float, Meta(gt=0, le=60)] = 30.0
    """From the request to the end of the key handshake, at most."""
    dhcp: Client | Literal["other"] = "udhcpc"
    """The system's DHCP client that gets the address; `other`: another program of the box sees to it, in a time that
    nobody tells."""
    dhcp_s: Annotated[float, Meta(gt=0, le=30)] = 15.0
    fresh: bool = True
    """Forget the keys of earlier visits first, as a new visitor has none; false: the return of a known one."""
    leave: bool = False
    """Leave again afterwards: for a radio that does nothing but join."""

    def alone(self) -> bool:
        return True

    def least_s(self) -> float:
        return self.join_s + self.dhcp_s


async def measure(settings: WifiJoinSettings, context: Context) -> WifiJoin:
    """One cycle, ending at the first stage that fails; :attr:`WifiJoin.online_ms` from the request to the first byte.

    :raises Failure: the failed stage's reason; `internal` or `no_permission` when the supplicant is not heard.
    """
    assert context.watch is not None
    watch = context.watch
    if settings.dhcp != "other":
        await dhcp.release(settings.dhcp, context.interface)
    try:
        await watch.attached(HEARD_S)
        joined = await watch.join(fresh=settings.fresh, timeout_s=settings.join_s)
    except Unheard as error:
        raise Failure("no_permission" if error.denied else "internal", str(error)) from error
    values = context.values = joined.values
    if values.failed_stage is not None:
        raise Failure(REASONS[values.failed_stage], joined.detail or f"at {values.failed_stage}")
    try:
        await _go_online(settings, context, values, joined)
    finally:
        if settings.leave:
            await _leave(settings, watch)
    return values


async def _go_online(settings: WifiJoinSettings, context: Context, values: WifiJoin, joined: Joined) -> None:
    """The stages behind those of the radio."""
    clock, target = context.clock, context.target
    assert target is not None
    assert joined.begun_s is not None
    try:
        if settings.dhcp == "other":
            await dhcp.given(context.interface, clock, settings.dhcp_s)
        else:
            await dhcp.acquire(settings.dhcp, context.interface, settings.dhcp_s)
            values.dhcp_ms = (clock.boot() - joined.ended_s) * 1000
    except Failure as failure:
        raise _failed(values, "dhcp", failure.reason, failure.detail) from failure
    at_s = clock.boot()
    check = await ask_reflector(target, context.interface, clock)
    if check.named and check.connect_s is not None:
        values.first_dns_ms = (check.connect_s - at_s) * 1000
    if check.valid:
        assert check.first_byte_s is not None
        values.first_byte_ms = check.ms_to(check.first_byte_s)
        values.online_ms = (check.first_byte_s - joined.begun_s) * 1000
        return
    found = check.failure
    if check.portal:
        raise _failed(values, "portal", "portal", f"status {check.status} instead of the signed 204")
    if check.stage == "name":
        raise _failed(values, "dns", found.reason if found else "dns_failed", found.detail if found else None)
    if found is not None:
        raise _failed(values, "internet", found.reason, found.detail)
    raise _failed(values, "internet", "http_status", f"status {check.status}")


async def _leave(settings: WifiJoinSettings, watch: Watch) -> None:
    if settings.dhcp != "other":
        await dhcp.release(settings.dhcp, watch.interface)
    try:
        await watch.leave()
    except Unheard as error:
        raise Failure("internal", f"leaving: {error}") from error


def _failed(values: WifiJoin, stage: Stage, reason: Reason, detail: str | None) -> Failure:
    values.failed_stage = stage
    return Failure(reason, detail)


PROBE: Final = Probe(
    settings=WifiJoinSettings, measure=measure, timeout_s=75.0, needs=frozenset({"host", "key", "lead"})
)
