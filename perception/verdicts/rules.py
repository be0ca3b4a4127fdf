"""The rules, in their order: the first that fits decides.

Each is a function from a case to a finding, or None where it does not fit. Levels: 3 high, 2 medium, 1 low, 0 nothing.
Where the peers are mixed, one level is taken off.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from perception.scoring.profile import Verdict as Limits
from perception.verdicts.items import Items, State, Target
from perception.verdicts.verdict import Segment

HIGH, MEDIUM, LOW, NOTHING = 3, 2, 1, 0

Share = Literal["shared", "local", "mixed", "unknown"]
Item = tuple[str, str]
"""What peers are asked about: an item's letter, and the target of a single one."""


class Peers(NamedTuple):
    """Other venues of the network that know an item in the same hour."""

    share: Share
    n: int = 0
    bad: int = 0


class Finding(NamedTuple):
    """What a rule says."""

    segment: Segment
    level: int
    item: Item | None = None
    """What it rests on, and peers are counted by."""
    target: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Case:
    """One venue and hour."""

    items: Items
    wired: bool
    limits: Limits
    peers: Callable[[Item], Peers]
    repeats: Mapping[str, float] = field(default_factory=dict)
    """By internet target, the share of connections with a packet sent again, over all venues with a good core."""
    usual_down_mbps: float | None = None

    @property
    def internet(self) -> State:
        return self.items.role("internet")

    @property
    def away(self) -> bool:
        """Not associated, for longer than a passing moment."""
        return self.items.joining.stage == "scan"

    def share(self, *item: str) -> Share:
        """Whether peers share an item's state."""
        return self.peers((item[0], item[1] if len(item) > 1 else "")).share


Rule = Callable[[Case], Finding | None]


def own_fault(case: Case) -> Finding | None:
    """Every agent kept too much back by its own fault."""
    out = case.items.own.out
    if not case.items.own.all_out or "no_records" in out.values():
        return None
    return Finding("agent", HIGH, reason=next(iter(out.values())))


def no_records(case: Case) -> Finding | None:
    """Too much of what was expected never came. Low until it does: an outage of the network keeps records away, too."""
    return Finding("agent", LOW, reason="no_records") if case.items.own.all_out else None


def nothing_known(case: Case) -> Finding | None:
    """Every item is unknown."""
    if any(state != "unknown" for state in case.items.states) or case.items.joining.no_link:
        return None
    return Finding("none", NOTHING, reason="too_little")


def congested(case: Case) -> Finding | None:
    """Nothing is bad but the rate under load: an uplink that is full."""
    items, limits = case.items, case.limits
    down, usual, rise = items.down_mbps, case.usual_down_mbps, items.working_rise_ms
    if down is None or usual is None or rise is None:
        return None
    fine = items.gateway == "good" and items.core == "good" and (case.wired or items.link.state == "good")
    full = down < limits.congested_down_ratio * usual and rise > limits.congested_rise_ms
    return Finding("uplink", MEDIUM, ("c", "")) if fine and full else None


def all_good(case: Case) -> Finding | None:
    """No item is bad; one agent of several may still be out."""
    if "bad" in case.items.states or case.items.joining.no_link >= case.limits.slots_ratio:
        return None
    for agent, reason in case.items.own.out.items():
        return Finding("agent", HIGH, target=agent, reason=reason)
    return Finding("none", HIGH, reason="good")


def radio(case: Case) -> Finding | None:
    """The radio is bad and so is what it carries, or nobody is found to join."""
    items, bad = case.items, case.items.link.state == "bad"
    if (bad and (items.gateway == "bad" or case.away)) or (items.joining.stage == "scan" and items.joining.failed):
        return Finding("radio", MEDIUM if case.share("l") == "shared" else HIGH, ("l", ""))
    if bad and items.gateway == "unknown" and "bad" in (items.core, case.internet):
        return Finding("radio", LOW, ("l", ""))
    if case.away or items.contended:
        return Finding("radio", LOW, ("l", ""))
    return None


def join(case: Case) -> Finding | None:
    """Access points are there and let nobody in."""
    if case.items.joining.stage not in ("auth", "assoc", "eap", "handshake"):
        return None
    others_join = case.share("j") == "local"
    return Finding("join", HIGH if case.items.link.state == "good" and others_join else MEDIUM, ("j", ""))


def dhcp(case: Case) -> Finding | None:
    """On the network, without an address."""
    if case.items.joining.stage != "dhcp":
        return None
    return Finding("dhcp", HIGH if case.items.joining.failed else MEDIUM, ("j", ""))


def portal(case: Case) -> Finding | None:
    """A portal stands in the way, and the way to it is fine."""
    if case.items.gate.state != "bad" or case.items.gateway == "bad":
        return None
    level = HIGH if case.items.gateway == "good" else MEDIUM
    return Finding("portal", level, ("p", ""), reason=case.items.gate.found)


