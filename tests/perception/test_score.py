"""`wanggan score`: every formula by its documented example, and every wrong input by its field."""

import json
import subprocess
import sys
from typing import Any

import pytest

from perception import profiles
from perception.score import FORMULAS, InputError, score
from tests.perception.scoring.test_ppi import NODE, VENUE_A

QOO = {
    "rtt_ms": {"99": 350, "99.9": 375}, "loss_ratio": 0.02, "down_mbps": 28,
    "requirement": {
        "down_mbps": 4, "loss_ratio": {"rop": 0.01, "cpup": 0.05},
        "rtt_ms": {"99": {"rop": 200, "cpup": 500}, "99.9": {"rop": 300, "cpup": 600}},
    },
}  # fmt: skip
RPM = {"tcp_ms": 30, "tls_ms": 35, "http_ms": 40, "loaded_http_ms": 60}
TEN = [12, 15, 18, 22, 30, 45, 50, 60, 80, 120]
PPI_A = {"score": 82.8517, "level": "良", "dimensions": {"coverage": 82.2755, "quality": 83.0308, "service": 83.4410}}

ANSWERS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("lin", {"x": 0.95, "bad": 0.8, "good": 1}, {"score": 75.0}),
    ("lin", {"x": None, "bad": 0.8, "good": 1}, {"score": None}),
    ("log", {"x": 10, "bad": 1, "good": 100}, {"score": 50.0}),
    ("iqb", {"down_mbps": 15, "up_mbps": 20, "rtt_ms": 75, "loss_ratio": 0.007}, {
        "score": 0.571429,
        "use_cases": {"web": 1.0, "video_streaming": 0.714286, "audio_streaming": 1.0, "video_conferencing": 0.0,
                      "online_backup": 0.714286, "gaming": 0.0},
    }),
    ("iqb", {"datasets": {"a": {"down_mbps": 20}, "b": {"down_mbps": 5}}, "weights": {"a": 3},
             "use_cases": {"u": {"down_mbps": {"thr": 10, "w": 3}}}}, {"score": 0.75, "use_cases": {"u": 0.75}}),
    ("iqb", {"datasets": {"a": {"down_mbps": 20}, "b": {"down_mbps": None}},
             "use_cases": {"u": {"down_mbps": {"thr": 10, "w": 3}}}}, {"score": 1.0}),
    ("qoo", QOO, {"score": 50.0, "latency": 50.0, "loss": 75.0, "throughput": 100.0}),
    ("qoo", {"app": "web", "rtt_ms": {"95": 100}, "loss_ratio": 0, "down_mbps": 5}, {"score": 50.0}),
    ("qoo", {"app": "meeting", "rtt_ms": {"90": 100}, "loss_ratio": 0, "down_mbps": 5}, {"score": None}),
    ("qoo", {"app": "web", "rtt_ms": {"95": "inf"}, "loss_ratio": 0, "down_mbps": 5}, {"score": 0.0}),
    ("rpm", RPM, {"rpm": 1357.142857, "foreign_rpm": 1714.285714, "loaded_rpm": 1000.0,
                  "trimmed_ms": {"tcp_ms": 30.0, "tls_ms": 35.0, "http_ms": 40.0, "loaded_http_ms": 60.0}}),
    ("rpm", {"loaded_http_ms": [1000, 2000, 3000]}, {"rpm": 30, "foreign_rpm": None}),
    ("emodel", {"rtt_ms": 80, "jitter_buffer_ms": 40, "loss_ratio": 0.01},
     {"r": 87.640153, "mos": 4.2770, "delay_ms": 80.0, "id": 1.92, "ie_eff": 3.639847}),
    ("emodel", {"delay_ms": 0, "loss_ratio": 0.01, "ie": 11, "bpl": 19}, {"ie_eff": 15.2, "mos": 3.9462}),
    ("emodel", {"delay_ms": None, "loss_ratio": 0.01}, {"r": None, "mos": None}),
    ("emodel", {"r": 80}, {"mos": 4.0240}),
    ("emodel", {"model": "full"}, {"r": 93.2062, "mos": 4.4094, "ro": 94.7688, "is": 1.4136, "id": 0.1490, "idd": 0}),
    ("emodel", {"model": "full", "delay_ms": 300}, {"r": 72.6664, "idd": 14.7607, "delay_ms": 300}),
    ("web_log", {"total_ms": 960}, {"mos": 4.128995}),
    ("web_log", {"failed": True}, {"mos": 1.0}),
    ("web_log", {"total_ms": 2000, "t5_s": 1, "t1_s": 4}, {"mos": 3.0}),
    ("video_kpi", {"start_s": 2, "stall_ratio": 0.01}, {"score": 78.979592}),
    ("bloat", {"down_rise_ms": 20, "up_rise_ms": 40}, {"grade": "B", "rise_ms": 30.0}),
    ("bloat", {"down_rise_ms": 4.99, "up_rise_ms": None}, {"grade": "A+"}),
    ("aim", {"rtt_ms": 5, "ipdv_mean_ms": 5, "loss_ratio": 0, "down_mbps": 100, "rise_ms": 10},
     {"streaming": {"points": 70, "class": "great"}, "gaming": {"points": 40, "class": "great"},
      "rtc": {"points": 50, "class": "great"}}),
    ("wilson", {"k": 95, "n": 100}, {"ratio": 0.95, "lo": 0.888250, "hi": 0.978456}),
    ("wilson", {"k": 0, "n": 0}, {"ratio": None, "lo": None, "hi": None}),
    ("order_stat_ci", {"n": 84, "q": 0.5}, {"lo_rank": 33, "hi_rank": 52, "coverage": 0.96247}),
    ("order_stat_ci", {"n": 10, "q": 0.5, "values": TEN}, {"lo_rank": 2, "hi_rank": 9, "lo": 15, "hi": 80}),
    ("order_stat_ci", {"q": 0.95, "values": TEN}, {"hi_rank": None, "hi": None}),
    ("quantile", {"values": TEN, "q": 0.95, "failed": 1}, {"value": None, "timeout": True, "method": "nearest_rank"}),
    ("quantile", {"values": TEN, "q": 0.95}, {"value": 102, "timeout": False, "method": "linear"}),
    ("quantile", {"values": [40, 50, 60], "q": 0.5, "failed": 1, "failed_value": 0}, {"value": 45, "method": "linear"}),
    ("quantile", {"values": [], "q": 0.5}, {"value": None, "timeout": False}),
    ("hodges_lehmann", {"differences": [1.2, -0.4, 2.1, 0.8, 1.5, 0.3, -0.1]}, {"estimate": 0.775, "n": 7}),
    ("tiers", {"venues": [{"venue": "a", "score": 91, "lo": 88, "hi": 93},
                          {"venue": "c", "score": 84, "lo": 81, "hi": 86.5}]}, {"tiers": [["a"], ["c"]]}),
    ("eighty_eighty", {"units": {"a": [10, 20, 30, 40, 50], "b": [60, 70, 80, 90, 100]}},
     {"mbps": 28.0, "units": {"a": 18.0, "b": 68.0}}),
    ("pass_ratio", {"values": [10, 25, 30, 40], "op": ">=", "threshold": 20, "failed": 1},
     {"ratio": 0.6, "passed": 3, "attempted": 5, "lo": 0.230724, "hi": 0.882379}),
    ("pass_ratio", {"values": [10, 25], "op": "<=", "threshold": 10}, {"passed": 1}),
    ("pass_ratio", {"values": [], "op": "<=", "threshold": 10}, {"ratio": None, "lo": None}),
    ("ppi", {"profile": "wifi-public-2026", "values": VENUE_A},
     PPI_A | {"partial": False, "missing": [], "profile_sha": profiles.named("wifi-public-2026").sha256}),
    ("ppi", {"profile": "gov-node-2026", "values": NODE}, {"score": 83.4777, "level": "良"}),
    ("ppi", {"profile": "wifi-public-2026", "values": {"rtt_p50_ms": "inf"}}, {"score": None, "level": None}),
]  # fmt: skip


