"""Colours and the values where they begin. What is judged follows the scoring profile; a limit that stands here as a
number is about our own machinery."""

from typing import Any, Final, NamedTuple

from perception import profiles
from perception.scoring.profile import Indicator, Profile

RED: Final = "red"
ORANGE: Final = "orange"
YELLOW: Final = "yellow"
GREEN: Final = "green"
PLAIN: Final = "blue"

PROFILES: Final[dict[str, Profile]] = {network: profiles.named(name) for network, name in profiles.DEFAULTS.items()}
"""By network: the profile that its dashboards take their marks from."""
TIMEZONE: Final = PROFILES["wifi"].profile.tz

SILENT_S: Final = 900
"""An agent that says nothing for so long is silent: fifteen of its minutes."""
WEB_CERT_DAYS: Final = 14
"""Left of a web site's: most are renewed by a program a month ahead."""
OUTBOX_GROWTH: Final = 120
"""Records more than half an hour ago: an agent on the default schedule makes about 180 in that time."""
OUTBOX_OLD_S: Final = 900
LAG_MS: Final = 5_000
"""From receipt to stored; with a healthy database it is below 100."""
DROP_POINTS: Final = 10
"""Of the perception index, below what is usual for the venue: a level in most cases."""


class Step(NamedTuple):
    """A colour and the value from which on it holds; None is the lowest."""

    value: float | None
    color: str


Steps = tuple[Step, ...]

NEUTRAL: Final[Steps] = (Step(None, PLAIN),)
"""Of what is neither good nor bad."""


def rising(good_at: float, fair_at: float) -> Steps:
    """The more the better."""
    return Step(None, RED), Step(fair_at, YELLOW), Step(good_at, GREEN)


def falling(fair_at: float, bad_at: float) -> Steps:
    """The less the better."""
    return Step(None, GREEN), Step(fair_at, YELLOW), Step(bad_at, RED)


def levels() -> Steps:
    """Of the perception index and of every score from 0 to 100."""
    found = PROFILES["wifi"].levels
    return Step(None, RED), Step(found.fair, ORANGE), Step(found.good, YELLOW), Step(found.excellent, GREEN)


def completeness() -> Steps:
    """Of what was measured, beside what should have been."""
    gates = PROFILES["wifi"].gates
    return rising(gates.publish, gates.flag)


def indicator(name: str, network: str = "wifi") -> Steps:
    """Of an indicator as measured: green passes the profile's mark, red scores 0. The other network's where this one
    does not rate it."""
    return _marked(_row(name, network))


def worst(name: str, network: str) -> float:
    """Where an indicator scores 0."""
    bad = _row(name, network).bad
    assert bad is not None, name
    return bad


def _row(name: str, network: str) -> Indicator:
    other = "gov" if network == "wifi" else "wifi"
    return next(row for which in (network, other) for row in PROFILES[which].indicators if row.id == name)


def _marked(row: Indicator) -> Steps:
    assert row.pass_ is not None, row.id
    bad = row.bad
    if row.id == "web":
        bad = 1000 * PROFILES["wifi"].web_log.t1_s
    elif row.id == "video":
        bad = PROFILES["wifi"].video.stall_ratio.bad
    assert bad is not None, row.id
    if row.pass_.op == ">=":
        return rising(row.pass_.v, bad)
    return falling(row.pass_.v, bad)


def limit(name: str, network: str = "wifi") -> Any:
    """A limit of the segment verdicts."""
    return getattr(PROFILES[network].verdict, name)
