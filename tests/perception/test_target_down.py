"""A target that is away for everybody leaves the scores; an outage, and one venue's trouble, stay."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from perception import profiles
from perception.rollups.raw import OUTCOMES, Raw
from perception.rollups.roll import HOUR_NS
from perception.rollups.roller import Roller
from perception.rollups.target_down import Seen, added, find, relabelled, seen, seen_in
from perception.scoring.profile import Verdict
from perception.stored import Row
from simulator.faults import Fault
from store.interface import Store
from tests.perception.district import DISTRICT, fill, measured, place
from tests.store.conftest import influx, sqlite, store
from tests.store.points import T0

__all__ = ["influx", "sqlite", "store"]

LIMITS = profiles.named("wifi-public-2026").verdict
ROLES = {"core": "core", "news": "internet", "search": "internet", "gateway": "gateway", "hall": "service"}
GOOD, BAD, FEW = Seen(60, 3), Seen(60, 30), Seen(5, 5)


def role(agent: str, target: str) -> str:
    return ROLES[target]


def limits(network: str) -> Verdict | None:
    return LIMITS if network == "wifi" else None


def sight(states: Mapping[str, Mapping[str, Seen]], network: str = "wifi") -> dict[tuple[str, str, str, str], Seen]:
    """By agent and target; every agent at a venue of its own."""
    return {
        (agent, f"venue-{agent}", network, target): one
        for agent, all_ in states.items()
        for target, one in all_.items()
    }


def away(states: Mapping[str, Mapping[str, Seen]]) -> set[tuple[str, str]]:
    return set(find(sight(states), role, limits))


def test_away_at_three_venues_while_others_behind_the_same_segment_answer() -> None:
    states = {agent: {"core": BAD, "news": GOOD} for agent in "abc"} | {"d": {"core": GOOD, "news": GOOD}}
    assert away(states) == {("a", "core"), ("b", "core"), ("c", "core")}


def test_two_venues_are_too_few() -> None:
    assert away({agent: {"core": BAD, "news": GOOD} for agent in "ab"}) == set()


def test_one_venue_with_three_agents_is_one_venue() -> None:
    states = sight({agent: {"core": BAD, "news": GOOD} for agent in "abc"})
    moved = {(agent, "hall", network, target): one for (agent, _, network, target), one in states.items()}
    assert find(moved, role, limits) == frozenset()


def test_three_of_many_venues_are_their_own_trouble() -> None:
    bad = {agent: {"core": BAD, "news": GOOD} for agent in "abc"}
    good = {agent: {"core": GOOD, "news": GOOD} for agent in "defg"}
    assert away(bad | good) == set()


@pytest.mark.parametrize("other", [BAD, FEW])
def test_nothing_else_that_answers_is_an_outage(other: Seen) -> None:
    assert away({agent: {"core": BAD, "news": other} for agent in "abcd"}) == set()


def test_the_core_does_not_vouch_for_the_way_to_the_internet() -> None:
    assert away({agent: {"core": GOOD, "news": BAD} for agent in "abc"}) == set()
    assert away({agent: {"core": GOOD, "news": BAD, "search": GOOD} for agent in "abc"}) == {
        (agent, "news") for agent in "abc"
    }
    assert away({agent: {"core": GOOD, "hall": BAD} for agent in "abc"}) == {(agent, "hall") for agent in "abc"}


def test_a_gateway_is_nobody_else_s_target() -> None:
    assert away({agent: {"gateway": BAD, "core": GOOD, "news": GOOD} for agent in "abc"}) == set()


def test_agents_with_nothing_good_keep_their_outage() -> None:
    states = {agent: {"core": BAD, "news": GOOD} for agent in "abc"} | {"d": {"core": BAD, "news": BAD}}
    assert away(states) == {(agent, "core") for agent in "abc"}


def test_too_few_tests_say_nothing() -> None:
    assert away({agent: {"core": FEW, "news": GOOD} for agent in "abcd"}) == set()


def test_a_network_without_a_profile_is_left_alone() -> None:
    states = sight({agent: {"core": BAD, "news": GOOD} for agent in "abc"}, network="gov")
    assert find(states, role, limits) == frozenset()


def made(agent: str, outcomes: list[tuple[str, str]]) -> Raw:
    """Slots of one agent's latency to `core`."""
    words = ["", *dict.fromkeys(reason for _, reason in outcomes if reason)]
    n = len(outcomes)
    return Raw(
        tags=[(agent, f"venue-{agent}", "wifi", "core", "wlan0", "", "")],
        series=np.zeros(n, np.int64),
        time_ns=np.arange(n) * 60 * 10**9,
        outcome=np.array([OUTCOMES[outcome] for outcome, _ in outcomes], np.int64),
        words=words,
        reason=np.array([words.index(reason) for _, reason in outcomes], np.int64),
        label=np.zeros(n, np.int64),
        values={"rtt_p50_ms": np.full(n, np.nan)},
    )


