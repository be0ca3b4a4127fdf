"""Every registered agent, once a minute: is it there, since when is it silent, how complete was its last hour.

A query cannot see what is not there; so this walks the register, not the data.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from contract.series import FLEET, ROLLUPS, STATUS
from contract.values import VALUES
from perception.rollups.roll import HOUR_NS
from perception.stored import Row, read
from store.interface import Store
from store.point import Point
from store.register import Register

MINUTE_NS: Final = 60 * 10**9
ALIVE_S: Final = 180.0
"""A record so young proves that its agent is there, whatever an old connection's will says."""
LOOK_BACK_NS: Final = 10 * MINUTE_NS
"""Records are looked for so far before the last look: they take a moment to arrive."""
DAY_NS: Final = 24 * HOUR_NS


class FleetWatch:
    """Remembers the newest record of every agent, so that each minute reads only what is new."""

    def __init__(self, store: Store, register: Register, *, back_days: int) -> None:
        """:param back_days: how far to look for the last record of an agent that is silent at the start."""
        self._store = store
        self._register = register
        self._back_ns = back_days * DAY_NS
        self._newest_ns: dict[str, int] = {}
        self._looked_ns: int | None = None
        self._complete: dict[str, float | None] = {}
        self._complete_ns = -1

    def closed(self, rows: Iterable[Row]) -> None:
        """Take the rows of the last whole hour."""
        records: dict[str, int] = defaultdict(int)
        expected: dict[str, int] = defaultdict(int)
        for row in rows:
            if row.time_ns < self._complete_ns:
                return
            self._complete_ns = row.time_ns
            if row.probe != "wifi_event":
                records[row.agent] += row.n
                expected[row.agent] += row.expected
        self._complete = {agent: min(1.0, records[agent] / n) if n else None for agent, n in expected.items()}

    async def points(self, now_ns: int) -> list[Point]:
        """One point for each registered agent and minute.

        :raises StoreError: when the store cannot be read.
        """
        await self._look(now_ns)
        said = {
            row.tags["agent"]: row.fields.get("online")
            for row in await self._store.latest(STATUS.name, ["agent"], since_ns=now_ns - self._back_ns)
        }
        minute_ns = now_ns // MINUTE_NS * MINUTE_NS
        seen: dict[tuple[str, str, str], None] = {
            (site.agent, site.venue, site.network): None
            for site in self._register.sites(datetime.fromtimestamp(now_ns / 10**9, UTC))
        }
        points = []
        for tags in seen:
            newest_ns = self._newest_ns.get(tags[0])
            silent_s = None if newest_ns is None else max(0.0, (now_ns - newest_ns) / 10**9)
            alive = silent_s is not None and silent_s <= ALIVE_S
            online = int(alive or said.get(tags[0]) == 1)
            points.append(Point(FLEET.name, tags, minute_ns, (online, silent_s, self._complete.get(tags[0]))))
        return points

    async def _look(self, now_ns: int) -> None:
        if self._looked_ns is None:
            start_ns = max(now_ns - DAY_NS, min(now_ns - HOUR_NS, await self._look_back(now_ns)))
        else:
            start_ns = self._looked_ns - LOOK_BACK_NS
        for probe in VALUES:
            await self._note(probe, start_ns, now_ns + LOOK_BACK_NS)
        self._looked_ns = now_ns

    async def _note(self, probe: str, start_ns: int, end_ns: int, agent: str | None = None) -> None:
        where = None if agent is None else {"agent": agent}
        async for block in self._store.columns(probe, ["ok"], start_ns, end_ns, where=where):
            for time_ns, name in zip(block.time_ns, block.tags[0], strict=True):
                if time_ns > self._newest_ns.get(name, 0):
                    self._newest_ns[name] = time_ns

    async def _look_back(self, now_ns: int) -> int:
        """At the start: the newest hour that has records of an agent, and in it the newest record. Tells the newest
        hour of all: what came after it was not rolled up yet."""
        last_hour: dict[str, tuple[int, str]] = {}
        for probe in ("agent", "latency", "wifi_link", "dns", "web"):
            key = ROLLUPS[probe].key
            async for block in self._store.columns(key, ["n"], now_ns - self._back_ns, now_ns):
                for time_ns, name, n in zip(block.time_ns, block.tags[0], block.fields["n"], strict=True):
                    if n and time_ns > last_hour.get(name, (0, ""))[0]:
                        last_hour[name] = (time_ns, probe)
        for name, (time_ns, probe) in last_hour.items():
            if time_ns < now_ns - HOUR_NS:
                await self._note(probe, time_ns, time_ns + HOUR_NS, agent=name)
        closed_ns = now_ns // HOUR_NS * HOUR_NS - HOUR_NS
        self.closed(
            [row for p in VALUES async for row in read(self._store, p, closed_ns, closed_ns + HOUR_NS, metrics=())]
        )
        return max((time_ns for time_ns, _ in last_hour.values()), default=now_ns)
