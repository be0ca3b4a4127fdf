"""Every formula against its vectors: published ones, and values computed by hand from the formula."""

import math
from itertools import pairwise

import pytest

from perception.scoring.aim import aim
from perception.scoring.bloat import bloat
from perception.scoring.emodel import CODECS, delay_ms, emodel, mos, voice
from perception.scoring.emodel_full import Transmission, emodel_full
from perception.scoring.iqb import PUBLISHED, Requirement, iqb
from perception.scoring.primitives import lin, log
from perception.scoring.qoo import Requirement as Need
from perception.scoring.qoo import Span, qoo
from perception.scoring.rpm import band, confidence, rpm, trimmed_mean
from perception.scoring.video_kpi import video_kpi
from perception.scoring.web_log import web, web_log

TOLERANCE = 1e-4


def near(expected: float) -> object:
    return pytest.approx(expected, abs=TOLERANCE)


def row(down: float | None, up: float | None, rtt: float | None, loss: float | None) -> dict[str, float | None]:
    return {"down_mbps": down, "up_mbps": up, "rtt_ms": rtt, "loss_ratio": loss}


# Primitives


@pytest.mark.parametrize(
    ("x", "bad", "good", "expected"),
    [
        (0.95, 0.8, 1, 75), (50, 1, 100, 49.4949), (2.5, 6, 1, 70), (0.03, 0.15, 0, 80), (10, 1, 40, 23.0769),
        (0.005, 0.02, 0, 75), (math.inf, 100, 10, 0), (-5, 0, 1, 0), (7, 0, 1, 100),
    ],
)  # fmt: skip
def test_lin(x: float, bad: float, good: float, expected: float) -> None:
    assert lin(x, bad, good) == near(expected)


@pytest.mark.parametrize(
    ("x", "expected"),
    [(1, 0), (5, 34.9485), (10, 50), (20, 65.0515), (50, 84.9485), (100, 100), (200, 100), (0, 0), (-1, 0)],
)
def test_log(x: float, expected: float) -> None:
    assert log(x, 1, 100) == near(expected)


def test_unknown_stays_unknown() -> None:
    assert lin(None, 0, 1) is None
    assert log(None, 1, 2) is None
    assert web_log(None) is None
    assert web(None, None) is None
    assert video_kpi(None, 0.01) is None
    assert emodel(None, 0) is None
    assert emodel(50, None) is None
    assert voice(None) is None
    assert bloat(None, None) == (None, None)
    assert aim(rtt_ms=None, ipdv_mean_ms=1, loss_ratio=0, down_mbps=1, rise_ms=1).gaming == (None, None)


# IQB


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (row(100, 100, 1, 0.001), 1), (row(1, 1, 200, 0.1), 0), (row(15, 20, 75, 0.007), 0.571429),
        (row(50, 30, 20, 0), 0.950980), (row(25, 25, 50, 0.005), 0.571429), (row(26, 26, 49, 0.0049), 0.950980),
        (row(100, 100, 30, 0.02), 0.668022),
    ],
)  # fmt: skip
def test_iqb(values: dict[str, float | None], expected: float) -> None:
    assert iqb({"ours": values}).score == near(expected)


def test_iqb_says_why() -> None:
    found = iqb({"ours": row(15, 20, 75, 0.007)}).use_cases
    assert found == {
        "web": near(1), "video_streaming": near(0.714286), "audio_streaming": near(1), "video_conferencing": near(0),
        "online_backup": near(0.714286), "gaming": near(0),
    }  # fmt: skip
    assert iqb({"ours": row(50, 30, 20, 0)}).use_cases["gaming"] == near(0.705882)


ONE_CASE = {"one": {"down_mbps": Requirement(10, 3), "rtt_ms": Requirement(100, 1)}}
ONE_NEED = {"one": {"down_mbps": Requirement(10, 3)}}


def test_iqb_of_one_use_case_and_several_data_sets() -> None:
    assert iqb({"a": row(20, None, 200, None)}, use_cases=ONE_CASE).score == near(0.75)
    both = {"a": row(20, None, None, None), "b": row(5, None, None, None)}
    assert iqb(both, use_cases=ONE_NEED).score == near(0.5)
    assert iqb(both | {"b": row(None, None, None, None)}, use_cases=ONE_NEED).score == near(1)
    assert iqb(both, {"a": 3, "b": 1}, ONE_NEED).score == near(0.75)
    assert iqb(both, {"a": 0}, ONE_NEED).score == near(0)


def test_iqb_drops_what_has_no_data_and_is_unknown_without_any() -> None:
    assert iqb({"a": row(20, None, None, None)}, use_cases=ONE_CASE).score == near(1)
    assert iqb({}).score is None
    assert iqb({}).use_cases == dict.fromkeys(PUBLISHED)


