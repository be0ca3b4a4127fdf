"""Whether a captive portal stands in the way: the reflector's signed 204 first, then what others answer."""

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Annotated, Final, Literal

from msgspec import Meta

from agent import http1, sockets
from agent.portal_check import Check, ask_other, ask_reflector
from agent.probe import Context, Failure, Probe, Settings, Url
from contract.values import Portal
from contract.vocabulary import Reason

SECOND_OPINIONS: Final = (
    "http://connect.rom.miui.com/generate_204",
    "http://connectivitycheck.platform.hicloud.com/generate_204",
    "http://wifi.vivo.com.cn/generate_204",
)
"""What phones of mainland China ask. Not Apple's, which some controllers answer specially; not Google's, which is
blocked there."""
ENOUGH_OTHERS: Final = 2
"""So many of them stand for our own reflector when that cannot be reached."""

State = Literal["open", "portal", "dns_hijack", "walled", "limited", "no_internet", "no_dns", "no_ip", "unknown"]

_REASONS: Final[dict[State, Reason]] = {
    "portal": "portal",
    "dns_hijack": "dns_hijacked",
    "walled": "portal",
    "limited": "timeout",
    "no_internet": "timeout",
    "no_dns": "dns_failed",
    "no_ip": "dhcp_failed",
    "unknown": "internal",
}
"""Of a state for which no question has a better one."""
_NO_WAY: Final[frozenset[Reason]] = frozenset({"timeout", "unreachable", "refused", "dns_failed", "nxdomain"})
"""A question that ended so did not get out; another reason is a fault of our own."""
_KEEPS_ITS_OWN: Final[frozenset[State]] = frozenset({"limited", "no_internet", "unknown"})


class PortalSettings(Settings, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Settings of a portal job."""

    internet_expected: bool = True
    """False on a government network: our own reflector alone is asked."""
    second_opinions: Annotated[tuple[Url, ...], Meta(max_length=5)] = SECOND_OPINIONS
    """Addresses that answer 204 to everybody."""
    allow_listed: bool = False
    """The portal lets this box pass. What it then finds open says nothing of what users meet: values are null."""

    def __post_init__(self) -> None:
        for url in self.second_opinions:
            if http1.place(url) is None:
                raise ValueError(f"second_opinions: {url!r} cannot be visited; write http://HOST/generate_204")


async def measure(settings: PortalSettings, context: Context) -> Portal:
    """The first state of :func:`judge` that fits; every state but `open` is a failure that keeps its values."""
    assert context.target is not None
    values = context.values = Portal()
    if not sockets.has_address(context.interface):
        values.state = "no_ip"
        raise Failure("dhcp_failed", f"{context.interface} has no address")
    own = await ask_reflector(context.target, context.interface, context.clock)
    others: list[Check] = []
    if settings.internet_expected:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(ask_other(url, context.interface, context.clock), name=f"ask {url}")
                for url in settings.second_opinions
            ]
        others = [task.result() for task in tasks]
    state = judge(own, others, internet_expected=settings.internet_expected and bool(others))
    if state == "open" and settings.allow_listed:
        return values
    values.state = state
    telling = _telling(state, own, others)
    values.http_status = telling.status
    values.detect_ms = telling.ms_to(telling.first_byte_s)
    if state == "portal":
        values.portal_ms, values.portal_host = telling.ms_to(telling.done_s), telling.portal_host
    if state == "open":
        return values
    raise _failure(state, telling)


def judge(own: Check, others: Sequence[Check], *, internet_expected: bool) -> State:
    """What the answers mean together: the first of the states, in this order, that they fit."""
    checks = [own, *others]
    named = [check for check in checks if check.named]
    if named and all(_unresolved(check) for check in named):
        return "no_dns"
    valid_others = sum(other.valid for other in others)
    if own.valid and (valid_others or not internet_expected):
        return "open"
    if not own.valid and not own.portal and valid_others >= ENOUGH_OTHERS:
        return "open"
    if own.valid:
        return "walled"
    if _hijacked(named, others):
        return "dns_hijack"
    if any(check.portal for check in checks):
        return "portal"
    if any(check.stage == "answer" for check in checks):
        return "limited"
    if all(check.failure is not None and check.failure.reason in _NO_WAY for check in checks):
        return "no_internet"
    return "unknown"


def _unresolved(check: Check) -> bool:
    """The resolver did not answer; that there is no such name would be an answer."""
    return check.stage == "name" and (check.failure is None or check.failure.reason != "nxdomain")


def _hijacked(named: Sequence[Check], others: Sequence[Check]) -> bool:
    """Unrelated names lead to one place, or a public one to a private address. Our reflector may well have one."""
    found = {check.host: frozenset(check.addresses) for check in named if check.addresses}
    together = len(found) > 1 and len(set(found.values())) == 1
    private = (not ip_address(address).is_global for other in others if other.named for address in other.addresses)
    return together or any(private)


def _telling(state: State, own: Check, others: Sequence[Check]) -> Check:
    """The question whose answer shows it best: our own where it can."""
    checks = [own, *others]
    match state:
        case "open" | "walled":
            fitting = [check for check in checks if check.valid]
        case "portal":
            fitting = [check for check in checks if check.portal]
        case "dns_hijack":
            fitting = [check for check in checks if check.named and check.addresses]
        case "limited":
            fitting = [check for check in checks if check.stage == "answer"]
        case _:
            fitting = checks
    return fitting[0]


def _failure(state: State, telling: Check) -> Failure:
    found = telling.failure
    if state in _KEEPS_ITS_OWN and found is not None:
        return Failure(found.reason, f"{state}: {found.detail}")
    if state == "unknown" and telling.status is not None:
        return Failure("http_status", f"unknown: {telling.host} answered {telling.status}")
    if state == "portal" and telling.portal_host is not None:
        return Failure("portal", f"sent to another host: {telling.portal_host}")
    return Failure(_REASONS[state], f"{state}: {telling.host}")


PROBE: Final = Probe(
    settings=PortalSettings, measure=measure, timeout_s=25.0, needs=frozenset({"host", "key", "interface"})
)