def near(expected: Any) -> Any:
    if isinstance(expected, dict):
        return {name: near(x) for name, x in expected.items()}
    number = isinstance(expected, int | float) and not isinstance(expected, bool)
    return pytest.approx(expected, abs=1e-4) if number else expected


@pytest.mark.parametrize(("formula", "given", "expected"), ANSWERS)
def test_an_answer(formula: str, given: dict[str, Any], expected: dict[str, Any]) -> None:
    answer = score(formula, json.dumps(given).encode())
    assert {name: answer[name] for name in expected} == {name: near(x) for name, x in expected.items()}


def test_every_formula_is_tested_and_its_example_works() -> None:
    assert {formula for formula, _, _ in ANSWERS} == set(FORMULAS)
    for name, formula in FORMULAS.items():
        assert score(name, formula.example.encode())


WRONG = [
    ("lin", '{"y": 1}', "y: unknown key; remove it"),
    ("lin", '{"x": 1, "bads": 2, "good": 1}', "bads: unknown key; did you mean bad?"),
    ("lin", '{"x": 1, "bad": 0}', "good: missing; add it"),
    ("lin", '{"x": "1", "bad": 0, "good": 1}', "x: expected `float | null`, got `str`"),
    ("lin", '{"x": true, "bad": 0, "good": 1}', "x: expected `float | null`, got `bool`"),
    ("lin", '{"x": 1, "bad": 1, "good": 1}', "good: equal to bad; make them differ"),
    ("lin", '{"x": 1e300, "bad": 1, "good": 2}', "x: expected `float` <= 1000000000000000.0"),
    ("log", '{"x": 1, "bad": 0, "good": 1}', "bad: expected `float` > 0.0"),
    ("iqb", '{"loss_ratio": 1.5}', "loss_ratio: expected `float` <= 1.0"),
    ("iqb", '{"rtt_ms": 1, "datasets": {}}', "datasets: give the values in them or beside them, not both"),
    ("iqb", '{"datasets": {"a": {}}, "weights": {"b": 1}}', "weights.b: no such data set; add datasets.b"),
    ("iqb", '{"datasets": {"a": {"rtt": 1}}}', "datasets{}.rtt: unknown key; did you mean rtt_ms?"),
    ("qoo", '{"rtt_ms": {}}', "requirement: give a requirement or an app"),
    ("qoo", '{"app": "games"}', "app: no such app 'games'; one of web, meeting"),
    ("qoo", '{"requirement": {}}', "requirement: asks for nothing"),
    ("qoo", '{"app": "web", "rtt_ms": {"p95": 1}}', "rtt_ms.p95: no percentile"),
    (
        "qoo",
        '{"requirement": {"loss_ratio": {"rop": 1, "cpup": 1}}}',
        "requirement.loss_ratio.rop: 1 is not",
    ),
    ("rpm", '{"tcp_ms": 3, "loaded_http_ms": 9}', "tcp_ms and http_ms belong together"),
    ("rpm", '{"loaded_http_ms": 0}', "loaded_http_ms: expected `float` > 0.0"),
    ("rpm", '{"loaded_http_ms": [1, 0]}', "loaded_http_ms[1]: expected `float` > 0.0"),
    ("rpm", "{}", "loaded_http_ms: missing"),
    ("emodel", '{"rtt_ms": 80, "loss_ratio": 0}', "jitter_buffer_ms: missing"),
    ("emodel", '{"delay_ms": 80}', "loss_ratio: missing"),
    ("emodel", '{"loss_ratio": 0}', "rtt_ms: missing"),
    ("emodel", '{"delay_ms": 80, "rtt_ms": 1, "loss_ratio": 0}', "delay_ms: stands in place of"),
    ("emodel", '{"r": 80, "delay_ms": 1}', "r: stands alone"),
    ("emodel", '{"model": "half"}', "model: invalid enum value 'half'"),
    ("web_log", "{}", "total_ms: missing"),
    ("web_log", '{"total_ms": 1, "t5_s": 10}', "t5_s: must be below t1_s"),
    ("web_log", '{"total_ms": -1}', "total_ms: expected `float` >= 0.0"),
    ("bloat", "{}", "down_rise_ms: missing"),
    ("wilson", '{"k": 2, "n": 1}', "k: 2 of 1 is no share"),
    ("wilson", '{"k": 0.5, "n": 1}', "k: expected `int`, got `float`"),
    ("order_stat_ci", '{"q": 0.5}', "n: missing; add it, or values"),
    ("order_stat_ci", '{"q": 0.5, "n": 3, "values": [1]}', "n: 3, but there are 1 values"),
    ("order_stat_ci", '{"q": 1, "n": 3}', "q: expected `float` < 1.0"),
    ("quantile", '{"values": [1], "q": 1.5}', "q: expected `float` <= 1.0"),
    ("quantile", '{"values": [1], "q": 0.5, "failed": -1}', "failed: expected `int` >= 0"),
    ("quantile", '{"values": [1], "q": 0.5, "failed": 1000001, "failed_value": 0}', "failed: at most 1000000"),
    ("hodges_lehmann", json.dumps({"differences": [1] * 5001}), "differences: expected `array` of length <= 5000"),
    ("tiers", '{"venues": [{"venue": "a", "score": 1, "lo": 2, "hi": 1}]}', "venues[0].lo: above hi"),
    ("tiers", '{"venues": [{"venue": "a", "score": 1, "lo": 1}]}', "venues[0].hi: missing"),
    ("eighty_eighty", '{"units": {"a": [1, -1]}}', "units{}[1]: expected `float` >= 0.0"),
    ("pass_ratio", '{"values": [1], "op": ">", "threshold": 2}', "op: invalid enum value '>'"),
    ("ppi", '{"profile": "wifi", "values": {}}', "profile: no such profile 'wifi'; one of gov-node-2026"),
    ("ppi", '{"profile": "/none.yaml", "values": {}}', "/none.yaml: No such file or directory"),
    ("ppi", '{"profile": "gov-node-2026", "values": {"rtt_ms": 1}}', "values.rtt_ms: unknown key; did you mean"),
    (
        "ppi",
        '{"profile": "gov-node-2026", "values": {"loss_ratio": 1.1}}',
        "values.loss_ratio: expected `float` <=",
    ),
    (
        "ppi",
        '{"profile": "gov-node-2026", "values": {"loss_ratio": "inf"}}',
        "values.loss_ratio: expected `float",
    ),
    ("ppi", '{"profile": "gov-node-2026", "values": {"rtt_p50_ms": -1}}', "values.rtt_p50_ms: expected `float` >= 0.0"),
    ("lin", "[1]", "standard input: expected `object`, got `array`"),
    ("lin", "", "standard input: not one JSON object"),
    ("lin", '{"x": NaN}', "standard input: not one JSON object"),
    ("lin", '{"x": 1, "bad": 0, "good": 1} {}', "standard input: not one JSON object"),
    ("lin", '{"x": ' + "[" * 100_000, "x: expected"),
    ("quantile", '{"values": ' + "[" * 100_000, "values[0]: expected"),
]


