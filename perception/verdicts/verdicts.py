"""Verdicts and incidents of a store: read what an hour needs, judge it, write it. Doing it again changes nothing."""

import statistics
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Literal

from contract.series import INCIDENT, ROLLUPS, VERDICT
from perception.rollups.jobs import Jobs
from perception.rollups.roll import HOUR_NS
from perception.scoring.profile import Profile
from perception.stored import Row, read
from perception.verdicts.hour import Hour
from perception.verdicts.incidents import (
    GAP_NS,
    Incident,
    gone,
    incident,
    merged,
    surest,
    with_causes,
)
from perception.verdicts.judge import judge
from perception.verdicts.sentences import Language, sentence
from perception.verdicts.verdict import Verdict
from store.interface import Store, StoreError
from store.point import MAX_TIME_NS, Point
from store.register import Names, Roll

READ: Final[dict[str, tuple[str, ...]]] = {
    "latency": ("rtt_min_ms", "rtt_p50_ms", "loss_ratio"),
    "dns": ("rtt_ms",),
    "web": ("tcp_ms",),
    "portal": ("portal_ms",),
    "wifi_link": ("rssi_dbm", "snr_db", "tx_retry_ratio", "busy_ratio", "beacon_loss"),
    "wifi_join": (),
    "throughput": ("down_mbps", "working_rise_ms"),
    "video": (),
    "path": (),
}
"""Probes and metrics that verdicts look at; of the others it counts what is missing or invalid."""
DAY_NS: Final = 24 * HOUR_NS
BACK_NS: Final = 60 * DAY_NS
"""An incident that began earlier is told as a new one."""
JOIN_HOURS: Final = 6
"""Looked back for the last joins."""