# QoO


def test_qoo_of_the_draft() -> None:
    need = Need({p: Span(20, cpup) for p, cpup in ((50, 250), (90, 300), (99, 400))})
    assert qoo(need, rtt_ms={50: 200, 90: 200, 99: 200}, loss_ratio=None, down_mbps=None).score == near(21.7391)
    need = Need({99: Span(200, 500), 99.9: Span(300, 600)}, Span(0.01, 0.05), 4)
    assert qoo(need, rtt_ms={99: 350, 99.9: 375}, loss_ratio=0.02, down_mbps=28) == (50, 50, near(75), 100)
    need = Need({99: Span(100, 200), 99.9: Span(200, 300)}, Span(0.001, 0.02), 4)
    assert qoo(need, rtt_ms={99: 100, 99.9: 200}, loss_ratio=0.001, down_mbps=4).score == near(100)
    assert qoo(need, rtt_ms={99: 100, 99.9: 200}, loss_ratio=0.001, down_mbps=3.9).score == near(0)


def test_qoo_is_unknown_when_a_part_that_is_asked_for_is() -> None:
    need = Need({95: Span(50, 150)}, Span(0.005, 0.01))
    assert qoo(need, rtt_ms={}, loss_ratio=0.005, down_mbps=9) == (None, None, near(100), None)
    assert qoo(need, rtt_ms={95: math.inf}, loss_ratio=0.005, down_mbps=9).score == near(0)
    assert qoo(need, rtt_ms={95: 50}, loss_ratio=None, down_mbps=9).score is None


# RPM


@pytest.mark.parametrize(
    ("tcp", "tls", "http", "loaded", "expected"),
    [
        ([20], [20], [20], [20], 3000), ([30], [], [40], [60], 1357.1429), ([30], [35], [40], [60], 1357.142857),
        ([], [], [], [1000, 2000, 3000], 30), ([], [], [], list(range(1, 21)), 6000),
    ],
)  # fmt: skip
def test_rpm(tcp: list[float], tls: list[float], http: list[float], loaded: list[float], expected: float) -> None:
    assert rpm(tcp_ms=tcp, tls_ms=tls, http_ms=http, loaded_http_ms=loaded).rpm == near(expected)


def test_rpm_says_what_it_is_made_of() -> None:
    found = rpm(tcp_ms=[30], tls_ms=[35], http_ms=[40], loaded_http_ms=[60])
    assert (found.foreign_rpm, found.loaded_rpm) == (near(1714.285714), near(1000))
    assert found.trimmed_ms == {"tcp_ms": 30, "tls_ms": 35, "http_ms": 40, "loaded_http_ms": 60}
    assert trimmed_mean(list(range(1, 21))) == near(10)
    assert trimmed_mean([]) is None
    assert rpm(tcp_ms=[30], http_ms=[40], loaded_http_ms=[]).rpm is None


@pytest.mark.parametrize("parts", [{"tcp_ms": [1.0]}, {"http_ms": [1.0]}, {"tls_ms": [1.0]}])
def test_rpm_takes_no_half_connection(parts: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="belong together"):
        rpm(loaded_http_ms=[10], **parts)


def test_rpm_of_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 0 ms"):
        rpm(loaded_http_ms=[0])


def test_rpm_in_words() -> None:
    assert [band(x) for x in (None, 199.9, 200, 599.9, 600, 1499.9, 1500)] == [
        None, "差", "中", "中", "良", "良", "优",
    ]  # fmt: skip
    assert confidence([100, 100, 100]) == "low"
    assert confidence([50, 100, 101, 102, 104]) == "high"
    assert confidence([100, 101, 102, 120]) == "medium"


# E-model


def test_the_full_emodel_at_its_defaults() -> None:
    found = emodel_full(Transmission())
    assert (found.r, found.mos) == (near(93.2062), near(4.4094))
    assert (found.ro, found.is_, found.id) == (near(94.7688), near(1.4136), near(0.1490))


@pytest.mark.parametrize(
    ("ta", "r"),
    [(50, 91.7562), (100, 90.6637), (150, 89.5391), (200, 85.8047), (300, 72.6664), (400, 62.2468)],
)
def test_the_full_emodel_with_delay(ta: float, r: float) -> None:
    assert emodel_full(Transmission().delayed(ta)).r == near(r)


@pytest.mark.parametrize(
    ("ta", "idd"), [(50, 0), (100, 0), (150, 0.1635), (200, 3.0444), (300, 14.7607), (400, 24.0701)]
)
def test_the_full_emodel_s_absolute_delay(ta: float, idd: float) -> None:
    assert emodel_full(Transmission().delayed(ta)).idd == near(idd)