def lan(case: Case) -> Finding | None:
    """The gateway, and with it everything behind."""
    items = case.items
    unplugged = case.wired and items.joining.no_link >= case.limits.slots_ratio
    if items.gateway != "bad" and not unplugged:
        return None
    if items.gateway_elsewhere:
        return Finding("agent", LOW, ("g", ""), reason="gateway_elsewhere")
    link = "good" if case.wired else items.link.state
    if link == "unknown":
        return Finding("lan", LOW, ("g", ""))
    return Finding("lan", HIGH if link == "good" and case.share("g") == "local" else MEDIUM, ("g", ""))


def dns(case: Case) -> Finding | None:
    """Names are not resolved while the way is fine by address. An exit that is down takes resolvers behind it along."""
    items, names = case.items, case.items.names
    if names.state != "bad":
        return None
    internet = items.by_address("internet")
    fine = internet == "good" or (items.by_address("core") == "good" and (internet == "unknown" or names.hijacked))
    if not fine:
        return None
    return Finding("dns", HIGH if names.second_good or case.share("d") == "shared" else MEDIUM, ("d", ""))


def common_exit(case: Case) -> Finding | None:
    """One target is lost for everybody, and packets to the others get lost as well: the exit that all share. Pages
    survive a loss that pings show; over all venues it shows in them, too."""
    target = _only_bad(case)
    if target is None or target.role != "internet" or case.share("t", target.name) != "shared":
        return None
    others = [ratio for name, ratio in case.repeats.items() if name != target.name]
    if not others or min(others) <= case.limits.loss_rise_ratio:
        return None
    return Finding("internet", HIGH, ("i", ""))


def one_target(case: Case) -> Finding | None:
    """One target alone, and not at this venue alone."""
    target = _only_bad(case)
    if target is None or (share := case.share("t", target.name)) == "local":
        return None
    return Finding("target", HIGH if share == "shared" else MEDIUM, ("t", target.name), target.name)


def one_target_here(case: Case) -> Finding | None:
    """One target alone at this venue alone: the way to it."""
    target = _only_bad(case)
    if target is None:
        return None
    nearer = target.role == "core" or (case.wired and target.role == "service")
    return Finding("uplink" if nearer else "internet", LOW, ("t", target.name), target.name)


def _only_bad(case: Case) -> Target | None:
    bad = case.items.bad_targets
    others = [target for target in case.items.targets if target.state == "good"]
    return bad[0] if len(bad) == 1 and others else None


def uplink(case: Case) -> Finding | None:
    """The core and what lies behind it."""
    if case.items.core != "bad":
        return None
    if case.items.gateway == "unknown":
        return Finding("uplink", LOW, ("c", ""))
    known = case.share("c") != "unknown"
    return Finding("uplink", HIGH if case.internet == "bad" and known else MEDIUM, ("c", ""))


def internet(case: Case) -> Finding | None:
    """The core is fine, several targets behind it are not."""
    bad = [target for target in case.items.of("internet") if target.state == "bad"]
    if case.items.core != "good" or len(bad) < SEVERAL:
        return None
    return Finding("internet", HIGH if case.share("i") == "shared" else MEDIUM, ("i", ""))


SEVERAL: Final = 2


def radio_alone(case: Case) -> Finding | None:
    """The radio is bad by itself; what it carries still arrives."""
    items = case.items
    if items.link.state != "bad" or items.bad_targets:
        return None
    return Finding("radio", MEDIUM if items.link.beyond else LOW, ("l", ""))


def cause_open(case: Case) -> Finding | None:
    """Something is bad, and no rule says what."""
    return Finding("none", LOW, reason="open")


RULES: Final[tuple[Rule, ...]] = (
    own_fault,
    no_records,
    nothing_known,
    congested,
    all_good,
    radio,
    join,
    dhcp,
    portal,
    lan,
    dns,
    common_exit,
    one_target,
    one_target_here,
    uplink,
    internet,
    radio_alone,
    cause_open,
)


def decide(case: Case) -> tuple[int, Finding, Peers]:
    """The number of the rule (from 1), what it says with the peers taken into account, and those."""
    said = ((number, rule(case)) for number, rule in enumerate(RULES, 1))
    number, finding = next((number, finding) for number, finding in said if finding is not None)
    peers = case.peers(finding.item) if finding.item else Peers("unknown")
    if peers.share == "mixed":
        finding = finding._replace(level=max(LOW, finding.level - 1))
    return number, finding, peers


def states(items: Items) -> Mapping[Item, State]:
    """Every item that peers can be asked about."""
    found: dict[Item, State] = {
        ("l", ""): items.link.state,
        ("j", ""): items.joining.state,
        ("p", ""): items.gate.state,
        ("d", ""): items.names.state,
        ("g", ""): items.gateway,
        ("c", ""): items.core,
        ("i", ""): items.role("internet"),
    }
    return found | {("t", target.name): target.state for target in items.targets}
