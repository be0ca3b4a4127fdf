"""The perception index: venues computed by hand, what is missing, floors and marks."""

import math

import pytest

from contract.series import INDICATOR_SCORES, INDICATORS
from perception import profiles
from perception.scoring.ppi import Count, passes, ppi

WIFI = profiles.named("wifi-public-2026")
OBSERVE = profiles.named("wifi-observe-2026")
GOV = profiles.named("gov-node-2026")
VENUE_A: dict[str, float | None] = {
    "access_success_ratio": 0.97, "online_ms": 4700, "good_signal_ratio": 0.88, "availability_ratio": 0.995,
    "down_mbps": 45, "up_mbps": 22, "rtt_p50_ms": 18, "rt_pdv_p95_ms": 14, "loss_ratio": 0.003, "working_rise_ms": 60,
    "dns_rtt_ms": 24, "web_total_ms": 1400, "web_success_ratio": 0.99, "video_start_s": 1.2,
    "video_stall_ratio": 0.004, "video_success_ratio": 1,
}  # fmt: skip
NODE: dict[str, float | None] = {
    "availability_ratio": 0.9985, "reach_ratio": 0.99, "rtt_p50_ms": 12, "loss_ratio": 0.001, "rt_pdv_p95_ms": 6,
    "down_mbps": 50, "up_mbps": 20, "dns_rtt_ms": 20, "web_total_ms": 1200, "web_success_ratio": 0.995,
}  # fmt: skip
VIDEO = [name for name in VENUE_A if name.startswith("video")]


def near(expected: float) -> object:
    return pytest.approx(expected, abs=1e-4)


def test_a_wifi_venue() -> None:
    found = ppi(WIFI, VENUE_A)
    assert list(found.indicators.values()) == [
        near(x)
        for x in (85, 70, 80, 91.8367, 79.5884, 79.0139, 91.1111, 80, 85, 71.7949, 97.7778, 64.9742, 94.3265, 97.5343)
    ]
    assert found.dimensions == {"coverage": near(82.2755), "quality": near(83.0308), "service": near(83.4410)}
    assert (found.score, found.level, found.partial, found.missing) == (near(82.8517), "良", False, [])


def test_a_government_node() -> None:
    found = ppi(GOV, NODE)
    assert list(found.dimensions.values()) == [near(84.1010), near(86.3724), near(79.7518)]
    assert (found.score, found.level) == (near(83.4777), "良")


def test_everything_at_its_good_end() -> None:
    best: dict[str, float | None] = {row.id: row.good for row in WIFI.indicators if row.good is not None}
    best |= {"web_total_ms": 500, "web_success_ratio": 1, "video_start_s": 1, "video_stall_ratio": 0.001}
    found = ppi(WIFI, best | {"video_success_ratio": 1}, jitter_buffer_ms=0)
    assert found.indicators["voice"] == near(99.8712)
    assert found.score == near(99.9897)


def test_a_third_of_a_dimension_may_be_missing_and_no_more() -> None:
    without = VENUE_A | dict.fromkeys(VIDEO)
    found = ppi(WIFI, without)
    assert (found.dimensions["service"], found.score) == (near(77.9982), near(81.2189))
    assert (found.partial, found.missing) == (True, ["video"])
    none = ppi(WIFI, without | {"web_total_ms": None})
    assert (none.score, none.level, none.dimensions["service"]) == (None, None, None)
    assert none.dimensions["quality"] == near(83.0308)
    assert none.missing == ["web", "video"]


def test_nothing_measured_is_not_rated() -> None:
    found = ppi(WIFI, {})
    assert found.score is None
    assert set(found.dimensions.values()) == {None}
    assert len(found.missing) == len(WIFI.indicators)


def test_who_only_observes_gets_a_score_without_active_joins() -> None:
    observed = {name: x for name, x in VENUE_A.items() if name not in ("access_success_ratio", "online_ms")}
    assert ppi(WIFI, observed).score is None
    found = ppi(OBSERVE, observed)
    assert not found.partial
    assert found.dimensions["coverage"] == near((12 * 80 + 6 * 91.8367) / 18)
    assert found.score == near(0.4 * 83.945578 + 0.3 * 83.030833 + 0.3 * 83.440981)


def test_a_failed_test_is_a_result() -> None:
    down = VENUE_A | {
        "online_ms": math.inf, "rtt_p50_ms": math.inf, "down_mbps": 0, "web_success_ratio": 0, "web_total_ms": None,
        "video_success_ratio": 0, "video_start_s": None, "video_stall_ratio": None,
    }  # fmt: skip
    found = ppi(WIFI, down)
    assert {name for name, score in found.indicators.items() if score == 0} == {
        "online_ms", "down_mbps", "rtt_p50_ms", "web", "video", "voice",
    }  # fmt: skip
    assert found.missing == []


def test_too_few_tests_are_missing() -> None:
    many = dict.fromkeys(INDICATORS, Count(1000, 500, 7))
    assert ppi(WIFI, VENUE_A, counts=many) == ppi(WIFI, VENUE_A)
    few = {
        "access_success_ratio": Count(49), "down_mbps": Count(28, 9, 7), "up_mbps": Count(28, 10, 4),
        "working_rise_ms": Count(10), "web_success_ratio": Count(29), "loss_ratio": Count(29),
    }  # fmt: skip
    missing = ppi(WIFI, VENUE_A, counts=many | few).missing
    assert missing == ["access_success_ratio", "down_mbps", "up_mbps", "loss_ratio", "web", "voice"]
    enough = {"down_mbps": Count(10, 4, 5)}
    assert "down_mbps" not in ppi(GOV, NODE, counts=many | enough).missing
    assert ppi(WIFI, VENUE_A, counts={}).score is None


def test_marks_and_what_a_contract_promises() -> None:
    found = passes(WIFI, VENUE_A)
    assert {name for name, met in found.items() if not met} == {"good_signal_ratio"}
    assert found["voice"] is True
    assert passes(WIFI, VENUE_A, contract={"down_mbps": 50})["down_mbps"] is False
    assert passes(WIFI, VENUE_A, contract={"down_mbps": None})["down_mbps"] is True
    assert passes(WIFI, VENUE_A | {"web_total_ms": None, "web_success_ratio": 0})["web"] is False
    assert passes(WIFI, {})["online_ms"] is None
    assert passes(WIFI, VENUE_A, counts={})["rtt_p50_ms"] is None


@pytest.mark.parametrize("profile", [WIFI, OBSERVE, GOV], ids=lambda profile: profile.id)
def test_every_indicator_of_a_profile_has_a_stored_name_and_a_mark(profile: object) -> None:
    assert hasattr(profile, "indicators")
    names = [row.id for row in profile.indicators]
    assert set(names) <= set(INDICATOR_SCORES)
    assert set(passes(profile, {})) == set(names)  # type: ignore[arg-type]
