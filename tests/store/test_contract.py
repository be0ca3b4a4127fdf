"""What every engine promises, on the real ones."""

import math
import random
from typing import Any, get_args

import pytest

from contract.series import RAW, SERIES
from store.influx import InfluxStore
from store.interface import Aggregation, Row, Store
from store.sqlite import SqliteStore
from tests.servers import Influxd, VictoriaMetrics
from tests.store.points import SECOND, T0, ask, collected, hostile, point, present

END = T0 + 100_000 * SECOND


async def read(store: Store, series: str = "latency", **where: str) -> list[Row]:
    return await collected(store.rows(series, T0, END, where=where))


async def test_a_point_comes_back_as_it_was(store: Store) -> None:
    fields: dict[str, Any] = {"method": "icmp", "sent": 60, "rtt_p50_ms": 0.1 + 0.2, "ok": 1, "outcome": "ok"}
    assert await store.write([point(1, tags={"resolver": "r1"}, **fields)]) == []
    (row,) = await read(store)
    assert row.time_ns == T0 + SECOND
    assert row.tags == {
        "agent": "a-1", "venue": "lib", "network": "wifi", "target": "core", "interface": "wlan0",
        "provider": "", "resolver": "r1",
    }  # fmt: skip
    assert present(row) == fields
    assert list(row.fields) == list(SERIES["latency"].fields)


async def test_every_series_takes_every_field(store: Store) -> None:
    examples: dict[str, Any] = {"float": 1.5, "int": -7, "str": "x"}
    for name, series in SERIES.items():
        fields = {field: examples[kind] for field, kind in series.fields.items()}
        tags = {tag: f"v-{tag}" for tag in series.tags}
        assert await store.write([point(0, name, tags, **fields)]) == []
        (row,) = await read(store, name)
        assert row == Row(T0, tags, fields)


async def test_a_repeated_point_is_one_point_and_the_last_value_wins(store: Store) -> None:
    await store.write([point(1, sent=1)])
    await store.write([point(1, sent=1), point(1, sent=2)])
    assert [present(row) for row in await read(store)] == [{"sent": 2}]


async def test_fields_merge_and_null_erases_nothing(store: Store) -> None:
    await store.write([point(1, sent=1, method="icmp")])
    await store.write([point(1, sent=None, received=0, method=None)])
    assert [present(row) for row in await read(store)] == [{"sent": 1, "received": 0, "method": "icmp"}]


async def test_tags_keep_points_apart(store: Store) -> None:
    await store.write([point(1, tags={"target": target}, sent=1) for target in ("-", "core", "internet")])
    await store.write([point(1, tags={"resolver": "r1"}, sent=1)])
    assert len(await read(store)) == 4
    assert len(await read(store, target="core")) == 2
    assert [row.tags["resolver"] for row in await read(store, resolver="r1")] == ["r1"]
    assert len(await read(store, resolver="", target="core")) == 1


async def test_rollups_have_the_same_names_in_a_database_of_their_own(store: Store) -> None:
    assert (
        await store.write([point(1, sent=7), point(1, "latency_1h", n=60, reasons="timeout=3"), point(2, "score_1h")])
        == []
    )
    assert [row.fields["sent"] for row in await read(store)] == [7]
    assert [row.fields["n"] for row in await read(store, "latency_1h")] == [60]
    assert [row.fields["reasons"] for row in await store.latest("latency_1h", ["agent"], since_ns=T0)] == ["timeout=3"]
    (bucket,) = await store.aggregate("latency_1h", "n", "sum", by=[], start_ns=T0, end_ns=END)
    assert bucket.value == 60


async def test_a_point_without_fields_counts_as_stored(store: Store) -> None:
    assert await store.write([point(1), point(2, sent=1)]) == []
    assert [row.time_ns for row in await read(store)] == [T0 + 2 * SECOND]
    assert await store.write([point(1)]) == []
    assert await store.write([]) == []


async def test_the_declared_type_decides(store: Store) -> None:
    await store.write([point(1, rtt_p50_ms=3, ok=True), point(2, rtt_p50_ms=3.5, ok=0)])
    first, second = await read(store)
    assert first.fields["rtt_p50_ms"] == 3.0
    assert type(first.fields["rtt_p50_ms"]) is float
    assert first.fields["ok"] == 1
    assert type(first.fields["ok"]) is int
    assert second.fields["rtt_p50_ms"] == 3.5


