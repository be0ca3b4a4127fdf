"""Profile files: what comes with Wanggan, the hash, and every mistake by its path with the fix."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import yaml

from agent import portal_check
from agent.probes import portal
from perception import profiles
from perception.scoring import iqb
from store.tables import ConfigError

FOLDER = Path(profiles.__file__).parent
GOOD = (FOLDER / "wifi-public-2026.yaml").read_text()


def test_three_profiles_come_with_it() -> None:
    assert profiles.names() == ["gov-node-2026", "wifi-observe-2026", "wifi-public-2026"]
    for name in profiles.names():
        profile = profiles.named(name)
        assert profile.id == profile.series == name
        assert profile.profile.status == "draft-not-official"
    assert {network: profiles.named(name).network for network, name in profiles.DEFAULTS.items()} == {
        "wifi": "wifi",
        "gov": "gov",
    }


@pytest.mark.parametrize("name", profiles.names())
def test_the_iqb_table_is_m_lab_s(name: str) -> None:
    assert profiles.named(name).use_cases() == iqb.PUBLISHED


def test_the_observing_profile_differs_by_the_joins_alone() -> None:
    full, observing = (
        yaml.safe_load((FOLDER / f"{name}.yaml").read_text()) for name in ("wifi-public-2026", "wifi-observe-2026")
    )
    joins = ("access_success_ratio", "online_ms")
    full["indicators"] = [row for row in full["indicators"] if row["id"] not in joins]
    full["profile"]["id"] = observing["profile"]["id"]
    assert full == observing


def test_the_hash_is_of_what_the_file_says() -> None:
    said = json.dumps(yaml.safe_load(GOOD), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert profiles.named("wifi-public-2026").sha256 == hashlib.sha256(said.encode()).hexdigest()


def test_a_comment_keeps_the_hash_and_a_number_changes_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"# ours\n{GOOD}")
    assert profiles.load(file).sha256 == profiles.named("wifi-public-2026").sha256
    file.write_text(GOOD.replace("w: 16", "w: 17"))
    assert profiles.load(file).sha256 != profiles.named("wifi-public-2026").sha256


def test_a_new_version_is_a_new_series() -> None:
    profile = profiles.parse(GOOD.replace("version: 1", "version: 2"), Path("x.yaml"))
    assert (profile.id, profile.series) == ("wifi-public-2026", "wifi-public-2026.v2")


MISTAKES = {
    "unknown key": ("gates:", "gats: {}\ngates:", "gats: unknown key; did you mean gates?"),
    "unknown key of a row": ("w: 16,", "weight: 16, w: 16,", "indicators[0].weight: unknown key"),
    "unknown id": ("id: online_ms", "id: on_line_ms", "indicators[1].id: input should be 'access_success_ratio'"),
    "duplicate id": ("id: up_mbps", "id: down_mbps", "indicators[5].id: down_mbps stands twice; remove one"),
    "duplicate key": ("levels:", "gates: {publish: 1, flag: 0}\nlevels:", "key 'gates' stands twice"),
    "equal ends": (
        "bad: 11000, good: 2000",
        "bad: 2000, good: 2000",
        "indicators[1]: bad and good are both 2000; make them differ",
    ),
    "an end of log": (
        "fn: log, bad: 2,",
        "fn: log, bad: 0,",
        "indicators[4]: log needs both ends above 0; raise the lower one, or use lin",
    ),
    "an end missing": ("bad: 11000, good: 2000", "bad: 11000", "indicators[1]: lin needs two ends; add bad and good"),
    "ends of web": (
        "fn: web,",
        "fn: web, bad: 1, good: 2,",
        "indicators[11]: web has its ends in a table of its own; remove bad and good",
    ),
    "wrong function": ("fn: web,", "fn: voice,", "indicators[11]: fn 'voice' does not score web"),
    "another statistic": (
        'stat: p50, fail_value: inf, pass: {op: "<=", v: 8000}',
        'stat: mean, fail_value: inf, pass: {op: "<=", v: 8000}',
        "indicators[1]: stat of online_ms is p50; write that",
    ),
    "another failure": (
        "stat: busy_idle_mean, fail_value: 0",
        "stat: busy_idle_mean",
        "indicators[4]: fail_value of down_mbps is 0; write that",
    ),
    "weight 0": ("w: 16,", "w: 0,", "indicators[0].w: input should be greater than 0, not '0'"),
    "weight below 0": ("w: 16,", "w: -1,", "indicators[0].w: input should be greater than 0, not '-1'"),
    "dimensions": ("coverage: 0.40", "coverage: 0.50", "dimensions: weights sum to 1.1; make them sum to 1"),
    "unknown dimension": ("dim: coverage, w: 16", "dim: cover, w: 16", "indicators[0].dim: input should be 'coverage'"),
    "dimension without weight": (
        ", quality: 0.30, service: 0.30}",
        ", quality: 0.60}",
        "indicators[11].dim: 'service' has no weight; add it to dimensions",
    ),
    "rop above cpup": ("rop: 50, cpup: 150", "rop: 150, cpup: 150", "qoo.web.rtt_ms.95: rop 150 is not below cpup 150"),
    "percentile": ('"95": {', '"p95": {', "qoo.web.rtt_ms.p95"),
    "levels": ("优: 90, 良: 80", "优: 80, 良: 80", "levels: levels must fall from 优 over 良 to 中"),
    "gates": ("flag: 0.70", "flag: 0.95", "gates: flag must not be above publish"),
    "hours overlap": (
        'at: ["09:30-11:30", "13:30-15:30"]',
        'at: ["09:30-13:31", "13:30-15:30"]',
        "busy_idle.hours.gov_hall: hours overlap on mon; join them",
    ),
    "hours overlap between rows": (
        '{days: sat-sun, at: ["09:00-11:00", "15:00-18:00"]}]',
        '{days: fri-sun, at: ["17:00-18:30"]}]',
        "busy_idle.hours.sports: hours overlap on fri",
    ),
    "hours that are none": ('"09:30-11:30"', '"9:30-11:30"', "busy_idle.hours.gov_hall[0].at[0]: string should match"),
    "hours over midnight": ('"09:30-11:30"', '"22:00-02:00"', "ends before it begins; write its two parts"),
    "days that are none": (
        "gov_hall: {days: mon-fri",
        "gov_hall: {days: fri-mon",
        "busy_idle.hours.gov_hall[0].days: 'fri-mon' are no days; write mon-fri",
    ),
    "no default hours": ("    default: {", "    other: {", "busy_idle.hours: no `default`; add one"),
    "no such zone": ("Asia/Shanghai", "Asia/Shangai", "profile.tz: no such time zone: 'Asia/Shangai'"),
    "missing": ("web_log: {t5_s: 0.5, t1_s: 10.0}", "", "web_log: missing; add web_log"),
    "wrong type": ("w: 16,", 'w: "16",', "indicators[0].w: input should be a valid number, not '16'"),
    "times of web_log": ("t5_s: 0.5", "t5_s: 10", "web_log: t5_s must be below t1_s"),
    "video ends": ("start_s: {bad: 5, good: 1", "start_s: {bad: 5, good: 5", "video.start_s: bad and good are both 5"),
    "local above shared": ("local_ratio: 0.2", "local_ratio: 0.6", "verdict: local_ratio must be below shared_ratio"),
    "not a number": ("bad: 11000", "bad: .nan", "quote dates, and write infinity as inf"),
    "not YAML": ("levels: {", "levels: {{", "not YAML"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_path_and_the_fix(mistake: str, tmp_path: Path) -> None:
    before, after, message = MISTAKES[mistake]
    assert before in GOOD
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD.replace(before, after, 1))
    with pytest.raises(ConfigError, match=re.escape(message)) as refused:
        profiles.load(file)
    assert str(refused.value).startswith(f"{file}: ")


@pytest.mark.parametrize(
    "text", ["", "- 1", "text", "!!python/object/apply:os.getcwd []", "[" * 3000, "a: &x [1]\nb: [*x, *x]"]
)
def test_what_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"x\.yaml: not "):
        profiles.parse(text, Path("x.yaml"))


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        profiles.load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("优".encode("gbk"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        profiles.load(tmp_path / "latin.yaml")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="one of gov-node-2026, wifi-observe-2026, wifi-public-2026"):
        profiles.named("wifi")


@pytest.mark.parametrize("name", ["gov-node-2026", "wifi-observe-2026", "wifi-public-2026"])
def test_a_portal_can_be_seen_to_be_too_slow(name: str) -> None:
    """A question that ended before the limit would leave a rule that never fires."""
    assert profiles.named(name).verdict.portal_ms + 1000 < portal_check.CHECK_S * 1000
    assert portal.PROBE.timeout_s > 2 * portal_check.CHECK_S, "our own question, then the others at once"


def test_busy_hours_by_type_day_and_minute() -> None:
    busy = profiles.named("wifi-public-2026").busy_idle
    assert busy.is_busy("gov_hall", 0, 9 * 60 + 30)
    assert not busy.is_busy("gov_hall", 0, 11 * 60 + 30)
    assert not busy.is_busy("gov_hall", 5, 9 * 60 + 30)
    assert busy.is_busy("sports", 4, 18 * 60)
    assert busy.is_busy("no such type", 6, 10 * 60)
