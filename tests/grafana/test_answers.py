"""Every query on a real influxd 1.x that the virtual fleet and the real writers filled: it answers, with rows, and with
what another way of computing says; alarms fire when something is wrong, and only then."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from functools import cache
from math import isclose, log
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pytest
import yaml

from contract.series import RAW_SERIES
from grafana.generator import queries
from store.influx import nearest_rank
from store.point import Point
from tests.grafana.collecting import MINUTE_NS, again, changed, minutes
from tests.grafana.district import (
    DISTRICT,
    END_NS,
    GOV,
    LAST_HOUR,
    OUTAGE_HOUR,
    QUIET_HOUR,
    START_MS,
    START_NS,
    WIFI,
    Grafana,
    fill,
    measured,
    store_at,
    write,
)
from tests.grafana.places import FOLDER, Asked, Json, panel_queries, rule_queries, rules, variable_queries
from tests.servers import Influxd

pytestmark = pytest.mark.timeout(600)
"""The first of these tests waits for the district: ten seconds, and minutes where the machine is busy."""
DATABASE = "grafana"
HOUR_NS = 3600 * 10**9
HOUR_MS = 3_600_000
THREE = (WIFI[0], WIFI[4], GOV[0])
"""Venues whose values are computed again: one with an outage, a healthy one, a node."""
Fields = dict[str, Any]


@pytest.fixture(scope="module")
def grafana(influxd: Influxd, tmp_path_factory: pytest.TempPathFactory) -> Grafana:
    async def run() -> None:
        store = store_at(influxd.url, DATABASE)
        try:
            await fill(store, tmp_path_factory.mktemp("district"))
        finally:
            await store.close()

    asyncio.run(run())
    return Grafana(influxd.url, DATABASE)


def variables(box: Any = WIFI[4]) -> dict[str, str]:
    """What a person has chosen. The venue was renewed at midnight; its controls were not."""
    return {
        "network": box.venue.network,
        "venue": box.venue.slug,
        "profile": ".*",
        "agent": ".*",
        "collector": ".*",
        "controls": f"({WIFI[0].venue.slug}|{WIFI[3].venue.slug})",
        "upgraded": "2026-11-19",
        "settled": "2026-11-19",
    }


def query(name: str, interval: str = "1h") -> Asked:
    found = queries.QUERIES[name]
    return Asked(name, found.source, found.text, found.shape == "table", interval=interval)


# Every query


@pytest.mark.parametrize("asked", [pytest.param(asked, id=asked.where) for asked in panel_queries()])
def test_a_panel_is_not_empty(grafana: Grafana, asked: Asked) -> None:
    answer = grafana.ask(asked, variables())
    assert answer.error is None
    assert answer.rows
    assert answer.values(), "rows, but nothing in them"


@pytest.mark.parametrize("asked", [pytest.param(asked, id=asked.where) for asked in variable_queries()])
def test_a_variable_offers_what_there_is(grafana: Grafana, asked: Asked) -> None:
    answer = grafana.ask(asked, variables())
    (series,) = answer.series
    assert series["columns"][0] == "time"
    found = {values[1] for values in series["values"]}
    match asked.where.rpartition(" ")[2]:
        case "agent":
            assert found == {box.agent for box in DISTRICT.boxes}
        case "venue" | "controls":
            assert found == {box.venue.slug for box in WIFI}
        case "profile":
            assert found == {"wifi-public-2026", "wifi-observe-2026"}
        case "collector":
            assert len(found) == 1
        case other:
            raise AssertionError(f"who checks the variable {other}?")


@pytest.mark.parametrize(("right", "wrong"), [("score", "scores"), ("ppi", "pip"), ("period", "perod")])
def test_a_misspelt_name_is_no_error_but_an_empty_panel(grafana: Grafana, right: str, wrong: str) -> None:
    """Which is why an empty panel fails here."""
    asked = query("wall.scores")
    assert grafana.ask(asked, variables()).rows
    answer = grafana.ask(asked._replace(text=asked.text.replace(f'"{right}"', f'"{wrong}"')), variables())
    assert answer.error is None
    assert not answer.rows


# The same values, computed from the points in another way


@cache
def made() -> list[Point]:
    return measured()


@cache
def points_of(probe: str, venue: str) -> list[tuple[int, dict[str, str], Fields]]:
    """Time in ms, tags and fields of what was measured; of latency without the figures of other methods than the
    commonest of the target's hour, as hours leave them out."""
    series = RAW_SERIES[probe]
    found = [
        (point.time_ns // 10**6, tags, dict(zip(series.fields, point.fields, strict=True)))
        for point in made()
        if point.series == probe and (tags := dict(zip(series.tags, point.tags, strict=True)))["venue"] == venue
    ]
    if probe != "latency":
        return found
    methods: dict[tuple[str, int], Counter[Any]] = defaultdict(Counter)
    for time_ms, tags, fields in found:
        if fields["method"] is not None:
            methods[tags["target"], time_ms // HOUR_MS][fields["method"]] += 1
    for time_ms, tags, fields in found:
        counted = methods[tags["target"], time_ms // HOUR_MS]
        if fields["method"] is not None and counted.most_common(1)[0][0] != fields["method"]:
            fields.update(dict.fromkeys(("rtt_p50_ms", "loss_ratio")))
    return found


def by_step(
    probe: str, venue: str, key: Callable[[dict[str, str]], str], value: Callable[[Fields], float | None], step_ms: int
) -> dict[tuple[str, int], list[float]]:
    """Values of a probe by key and window."""
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for time_ms, tags, fields in points_of(probe, venue):
        if (number := value(fields)) is not None:
            found[key(tags), time_ms // step_ms * step_ms].append(number)
    return found


def same(found: Mapping[tuple[str, int], float], wanted: Mapping[tuple[str, int], float], within: float = 1e-9) -> None:
    assert found.keys() == wanted.keys()
    assert wanted
    for key, value in wanted.items():
        assert isclose(found[key], value, rel_tol=within, abs_tol=1e-9), key


@pytest.mark.parametrize("box", THREE, ids=lambda box: box.venue.slug)
def test_round_trip_by_hour_and_target(grafana: Grafana, box: Any) -> None:
    rows = grafana.ask(query("venue.rtt"), variables(box)).rows
    ok = by_step(
        "latency", box.venue.slug, lambda t: t["target"], lambda f: f["rtt_p50_ms"] if f["ok"] else None, HOUR_MS
    )
    same({(r["target"], r["time"]): r["rtt_p50_ms"] for r in rows}, {key: fmean(v) for key, v in ok.items()})


@pytest.mark.parametrize("box", THREE, ids=lambda box: box.venue.slug)
def test_loss_by_hour_and_target(grafana: Grafana, box: Any) -> None:
    def loss(fields: Fields) -> float | None:
        lost: float | None = fields["loss_ratio"] if fields["ok"] or fields["reason"] == "all_lost" else None
        return lost

    rows = grafana.ask(query("venue.loss"), variables(box)).rows
    found = by_step("latency", box.venue.slug, lambda t: t["target"], loss, HOUR_MS)
    same({(r["target"], r["time"]): r["loss_ratio"] for r in rows}, {key: fmean(v) for key, v in found.items()})


@pytest.mark.parametrize("box", THREE, ids=lambda box: box.venue.slug)
def test_success_by_hour_and_probe(grafana: Grafana, box: Any) -> None:
    answer = grafana.ask(query("venue.success"), variables(box))
    found = {(series["name"], row[0]): row[1] for series in answer.series for row in series["values"]}
    wanted = {}
    for probe in ("latency", "dns", "web", "portal", "wifi_join", "throughput", "video"):
        tried = by_step(
            probe,
            box.venue.slug,
            lambda t, probe=probe: probe,  # type: ignore[misc]
            lambda f: f["ok"] if f["attempted"] else None,
            HOUR_MS,
        )
        wanted |= {key: fmean(values) for key, values in tried.items()}
    same(found, wanted)


@pytest.mark.parametrize("box", THREE, ids=lambda box: box.venue.slug)
def test_percentiles_of_raw_points(grafana: Grafana, box: Any) -> None:
    """The server's rank is round(q * n), where ours is ceil(q * n): at most one apart."""
    rows = grafana.ask(query("venue.rtt_now", "10m"), variables(box)).rows
    ok = by_step(
        "latency", box.venue.slug, lambda t: t["target"], lambda f: f["rtt_p95_ms"] if f["ok"] else None, HOUR_MS // 6
    )
    found = {(row["target"], row["time"]): row["p95"] for row in rows if row["p95"] is not None}
    assert len(found) > 30
    assert found.keys() <= ok.keys()
    for key, value in found.items():
        ranked = sorted(ok[key])
        place = ranked.index(nearest_rank(ranked, 95))
        assert value in ranked[max(0, place - 1) : place + 2], key


def test_names_by_target_and_resolver(grafana: Grafana) -> None:
    box = WIFI[4]
    rows = grafana.ask(query("venue.dns"), variables(box)).rows
    ok = by_step(
        "dns",
        box.venue.slug,
        lambda t: f"{t['target']} {t['resolver']}",
        lambda f: f["rtt_ms"] if f["ok"] else None,
        HOUR_MS,
    )
    same(
        {(f"{r['target']} {r['resolver']}", r["time"]): r["rtt_ms"] for r in rows},
        {key: fmean(v) for key, v in ok.items()},
    )


@pytest.mark.parametrize("box", THREE, ids=lambda box: box.venue.slug)
def test_indicators_of_the_last_day(grafana: Grafana, box: Any) -> None:
    """Ratios and means exactly, quantiles within the sketch's 1 %."""
    name = "gov.nodes" if box in GOV else "boards.values"
    (row,) = [row for row in grafana.ask(query(name), variables(box)).rows if row["venue"] == box.venue.slug]
    today = START_MS + 16 * HOUR_MS

    def values(probe: str, field: str, target: str = "", *, ok: bool = True) -> list[float]:
        return [
            fields[field]
            for time_ms, tags, fields in points_of(probe, box.venue.slug)
            if time_ms >= today
            and fields[field] is not None
            and (fields["ok"] or not ok)
            and (not target or tags["target"] == target)
        ]

    assert isclose(row["rtt_p50_ms"], _median_of_answers(box, today), rel_tol=0.011)
    lost = [
        fields["loss_ratio"]
        for time_ms, tags, fields in points_of("latency", box.venue.slug)
        if time_ms >= today
        and tags["target"] == "core"
        and (fields["ok"] or fields["reason"] == "all_lost")
        and fields["loss_ratio"] is not None
    ]
    assert isclose(row["loss_ratio"], fmean(lost), abs_tol=1e-9)
    assert isclose(row["dns_rtt_ms"], median(values("dns", "rtt_ms")), rel_tol=0.03)
    if box in WIFI:
        joins = [
            fields
            for time_ms, _, fields in points_of("wifi_join", box.venue.slug)
            if time_ms >= today and fields["attempted"]
        ]
        if joins:
            assert isclose(row["access_success_ratio"], fmean(fields["ok"] for fields in joins))
        links = [
            fields
            for time_ms, _, fields in points_of("wifi_link", box.venue.slug)
            if time_ms >= today and fields["ok"] and fields["rssi_dbm"] is not None and fields["snr_db"] is not None
        ]
        if links:
            good = fmean(fields["rssi_dbm"] > -65 and fields["snr_db"] > 20 for fields in links)
            assert isclose(row["good_signal_ratio"], good)


def _median_of_answers(box: Any, since_ms: int) -> float:
    """A failed measurement is later than any."""
    found = [
        fields["rtt_p50_ms"] if fields["ok"] else float("inf")
        for time_ms, tags, fields in points_of("latency", box.venue.slug)
        if time_ms >= since_ms
        and tags["target"] == "core"
        and fields["attempted"]
        and not (fields["ok"] and fields["rtt_p50_ms"] is None)
    ]
    return nearest_rank(found, 50)


@pytest.mark.parametrize("box", THREE, ids=lambda box: box.venue.slug)
def test_the_index_on_the_wall_is_the_profile_s_sum(grafana: Grafana, box: Any) -> None:
    """From the file of the profile and the day's values alone, without perception's own code."""
    rows = grafana.ask(query("wall.scores"), variables(box)).rows
    (row,) = [row for row in rows if row["venue"] == box.venue.slug]
    wanted = Asked(
        "values",
        "wanggan-1h",
        'SELECT * FROM "score" WHERE "venue" =~ /^$venue$/ AND "network" =~ /^$network$/ AND "period" = \'day\' '
        "ORDER BY time DESC LIMIT 1",
        True,
    )
    (score,) = grafana.ask(wanted, variables(box)).rows
    profile = yaml.safe_load((FOLDER.parent / f"perception/profiles/{row['profile']}.yaml").read_text())
    totals: dict[str, tuple[float, float, float]] = {}
    for term in profile["indicators"]:
        value = _term(term, score, profile)
        done, weight, all_of_it = totals.get(term["dim"], (0.0, 0.0, 0.0))
        if value is not None:
            done, weight = done + term["w"] * value, weight + term["w"]
        totals[term["dim"]] = done, weight, all_of_it + term["w"]
    index = 0.0
    for dimension, (done, weight, all_of_it) in totals.items():
        assert weight * 3 >= all_of_it * 2 - 1e-9, "more than a third is missing: it is not rated"
        assert isclose(row[dimension], done / weight, abs_tol=1e-6), dimension
        index += profile["dimensions"][dimension] * done / weight
    assert isclose(row["ppi"], index, abs_tol=1e-6)


def _term(term: Json, score: Json, profile: Json) -> float | None:
    def lin(x: float, bad: float, good: float) -> float:
        return 100 * min(1.0, max(0.0, (x - bad) / (good - bad)))

    gone = set(str(score["absent"]).split(","))
    late = set(str(score["timeouts"]).split(","))

    def value(name: str) -> float | None:
        if name in late:
            return float("inf")
        number: float | None = None if name in gone else score[name]
        return number

    match term["fn"]:
        case "lin":
            x = value(term["id"])
            return None if x is None else lin(x, term["bad"], term["good"])
        case "log":
            x = value(term["id"])
            if x is None or x <= 0:
                return None if x is None else 0.0
            return 100 * min(1.0, max(0.0, log(x / term["bad"]) / log(term["good"] / term["bad"])))
        case "web":
            t, success = value("web_total_ms"), value("web_success_ratio")
            if t is None or success is None:
                return None
            ends = profile["web_log"]
            mos = 5 - 4 * log(t / 1000 / ends["t5_s"]) / log(ends["t1_s"] / ends["t5_s"]) if t < float("inf") else 1.0
            return 25 * (min(5.0, max(1.0, mos)) - 1) * success
        case "video":
            start, stall = value("video_start_s"), value("video_stall_ratio")
            success = value("video_success_ratio")
            if start is None or stall is None or success is None:
                return None
            parts = profile["video"]
            both = {"start_s": start, "stall_ratio": stall}
            return success * sum(p["w"] * lin(both[name], p["bad"], p["good"]) for name, p in parts.items())
        case "voice":
            rtt, loss, voice = value("rtt_p50_ms"), value("loss_ratio"), profile["voice"]
            if rtt is None or loss is None:
                return None
            if rtt == float("inf"):
                return 0.0
            delay = rtt / 2 + voice["jitter_buffer_ms"]
            lost = 100 * loss
            damage = 0.024 * delay + 0.11 * max(0.0, delay - 177.3)
            damage += voice["ie"] + (95 - voice["ie"]) * lost / (lost + voice["bpl"])
            return 100 * min(1.0, max(0.0, (voice["r0"] - damage) / voice["r0"]))
        case other:
            raise AssertionError(other)


def test_the_fleet_s_numbers(grafana: Grafana) -> None:
    (row,) = grafana.ask(query("fleet.online"), variables()).rows
    assert row["registered"] == len(DISTRICT.boxes)
    rows = {row["agent"]: row for row in grafana.ask(query("fleet.health"), variables()).rows}
    for box in THREE:
        _, _, fields = [point for point in points_of("agent", box.venue.slug) if point[2]["ok"]][-1]
        for name in queries.AGENT_VALUES:
            assert rows[box.agent][name] == fields[name], name


# Alarms


def fired(grafana: Grafana, hour: float) -> dict[str, list[dict[str, str]]]:
    """Rules that fire at a moment, with the labels of each alarm."""
    found = {}
    for rule, asked in zip(rules(), rule_queries(), strict=True):
        evaluator = rule["data"][2]["model"]["conditions"][0]["evaluator"]
        answer = grafana.ask(asked, {}, START_NS + round(hour * HOUR_NS))
        assert answer.error is None, rule["uid"]
        labels = []
        for series in answer.series:
            last = [row[-1] for row in series["values"] if row[-1] is not None][-1:]
            (limit,) = evaluator["params"]
            if any(value > limit if evaluator["type"] == "gt" else value < limit for value in last):
                labels.append({**series.get("tags", {}), **rule["labels"]})
        if labels or (not answer.series and rule["noDataState"] == "Alerting"):
            found[rule["uid"].removeprefix("wanggan-")] = labels
    return found


def test_nothing_fires_when_nothing_is_wrong(grafana: Grafana) -> None:
    assert fired(grafana, QUIET_HOUR - 0.1) == {}


def test_faults_fire_their_rules_and_no_other_venue_s(grafana: Grafana) -> None:
    found = fired(grafana, LAST_HOUR)
    no_way_out = {WIFI[0].venue.slug, WIFI[5].venue.slug}  # a portal that is in the way lets no ping through either
    assert {label["venue"] for label in found["loss-wifi"]} == no_way_out
    assert WIFI[0].venue.slug in {label["venue"] for label in found["index-drop"]} <= no_way_out
    assert {label["agent"] for label in found["agent-silent"]} == {WIFI[3].agent}
    assert {label["agent"] for label in found["completeness-low"]} == {WIFI[3].agent}
    assert {label["venue"] for label in found["portal"]} == {WIFI[5].venue.slug}
    assert set(found) == {"loss-wifi", "index-drop", "agent-silent", "completeness-low", "portal"}


def test_one_outage_upstream_is_one_notification(grafana: Grafana) -> None:
    found = fired(grafana, OUTAGE_HOUR)
    assert {label["venue"] for label in found["loss-wifi"]} == {box.venue.slug for box in WIFI}
    assert {label["venue"] for label in found["loss-gov"]} == {box.venue.slug for box in GOV}
    (policy,) = yaml.safe_load((FOLDER / "provisioning/alerting/policies.yaml").read_text())["policies"]
    alarms = [label for labels in found.values() for label in labels]
    assert len(alarms) >= len(DISTRICT.boxes)
    assert len({tuple(alarm.get(name, "") for name in policy["group_by"]) for alarm in alarms}) == 1


async def test_our_own_troubles_fire_their_rules(influxd: Influxd, tmp_path: Path) -> None:
    """Points of the real writers, but for the values that are in trouble."""
    store = store_at(influxd.url, "grafana_own")
    await store.ensure()
    sick, old, well = (box.agent for box in WIFI[:3])
    since = END_NS - HOUR_NS
    health = [point for point in made() if point.series == "agent" and point.time_ns >= since]
    found: list[Point] = []
    for place, point in enumerate(health):
        match point.tags[0]:
            case agent if agent == sick:
                found.append(changed(point, outbox_records=7 * place))
            case agent if agent == old:
                found.append(changed(point, cert_days_left=59.0))
            case agent if agent == well:
                found.append(changed(point, cert_days_left=61.0))
    pages = [point for point in made() if point.series == "web" and point.time_ns >= since]
    found += [changed(point, cert_days_left=13.0) for point in pages if "news" in point.tags]
    found += [point for point in pages if "search" in point.tags]
    good, bad = await minutes(tmp_path)
    slow = changed(good, lag_p95_ms=6000.0)._replace(tags=("slow",))
    down = bad._replace(tags=("down",))
    for point in (good, slow, down):
        found += again(point, END_NS - 4 * MINUTE_NS, END_NS)
    await write(store, found)
    await store.close()
    alarms = fired(Grafana(influxd.url, "grafana_own"), LAST_HOUR)
    assert [label["agent"] for label in alarms["outbox-growing"]] == [sick]
    assert [label["agent"] for label in alarms["certificate-agent"]] == [old]
    assert [label["target"] for label in alarms["certificate-web"]] == ["news"]
    assert [label["collector"] for label in alarms["collector-behind"]] == ["slow"]
    assert [label["collector"] for label in alarms["store-refuses"]] == ["down"]


def test_a_collector_or_perception_that_says_nothing_is_an_alarm(grafana: Grafana) -> None:
    """A query cannot see what is not there: what those two write must be there."""
    alarms = fired(grafana, LAST_HOUR + 1)
    assert {"agent-silent", "store-refuses"} <= set(alarms)