async def test_extreme_numbers_keep_their_value(store: Store) -> None:
    ints = [2**63 - 1, -(2**63), 0]
    floats = [1.7976931348623157e308, -1e-300, 5e-324, 1e22, 1e-7, 123456789.12345678, 0.0]
    await store.write([point(i, config_version=value, series="agent") for i, value in enumerate(ints)])
    await store.write([point(i, rpm_up=value, series="throughput") for i, value in enumerate(floats)])
    assert [row.fields["config_version"] for row in await read(store, "agent")] == ints
    assert [row.fields["rpm_up"] for row in await read(store, "throughput")] == floats


async def test_chinese_blanks_and_quotes_round_trip(store: Store) -> None:
    texts = ["图书馆 二楼", 'he said "hi"', "a,b=c d", "it's", "C:\\new\\", "\u3000", "😀", "", "$tag0", "\\\\"]
    await store.write([point(i, "wifi_link", ssid=text) for i, text in enumerate(texts)])
    assert [row.fields["ssid"] for row in await read(store, "wifi_link")] == texts
    venues = ["图书馆 二楼", 'say "hi"', "a,b=c d", "it's", "x\\y", "😀", "$start", "' OR 1=1"]
    assert await store.write([point(i, tags={"venue": venue}, sent=i) for i, venue in enumerate(venues)]) == []
    assert [row.tags["venue"] for row in await read(store)] == venues
    for i, venue in enumerate(venues):
        assert [row.fields["sent"] for row in await read(store, venue=venue)] == [i]


async def test_an_empty_window_and_an_empty_store(store: Store) -> None:
    assert await collected(store.rows("latency", T0, T0)) == []
    assert await read(store) == []
    assert await store.latest("latency", ["agent"], since_ns=T0) == []
    assert await store.latest("latency", [], since_ns=T0) == []
    for how in get_args(Aggregation):
        assert await store.aggregate("latency", "sent", how, by=["agent"], start_ns=T0, end_ns=END) == []
        assert await store.aggregate("latency", "sent", how, by=[], start_ns=T0, end_ns=END, every_ns=SECOND) == []


async def test_a_window_holds_its_start_and_not_its_end(store: Store) -> None:
    await store.write([point(second, sent=second, ok=1) for second in range(5)])
    found = await collected(store.rows("latency", T0 + SECOND, T0 + 3 * SECOND))
    assert [row.fields["sent"] for row in found] == [1, 2]
    (bucket,) = await store.aggregate("latency", "sent", "count", by=[], start_ns=T0 + SECOND, end_ns=T0 + 3 * SECOND)
    assert bucket.value == 2
    assert [row.time_ns for row in await store.latest("latency", [], since_ns=T0 + 4 * SECOND)] == [T0 + 4 * SECOND]
    assert await store.latest("latency", [], since_ns=T0 + 4 * SECOND + 1) == []


async def test_nanoseconds_are_kept(store: Store) -> None:
    await store.write([point()._replace(time_ns=T0 + ns, fields=point(0, sent=ns).fields) for ns in (0, 1, 2)])
    assert [row.time_ns - T0 for row in await read(store)] == [0, 1, 2]


async def test_rows_come_oldest_first_also_when_there_are_many(store: Store) -> None:
    seconds = list(range(12_000))
    random.Random(1).shuffle(seconds)
    assert await store.write([point(second, sent=second) for second in seconds]) == []
    assert [row.fields["sent"] for row in await read(store)] == sorted(seconds)


