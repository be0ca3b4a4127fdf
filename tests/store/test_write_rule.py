"""What each answer of a server means: stored, refused for good, keep and try again, call a person."""

import json
import math
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from contract.series import RAW
from store.influx import MAX_LINES, InfluxStore
from store.interface import Refusal, StoreLimit, StoreMisconfigured, StoreUnavailable
from tests.servers import Influxd, VictoriaMetrics, free_port
from tests.store.points import ask, point, post_line
from tests.store.scripted import Answer, Request, Script, Scripted


@pytest.fixture
async def store(scripted: Scripted) -> AsyncIterator[InfluxStore]:
    """A store whose server does what the test says."""
    store = InfluxStore(scripted.url, org="o", bucket="b", token="secret", timeout_s=0.5)
    yield store
    await store.close()


def always(status: int, body: str = "", **headers: str) -> Script:
    return lambda request: Answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def refusing(bad: Callable[[str], bool], status: int, body: str) -> Script:
    """All or nothing, as 2.x and 3.x are with a malformed line."""
    return lambda request: Answer(status, body) if any(map(bad, request.lines)) else Answer()


# What is sent


async def test_a_write_says_what_it_is(store: InfluxStore, scripted: Scripted) -> None:
    assert await store.write([point(1, sent=1)]) == []
    (request,) = scripted.requests
    assert (request.method, request.path) == ("POST", "/api/v2/write")
    assert request.query == {"org": "o", "bucket": "b", "precision": "ns"}
    assert request.headers["authorization"] == "Token secret"
    assert "content-encoding" not in request.headers, "the server is on this host"


async def test_the_old_endpoint(scripted: Scripted) -> None:
    store = InfluxStore(scripted.url, endpoint="/write", database="d", user="u", password="ü")
    await store.write([point(1, sent=1)])
    await store.close()
    (request,) = scripted.requests
    assert (request.path, request.query) == ("/write", {"db": "d", "precision": "ns"})
    assert request.headers["authorization"] == "Basic dTrDvA=="


async def test_at_most_5000_lines_a_request(store: InfluxStore, scripted: Scripted) -> None:
    await store.write([point(second, sent=1) for second in range(12_000)])
    assert [len(request.lines) for request in scripted.requests] == [MAX_LINES, MAX_LINES, 2_000]


async def test_nothing_is_sent_where_nothing_is_to_be_stored(store: InfluxStore, scripted: Scripted) -> None:
    assert await store.write([point(1), point(2, rtt_p50_ms=math.nan)]) == [(1, "rtt_p50_ms: nan is not finite")]
    assert scripted.requests == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"])
def test_bodies_are_plain_on_this_host(url: str) -> None:
    assert not InfluxStore(url)._compress


@pytest.mark.parametrize("url", ["http://192.0.2.1:8086", "https://influx.example", "http://[2001:db8::1]:8086"])
def test_bodies_are_compressed_to_other_hosts(url: str) -> None:
    assert InfluxStore(url)._compress


async def test_compressed_bodies_are_understood(influxd: Influxd, victoria_metrics: VictoriaMetrics) -> None:
    name = f"t{uuid.uuid4().hex}"
    for url, server in ((influxd.url, "influxdb"), (victoria_metrics.url, "victoriametrics")):
        store = InfluxStore(url, endpoint="/write", server=server, database=name, compress=True)  # type: ignore[arg-type]
        await store.ensure()
        assert await store.write([point(second, sent=1) for second in range(100)]) == []
        await store.close()
    assert ask(influxd.url, "SELECT count(sent) FROM latency", name)[0]["values"][0][1] == 100
    assert len(victoria_metrics.series(f'{{db="{name}"}}')) == 1


# Keep and try again


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
async def test_what_may_pass_by_itself(store: InfluxStore, scripted: Scripted, status: int) -> None:
    scripted.script = always(status, '{"error":"engine: shutting down"}')
    with pytest.raises(StoreUnavailable, match=f"{status}: engine: shutting down") as caught:
        await store.write([point(1, sent=1)])
    assert caught.value.retry_after_s is None