SLOTS = [
    ("ok", ""),
    ("failed", "all_lost"),
    ("failed", "not_associated"),
    ("invalid", "cpu_limited"),
    ("skipped", "busy"),
]


def test_only_what_may_be_the_target_s_fault_is_counted_and_relabelled() -> None:
    raw = made("a", SLOTS)
    key = ("a", "venue-a", "wifi", "core")
    assert seen(raw) == {key: (2, 1)}
    assert relabelled(raw, frozenset({("b", "core")})) is raw
    after = relabelled(raw, frozenset({("a", "core")}))
    names = {place: name for name, place in OUTCOMES.items()}
    told = [(names[o], after.words[r]) for o, r in zip(after.outcome.tolist(), after.reason.tolist(), strict=True)]
    assert told == [SLOTS[0], ("invalid", "target_down"), *SLOTS[2:]]
    assert raw.outcome[1] == OUTCOMES["failed"]


def test_what_was_relabelled_before_is_seen_as_failed_again() -> None:
    reasons = {"target_down": 30, "all_lost": 2, "not_associated": 5}
    row = Row(probe="latency", time_ns=0, agent="a", venue="v", network="wifi", target="core", ok=28, reasons=reasons)
    assert seen_in([row]) == {("a", "v", "wifi", "core"): (60, 32)}
    assert added([seen_in([row]), seen_in([row])]) == {("a", "v", "wifi", "core"): (120, 64)}


# In a store

WIFI = {venue.slug for venue in DISTRICT.venues if venue.network == "wifi"}
MINUTE = T0 // (60 * 10**9)


def faults(venues: set[str]) -> list[Fault]:
    return [Fault("target_down", venue, MINUTE, MINUTE + 60, 1.0, "news") for venue in sorted(venues)]


async def hour(store: Store, folder: Path, agent: str | None = None) -> list[Row]:
    roller = Roller(store, place(folder))
    return await roller.roll(T0, await roller.jobs(T0, T0 + HOUR_NS), agent=agent)


async def test_a_page_that_is_away_everywhere_is_no_fault_of_the_networks(store: Store, tmp_path: Path) -> None:
    await fill(store, measured(1, faults(WIFI)))
    found = await hour(store, tmp_path)
    assert all("target_down" not in row.reasons for row in found if row.probe == "dns" or row.target != "news")
    rows = [row for row in found if row.target == "news" and row.venue in WIFI and row.probe == "web"]
    assert len(rows) >= 3
    for row in rows:
        assert row.reasons == {"target_down": row.invalid}
        assert (row.failed, row.attempted, row.metric("total_ms").failures) == (0, row.ok, 0)
    one = rows[0]
    again = [row for row in await hour(store, tmp_path, one.agent) if row.target == "news" and row.probe == one.probe]
    assert [row.reasons for row in again] == [one.reasons]


async def test_a_page_that_is_away_at_one_venue_is(sqlite: Store, tmp_path: Path) -> None:
    await fill(sqlite, measured(1, faults({min(WIFI)})))
    rows = [row for row in await hour(sqlite, tmp_path) if row.target == "news" and row.venue == min(WIFI)]
    assert sum(row.failed for row in rows) > 0
    assert all("target_down" not in row.reasons for row in rows)