async def test_columns_are_the_same_rows(store: Store) -> None:
    points = [
        point(second, tags={"agent": f"a-{second % 3}", "provider": ""}, sent=second, rtt_p50_ms=second / 4)
        for second in range(12_000)
    ]
    assert await store.write([*points, point(12_000, tags={"agent": "图 1"}, method="icmp")]) == []
    fields = ["method", "rtt_p50_ms", "sent"]
    blocks = [block async for block in store.columns("latency", fields, T0, T0 + 12_000 * SECOND)]
    assert len(blocks) == 2
    assert [time for block in blocks for time in block.time_ns] == [point.time_ns for point in points]
    assert [tags for block in blocks for tags in zip(*block.tags, strict=True)] == [point.tags for point in points]
    assert all(list(block.fields) == fields for block in blocks)
    assert [n for block in blocks for n in block.fields["sent"]] == list(range(12_000))
    assert [ms for block in blocks for ms in block.fields["rtt_p50_ms"]] == [second / 4 for second in range(12_000)]
    (last,) = [block async for block in store.columns("latency", fields, T0, END, where={"agent": "图 1"})]
    assert last.fields == {"method": ("icmp",), "rtt_p50_ms": (None,), "sent": (None,)}
    assert [block async for block in store.columns("latency", fields, T0, T0)] == []
    with pytest.raises(KeyError, match="no field"):
        [block async for block in store.columns("latency", ["rtt"], T0, END)]


async def test_rows_may_be_left_unread(store: Store) -> None:
    await store.write([point(second, sent=second) for second in range(3_000)])
    rows = store.rows("latency", T0, END)
    async for row in rows:
        assert row.fields["sent"] == 0
        break
    await rows.aclose()  # type: ignore[attr-defined]
    assert len(await read(store)) == 3_000


async def test_latest_is_the_newest_whole_row_of_each_group(store: Store) -> None:
    await store.write(
        [
            point(1, tags={"target": "core"}, sent=1, method="icmp"),
            point(9, tags={"target": "core"}, sent=9),
            point(5, tags={"target": "internet"}, sent=5, method="tcp"),
            point(7, tags={"agent": "b-1", "target": "core"}, sent=7),
        ]
    )
    found = await store.latest("latency", ["agent", "target"], since_ns=T0)
    assert [(row.tags["agent"], row.tags["target"], present(row)) for row in found] == [
        ("a-1", "core", {"sent": 9}),
        ("a-1", "internet", {"sent": 5, "method": "tcp"}),
        ("b-1", "core", {"sent": 7}),
    ]
    assert [present(row) for row in await store.latest("latency", [], since_ns=T0)] == [{"sent": 9}]
    found = await store.latest("latency", ["agent"], since_ns=T0 + 6 * SECOND, where={"agent": "b-1"})
    assert [present(row) for row in found] == [{"sent": 7}]


async def test_aggregates(store: Store) -> None:
    values = {"a-1": [1.0, 2.0, 3.0, 10.0], "b-1": [5.0]}
    points = [
        point(second, tags={"agent": agent}, rtt_p50_ms=value, ok=1)
        for agent, numbers in values.items()
        for second, value in enumerate(numbers)
    ]
    await store.write(points)
    expected = {
        "count": (4, 1),
        "sum": (16, 5),
        "mean": (4, 5),
        "min": (1, 5),
        "max": (10, 5),
        "p50": (2, 5),
        "p95": (10, 5),
    }
    for how in get_args(Aggregation):
        found = await store.aggregate("latency", "rtt_p50_ms", how, by=["agent"], start_ns=T0, end_ns=END)
        assert [(b.time_ns, b.tags, b.value) for b in found] == [
            (T0, {"agent": "a-1"}, expected[how][0]),
            (T0, {"agent": "b-1"}, expected[how][1]),
        ], how
        assert all(type(bucket.value) is float for bucket in found)


async def test_windows_are_aligned_and_those_without_values_are_left_out(store: Store) -> None:
    await store.write([point(second, sent=second, ok=1) for second in (3, 8, 12, 31)])
    assert T0 % (10 * SECOND) == 0
    found = await store.aggregate(
        "latency", "sent", "sum", by=[], start_ns=T0 + 5 * SECOND, end_ns=END, every_ns=10 * SECOND
    )
    assert [((b.time_ns - T0) / SECOND, b.value) for b in found] == [(0, 8), (10, 12), (30, 31)]


async def test_only_ok_leaves_out_failures_where_there_is_such_a_thing(store: Store) -> None:
    await store.write([point(1, sent=1, ok=1), point(2, sent=20, ok=0), point(3, sent=None, ok=1)])

    async def total(series: str, field: str, only_ok: bool) -> list[float]:
        found = await store.aggregate(series, field, "sum", by=[], start_ns=T0, end_ns=END, only_ok=only_ok)
        return [bucket.value for bucket in found]

    assert await total("latency", "sent", True) == [1]
    assert await total("latency", "sent", False) == [21]
    await store.write([point(1, "collector", received=4)])
    assert await total("collector", "received", True) == [4]