async def test_retry_after_in_seconds(store: InfluxStore, scripted: Scripted) -> None:
    scripted.script = always(429, "slow down", Retry_After="17")
    with pytest.raises(StoreUnavailable) as caught:
        await store.write([point(1, sent=1)])
    assert caught.value.retry_after_s == 17


async def test_retry_after_as_a_date(store: InfluxStore, scripted: Scripted) -> None:
    scripted.script = always(503, "", Retry_After="Fri, 01 Jan 2100 00:00:00 GMT")
    with pytest.raises(StoreUnavailable) as caught:
        await store.write([point(1, sent=1)])
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 86_400


@pytest.mark.parametrize("value", ["soon", "-1", "inf", "1e3", "", "9" * 400])
async def test_a_senseless_retry_after_is_ignored(store: InfluxStore, scripted: Scripted, value: str) -> None:
    scripted.script = always(503, "", Retry_After=value)
    with pytest.raises(StoreUnavailable) as caught:
        await store.write([point(1, sent=1)])
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize("fate", ["hang", "drop", "garbage"])
async def test_a_server_that_does_not_answer(store: InfluxStore, scripted: Scripted, fate: str) -> None:
    scripted.script = lambda request: fate  # type: ignore[assignment, return-value]
    with pytest.raises(StoreUnavailable, match="no answer within 0.5 s" if fate == "hang" else scripted.url):
        await store.write([point(1, sent=1)])
    with pytest.raises(StoreUnavailable):
        await store.ping()
    with pytest.raises(StoreUnavailable):
        await store.latest("latency", [], since_ns=0)
    scripted.script = always(204)
    assert await store.write([point(1, sent=1)]) == []


async def test_nobody_listens() -> None:
    store = InfluxStore(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailable):
        await store.write([point(1, sent=1)])
    await store.close()


# Call a person


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, '{"code":"unauthorized","message":"unauthorized access"}', "unauthorized access.*check token_file"),
        (403, '{"error":"user not authorized to write"}', "not authorized to write.*write and read rights"),
        (404, '{"error":"database not found: \\"b\\""}', "database missing, or .* use endpoint /write"),
        (405, "", "is this url an InfluxDB"),
        (301, "", "is this url an InfluxDB"),
    ],
)  # fmt: skip
async def test_what_a_person_must_mend(
    store: InfluxStore, scripted: Scripted, status: int, body: str, words: str
) -> None:
    scripted.script = always(status, body)
    for asked in (store.write([point(1, sent=1)]), store.ping(), store.ensure()):
        with pytest.raises(StoreMisconfigured, match=words) as caught:
            await asked
        assert "secret" not in str(caught.value)


async def test_a_real_server_without_the_new_endpoint(influxd: Influxd) -> None:
    store = InfluxStore(influxd.url)
    with pytest.raises(StoreMisconfigured, match="use endpoint /write"):
        await store.ping()
    await store.close()


async def test_a_real_database_that_is_missing(influxd: Influxd) -> None:
    store = InfluxStore(influxd.url, endpoint="/write", database="never_made")
    for asked in (store.ping(), store.write([point(1, sent=1)]), store.latest("latency", [], since_ns=0)):
        with pytest.raises(StoreMisconfigured, match=r"database (missing|not found)"):
            await asked
    await store.close()


async def test_a_real_server_that_asks_who_we_are(tmp_path: Path) -> None:
    server = Influxd(tmp_path, users=True)
    server.start()
    try:
        ask(server.url, "CREATE USER root WITH PASSWORD 'pass' WITH ALL PRIVILEGES", "")
        admin = InfluxStore(server.url, endpoint="/write", user="root", password="pass")
        await admin.ensure()
        await admin.ensure()
        assert await admin.write([point(1, sent=1)]) == []
        await admin._query("CREATE USER guest WITH PASSWORD 'pass'")
        for user, words in (("nobody", "^401: "), ("guest", "^403: ")):
            store = InfluxStore(server.url, endpoint="/write", user=user, password="pass")
            with pytest.raises(StoreMisconfigured, match=words):
                await store.write([point(1, sent=1)])
            with pytest.raises(StoreMisconfigured, match=words):
                await store.ping()
            await store.close()
        await admin.close()
    finally:
        server.stop()