@pytest.mark.parametrize(("formula", "text", "message"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_said_with_its_field(formula: str, text: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        score(formula, text.encode())
    assert message in str(refused.value)


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(InputError):
        score("lin", b"\xff\xfe{}")


# The command


def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "wanggan", "score", *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)


def test_the_command() -> None:
    whole = run("wilson", "--json", given='{"k": 95, "n": 100}')
    assert whole.returncode == 0
    assert json.loads(whole.stdout) == {"ratio": 0.95, "lo": pytest.approx(0.88825), "hi": pytest.approx(0.978456)}
    assert whole.stderr == ""
    assert run("bloat", given='{"down_rise_ms": 20, "up_rise_ms": 40}').stdout == "B\n"
    assert run("lin", given='{"x": null, "bad": 0, "good": 1}').stdout == "null\n"
    assert run("quantile", given='{"values": [1], "q": 0.95, "failed": 1}').stdout == "timeout\n"
    assert run("quantile", given='{"values": [], "q": 0.95}').stdout == "null\n"
    unrated = run("ppi", given=json.dumps({"profile": "gov-node-2026", "values": NODE | {"web_total_ms": None}}))
    assert unrated.stdout == "null\n"
    assert unrated.stderr == "wanggan score ppi: not measured: web\n"


def test_the_command_refuses_with_2() -> None:
    wrong = run("wilson", "--json", given='{"k": 2, "n": 1}')
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "wanggan score wilson: k: 2 of 1 is no share; k is within 0 and n\n"
    assert run("wilsom").returncode == 2
    assert run().returncode == 2