@pytest.mark.parametrize(
    ("delay", "r", "score"), [(150, 89.6, 4.3291), (200, 85.903, 4.2262), (300, 72.503, 3.7121), (0, 93.2, 4.4093)]
)
def test_the_simple_emodel_with_delay(delay: float, r: float, score: float) -> None:
    found = emodel(delay, 0)
    assert found is not None
    assert (found.r, found.mos) == (near(r), near(score))


@pytest.mark.parametrize(
    ("codec", "ie_eff", "score"), [("g711", 17.9245, 3.8337), ("g711_plc", 3.6398, 4.3281), ("g729a_vad", 15.2, 3.9462)]
)
def test_the_simple_emodel_with_loss(codec: str, ie_eff: float, score: float) -> None:
    ie, bpl = CODECS[codec]
    found = emodel(0, 0.01, ie=ie, bpl=bpl)
    assert found is not None
    assert (found.ie_eff, found.mos) == (near(ie_eff), near(score))


def test_the_simple_emodel_says_what_it_is_made_of() -> None:
    found = emodel(delay_ms(80, 40), 0.01)
    assert found == (near(87.640153), near(4.2770), near(80), near(1.92), near(3.639847))


@pytest.mark.parametrize(
    ("r", "score"),
    [
        (90, 4.3390),
        (80, 4.0240),
        (70, 3.5970),
        (60, 3.1),
        (50, 2.5750),
        (0, 1),
        (100, 4.5),
        (-3, 1),
        (110, 4.5),
        (3, 1),
    ],
)
def test_mos(r: float, score: float) -> None:
    assert mos(r) == near(score)


def test_mos_never_falls() -> None:
    scores = [mos(r / 10) for r in range(-10, 1010)]
    assert all(b >= a for a, b in pairwise(scores))


# Web, video, bloat, AIM


@pytest.mark.parametrize(
    ("total_s", "score"), [(0.5, 5), (0.96, 4.1290), (1, 4.0745), (2, 3.1490), (10, 1), (0, 5), (60, 1), (math.inf, 1)]
)
def test_web_log(total_s: float, score: float) -> None:
    assert web_log(1000 * total_s) == near(score)


def test_a_failed_page_is_the_worst() -> None:
    assert web_log(None, failed=True) == 1
    assert web(None, 0.0) == 0
    assert web(500, 0.5) == near(50)


@pytest.mark.parametrize(("start", "stall", "score"), [(0.812, 0.0012, 99.7551), (2, 0.01, 78.9796), (5, 0.05, 0)])
def test_video_kpi(start: float, stall: float, score: float) -> None:
    assert video_kpi(start, stall) == near(score)
    assert video_kpi(start, stall, 0.5) == near(score / 2)


def test_no_video_that_plays_is_the_worst() -> None:
    assert video_kpi(None, None, 0.0) == 0


@pytest.mark.parametrize(
    ("rise", "grade"),
    [(4.99, "A+"), (5, "A"), (29.9, "A"), (30, "B"), (60, "C"), (199.9, "C"), (200, "D"), (400, "F"), (-3, "A+")],
)
def test_bloat(rise: float, grade: str) -> None:
    assert bloat(rise, None).grade == bloat(None, rise).grade == bloat(rise, rise).grade == grade


def test_bloat_is_the_mean_of_directions() -> None:
    assert bloat(20, 40) == ("B", 30)
    assert bloat(-20, 40) == ("A", 20)


def test_aim() -> None:
    found = aim(rtt_ms=5, ipdv_mean_ms=5, loss_ratio=0, down_mbps=100, rise_ms=10)
    assert found == ((70, "great"), (40, "great"), (50, "great"))
    bad = aim(rtt_ms=200, ipdv_mean_ms=5, loss_ratio=0.3, down_mbps=100, rise_ms=300)
    assert bad.gaming == (0, "bad")


def test_aim_without_loss_and_without_a_rate() -> None:
    found = aim(rtt_ms=5, ipdv_mean_ms=5, loss_ratio=None, down_mbps=None, rise_ms=5)
    assert found == ((None, None), (40, "great"), (50, "great"))


@pytest.mark.parametrize(("rtt", "points"), [(9.9, 20), (10, 10), (20, 5), (50, 0), (100, -10), (500, -20)])
def test_a_value_at_a_breakpoint_of_aim_is_the_next_step(rtt: float, points: int) -> None:
    best = aim(rtt_ms=rtt, ipdv_mean_ms=0, loss_ratio=0, down_mbps=1000, rise_ms=0)
    assert best.streaming.points == max(0, points + 10 + 30 + 20)