async def test_percentiles_are_nearest_rank_for_every_count(store: Store) -> None:
    dice = random.Random(2)
    samples = {f"n-{n}": [dice.uniform(0, 100) for _ in range(n)] for n in range(1, 60)}
    await store.write(
        [
            point(second, tags={"agent": agent}, rtt_p50_ms=value, ok=1)
            for agent, numbers in samples.items()
            for second, value in enumerate(numbers)
        ]
    )
    for how, share in (("p50", 0.5), ("p95", 0.95)):
        found = await store.aggregate("latency", "rtt_p50_ms", how, by=["agent"], start_ns=T0, end_ns=END)  # type: ignore[arg-type]
        assert {bucket.tags["agent"]: bucket.value for bucket in found} == {
            agent: sorted(numbers)[math.ceil(round(share * len(numbers), 6)) - 1] for agent, numbers in samples.items()
        }


async def test_names_outside_the_table_are_refused_before_anything_is_sent(store: Store) -> None:
    window = {"start_ns": T0, "end_ns": END}
    with pytest.raises(KeyError):
        await store.write([point(1)._replace(series='latency" ; DROP')])
    with pytest.raises(KeyError):
        await collected(store.rows("nothing", T0, END))
    with pytest.raises(KeyError):
        await collected(store.rows("latency", T0, END, where={"ok": "1"}))
    with pytest.raises(KeyError):
        await store.latest("latency", ["bssid"], since_ns=T0)
    with pytest.raises(KeyError):
        await store.aggregate("latency", "nothing", "mean", by=[], **window)  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        await store.aggregate("latency", "method", "mean", by=[], **window)  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        await store.aggregate("latency", "sent", "mean", by=['agent" --'], **window)  # type: ignore[arg-type]


FLAWS: dict[str, Any] = {
    "nan": ({"rtt_p50_ms": math.nan}, "rtt_p50_ms: nan is not finite"),
    "infinity": ({"rtt_p50_ms": -math.inf}, "rtt_p50_ms: -inf is not finite"),
    "a great float": ({"rtt_p50_ms": 10**400}, "rtt_p50_ms: number too large"),
    "65 bits": ({"sent": 2**63}, "sent: integer beyond 64 bits"),
    "a fraction": ({"sent": 1.5}, "sent: expected int, got float"),
    "text as number": ({"rtt_p50_ms": "3"}, "rtt_p50_ms: expected float, got str"),
    "a bool as float": ({"rtt_p50_ms": True}, "rtt_p50_ms: expected float, got bool"),
    "a number as text": ({"method": 3}, "method: expected str, got int"),
    "newline": ({"detail": "a\nb"}, "detail: control character U+000A"),
    "NUL": ({"detail": "\0"}, "detail: control character U+0000"),
    "delete": ({"detail": "a\x7f"}, "detail: control character U+007F"),
    "next line": ({"detail": "\x85"}, "detail: control character U+0085"),
    "C1": ({"detail": "a\x9b"}, "detail: control character U+009B"),
    "right to left": ({"tags": {"venue": "a\u202e"}}, "venue: control character U+202E"),
    "line separator": ({"detail": "a\u2028"}, "detail: control character U+2028"),
    "lone surrogate": ({"detail": "\ud800"}, "detail: control character U+D800"),
    "newline in a tag": ({"tags": {"venue": "a\nb"}}, "venue: control character U+000A"),
    "surrogate in a tag": ({"tags": {"venue": "\udfff"}}, "venue: control character U+DFFF"),
    "backslash at a tag's end": (
        {"tags": {"venue": "a\\"}},
        "venue: backslash before a backslash, comma, equals sign, blank or the end",
    ),
    "no text in a tag": ({"tags": {"venue": 3}}, "venue: expected str, got int"),
}


@pytest.mark.parametrize("name", FLAWS)
async def test_a_flawed_point_is_refused_by_name_and_its_neighbours_are_stored(store: Store, name: str) -> None:
    changes, words = FLAWS[name]
    refusals = await store.write([point(1, sent=1), point(2, **{"method": "icmp"} | changes), point(3, sent=3)])
    assert refusals == [(1, words)]
    assert [row.fields["sent"] for row in await read(store)] == [1, 3]