# The store's own limits


LIMITS = {
    "1.x series": '{"error":"partial write: max-series-per-database limit exceeded: (1000000) dropped=1"}',
    "1.x values": '{"error":"partial write: max-values-per-tag limit exceeded (9/9): tag=\\"agent\\" dropped=1"}',
    "2.x": '{"code":"unprocessable entity","message":"max-series-per-database limit exceeded: (1) dropped=1"}',
    "3.x columns": '{"error":"Update to schema would exceed number of columns per table limit of 500 columns"}',
    "3.x tables": '{"error":"Adding a new table would exceed limit of 2000 tables"}',
    "3.x partial": json.dumps(
        {
            "error": "partial write of line protocol occurred",
            "data": [{"original_line": "latency,", "error_message": "would exceed limit of 5 databases"}],
        }
    ),
}  # fmt: skip


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("name", LIMITS)
async def test_a_named_limit_is_the_stores_fault(
    store: InfluxStore, scripted: Scripted, name: str, status: int
) -> None:
    scripted.script = always(status, LIMITS[name])
    with pytest.raises(StoreLimit, match="limit"):
        await store.write([point(1, sent=1), point(2, sent=1)])
    assert len(scripted.requests) == 1, "no bisection"
    with pytest.raises(StoreLimit):
        await store.write([point(1, sent=1)])


async def test_a_real_limit(tmp_path: Path) -> None:
    server = Influxd(tmp_path, max_values=3)
    server.start()
    store = InfluxStore(server.url, endpoint="/write")
    try:
        await store.ensure()
        for n in range(3):
            assert await store.write([point(1, tags={"agent": f"a-{n}"}, sent=1)]) == []
        with pytest.raises(StoreLimit, match="max-values-per-tag limit exceeded"):
            await store.write([point(1, tags={"agent": "a-1"}, sent=1), point(1, tags={"agent": "a-4"}, sent=1)])
        assert await store.write([point(1, tags={"agent": "a-1"}, sent=1)]) == []
    finally:
        await store.close()
        server.stop()


@pytest.mark.parametrize(
    "body",
    [
        '{"code":"invalid","message":"unable to parse \'wifi_link ssid=\\"limit of quota exceeded\\"\': bad"}',
        '{"error":"partial write","data":[{"original_line":"ssid=limit exceeded","error_message":"No fields"}]}',
        '{"error":"partial write","data":{"original_line":"ssid=limit exceeded","error_message":"No fields"}}',
    ],
)
async def test_hostile_text_that_is_echoed_names_no_limit(store: InfluxStore, scripted: Scripted, body: str) -> None:
    scripted.script = refusing(lambda line: "limit" in line, 400, body)
    points = [point(0, "wifi_link", ssid="limit exceeded"), point(1, "wifi_link", ssid="quiet")]
    (refusal,) = await store.write(points)
    assert refusal.place == 0


async def test_many_refused_lines_are_the_stores_fault(store: InfluxStore, scripted: Scripted) -> None:
    scripted.script = refusing(lambda line: "sent=1i" in line, 422, '{"code":"x","message":"points beyond retention"}')
    points = [point(second, sent=1 if second < 6 else 0) for second in range(100)]
    with pytest.raises(StoreLimit, match=r"more than 5 % of 100 lines refused, one of them: points beyond retention"):
        await store.write(points)


async def test_five_of_a_hundred_are_their_own_fault(store: InfluxStore, scripted: Scripted) -> None:
    scripted.script = refusing(lambda line: "sent=1i" in line, 400, '{"error":"no"}')
    points = [point(second, sent=1 if second % 20 == 7 else 0) for second in range(100)]
    assert await store.write(points) == [Refusal(place, "no") for place in (7, 27, 47, 67, 87)]


