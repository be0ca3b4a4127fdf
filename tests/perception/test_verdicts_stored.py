"""Verdicts and incidents of a store: a simulated network with faults, an hour judged twice, records that come late."""

from collections.abc import Sequence
from pathlib import Path

from contract.series import INCIDENT, VERDICT
from contract.values import VALUES
from perception.rollups.roll import HOUR_NS
from perception.rollups.roller import Roller
from perception.verdicts.incidents import Incident
from perception.verdicts.verdict import Verdict
from perception.verdicts.verdicts import Verdicts
from simulator.faults import Fault
from store.interface import Store
from tests.perception.district import DISTRICT, fill, measured, place
from tests.store.conftest import influx, sqlite, store
from tests.store.points import T0

__all__ = ["influx", "sqlite", "store"]

HOURS = 6
MINUTE = T0 // (60 * 10**9)
HERE = DISTRICT.venues[0].slug


def fault(kind: str, first: float, last: float, strength: float = 1.0) -> Fault:
    return Fault(kind, HERE, MINUTE + round(60 * first), MINUTE + round(60 * last), strength)


async def judged(store: Store, folder: Path, hours: Sequence[int] = range(HOURS)) -> None:
    where = place(folder)
    roller, verdicts = Roller(store, where), Verdicts(store, where.roll, where.profiles)
    jobs = await roller.jobs(T0, T0 + HOURS * HOUR_NS)
    for hour in hours:
        await roller.roll(T0 + hour * HOUR_NS, jobs)
        await verdicts.judge([T0 + hour * HOUR_NS], jobs)


async def verdicts_of(store: Store, venue: str = HERE) -> list[Verdict]:
    return [Verdict.of(row) async for row in store.rows(VERDICT.key, 0, 2**62, where={"venue": venue})]


async def incidents(store: Store) -> list[Incident]:
    return [Incident.of(row) async for row in store.rows(INCIDENT.key, 0, 2**62)]


async def test_a_fault_becomes_one_incident_told_in_two_languages(store: Store, tmp_path: Path) -> None:
    await fill(store, measured(HOURS, [fault("dns_hijack", 1, 3), fault("dns_hijack", 4, 5)]))
    await judged(store, tmp_path)
    assert [verdict.segment for verdict in await verdicts_of(store)] == ["none", "dns", "dns", "none", "dns", "none"]
    (found,) = await incidents(store)
    assert (found.venue, found.segment, found.hours) == (HERE, "dns", 3)
    assert found.time_ns == T0 + HOUR_NS
    assert found.end_ns == T0 + 5 * HOUR_NS
    assert (found.confidence, found.scope, found.venues) == (0.9, "venue", 1)
    assert found.zh.startswith(DISTRICT.venues[0].zh)
    assert found.en.startswith(DISTRICT.venues[0].en)
    assert found.zh.endswith("：DNS（置信度高）。")
    assert found.en.endswith(": DNS (confidence high).")


async def test_late_records_say_what_silence_hid(sqlite: Store, tmp_path: Path) -> None:
    """An outage of the uplink keeps an agent silent; its records come after it and end what was said of the agent."""
    points = measured(HOURS, [fault("uplink_outage", 1, 4)])
    inside = range(T0 + HOUR_NS, T0 + 4 * HOUR_NS)
    late = [p for p in points if p.series in VALUES and p.tags[1] == HERE and p.time_ns in inside]
    missing = {id(p) for p in late}
    await fill(sqlite, [p for p in points if id(p) not in missing])
    await judged(sqlite, tmp_path)
    assert [v.segment for v in await verdicts_of(sqlite)] == ["none", "agent", "agent", "agent", "none", "none"]
    (silent,) = await incidents(sqlite)
    assert (silent.segment, silent.confidence, silent.hours) == ("agent", 0.3, 3)
    assert silent.zh.split("：", 1)[1].startswith("疑似：")
    assert ": Possibly: agent fault" in silent.en
    await fill(sqlite, late)
    await judged(sqlite, tmp_path, [3, 1, 2])
    assert [v.segment for v in await verdicts_of(sqlite)] == ["none", *["uplink"] * 3, "none", "none"]
    assert {(one.segment, one.hours) for one in await incidents(sqlite)} == {("agent", 0), ("uplink", 0), ("uplink", 3)}


async def test_the_order_of_hours_does_not_matter_nor_does_judging_again(sqlite: Store, tmp_path: Path) -> None:
    await fill(sqlite, measured(HOURS, [fault("lan_fault", 1, 5)]))
    await judged(sqlite, tmp_path, [0, 1, 3, 4, 2, 5])
    standing = [one for one in await incidents(sqlite) if one.hours]
    assert [(one.segment, one.hours, one.time_ns) for one in standing] == [("lan", 4, T0 + HOUR_NS)]
    before = await verdicts_of(sqlite), await incidents(sqlite)
    await judged(sqlite, tmp_path, [5, 4, 3, 2, 1, 0])
    assert (await verdicts_of(sqlite), await incidents(sqlite)) == before


async def test_hours_judged_together_are_as_if_one_by_one(sqlite: Store, tmp_path: Path) -> None:
    faults = [fault("lan_fault", 1, 2), fault("dns_hijack", 2, 4), fault("lan_fault", 4, 6)]
    await fill(sqlite, measured(HOURS, faults))
    await judged(sqlite, tmp_path)
    before = await verdicts_of(sqlite), await incidents(sqlite)
    assert len([one for one in before[1] if one.hours]) == 3
    where = place(tmp_path)
    jobs = await Roller(sqlite, where).jobs(T0, T0 + HOURS * HOUR_NS)
    verdicts = Verdicts(sqlite, where.roll, where.profiles)
    hours = range(T0, T0 + HOURS * HOUR_NS, HOUR_NS)
    for together in (hours, hours[2:4]):
        await verdicts.judge(together, jobs)
        assert (await verdicts_of(sqlite), await incidents(sqlite)) == before


async def test_one_that_goes_on_is_open(sqlite: Store, tmp_path: Path) -> None:
    await fill(sqlite, measured(HOURS, [fault("lan_fault", 1, 3)]))
    states = []
    for hour in range(HOURS):
        await judged(sqlite, tmp_path, [hour])
        states.append([one.open for one in await incidents(sqlite)])
    assert states == [[], [1], [1], [1], [0], [0]]