async def test_a_misshapen_point_is_refused(store: Store) -> None:
    good = point(1, sent=1)
    bad = [
        good._replace(tags=good.tags[1:]),
        good._replace(fields=good.fields[1:]),
        good._replace(fields=(*good.fields, 1)),
        good._replace(time_ns=2**63),
        good._replace(time_ns=-(2**63)),
        good._replace(time_ns=1.5),  # type: ignore[arg-type]
    ]
    assert [refusal.place for refusal in await store.write([*bad, good])] == list(range(6))
    assert [row.time_ns for row in await read(store)] == [good.time_ns]


async def test_one_bad_among_two_thousand(store: Store) -> None:
    points = [point(second, rtt_p50_ms=math.nan if second == 1_234 else 1.0) for second in range(2_000)]
    assert [refusal.place for refusal in await store.write(points)] == [1_234]
    assert [row.time_ns for row in await read(store)] == [p.time_ns for p in points if p is not points[1_234]]


async def hostile_points(store: Store) -> tuple[dict[int, str], dict[int, str]]:
    """Write 10,000 hostile texts as a field and 10,000 as a tag; those that were stored, by time."""
    texts = [hostile(seed) for seed in range(10_000)]
    as_field = [point(i, "wifi_link", ssid=text, ok=1) for i, text in enumerate(texts)]
    as_tag = [point(i, "wifi_scan", {"venue": text}, ap_count=i) for i, text in enumerate(texts)]
    written = []
    for points in (as_field, as_tag):
        refused = {refusal.place for refusal in await store.write(points)}
        assert 1_000 < len(refused) < 9_000, "the texts must try both"
        written.append(
            {p.time_ns: text for i, (p, text) in enumerate(zip(points, texts, strict=True)) if i not in refused}
        )
    return written[0], written[1]


async def check_hostile_rows(store: Store) -> None:
    fields, tags = await hostile_points(store)
    assert {row.time_ns: row.fields["ssid"] for row in await read(store, "wifi_link")} == fields
    assert {row.time_ns: row.tags["venue"] for row in await read(store, "wifi_scan")} == tags


async def test_hostile_text_makes_no_name_in_sqlite(sqlite: SqliteStore) -> None:
    tables = "SELECT group_concat(sql) FROM sqlite_master"
    before = await sqlite._writer.run(lambda connection: connection.execute(tables).fetchall())
    await check_hostile_rows(sqlite)
    assert await sqlite._writer.run(lambda connection: connection.execute(tables).fetchall()) == before


async def test_hostile_text_makes_no_name_in_influxdb(influx: InfluxStore, influxd: Influxd) -> None:
    await check_hostile_rows(influx)

    def names(query: str) -> dict[str, set[str]]:
        return {s.get("name", ""): {row[0] for row in s["values"]} for s in ask(influxd.url, query, influx._names[RAW])}

    tags = {"agent", "venue", "network", "target", "interface"}
    assert names("SHOW MEASUREMENTS") == {"measurements": {"wifi_link", "wifi_scan"}}
    assert names("SHOW TAG KEYS") == {"wifi_link": tags, "wifi_scan": tags}
    assert names("SHOW FIELD KEYS") == {"wifi_link": {"ssid", "ok"}, "wifi_scan": {"ap_count"}}


async def test_hostile_text_makes_no_name_in_victoria_metrics(victoria_metrics: VictoriaMetrics) -> None:
    store = InfluxStore(victoria_metrics.url, server="victoriametrics", endpoint="/write", database="hostile")
    _, tags = await hostile_points(store)
    await store.close()
    found = victoria_metrics.series('{db="hostile"}')
    assert {series["__name__"] for series in found} == {"wifi_link_ssid", "wifi_link_ok", "wifi_scan_ap_count"}
    names = {"__name__", "db", "agent", "venue", "network", "target", "interface"}
    assert {name for series in found for name in series} == names
    assert {series.get("venue", "") for series in found if series["__name__"] == "wifi_scan_ap_count"} == set(
        tags.values()
    )