async def test_two_of_three_are_the_stores_fault_and_one_of_two_is_not(store: InfluxStore, scripted: Scripted) -> None:
    scripted.script = refusing(lambda line: "sent=1i" in line, 400, '{"error":"no"}')
    assert await store.write([point(1, sent=0), point(2, sent=1)]) == [(1, "no")]
    with pytest.raises(StoreLimit):
        await store.write([point(1, sent=0), point(2, sent=1), point(3, sent=1)])


# Lines refused for good


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, '{"error":"partial write: field type conflict: ... dropped=1"}', "field type conflict"),
        (400, '{"code":"invalid","message":"unable to parse \'x\': bad timestamp"}', "bad timestamp"),
        (422, '{"code":"unprocessable entity","message":"failure writing points"}', "failure writing points"),
        (400, '{"error":"partial write","data":[{"error_message":"bad type","original_line":"x"}]}', "write; bad type"),
        (413, '{"error":"Request Entity Too Large"}', "Request Entity Too Large"),
        (400, "plain\nwords", "plain words"),
        (400, '["no object"]', "no object"),
        (400, "", ""),
    ],
)  # fmt: skip
async def test_a_line_refused_alone_is_told_with_the_servers_words(
    store: InfluxStore, scripted: Scripted, status: int, body: str, words: str
) -> None:
    scripted.script = refusing(lambda line: "sent=1i" in line, status, body)
    (refusal,) = await store.write([point(0, sent=0), point(1), point(2, sent=1), point(3, sent=0)])
    assert refusal.place == 2, "its place among the points, those without a line included"
    assert words in refusal.message
    assert refusal.message.isprintable()


async def test_a_long_answer_is_cut(store: InfluxStore, scripted: Scripted) -> None:
    scripted.script = always(400, "x" * 1_000_000)
    (refusal,) = await store.write([point(0, sent=0)])
    assert refusal.message == "x" * 1_000


async def test_one_bad_line_among_two_thousand_costs_few_requests(store: InfluxStore, scripted: Scripted) -> None:
    scripted.script = refusing(lambda line: "sent=1777i" in line, 400, '{"error":"no"}')
    assert await store.write([point(second, sent=second) for second in range(2_000)]) == [(1_777, "no")]
    assert len(scripted.requests) <= 1 + 2 * math.ceil(math.log2(2_000))


async def test_a_body_too_large_is_halved_until_it_fits(store: InfluxStore, scripted: Scripted) -> None:
    written: set[str] = set()

    def at_most_300(request: Request) -> Answer:
        if len(request.lines) > 300:
            return Answer(413, "too large")
        written.update(request.lines)
        return Answer()

    scripted.script = at_most_300
    assert await store.write([point(second, sent=second) for second in range(2_000)]) == []
    assert len(written) == 2_000


async def test_a_server_that_dies_while_a_batch_is_halved_promises_nothing(
    store: InfluxStore, scripted: Scripted
) -> None:
    scripted.script = lambda request: Answer(400, "no") if len(scripted.requests) < 3 else Answer(503)
    with pytest.raises(StoreUnavailable):
        await store.write([point(second, sent=second) for second in range(100)])


async def test_one_bad_line_among_two_thousand_on_a_real_server(influx: InfluxStore, influxd: Influxd) -> None:
    # A field type conflict in the shard is all that our own encoder leaves to refuse.
    post_line(influxd.url, influx._names[RAW], f'latency duplicates="text" {point().time_ns}')
    points = [point(second, duplicates=1 if second == 1_234 else None, sent=second) for second in range(2_000)]
    (refusal,) = await influx.write(points)
    assert refusal.place == 1_234
    assert "field type conflict" in refusal.message
    assert ask(influxd.url, "SELECT count(sent) FROM latency", influx._names[RAW])[0]["values"][0][1] == 1_999


async def test_older_than_retention_on_a_real_server(influx: InfluxStore, influxd: Influxd) -> None:
    (refusal,) = await influx.write([point(1, sent=1), point(-40 * 86_400, sent=2)])
    assert refusal.place == 1
    assert "retention" in refusal.message


# Life and death


