"""What a verdict is found from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from perception.scoring.profile import Verdict as Limits
from perception.stored import Row


@dataclass(frozen=True, kw_only=True)
class Hour:
    """One hour of all venues of a network."""

    time_ns: int
    """Its start, nanoseconds since 1970."""
    network: str
    """``wifi`` or ``gov``."""
    venues: Mapping[str, frozenset[str]]
    """Every venue that the register knows in this hour, with its agents."""
    rows: Sequence[Row]
    """The hour's rollups, of any probe."""
    role: Callable[[str, str], str]
    """By agent and target: ``gateway``, ``core``, ``internet``, ``service``, or anything else."""
    limits: Limits
    earlier_joins: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    """By venue, rows of ``wifi_join`` of the hours before, the newest first."""
    silent: frozenset[tuple[str, str]] = frozenset()
    """(agent, target) of gateways that did not answer for a week while something behind them did."""
    portals: frozenset[str] = frozenset()
    """Venues where the register expects a portal to stand in the way."""
    usual_down_mbps: Mapping[str, float] = field(default_factory=dict)
    """By venue, the median of the same hour of the day over the last weeks."""