class Joins:
    """Joins of the hours before the one that is judged; hours behind one another are read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._hours: dict[int, list[Row]] = {}

    async def before(self, hour_ns: int) -> dict[str, list[Row]]:
        """By venue, the newest first.

        :raises StoreError: when they cannot be read.
        """
        wanted = range(hour_ns - HOUR_NS, hour_ns - (JOIN_HOURS + 1) * HOUR_NS, -HOUR_NS)
        self._hours = {
            at: self._hours[at]
            if at in self._hours
            else [row async for row in read(self._store, "wifi_join", at, at + HOUR_NS, metrics=())]
            for at in wanted
        }
        found: dict[str, list[Row]] = defaultdict(list)
        for rows in self._hours.values():
            for row in reversed(rows):
                found[row.venue].append(row)
        return found


class Verdicts:
    """Of one store."""

    def __init__(self, store: Store, roll: Roll, profiles: Mapping[str, Profile]) -> None:
        """:param profiles: by network, whose limits of verdicts hold."""
        self._store = store
        self._roll = roll
        self._profiles = profiles

    async def judge(self, hours: Sequence[int], jobs: Jobs) -> list[Verdict]:
        """Judge hours that were rolled up, of all networks, and bring the incidents around them up to date.

        :param hours: their starts, nanoseconds since 1970.
        :raises StoreError: when the store cannot be read or written.
        """
        found = await self.verdicts(hours, jobs)
        await self.incidents(found)
        return found

    async def verdicts(self, hours: Sequence[int], jobs: Jobs) -> list[Verdict]:
        """The first half of :meth:`judge`: nothing in it depends on other verdicts, so hours may be judged side by
        side.

        :raises StoreError: when the store cannot be read or written.
        """
        found: list[Verdict] = []
        joins = Joins(self._store)
        for hour_ns in sorted(hours):
            verdicts = await self._judged(hour_ns, joins, jobs)
            await self._write([verdict.point() for verdict in verdicts])
            found += verdicts
        return found

    async def incidents(self, verdicts: Iterable[Verdict]) -> None:
        """The second half of :meth:`judge`: what verdicts that are stored make of the incidents that they touch, and of
        those that are still open.

        :raises StoreError: when the store cannot be read or written.
        """
        lines: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
        for verdict in verdicts:
            lines[verdict.venue, verdict.network].append(verdict)
        if not lines:
            return
        begin_ns = min(verdict.time_ns for line in lines.values() for verdict in line)
        former = {one.key: one async for one in self._stored(begin_ns)}
        last_ns = await self._last_hour(begin_ns)
        standing = {key: one for key, one in former.items() if one.hours}
        for (venue, network), line in lines.items():
            start_ns = min(verdict.time_ns for verdict in line)
            end_ns = max(verdict.time_ns for verdict in line) + HOUR_NS
            around = [
                one
                for one in standing.values()
                if (one.venue, one.network) == (venue, network) and (one.open or one.near(start_ns, end_ns))
            ]
            if not around and not any(verdict.blames for verdict in line):
                continue
            start_ns = min([start_ns, *(one.time_ns for one in around)]) - GAP_NS
            end_ns = max([end_ns, *(one.end_ns for one in around)]) + GAP_NS
            where = {"venue": venue, "network": network}
            hours = [Verdict.of(row) async for row in self._store.rows(VERDICT.key, start_ns, end_ns, where=where)]
            for one in around:
                standing.pop(one.key)
            for group in merged(hours):
                made = self._incident(group, last_ns)
                standing[made.key] = made
        now = {one.key: one for one in with_causes(standing.values())}
        changed = [one for key, one in now.items() if former.get(key) != one]
        changed += [gone(one) for key, one in former.items() if key not in now and one.hours]
        await self._write([one.point() for one in changed])

    async def _judged(self, hour_ns: int, joins: "Joins", jobs: Jobs) -> list[Verdict]:
        rows = [
            row
            for probe, metrics in READ.items()
            async for row in read(self._store, probe, hour_ns, hour_ns + HOUR_NS, metrics=metrics)
        ]
        earlier = await joins.before(hour_ns)
        found: list[Verdict] = []
        for network, profile in self._profiles.items():
            venues = self._venues(network, hour_ns)
            if venues:
                hour = await self._hour(network, profile, hour_ns, venues, rows, earlier, jobs)
                found += [self._told(verdict) for verdict in judge(hour)]
        return found

    # -- what an hour needs

    def _venues(self, network: str, hour_ns: int) -> dict[str, frozenset[str]]:
        """Venues with the agents that the register puts there at any time of the hour."""
        found: dict[str, set[str]] = defaultdict(set)
        first, last = hour_ns // 1000, (hour_ns + HOUR_NS) // 1000
        for (agent, _), spans in self._roll.spans.items():
            for span in spans:
                if span.network == network and span.start_us < last and first < span.end_us:
                    found[span.venue].add(agent)
        return {venue: frozenset(agents) for venue, agents in found.items()}

    async def _hour(
        self,
        network: str,
        profile: Profile,
        hour_ns: int,
        venues: Mapping[str, frozenset[str]],
        rows: Sequence[Row],
        earlier_joins: Mapping[str, Sequence[Row]],
        jobs: Jobs,
    ) -> Hour:
        limits = profile.verdict
        own = [row for row in rows if row.network == network]
        quiet = [row for row in own if row.probe == "latency" and jobs.is_gateway(row.agent, row.target)]
        quiet = [row for row in quiet if row.attempted >= limits.min_attempted and not row.ok]
        silent = await self._silent(hour_ns, limits.silent_gateway_days, jobs) if quiet else frozenset()
        loaded = {
            row.venue
            for row in own
            if row.probe == "throughput" and (row.metric("working_rise_ms").maximum or 0) > limits.congested_rise_ms
        }
        return Hour(
            time_ns=hour_ns,
            network=network,
            venues=venues,
            rows=own,
            role=jobs.role,
            limits=limits,
            earlier_joins=earlier_joins,
            silent=silent,
            portals=self._portals(network, hour_ns),
            usual_down_mbps={venue: usual for venue in sorted(loaded)
                             if (usual := await self._usual(venue, hour_ns, limits.congestion_weeks)) is not None},
        )  # fmt: skip

    async def _silent(self, hour_ns: int, days: int, jobs: Jobs) -> frozenset[tuple[str, str]]:
        """Gateways that answered nothing in the days before, while something behind them did."""
        key, start_ns = ROLLUPS["latency"].key, hour_ns - days * DAY_NS
        buckets = await self._store.aggregate(
            key, "ok", "sum", by=("agent", "target"), start_ns=start_ns, end_ns=hour_ns, only_ok=False
        )
        answers = {(bucket.tags["agent"], bucket.tags["target"]): bucket.value for bucket in buckets}
        behind = {agent for (agent, target), ok in answers.items() if ok and not jobs.is_gateway(agent, target)}
        return frozenset(
            (agent, target)
            for (agent, target), ok in answers.items()
            if not ok and agent in behind and jobs.is_gateway(agent, target)
        )

    async def _usual(self, venue: str, hour_ns: int, weeks: int) -> float | None:
        """The median download of the same hour of the day over some weeks; None of less than a week."""
        rates = []
        for back in range(1, 7 * weeks + 1):
            start_ns = hour_ns - back * DAY_NS
            async for row in read(
                self._store, "throughput", start_ns, start_ns + HOUR_NS, metrics=("down_mbps",), where={"venue": venue}
            ):
                mean = row.metric("down_mbps").mean
                if mean is not None:
                    rates.append(mean)
        return statistics.median(rates) if len(rates) >= WEEK else None

    def _portals(self, network: str, hour_ns: int) -> frozenset[str]:
        """Venues whose allow-list entries had all ended when the hour began: there a portal stands by right."""
        at = datetime.fromtimestamp(hour_ns // 10**9, UTC)
        ends: dict[str, list[bool]] = defaultdict(list)
        for venue, until in self._roll.portals(network):
            ends[venue].append(until is not None and until <= at)
        return frozenset(venue for venue, ended in ends.items() if all(ended))

    # -- what is written

    def _told(self, verdict: Verdict) -> Verdict:
        return replace(verdict, zh=self._sentence(verdict, "zh"), en=self._sentence(verdict, "en"))

    def _sentence(self, verdict: Verdict, language: Language, end_ns: int = 0) -> str:
        venue = self._roll.venues.get(verdict.venue)
        names: Names | None = None if venue is None else venue.name
        return sentence(verdict, names, self._roll.zone, language, end_ns)

    def _incident(self, group: Sequence[Verdict], last_ns: int) -> Incident:
        told, end_ns = replace(surest(group), time_ns=group[0].time_ns), group[-1].time_ns + HOUR_NS
        zh, en = (self._sentence(told, language, end_ns) for language in _LANGUAGES)
        return replace(incident(group, last_ns), zh=zh, en=en)

    async def _stored(self, hour_ns: int) -> AsyncIterator[Incident]:
        async for row in self._store.rows(INCIDENT.key, hour_ns - BACK_NS, MAX_TIME_NS):
            yield Incident.of(row)

    async def _last_hour(self, hour_ns: int) -> int:
        """Start of the newest hour that has a verdict."""
        rows = await self._store.latest(VERDICT.key, ("network",), since_ns=hour_ns)
        return max((row.time_ns for row in rows), default=hour_ns)

    async def _write(self, points: Sequence[Point]) -> None:
        for refusal in await self._store.write(points) if points else ():
            raise StoreError(f"the store refuses a verdict: {refusal.message}")


WEEK: Final = 7
_LANGUAGES: Final[tuple[Literal["zh"], Literal["en"]]] = ("zh", "en")
