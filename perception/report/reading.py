"""A week out of the store, and the hash of what was read."""

import hashlib
import math
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

import msgspec
import numpy as np

from contract.record import NO_TARGET
from contract.series import FLEET, INCIDENT, INDICATORS, ROLLUPS, SCORE, VERDICT
from perception import stored as rollup_rows
from perception.report.facts import (
    CHART_WEEKS,
    LOOK_BACK,
    NETWORKS,
    SURE,
    At,
    Blame,
    Counts,
    Delay,
    Fields,
    Incident,
    Setting,
    Stored,
)
from perception.report.model import Text
from perception.report.sections.upgrades import concerned, needed
from perception.rollups.jobs import Jobs
from perception.rollups.roll import HOUR_NS
from perception.scores import stored as scores
from perception.sketch import Sketch, add_encoded
from perception.week import Week, midnight_ns
from store.interface import Aggregation, Block, Store

COUNTED: Final = ("n", "ok", "failed", "invalid", "skipped", "planned", "expected")
EARLIER: Final = ("ppi", "missing", *INDICATORS)
_UP_AND_KNOWN: Final[tuple[Aggregation, Aggregation]] = ("sum", "count")
DAY_NS: Final = 24 * HOUR_NS


async def read(store: Store, setting: Setting) -> Stored:
    """Everything that the report of a week is made of.

    :raises StoreError: when it cannot be read.
    """
    week = setting.week
    start_ns, end_ns = week.start_ns(setting.zone), week.end_ns(setting.zone)
    compared = setting.calendar.comparable(week)
    wanted = [week.shifted(-n) for n in range(max(LOOK_BACK, CHART_WEEKS) + 1)]
    wanted += [other for other in (week.last_year, setting.baseline) if other is not None]
    slots: dict[tuple[str, str, str], Counts] = {}
    for probe in ROLLUPS:
        slots |= await _slots(store, probe, start_ns, end_ns)
    blame, judged = await _blame(store, start_ns, end_ns)
    return Stored(
        weeks={one: await _scores(store, setting, one) for one in dict.fromkeys(wanted)},
        days=await _days(store, setting),
        hours={one: await _hours(store, setting, one) for one in (week, compared) if one is not None},
        slots=slots,
        blame=blame,
        judged_hours=judged,
        incidents=await _incidents(store, start_ns, end_ns),
        delays=await _delays(store, setting, start_ns, end_ns),
        signals=await _signals(store, setting),
        online=await _online(store, start_ns, end_ns),
    )


def sha256(stored: Stored, setting: Setting, files: Mapping[str, bytes]) -> str:
    """Of the input: what was read, profiles, and the files (site register, calendar, measures) as they are."""
    digest = hashlib.sha256()
    for part in _parts(stored, setting, files):
        digest.update(msgspec.json.encode(part, order="sorted"))
        digest.update(b"\n")
    return digest.hexdigest()


