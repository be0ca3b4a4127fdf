"""An hour's rows against the same figures counted one by one in plain Python."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

from contract.series import METRICS, RAW_SERIES, RECORD_TAGS, ROLLUPS, SKETCHED
from contract.values import VALUES
from contract.vocabulary import REASONS
from perception.rollups.raw import Raw, Reader, fields
from perception.rollups.roll import HOUR_NS, Facts, LocalHour, emptied, roll
from perception.sketch import Sketch
from perception.stored import timeout
from store.interface import Block
from store.point import Point, flaw

HOUR = 490_000 * HOUR_NS
LOCAL = LocalHour(busy=1, hour=9, dow=4)
MINUTE_NS = 60 * 10**9
AGENT = {"agent": "a-1", "venue": "lib", "network": "wifi", "target": "core", "interface": "wlan0"}


def facts(**more: Any) -> Facts:
    return Facts(hour_ns=HOUR, local=lambda venue, network: LOCAL, **more)


def raw(probe: str, rows: Sequence[dict[str, Any]], size: int = 7) -> Raw:
    """Rows by field name; what is not told is that of one agent, or null. In blocks of `size`."""
    reader = Reader(probe)
    for first in range(0, len(rows), size):
        some = rows[first : first + size]
        reader.take(
            Block(
                [row.get("time_ns", HOUR) for row in some],
                tuple([row.get(tag, AGENT.get(tag, "")) for row in some] for tag in RECORD_TAGS),
                {name: [row.get(name, "ok" if name == "outcome" else None) for row in some] for name in fields(probe)},
            )
        )
    return reader.raw()


def named(point: Point) -> dict[str, Any]:
    series = next(series for series in ROLLUPS.values() if series.key == point.series)
    return dict(zip(series.tags, point.tags, strict=True)) | dict(zip(series.fields, point.fields, strict=True))


def rolled(probe: str, rows: Sequence[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    points = roll(probe, raw(probe, rows), facts(**more))
    assert all(flaw(point) is None for point in points)
    return [named(point) for point in points]


def one(probe: str, rows: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
    found = [row for row in rolled(probe, rows, **more) if probe != "latency" or row["target"] != "-"]
    assert len(found) == 1
    return found[0]


def random_rows(probe: str, dice: random.Random) -> list[dict[str, Any]]:
    rows = []
    for _ in range(dice.randrange(400)):
        outcome = dice.choice(["ok", "ok", "ok", "ok", "failed", "invalid", "skipped"])
        row: dict[str, Any] = {
            "agent": dice.choice(["a-1", "a-2"]),
            "target": dice.choice(["core", "internet"]),
            "interface": dice.choice(["wlan0", "wlan1"]),
            "outcome": outcome,
            "reason": None if outcome == "ok" else dice.choice(sorted(REASONS[outcome])),
            "time_ns": HOUR + dice.randrange(HOUR_NS),
        }
        for name, kind in RAW_SERIES[probe].fields.items():
            if name in METRICS[probe] and dice.random() < 0.8:
                row[name] = dice.randrange(50) if kind == "int" else dice.choice([0.0, round(dice.random() * 80, 2)])
        rows.append(row)
    return rows


@pytest.mark.parametrize("probe", VALUES)
def test_every_figure_is_what_counting_one_by_one_gives(probe: str) -> None:
    dice = random.Random(probe)
    for _ in range(8):
        rows = random_rows(probe, dice)
        groups = defaultdict(list)
        for row in rows:
            groups[row["agent"], row["target"]].append(row)
        found = [row for row in rolled(probe, rows) if row["target"] != "-"]
        assert [(row["agent"], row["target"]) for row in found] == sorted(groups)
        for row in found:
            compare(probe, row, groups[row["agent"], row["target"]])


def compare(probe: str, row: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    outcomes = Counter(r["outcome"] for r in rows)
    assert row["n"] == len(rows)
    assert [row[name] for name in ("ok", "failed", "invalid", "skipped")] == [
        outcomes[name] for name in ("ok", "failed", "invalid", "skipped")
    ]
    assert row["attempted"] == row["ok"] + row["failed"]
    reasons = Counter(r["reason"] for r in rows if r["reason"])
    assert row["reasons"] == ",".join(f"{name}={count}" for name, count in sorted(reasons.items()))
    assert row["planned"] == reasons["quiet_hours"] + reasons["suppressed"]
    for metric in METRICS[probe]:
        values, failures = counted(probe, metric, rows)
        assert row[f"{metric}_n"] == len(values)
        assert row[f"{metric}_sum"] == pytest.approx(math.fsum(values))
        if values:
            assert (row[f"{metric}_min"], row[f"{metric}_max"]) == (min(values), max(values))
        for p, name in ((0.5, f"{metric}_p50"), (0.95, f"{metric}_p95")):
            assert row[name] == exact(values, failures, p), name
            assert timeout(p, len(values), failures) == (row[name] is None and bool(values or failures))
        if metric in SKETCHED.get(probe, ()):
            assert row[f"{metric}_sketch"] == Sketch.of(values, failures).encode()


def counted(probe: str, metric: str, rows: list[dict[str, Any]]) -> tuple[list[float], int]:
    ok = [float(r[metric]) for r in rows if r["outcome"] == "ok" and r.get(metric) is not None]
    failed = [r for r in rows if r["outcome"] == "failed"]
    if metric.startswith("loss"):
        return ok + [r[metric] for r in failed if r["reason"] == "all_lost" and r.get(metric) is not None], 0
    if metric == "portal_ms":
        return ok + [float(r[metric]) for r in failed if r.get(metric) is not None], 0
    if probe == "throughput" and metric in ("down_mbps", "up_mbps", "down_p10_mbps", "up_p10_mbps"):
        return ok + [0.0] * len(failed), 0
    times = {"latency": "rtt_", "dns": "rtt_", "web": "ttfb total", "video": "start", "wifi_join": "online"}
    if any(metric.startswith(word) for word in times.get(probe, "-").split()):
        return ok, len(failed)
    return ok, 0


def exact(values: list[float], failures: int, p: float) -> Any:
    ordered = sorted(values)
    if failures:
        rank = max(0, math.ceil(p * (len(ordered) + failures) - 1e-9) - 1)
        return ordered[rank] if rank < len(ordered) else None
    if not ordered:
        return None
    place = p * (len(ordered) - 1)
    low = math.floor(place)
    return pytest.approx(ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low]))


def test_everything_lost_is_loss_and_no_time() -> None:
    lost = {"outcome": "failed", "reason": "all_lost", "loss_ratio": 1.0}
    row = one("latency", [{"rtt_p50_ms": 10.0, "loss_ratio": 0.0}, lost, lost])
    assert (row["loss_ratio_n"], row["loss_ratio_sum"]) == (3, 2.0)
    assert (row["rtt_p50_ms_n"], row["rtt_p50_ms_p50"], row["rtt_p50_ms_sketch"]) == (
        1,
        None,
        Sketch.of([10.0], failures=2).encode(),
    )
    assert row["rt_pdv_p95_ms_sketch"] == "0;"


def test_what_an_instrument_kept_of_a_failure_is_no_value() -> None:
    row = one("web", [{"outcome": "failed", "reason": "timeout", "dns_ms": 9.0, "total_ms": 30_000.0}])
    assert (row["dns_ms_n"], row["total_ms_n"], row["total_ms_sketch"]) == (0, 0, "1;")


def test_two_methods_are_never_mixed() -> None:
    rows = [{"method": "stamp", "rtt_p50_ms": 10.0}] * 3 + [{"method": "tcp", "rtt_p50_ms": 90.0}] * 2
    row = one("latency", [*rows, {"outcome": "skipped", "reason": "busy"}])
    assert (row["method"], row["rtt_p50_ms_n"], row["rtt_p50_ms_max"], row["ok"]) == ("stamp", 3, 10.0, 5)
    assert one("latency", [{"method": "tcp"}, {"method": "icmp"}])["method"] == "icmp"
    assert one("latency", [{"outcome": "failed", "reason": "no_link"}])["method"] == ""


def test_a_maintenance_window_is_out_of_everything() -> None:
    window = HOUR + 30 * MINUTE_NS, HOUR + HOUR_NS + 1
    rows = [
        {"time_ns": HOUR + m * MINUTE_NS, "outcome": "failed" if m >= 30 else "ok", "reason": "timeout" * (m >= 30)}
        for m in range(50)
    ]
    tags = ("a-1", "lib", "wifi", "news", "", "")
    row = one(
        "web",
        [row | {"target": "news"} for row in rows],
        maintenance=lambda venue, target: [window] if (venue, target) == ("lib", "news") else [],
        expected={"web": {tags: 60}},
    )
    assert (row["n"], row["ok"], row["failed"], row["planned"], row["expected"]) == (50, 30, 0, 30, 60)
    assert row["reasons"] == "maintenance=20"


def test_a_good_signal_is_above_both_marks() -> None:
    levels = [(-60.0, 30.0), (-65.0, 30.0), (-60.0, 20.0), (-64.9, 20.1), (-60.0, None)]
    row = one("wifi_link", [{"rssi_dbm": rssi, "snr_db": snr} for rssi, snr in levels])
    assert (row["good_signal_ok"], row["good_signal_n"]) == (2, 4)


def test_states_stages_and_kinds_are_counted() -> None:
    caught = {"outcome": "failed", "reason": "portal", "state": "portal"}
    assert one("portal", [{"state": "open"}, {"state": "open"}, caught])["reasons"] == (
        "portal.open=2,portal.portal=1,portal=1"
    )
    row = one("portal", [{"state": "open"}, caught | {"portal_ms": 9000.0}])
    assert (row["portal_ms_n"], row["portal_ms_max"]) == (1, 9000.0)
    stage = {"outcome": "failed", "reason": "dhcp_failed", "failed_stage": "dhcp"}
    assert one("wifi_join", [stage, {}])["reasons"] == "dhcp_failed=1,stage.dhcp=1"
    assert one("wifi_event", [{"kind": "roam"}])["reasons"] == "event.roam=1"


def test_what_no_instrument_measures_is_no_value_and_breaks_nothing() -> None:
    row = one("dns", [{"rtt_ms": 1e300}, {"rtt_ms": 5.0}])
    assert (row["rtt_ms_n"], row["rtt_ms_max"], row["reasons"]) == (1, 5.0, "implausible=1")


def test_a_silent_agent_has_rows_that_say_what_was_expected() -> None:
    silent = ("a-9", "park", "wifi", "core", "", "")
    found = rolled("latency", [{}], expected={"latency": {silent: 60, ("a-1", "lib", "wifi", "core", "", ""): 60}})
    rows = {(row["agent"], row["target"]): row for row in found}
    assert set(rows) == {("a-1", "core"), ("a-9", "core"), ("a-1", "-"), ("a-9", "-")}
    assert (rows["a-9", "core"]["n"], rows["a-9", "core"]["expected"], rows["a-9", "core"]["hour"]) == (0, 60, 9)
    assert rows["a-9", "-"]["avail_5m_n"] == 0


def test_availability_wants_one_of_two_independent_targets() -> None:
    def minute(at: float, target: str, *, ok: bool) -> dict[str, Any]:
        answer = {"outcome": "ok"} if ok else {"outcome": "failed", "reason": "timeout"}
        return {"time_ns": HOUR + int(at * MINUTE_NS), "target": target} | answer

    rows = [
        minute(0, "core", ok=True), minute(4.9, "internet", ok=False),  # one of two
        minute(5, "core", ok=False), minute(6, "internet", ok=False), minute(7, "gateway", ok=True),  # the gateway only
        minute(10, "core", ok=True), minute(11, "gateway", ok=True),  # one independent target: not judged
        minute(15, "core", ok=False), minute(15, "internet", ok=False), minute(16, "core", ok=True),
        {**minute(20, "core", ok=True), "outcome": "invalid", "reason": "cpu_limited"}, minute(20, "internet", ok=True),
    ]  # fmt: skip
    found = rolled("latency", rows)
    (row,) = [row for row in found if row["target"] == "-"]
    assert (row["avail_5m_ok"], row["avail_5m_n"], row["n"]) == (2, 3, 0)
    found = rolled("latency", rows, is_gateway=lambda agent, target: target == "core")
    (row,) = [row for row in found if row["target"] == "-"]
    assert (row["avail_5m_ok"], row["avail_5m_n"]) == (1, 1)


def test_an_hour_without_anything_has_no_rows() -> None:
    assert rolled("latency", []) == []


def test_an_emptied_row_overwrites_every_count() -> None:
    row = named(emptied("latency", ("a-1", "lib", "wifi", "core", "", ""), HOUR, LOCAL))
    full = one("latency", [{"rtt_p50_ms": 1.0, "method": "tcp", "loss_ratio": 0.0}])
    for name, value in row.items():
        if value is None:  # what a null leaves standing is not read where n is 0
            assert name.endswith(("_min", "_max", "_p50", "_p95"))
    assert set(row) == set(full)
    assert (row["rtt_p50_ms_n"], row["rtt_p50_ms_sketch"], row["n"], row["method"], row["reasons"]) == (
        0,
        "0;",
        0,
        "",
        "",
    )