async def test_ensure_makes_the_database_with_its_retention_and_keeps_what_is_there(influxd: Influxd) -> None:
    name = f"t{uuid.uuid4().hex}"
    for days in (30, 7):
        store = InfluxStore(influxd.url, endpoint="/write", database=name, retention_days=days)
        await store.ensure()
        await store.close()
    (policies,) = ask(influxd.url, f'SHOW RETENTION POLICIES ON "{name}"', name)
    assert [row[:3] for row in policies["values"]] == [["autogen", "720h0m0s", "24h0m0s"]]


async def test_a_killed_database_keeps_what_it_took(tmp_path: Path) -> None:
    server = Influxd(tmp_path)
    server.start()
    store = InfluxStore(server.url, endpoint="/write")
    try:
        await store.ensure()
        assert await store.write([point(second, sent=second) for second in range(100)]) == []
        server.kill()
        for asked in (store.write([point(1, sent=1)]), store.ping(), store.latest("latency", [], since_ns=0)):
            with pytest.raises(StoreUnavailable):
                await asked
        server.start()
        await store.ping()
        assert await store.write([point(100, sent=100)]) == []
        (row,) = ask(server.url, "SELECT count(sent) FROM latency", "wanggan")[0]["values"]
        assert row[1] == 101
    finally:
        await store.close()
        server.stop()


@pytest.mark.parametrize("endpoint", ["/write", "/api/v2/write"])
async def test_victoria_metrics_takes_writes_and_is_not_believed_at_once(
    victoria_metrics: VictoriaMetrics, endpoint: str
) -> None:
    agent = f"a-{uuid.uuid4().hex[:8]}"
    store = InfluxStore(victoria_metrics.url, server="victoriametrics", endpoint=endpoint, ack_hold_s=10)  # type: ignore[arg-type]
    await store.ensure()
    await store.ping()
    assert not store.durable
    assert store.ack_hold_s == 10
    assert await store.write([point(1, tags={"agent": agent, "venue": "图书馆 二楼"}, sent=3)]) == []
    (series,) = victoria_metrics.series(f'{{agent="{agent}"}}')
    assert series["__name__"] == "latency_sent"
    assert series["venue"] == "图书馆 二楼"
    with pytest.raises(StoreMisconfigured, match="VictoriaMetrics takes writes only"):
        await store.latest("latency", [], since_ns=0)
    await store.close()


async def test_closing_twice(store: InfluxStore) -> None:
    await store.write([point(1, sent=1)])
    await store.close()
    await store.close()


# Answers to queries


async def test_an_answer_broken_off(store: InfluxStore, scripted: Scripted) -> None:
    scripted.script = always(200, '{"results":[{"series":[{"columns":["time"')
    with pytest.raises(StoreUnavailable, match="broken off"):
        await store.latest("latency", [], since_ns=0)


async def test_a_query_that_the_server_refuses(store: InfluxStore, scripted: Scripted) -> None:
    scripted.script = always(200, '{"results":[{"error":"database not found: wanggan"}]}')
    with pytest.raises(StoreMisconfigured, match="database not found: wanggan"):
        await store.latest("latency", [], since_ns=0)
    scripted.script = always(503, '{"error":"busy"}', Retry_After="3")
    with pytest.raises(StoreUnavailable, match="503: busy") as caught:
        await store.latest("latency", [], since_ns=0)
    assert caught.value.retry_after_s == 3


async def test_a_database_that_somebody_else_makes_meanwhile_is_a_matter_for_people(scripted: Scripted) -> None:
    def script(request: Request) -> Answer:
        if "CREATE" in request.body.decode() + request.query.get("q", ""):
            return Answer(200, '{"results":[{"error":"retention policy conflicts with an existing policy"}]}')
        return Answer(200, '{"results":[{}]}', {"X-Influxdb-Version": "1.6.7"})

    scripted.script = script
    store = InfluxStore(scripted.url, endpoint="/write")
    with pytest.raises(StoreMisconfigured, match="retention policy conflicts"):
        await store.ensure()
    await store.close()