def _parts(stored: Stored, setting: Setting, files: Mapping[str, bytes]) -> list[Any]:
    profiles = [profile for of in (setting.profiles, setting.beside) for listed in of.values() for profile in listed]
    return [
        str(setting.week),
        msgspec.to_builtins((setting.district, setting.author)),
        [profile.sha256 for profile in profiles],
        {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
        _keyed({str(week): _keyed(scores) for week, scores in stored.weeks.items()}),
        _keyed({at: {day.isoformat(): x for day, x in days.items()} for at, days in stored.days.items()}),
        _keyed(
            {
                str(week): _keyed({at: sorted(of.items()) for at, of in found.items()})
                for week, found in stored.hours.items()
            }
        ),
        [(*key, vars(counts) | {"reasons": dict(counts.reasons)}) for key, counts in sorted(stored.slots.items())],
        _keyed({at: {name: vars(one) for name, one in found.items()} for at, found in stored.blame.items()}),
        [vars(incident) for incident in stored.incidents],
        _keyed(stored.delays),
        _keyed({slug: {day.isoformat(): x for day, x in days.items()} for slug, days in stored.signals.items()}),
        _keyed(stored.online),
    ]


def _keyed(table: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    """In the order of the keys, whatever order a store gave."""
    return sorted(table.items(), key=lambda item: item[0])


async def _scores(store: Store, setting: Setting, week: Week) -> dict[At, Fields]:
    """Of a week; of an earlier one only what sections look back at."""
    at_ns = week.start_ns(setting.zone)
    names = SCORE.fields.keys() if week == setting.week else EARLIER
    found: dict[At, Fields] = {}
    async for one in scores.read(store, "week", at_ns, at_ns + 1):
        known = {name: x for name in names if (x := one.fields.get(name)) is not None}
        found[At(one.venue, one.network, one.profile)] = known
    return found


async def _ppi(store: Store, period: str, start_ns: int, end_ns: int) -> AsyncIterator[tuple[At, int, float]]:
    """The index alone, of many hours or days: whose, when, and what; where it was rated."""
    async for block in store.columns(SCORE.key, ["ppi", "absent"], start_ns, end_ns, where={"period": period}):
        tags = dict(zip(SCORE.tags, block.tags, strict=True))
        places = zip(tags["venue"], tags["network"], tags["profile"], strict=True)
        told = zip(places, block.time_ns, block.fields["ppi"], block.fields["absent"], strict=True)
        for place, time_ns, ppi, absent in told:
            if isinstance(ppi, int | float) and "ppi" not in str(absent).split(","):
                yield At(*place), time_ns, float(ppi)


async def _days(store: Store, setting: Setting) -> dict[At, dict[date, float]]:
    """Of this week, and of the windows around upgrades."""
    found: dict[At, dict[date, float]] = {}
    for day in sorted({*setting.week.days, *needed(setting)}):
        at_ns = midnight_ns(day, setting.zone)
        async for at, _, ppi in _ppi(store, "day", at_ns, at_ns + 1):
            found.setdefault(at, {})[day] = ppi
    return found


async def _hours(store: Store, setting: Setting, week: Week) -> dict[At, dict[int, float]]:
    """Hour scores by hour of the week."""
    start_ns, end_ns = week.start_ns(setting.zone), week.end_ns(setting.zone)
    series = {profile.series for listed in setting.profiles.values() for profile in listed}
    found: dict[At, dict[int, float]] = {}
    async for at, time_ns, ppi in _ppi(store, "hour", start_ns, end_ns):
        if at.profile in series:
            found.setdefault(at, {})[(time_ns - start_ns) // HOUR_NS] = ppi
    return found


async def _slots(store: Store, probe: str, start_ns: int, end_ns: int) -> dict[tuple[str, str, str], Counts]:
    """What became of a probe's slots, by venue and network."""
    found: dict[tuple[str, str, str], Counts] = {}
    table = ROLLUPS[probe]
    venue_tag, network_tag = table.tags.index("venue"), table.tags.index("network")
    async for block in store.columns(table.key, [*COUNTED, "reasons"], start_ns, end_ns):
        keys = list(zip(block.tags[venue_tag], block.tags[network_tag], strict=True))
        for key, numbers in _summed(keys, block).items():
            counts = found.setdefault((*key, probe), Counts())
            for name, number in zip(COUNTED, numbers, strict=True):
                setattr(counts, name, getattr(counts, name) + number)
        # A word stands in few rows, and the same words in many: each is taken apart once.
        told = zip(keys, block.fields["reasons"], strict=True)
        for (key, reasons), times in Counter(one for one in told if one[1]).items():
            counts = found[(*key, probe)]
            for name, count in rollup_rows.counted(str(reasons)).items():
                counts.reasons[name] += count * times
    return found


def _summed(keys: Sequence[tuple[str, str]], block: Block) -> dict[tuple[str, str], list[int]]:
    place = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    at = np.fromiter((place[key] for key in keys), np.int64, len(keys))
    sums = [
        np.bincount(at, weights=np.nan_to_num(np.array(block.fields[name], np.float64)), minlength=len(place))
        for name in COUNTED
    ]
    return {key: [int(total[number]) for total in sums] for key, number in place.items()}


async def _blame(
    store: Store, start_ns: int, end_ns: int
) -> tuple[dict[tuple[str, str], dict[str, Blame]], dict[tuple[str, str], int]]:
    """Hours that verdicts of medium confidence or more blame on a segment, and hours that were judged."""
    found: dict[tuple[str, str], dict[str, Blame]] = {}
    judged: Counter[tuple[str, str]] = Counter()
    fields = ["segment", "confidence", "zh", "en"]
    async for block in store.columns(VERDICT.key, fields, start_ns, end_ns):
        places = zip(*block.tags, strict=True)
        for place, (segment, sure, zh, en) in zip(
            places, zip(*(block.fields[name] for name in fields), strict=True), strict=True
        ):
            venue, network = place
            if segment is None:
                continue
            judged[venue, network] += 1
            if isinstance(sure, int | float) and sure >= SURE:
                blame = found.setdefault((venue, network), {}).setdefault(str(segment), Blame())
                blame.hours += 1
                blame.sentence = Text(str(zh or ""), str(en or zh or ""))
    return found, dict(judged)


async def _incidents(store: Store, start_ns: int, end_ns: int) -> list[Incident]:
    """Those that lasted into the week, begun at most four weeks before it."""
    found: list[Incident] = []
    async for row in store.rows(INCIDENT.key, start_ns - 4 * 7 * DAY_NS, end_ns):
        hours, end_s, sure = (row.fields.get(name) for name in ("hours", "end_s", "confidence"))
        if not hours or not isinstance(end_s, int | float) or end_s * 1e9 <= start_ns:
            continue
        zh, en = str(row.fields.get("zh") or ""), str(row.fields.get("en") or "")
        found.append(
            Incident(
                venue=row.tags["venue"],
                network=row.tags["network"],
                segment=row.tags["segment"],
                start_ns=row.time_ns,
                end_ns=round(end_s) * 10**9,
                hours=int(hours),
                confidence=float(sure or 0.0),
                sentence=Text(zh, en or zh),
            )
        )
    return sorted(found, key=lambda one: (one.start_ns, one.network, one.venue, one.segment))


async def _delays(store: Store, setting: Setting, start_ns: int, end_ns: int) -> dict[str, Delay]:
    """Round trips of government nodes to the core."""
    jobs = await Jobs.load(store, setting.roll, start_ns, end_ns)
    table = ROLLUPS["latency"]
    buckets: dict[str, dict[int, int]] = {}
    failures: Counter[str] = Counter()
    fields = ["rtt_p50_ms_sketch"]
    async for block in store.columns(table.key, fields, start_ns, end_ns, where={"network": "gov"}):
        agents, venues, targets = (block.tags[table.tags.index(tag)] for tag in ("agent", "venue", "target"))
        for agent, venue, target, sketch in zip(agents, venues, targets, block.fields[fields[0]], strict=True):
            if sketch and target != NO_TARGET and jobs.role(agent, target) == "core":
                failures[venue] += add_encoded(buckets.setdefault(venue, {}), str(sketch))
    found = {}
    for venue, counts in buckets.items():
        total = Sketch(counts, failures[venue])
        found[venue] = Delay(total.quantile(0.5), total.quantile(0.95), total.count)
    return found


async def _signals(store: Store, setting: Setting) -> dict[str, dict[date, float]]:
    """Mean signal of the days around upgrades, of upgraded venues and their controls: each day read once for all."""
    venues, table = concerned(setting), ROLLUPS["wifi_link"]
    found: dict[str, dict[date, float]] = {}
    for day in sorted(needed(setting)):
        start_ns, end_ns = midnight_ns(day, setting.zone), midnight_ns(day + timedelta(days=1), setting.zone)
        sums: dict[str, list[float]] = {}
        async for block in store.columns(
            table.key, ["rssi_dbm_sum", "rssi_dbm_n"], start_ns, end_ns, where={"network": "wifi"}
        ):
            names = block.tags[table.tags.index("venue")]
            for venue, total, n in zip(names, block.fields["rssi_dbm_sum"], block.fields["rssi_dbm_n"], strict=True):
                if n and venue in venues:
                    sums.setdefault(venue, []).extend((float(total or 0.0), float(n)))
        for venue, parts in sums.items():
            found.setdefault(venue, {})[day] = math.fsum(parts[::2]) / sum(parts[1::2])
    return {venue: found[venue] for venue in sorted(found)}


async def _online(store: Store, start_ns: int, end_ns: int) -> dict[str, tuple[float, int]]:
    """Minutes online, and minutes known, by network. Asked network by network: grouping ten million minutes would take
    most of the report's time."""
    found: dict[str, tuple[float, int]] = {}
    for network in NETWORKS:
        up, known = [
            await store.aggregate(
                FLEET.key,
                "online",
                how,
                by=[],
                start_ns=start_ns,
                end_ns=end_ns,
                where={"network": network},
                only_ok=False,
            )
            for how in _UP_AND_KNOWN
        ]
        if known:
            found[network] = (up[0].value, int(known[0].value))
    return found
