"""Every rule and every confidence, on rows made by hand."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from contract.series import VERDICT
from perception.rollups.roll import HOUR_NS
from perception.verdicts import rules
from perception.verdicts.incidents import Incident, incident, merged, with_causes
from perception.verdicts.judge import share_of
from perception.verdicts.sentences import sentence
from perception.verdicts.verdict import SEGMENTS, Verdict
from store.interface import Row
from store.point import flaw
from store.register import Names
from tests.perception.network import LIMITS, T0, Rows, change, fail, fine, lose, row, verdict, without

HIGH, MEDIUM, LOW = 0.9, 0.6, 0.3
ZONE = ZoneInfo("Asia/Shanghai")
NAMES = Names(zh="长寿图书馆", en="Changshou Library")


def made(*changes: Callable[[Rows], None], network: str = "wifi") -> Rows:
    rows = fine(network)
    for apply in changes:
        apply(rows)
    return rows


def peers(*changes: Callable[[Rows], None], bad: int = 0, of: int = 5, network: str = "wifi") -> list[Rows]:
    """Other venues, the first of them changed as told."""
    return [made(*changes, network=network) if number < bad else fine(network) for number in range(of)]


def said(found: Verdict) -> tuple[str, str, float]:
    return found.segment, rules.RULES[found.rule - 1].__name__, found.confidence


# What goes wrong


def weak(rows: Rows) -> None:
    change(rows, "wifi_link", rssi_dbm=-78, snr_db=15)


def lossy_gateway(rows: Rows) -> None:
    lose(rows, 0.1, "gateway", "core", "internet")


def lossy_core(rows: Rows) -> None:
    lose(rows, 0.1, "core", "internet")


def lossy_exit(rows: Rows) -> None:
    lose(rows, 0.1, "internet")


def exit_down(rows: Rows) -> None:
    fail(rows, "all_lost", 1.0, "latency", target="internet")
    fail(rows, "unreachable", 1.0, "web")
    fail(rows, "timeout", 1.0, "dns", resolver="public")
    rows["portal", "-", ""] = replace(rows["portal", "-", ""], reasons={"portal.walled": 12})


def news_down(rows: Rows) -> None:
    fail(rows, "refused", 1.0, "web", target="news")


def names_down(rows: Rows) -> None:
    fail(rows, "dns_failed", 0.5, "dns", resolver="site")


def silent_gateway(rows: Rows) -> None:
    fail(rows, "all_lost", 1.0, "latency", target="gateway")
    rows["latency", "gateway", ""] = replace(rows["latency", "gateway", ""], metrics={})


def no_signal(rows: Rows) -> None:
    fail(rows, "not_associated", 1.0, "latency", "dns", "web", "wifi_link", "portal")
    without(rows, "wifi_link", "wifi_join")


def blind(rows: Rows) -> None:
    without(rows, "wifi_link")


def no_survey(rows: Rows) -> None:
    found = rows["wifi_link", "-", ""]
    known = {name: value for name, value in found.metrics.items() if name not in ("busy_ratio", "snr_db")}
    rows["wifi_link", "-", ""] = replace(found, metrics=known)


def caught(rows: Rows) -> None:
    fail(rows, "all_lost", 0.5, "latency", target="core")
    fail(rows, "all_lost", 0.5, "latency", target="internet")
    fail(rows, "portal", 0.5, "web")
    rows["portal", "-", ""] = replace(rows["portal", "-", ""], reasons={"portal.portal": 6})
    change(rows, "portal", portal_ms=3000)


def no_address(rows: Rows) -> None:
    fail(rows, "dhcp_failed", 0.4, "latency", "dns", "web")


def unknown_user(rows: Rows) -> None:
    fail(rows, "auth_failed", 0.4, "latency", "dns", "web")


def refused(rows: Rows) -> None:
    fail(rows, "not_associated", 0.4, "latency", "dns", "web", "wifi_link")


def join_failed(stage: str) -> Callable[[Rows], None]:
    def apply(rows: Rows) -> None:
        rows["wifi_join", "-", ""] = failed_join(stage)

    return apply


def failed_join(stage: str) -> Any:
    return replace(row("wifi_join", attempted=1), venue="here", failed=1, ok=0, reasons={f"stage.{stage}": 1})


def busy_box(rows: Rows) -> None:
    for key, found in rows.items():
        lost = round(0.4 * found.n)
        rows[key] = replace(
            found, invalid=lost, attempted=found.n - lost, ok=found.n - lost, reasons={"internal": lost}
        )


def silence(rows: Rows) -> None:
    for key, found in rows.items():
        rows[key] = replace(found, n=0, attempted=0, ok=0, metrics={})


def half_missing(rows: Rows) -> None:
    for key, found in rows.items():
        rows[key] = replace(found, expected=2 * found.n)


def maintenance(rows: Rows) -> None:
    for key, found in rows.items():
        rows[key] = replace(found, attempted=0, ok=0, planned=found.n, metrics={})


def congestion(rows: Rows) -> None:
    change(rows, "throughput", "core", down_mbps=30, working_rise_ms=400)


LAN_PEERS = peers(lossy_gateway, bad=2)
CASES: list[tuple[Rows, list[Rows], tuple[str, str, float]]] = [
    (fine(), peers(), ("none", "all_good", HIGH)),
    (made(busy_box), peers(), ("agent", "own_fault", HIGH)),
    (made(silence), peers(), ("agent", "no_records", LOW)),
    (made(half_missing), peers(), ("agent", "no_records", LOW)),
    ({}, peers(), ("agent", "no_records", LOW)),
    (made(maintenance), peers(), ("none", "nothing_known", 0.0)),
    (made(weak, lossy_gateway), peers(), ("radio", "radio", HIGH)),
    (made(weak, lossy_gateway), peers(weak, bad=4), ("radio", "radio", MEDIUM)),
    (made(weak, lossy_gateway), peers(weak, bad=2), ("radio", "radio", MEDIUM)),
    (made(weak, refused), peers(), ("radio", "radio", HIGH)),
    (made(join_failed("scan"), weak, no_signal), peers(), ("radio", "radio", LOW)),
    (made(no_signal), peers(), ("radio", "radio", LOW)),
    (made(weak), peers(), ("radio", "radio_alone", MEDIUM)),
    (made(lambda r: change(r, "wifi_link", rssi_dbm=-71)), peers(), ("radio", "radio_alone", LOW)),
    (made(lambda r: change(r, "wifi_link", busy_ratio=0.9)), peers(), ("radio", "radio_alone", MEDIUM)),
    (made(refused), peers(), ("join", "join", HIGH)),
    (made(unknown_user), peers(), ("join", "join", HIGH)),
    (made(unknown_user, blind), peers(), ("join", "join", MEDIUM)),
    (made(unknown_user), peers(unknown_user, bad=4), ("join", "join", MEDIUM)),
    (made(unknown_user), peers(unknown_user, bad=2), ("join", "join", LOW)),
    (made(no_address), peers(), ("dhcp", "dhcp", MEDIUM)),
    (made(caught), peers(), ("portal", "portal", HIGH)),
    (made(lossy_gateway), peers(), ("lan", "lan", HIGH)),
    (made(lossy_gateway), [], ("lan", "lan", MEDIUM)),
    (made(lossy_gateway), LAN_PEERS, ("lan", "lan", LOW)),
    (made(lossy_gateway, blind), peers(), ("lan", "lan", LOW)),
    (made(names_down), peers(), ("dns", "dns", HIGH)),
    (made(names_down, lambda r: without(r, "dns", target="other")), [], ("dns", "dns", HIGH)),
    (made(lambda r: fail(r, "dns_failed", 0.5, "dns")), [], ("dns", "dns", MEDIUM)),
    (made(lambda r: fail(r, "dns_failed", 0.5, "dns")), peers(names_down, bad=4), ("dns", "dns", HIGH)),
    (made(lambda r: change(r, "dns", "news", "site", rtt_ms=300)), peers(), ("dns", "dns", HIGH)),
    (made(news_down), peers(news_down, bad=4), ("target", "one_target", HIGH)),
    (made(news_down), [], ("target", "one_target", MEDIUM)),
    (made(news_down), peers(news_down, bad=2), ("target", "one_target", LOW)),
    (made(news_down), peers(), ("internet", "one_target_here", LOW)),
    (made(lambda r: fail(r, "all_lost", 0.5, "latency", target="core")), peers(), ("uplink", "one_target_here", LOW)),
    (made(lossy_core), peers(), ("uplink", "uplink", HIGH)),
    (made(lossy_core), peers(lossy_core, bad=4), ("uplink", "uplink", HIGH)),
    (made(lossy_core), peers(lossy_core, bad=2), ("uplink", "uplink", MEDIUM)),
    (made(lossy_core), [], ("uplink", "uplink", MEDIUM)),
    (made(exit_down), peers(), ("internet", "internet", MEDIUM)),
    (made(exit_down), peers(exit_down, bad=4), ("internet", "internet", HIGH)),
    (made(exit_down), peers(exit_down, bad=2), ("internet", "internet", LOW)),
    (made(lambda r: fail(r, "dns_failed", 1.0, "dns"), lossy_gateway, blind), peers(), ("lan", "lan", LOW)),
]  # fmt: skip


@pytest.mark.parametrize(("here", "others", "expected"), CASES, ids=[f"{n}-{c[2][1]}" for n, c in enumerate(CASES)])
def test_rule_and_confidence(here: Rows, others: list[Rows], expected: tuple[str, str, float]) -> None:
    assert said(verdict(here, others)) == expected


def test_every_rule_is_tested_and_every_segment_named() -> None:
    tested = {case[2][1] for case in CASES} | {"congested", "common_exit", "cause_open"}
    assert tested == {rule.__name__ for rule in rules.RULES}
    assert {case[2][0] for case in CASES} == set(SEGMENTS)


def test_two_of_three_joins_and_the_newest_among_them() -> None:
    failed, well = failed_join("eap"), row("wifi_join", attempted=1)
    here = made(join_failed("eap"))
    assert said(verdict(here, earlier_joins={"here": [failed, well]})) == ("join", "join", MEDIUM)
    assert verdict(here, earlier_joins={"here": [failed, well]}).joins_failed == 2
    assert said(verdict(here, peers(), earlier_joins={"here": [well, failed]})) == ("join", "join", HIGH)
    assert verdict(here, earlier_joins={"here": [well, well]}).segment == "none"
    assert verdict(here, earlier_joins={"here": [failed_join("assoc"), well]}).segment == "none"
    assert verdict(fine(), earlier_joins={"here": [failed, failed]}).segment == "none"
    no_lease = verdict(made(join_failed("dhcp")), earlier_joins={"here": [failed_join("dhcp")]})
    assert said(no_lease) == ("dhcp", "dhcp", HIGH)
    unseen = verdict(made(join_failed("scan")), earlier_joins={"here": [failed_join("scan")]})
    assert said(unseen) == ("radio", "radio", HIGH)


def test_a_gateway_is_no_worse_than_what_lies_behind_it() -> None:
    for apply in (
        silent_gateway,
        lambda r: lose(r, 0.3, "gateway"),
        lambda r: change(r, "latency", "gateway", rtt_p50_ms=80),
    ):
        assert verdict(made(apply), peers()).segment == "none"


def test_behind_a_silent_gateway_an_outage_is_the_uplinks_at_low_confidence() -> None:
    here = made(silent_gateway, lossy_core)
    assert said(verdict(here, peers(), silent=frozenset({("a-1", "gateway")}))) == ("uplink", "uplink", LOW)
    assert verdict(made(silent_gateway, lossy_core), peers()).segment == "lan"
    here = made(silent_gateway, lossy_core, weak)
    assert said(verdict(here, peers(), silent=frozenset({("a-1", "gateway")}))) == ("radio", "radio", LOW)
    here = made(silent_gateway, caught)
    assert said(verdict(here, peers(), silent=frozenset({("a-1", "gateway")}))) == ("portal", "portal", MEDIUM)


def test_full_air_is_not_held_against_the_lan_where_the_driver_is_silent() -> None:
    def late(least_ms: float) -> Callable[[Rows], None]:
        def apply(rows: Rows) -> None:
            for target in ("gateway", "core", "internet"):
                change(rows, "latency", target, rtt_p50_ms=60, rtt_min_ms=least_ms)

        return apply

    assert said(verdict(made(no_survey, late(4)), peers())) == ("radio", "radio", LOW)
    assert said(verdict(made(no_survey, late(50)), peers())) == ("lan", "lan", HIGH)
    assert said(verdict(made(late(4)), peers())) == ("lan", "lan", HIGH)


def test_another_agent_tells_whose_fault_it_is() -> None:
    assert said(verdict(made(lossy_gateway), peers(), second=fine())) == ("agent", "lan", LOW)
    found = verdict(made(silence), peers(), second=fine())
    assert (*said(found), found.target, found.reason) == ("agent", "all_good", HIGH, "a-1", "no_records")
    assert said(verdict(made(silence), peers(), second=made(lossy_gateway))) == ("lan", "lan", HIGH)


def test_a_full_uplink_shows_under_load_alone() -> None:
    assert said(verdict(made(congestion), usual_down_mbps={"here": 90.0})) == ("uplink", "congested", MEDIUM)
    assert verdict(made(congestion), usual_down_mbps={"here": 50.0}).segment == "none"
    assert verdict(made(congestion)).segment == "none"
    found = verdict(made(congestion, weak), usual_down_mbps={"here": 90.0})
    assert said(found) == ("radio", "radio_alone", MEDIUM)


def test_an_exit_that_all_share_is_no_target() -> None:
    """Pings of one target are lost for everybody. Where connections to other targets are repeated, it is the way."""

    def repeating(rows: Rows) -> None:
        lossy_exit(rows)
        for target in ("news", "search"):
            found = rows["web", target, ""]
            again = replace(found.metrics["tcp_ms"], total=6 * 20 + 1000, maximum=1020)
            rows["web", target, ""] = replace(found, metrics={"tcp_ms": again})

    assert said(verdict(made(lossy_exit), peers(lossy_exit, bad=5))) == ("target", "one_target", HIGH)
    found = verdict(made(repeating), peers(repeating, bad=5))
    assert (*said(found), found.scope) == ("internet", "common_exit", HIGH, "district")


def test_what_no_rule_explains_stays_open() -> None:
    here = made(lambda r: fail(r, "dns_failed", 0.5, "dns"), lambda r: without(r, "latency"))
    assert said(verdict(here, peers())) == ("none", "cause_open", LOW)


def test_a_wire() -> None:
    def unplugged(rows: Rows) -> None:
        fail(rows, "no_link", 0.5, "latency", "dns", "web")

    assert said(verdict(fine("gov"), network="gov")) == ("none", "all_good", HIGH)
    others = peers(of=5, network="gov")
    assert said(verdict(made(unplugged, network="gov"), others, "gov")) == ("lan", "lan", HIGH)
    assert said(verdict(made(lossy_gateway, network="gov"), others, "gov")) == ("lan", "lan", HIGH)
    slow = made(lambda r: change(r, "latency", "core", rtt_p50_ms=19), network="gov")
    assert said(verdict(slow, others, "gov")) == ("uplink", "one_target_here", LOW)
    assert verdict(made(lambda r: change(r, "latency", "core", rtt_p50_ms=30))).segment == "none"


def test_a_portal_where_the_register_expects_one() -> None:
    def shown(rows: Rows) -> None:
        rows["portal", "-", ""] = replace(rows["portal", "-", ""], reasons={"portal.portal": 12})
        change(rows, "portal", portal_ms=900)

    assert verdict(made(shown), portals=frozenset({"here"})).segment == "none"
    assert verdict(made(shown)).segment == "portal"
    slow = made(shown, lambda r: change(r, "portal", portal_ms=9000))
    assert said(verdict(slow, portals=frozenset({"here"}))) == ("portal", "portal", HIGH)


def test_a_target_that_was_relabelled_is_still_a_target() -> None:
    def relabelled(rows: Rows) -> None:
        found = rows["web", "news", ""]
        rows["web", "news", ""] = replace(found, attempted=0, ok=0, invalid=6, reasons={"target_down": 6})

    found = verdict(made(relabelled), peers(relabelled, bad=4))
    assert (*said(found), found.target, found.peers_bad, found.peers) == ("target", "one_target", HIGH, "news", 4, 5)


def test_peers() -> None:
    assert [share_of(bad, 10, LIMITS) for bad in (0, 2, 3, 5, 6, 10)] == [
        "local", "local", "mixed", "mixed", "shared", "shared",
    ]  # fmt: skip
    assert share_of(2, 2, LIMITS) == "unknown"
    found = verdict(made(lossy_core), peers(lossy_core, bad=4))
    assert (found.peers, found.peers_bad, found.scope) == (5, 4, "district")


def test_a_verdict_is_stored_and_carries_its_evidence() -> None:
    found = verdict(made(weak, lossy_gateway), peers())
    assert flaw(found.point()) is None
    assert {field.name for field in fields(Verdict)} | {"absent"} == {"venue", "network", "time_ns", *VERDICT.fields}
    assert (found.l_state, found.g_state, found.rssi_dbm, found.tx_retry_ratio) == ("bad", "bad", -78, 0.05)
    assert found.gateway_loss_ratio == pytest.approx(0.1)


def test_what_a_former_run_left_is_void() -> None:
    """Fields merge in a store: a null erases nothing."""
    before, now = verdict(made(weak)), verdict(made(blind))
    assert before.rssi_dbm == -78
    names = tuple(VERDICT.fields)
    left = dict(zip(names, before.point().fields, strict=True))
    left |= {name: value for name, value in zip(names, now.point().fields, strict=True) if value is not None}
    assert Verdict.of(Row(now.time_ns, {"venue": now.venue, "network": now.network}, left)) == now


# Sentences


def told(here: Rows, others: list[Rows], **more: Any) -> tuple[str, str]:
    found = verdict(here, others, **more)
    zh, en = (sentence(found, NAMES, ZONE, language).split("：" if language == "zh" else ": ", 1)[1]
              for language in ("zh", "en"))  # fmt: skip
    return zh, en


SENTENCES: list[tuple[Rows, list[Rows], str, str]] = [
    (fine(), peers(), "各段正常（置信度高）。", "All fine (confidence high)."),
    (made(maintenance), [], "数据不足。", "Too little data."),
    (made(weak, lossy_gateway), peers(),
     "无线差（RSSI −78 dBm，重传5.0%），5/5个其他场所正常：射频（置信度高）。",
     "Wi-Fi poor (RSSI −78 dBm, retry 5.0%), 5/5 other venues fine: radio (confidence high)."),
    (made(unknown_user), [], "入网失败于EAP认证，信号正常：接入（置信度中）。",
     "Joins fail at eap, signal good: join (confidence medium)."),
    (made(no_address), peers(), "已关联未获地址：DHCP（置信度中）。",
     "Associated, no address: DHCP (confidence medium)."),
    (made(caught), peers(), "网关正常，认证页拦截，3000 ms：门户（置信度高）。",
     "Gateway fine, portal in the way, 3000 ms: portal (confidence high)."),
    (made(names_down), peers(), "按地址可达，解析失败50.0%（site），10 ms：DNS（置信度高）。",
     "Reachable by address, lookups fail 50.0% (site), 10 ms: DNS (confidence high)."),
    (made(lossy_gateway), peers(), "信号正常，网关3.0 ms，丢包10.0%：场所内网（置信度高）。",
     "Signal good, gateway 3.0 ms, loss 10.0%: LAN (confidence high)."),
    (made(lossy_gateway, blind), peers(), "疑似：网关3.0 ms，丢包10.0%：场所内网（置信度低）。",
     "Possibly: gateway 3.0 ms, loss 10.0%: LAN (confidence low)."),
    (made(lossy_core), peers(), "网关正常，核心8.0 ms，丢包10.0%：接入链路（本场所）（置信度高）。",
     "Gateway fine, core 8.0 ms, loss 10.0%: uplink (this venue) (confidence high)."),
    (made(exit_down), peers(exit_down, bad=4), "核心正常，3/3个外网目标异常：互联网出口（多个场所）（置信度高）。",
     "Core fine, 3/3 internet targets bad: exit (many venues) (confidence high)."),
    (made(news_down), peers(news_down, bad=4), "仅news异常，4/5个其他场所同时异常：目标端（置信度高）。",
     "Only news bad, at 4/5 other venues as well: target (confidence high)."),
    (made(busy_box), peers(), "探针异常（内部错误），不计分（置信度高）。",
     "Agent fault (internal error), not scored (confidence high)."),
    (made(no_signal), peers(), "疑似：无法接入（扫描），5/5个其他场所正常：射频（置信度低）。",
     "Possibly: cannot join (scan), 5/5 other venues fine: radio (confidence low)."),
]  # fmt: skip


@pytest.mark.parametrize(("here", "others", "zh", "en"), SENTENCES, ids=[case[3][:20] for case in SENTENCES])
def test_sentence(here: Rows, others: list[Rows], zh: str, en: str) -> None:
    assert told(here, others) == (zh, en)


def test_joins_are_counted_in_the_sentence() -> None:
    earlier = {"here": [failed_join("eap"), row("wifi_join", attempted=1)]}
    assert told(made(join_failed("eap")), [], earlier_joins=earlier) == (
        "3次入网2次失败于EAP认证，信号正常：接入（置信度中）。",
        "2/3 joins failed at eap, signal good: join (confidence medium).",
    )


def test_a_full_uplink_is_told_by_what_shows_it() -> None:
    zh, en = told(made(congestion), [], usual_down_mbps={"here": 90.0})
    assert zh == "网关正常，下行30.0 Mbps，负载时延增加400 ms：接入链路拥塞（置信度中）。"
    assert en == "Gateway fine, 30.0 Mbps down, 400 ms more delay under load: uplink full (confidence medium)."


def test_venue_and_time_stand_in_front() -> None:
    start = 1_794_996_000 // 3600 * 3600 * 10**9
    found = replace(verdict(fine()), time_ns=start)
    assert sentence(found, NAMES, ZONE, "zh").startswith("长寿图书馆，11月18日18:00–19:00：")
    assert sentence(found, None, ZONE, "en").startswith("here, 18 Nov 18:00–19:00: ")
    assert "11月18日18:00–24:00：" in sentence(found, NAMES, ZONE, "zh", start + 6 * HOUR_NS)
    assert "18 Nov 18:00 – 19 Nov 02:00: " in sentence(found, NAMES, ZONE, "en", start + 8 * HOUR_NS)


# Incidents


def at(number: int, segment: Any = "lan", venue: str = "here", **more: Any) -> Verdict:
    known: dict[str, Any] = {"confidence": MEDIUM, "rule": 10} | more
    return Verdict(venue=venue, network="wifi", time_ns=T0 + number * HOUR_NS, segment=segment, **known)


def test_adjacent_hours_of_one_segment_are_one_incident() -> None:
    hours = [at(0), at(1), at(2, "none"), at(3), at(6), at(7, "dns"), at(0, venue="other")]
    assert sorted([v.time_ns // HOUR_NS - T0 // HOUR_NS for v in group] for group in merged(hours)) == [
        [0], [0, 1, 3], [6], [7],
    ]  # fmt: skip


def test_an_incident_is_as_sure_as_its_surest_hour() -> None:
    group = [at(0), at(1, confidence=HIGH, scope="venue"), at(2, confidence=LOW)]
    found = incident(group, T0 + 2 * HOUR_NS)
    assert (found.confidence, found.scope, found.hours, found.open) == (HIGH, "venue", 3, 1)
    assert (found.time_ns, found.end_ns) == (T0, T0 + 3 * HOUR_NS)
    assert incident(group, T0 + 4 * HOUR_NS).open == 0
    assert flaw(found.point()) is None


def test_venues_that_share_a_cause() -> None:
    def one(venue: str, first: int, hours: int, scope: str = "district", target: str = "") -> Incident:
        more = {"scope": scope, "target": target}
        return incident([at(first + n, "internet", venue, **more) for n in range(hours)], T0 + 99 * HOUR_NS)

    found = with_causes([one("a", 0, 2), one("b", 1, 3), one("c", 4, 1), one("d", 9, 1), one("e", 1, 1, "venue"),
                         one("f", 1, 1, target="news")])  # fmt: skip
    causes = {incident.venue: (incident.cause, incident.venues) for incident in found}
    assert causes["a"] == causes["b"] == causes["c"]
    assert causes["a"][1] == 3
    assert causes["a"][0].startswith("wifi district internet ")
    assert len({cause for cause, _ in causes.values()}) == 4
    assert [causes[venue][1] for venue in "def"] == [1, 1, 1]
