"""What was to be expected of whom: the announced jobs, as they stood at any time."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from typing import Final, NamedTuple, Self

from contract.schedule import phase_s
from contract.series import JOBS
from perception.rollups.roll import Tags
from store.interface import Row, Store
from store.point import MAX_TIME_NS
from store.register import Roll

LOOK_BACK_NS: Final = 8 * 86_400 * 10**9
"""The collector notes every job once a day. Of an agent that is not found so far back, the last word is looked up."""

MODE: Final = {"throughput": ("quick",)}
"""The mode is part of what places a job's slots, and is not announced: of two modes in one series the more frequent is,
and that is this one."""

Identity = tuple[str, str, str, str, str, str]
"""In the order of the tags of :data:`contract.series.JOBS`."""


class Word(NamedTuple):
    """What the series says from a time on."""

    time_ns: int
    period_s: float
    """0: the job has gone."""
    role: str


class Jobs:
    """Every job of some agents, with its history over a window."""

    def __init__(self, rows: Iterable[Row]) -> None:
        """:param rows: of the series ``jobs``, oldest first."""
        self._words: dict[Identity, list[Word]] = defaultdict(list)
        self._roles: dict[tuple[str, str], str] = {}
        for row in rows:
            agent, probe, target, interface, provider, resolver = (row.tags[tag] for tag in JOBS.tags)
            announced, period_s = row.fields.get("announced"), row.fields.get("period_s")
            role = str(row.fields.get("role") or "")
            period = float(period_s) if announced and period_s else 0.0
            words = self._words[agent, probe, target, interface, provider, resolver]
            if not words or words[-1][1:] != (period, role):  # the same again every day says nothing new
                words.append(Word(row.time_ns, period, role))
            if role:
                self._roles[agent, target] = role

    @classmethod
    async def load(cls, store: Store, roll: Roll, start_ns: int, end_ns: int, *, agent: str | None = None) -> Self:
        """The jobs of registered agents, or of one of them, over a window.

        :raises StoreError: when they cannot be read.
        """
        where = None if agent is None else {"agent": agent}
        rows = [row async for row in store.rows(JOBS.name, start_ns - LOOK_BACK_NS, end_ns, where=where)]
        found = {row.tags["agent"] for row in rows}
        wanted = roll.agents if agent is None else {agent}
        if wanted - found:
            for row in await store.latest(JOBS.name, JOBS.tags, since_ns=0, where=where):
                if row.tags["agent"] not in found and row.time_ns < end_ns:
                    rows.append(row)
        return cls(sorted(rows, key=lambda row: row.time_ns))

    def role(self, agent: str, target: str) -> str:
        """The announced one; the target's own name where nobody told any."""
        return self._roles.get((agent, target), target)

    def agents(self, probe: str) -> frozenset[str]:
        """Those that had a job of a probe at any time of the window."""
        return frozenset(
            identity[0]
            for identity, words in self._words.items()
            if identity[1] == probe and any(word.period_s > 0 for word in words)
        )

    def is_gateway(self, agent: str, target: str) -> bool:
        """Whether a target is the agent's first hop."""
        return self.role(agent, target) == "gateway"

    def expected(self, roll: Roll, start_ns: int, end_ns: int) -> dict[str, dict[Tags, int]]:
        """Slots of [start, end) by probe and rollup series, where the register knows the agent's interface."""
        found: dict[str, dict[Tags, int]] = defaultdict(lambda: defaultdict(int))
        for (agent, probe, target, interface, provider, resolver), words in self._words.items():
            for begin_ns, stop_ns, period_s in _held(words, start_ns, end_ns):
                key = (probe, target, interface, provider, resolver, *MODE.get(probe, ()))
                phase_ns = round(phase_s(agent, key, period_s) * 1_000_000_000)
                for span in roll.spans.get((agent, interface), ()):
                    begin = max(begin_ns, min(span.start_us * 1000, MAX_TIME_NS))
                    stop = min(stop_ns, span.end_us * 1000)
                    if begin < stop:
                        tags = (agent, span.venue, span.network, target, provider, resolver)
                        found[probe][tags] += slots(begin, stop, round(period_s * 1e9), phase_ns)
        return {probe: dict(series) for probe, series in found.items()}


def slots(start_ns: int, end_ns: int, period_ns: int, phase_ns: int) -> int:
    """How many slots lie in [start, end)."""
    return -(-(end_ns - phase_ns) // period_ns) - -(-(start_ns - phase_ns) // period_ns)


def _held(words: list[Word], start_ns: int, end_ns: int) -> Iterable[tuple[int, int, float]]:
    """Parts of the window in which a job stood, with its period."""
    place = max(0, bisect_right(words, start_ns, key=lambda word: word.time_ns) - 1)
    for number in range(place, len(words)):
        word = words[number]
        begin = max(start_ns, word.time_ns)
        stop = min(end_ns, words[number + 1].time_ns) if number + 1 < len(words) else end_ns
        if word.period_s > 0 and begin < stop:
            yield begin, stop, word.period_s
