"""The provisioning files: what Grafana would read from them, and what they take from the environment."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.series import HOURS, RAW
from grafana.generator import marks
from perception import profiles
from tests.grafana.places import BOARDS, FOLDER, PROVISIONING, SOURCES, rules

ENVIRONMENT = {
    line.partition("=")[0]: line.partition("=")[2]
    for line in (FOLDER / "grafana.example.env").read_text().splitlines()
    if line and not line.startswith("#")
}
FILES = [pytest.param(path, id=f"{path.parent.name}-{path.stem}") for path in PROVISIONING]


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "provisioning" / name).read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("path", FILES)
def test_a_file_is_yaml_of_the_first_version(path: Path) -> None:
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["apiVersion"] == 1


@pytest.mark.parametrize("path", FILES)
def test_every_variable_is_declared_and_no_other_dollar_is_there(path: Path) -> None:
    """Versions differ in what they make of a `$`: `$$` is one in old ones, and stays two in a new one's rules."""
    data = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    assert set(re.findall(r"\$\{(\w+)\}", data)) <= set(ENVIRONMENT)
    assert "$" not in re.sub(r"\$\{\w+\}", "", data)


def test_every_declared_variable_is_used() -> None:
    text = "".join(path.read_text() for path in PROVISIONING)
    assert {name for name in ENVIRONMENT if f"${{{name}}}" not in text} == set()


def test_the_example_holds_no_secret() -> None:
    for name, value in ENVIRONMENT.items():
        if re.search("TOKEN|PASSWORD", name):
            assert value == ""


def test_two_sources_with_fixed_uids() -> None:
    found = {source["uid"]: source for source in read("datasources/wanggan.yaml")["datasources"]}
    assert {uid: source["database"] for uid, source in found.items()} == SOURCES
    assert set(SOURCES.values()) == {RAW, HOURS}
    for source in found.values():
        assert source["type"] == "influxdb"
        assert source["access"] == "proxy"
        assert source["jsonData"]["dbName"] == source["database"], "Grafana up to 9.3 and later ones"
        assert source["jsonData"]["version"] == "InfluxQL"
        assert source["jsonData"]["httpMode"] == "POST", "All expands to every name"
        assert source["secureJsonData"]["httpHeaderValue1"].startswith("Token ${")
        assert not source["editable"]


def test_each_language_has_a_folder_of_its_own() -> None:
    found = read("dashboards/wanggan.yaml")["providers"]
    assert len({provider["name"] for provider in found}) == len(found) == 2
    for provider in found:
        assert provider["type"] == "file"
        assert not provider["allowUiUpdates"]
        language = Path(provider["options"]["path"]).name
        assert (FOLDER / "dashboards" / language).is_dir()
        assert provider["folderUid"].endswith(language)
        assert "foldersFromFilesStructure" not in provider["options"]


def test_rules_are_complete() -> None:
    uids = [rule["uid"] for rule in rules()]
    assert len(uids) == len(set(uids))
    boards = {board["uid"] for board in BOARDS.values()}
    for rule in rules():
        assert re.fullmatch(r"[a-z0-9-]{1,40}", rule["uid"])
        asked, reduced, compared = (part["model"] for part in rule["data"])
        assert rule["condition"] == compared["refId"] == "C"
        assert (reduced["type"], reduced["expression"]) == ("reduce", asked["refId"])
        assert (compared["type"], compared["expression"]) == ("threshold", reduced["refId"])
        assert [part["datasourceUid"] for part in rule["data"][1:]] == ["__expr__", "__expr__"]
        assert rule["data"][0]["datasourceUid"] in SOURCES
        assert all(part["refId"] == part["model"]["refId"] for part in rule["data"])
        assert rule["noDataState"] in ("OK", "Alerting")
        assert rule["execErrState"] == "Error"
        assert re.fullmatch(r"\d+[mh]", rule["for"])
        assert rule["annotations"]["dashboard"].removeprefix("/d/") in boards
        assert " / " in rule["annotations"]["summary"], "both languages"
        groups = re.findall(r'GROUP BY ((?:"\w+"(?:, )?)+)$', asked["query"])
        assert groups, "one alarm for each thing that can fail"
        labels = set(re.findall(r"\.Labels\.(\w+)", rule["annotations"]["summary"]))
        assert labels <= set(re.findall(r'"(\w+)"', groups[0])), "a label that the query does not give"
        assert set(re.findall(r"\.Values\.(\w+)", rule["annotations"]["summary"])) <= {"B"}


def test_limits_about_the_network_are_the_profile_s() -> None:
    limits = {rule["uid"]: rule["data"][2]["model"]["conditions"][0]["evaluator"]["params"][0] for rule in rules()}
    for network, name in profiles.DEFAULTS.items():
        profile = profiles.named(name)
        (loss,) = [row for row in profile.indicators if row.id == "loss_ratio"]
        assert limits[f"wanggan-loss-{network}"] == loss.bad
    assert limits["wanggan-completeness-low"] == profiles.named("wifi-public-2026").gates.publish


def test_colours_follow_the_profile() -> None:
    profile = profiles.named("wifi-public-2026")
    assert [step.value for step in marks.levels()] == [None, 60, 80, 90]
    for row in profile.indicators:
        if row.id in ("web", "video", "voice") or row.pass_ is None:
            continue
        values = [step.value for step in marks.indicator(row.id)]
        assert row.pass_.v in values
        assert row.bad in values


def test_every_alarm_reaches_a_contact_point() -> None:
    points = {point["name"]: point["receivers"] for point in read("alerting/contact-points.yaml")["contactPoints"]}
    assert {receiver["type"] for receivers in points.values() for receiver in receivers} == {
        "email",
        "webhook",
        "dingding",
        "wecom",
    }
    (policy,) = read("alerting/policies.yaml")["policies"]
    assert policy["receiver"] in points
    assert policy["group_by"] == ["wanggan"]
    comments = (FOLDER / "provisioning/alerting/policies.yaml").read_text()
    assert set(re.findall(r"receiver: ([\w-]+)", comments)) <= set(points)
    for rule in rules():
        assert rule["labels"]["wanggan"] in ("outage", "platform", "upkeep")


def test_required_settings_of_a_receiver_have_a_value_in_the_example() -> None:
    """Grafana does not start with an empty address."""
    for point in read("alerting/contact-points.yaml")["contactPoints"]:
        for receiver in point["receivers"]:
            (name,) = re.findall(r"\$\{(\w+)\}", str(receiver["settings"]))
            assert re.fullmatch(r"https://\S+|\S+@\S+", ENVIRONMENT[name])


@pytest.mark.parametrize(("page", "language"), [("docs/grafana.md", "en"), ("docs/grafana.zh-CN.md", "zh")])
def test_the_page_names_every_dashboard_and_rule_with_its_limits(page: str, language: str) -> None:
    text = (FOLDER.parent / page).read_text()
    for name, board in BOARDS.items():
        if name.startswith(language):
            assert f"| {board['title']} | `{board['uid']}` |" in text
    rows = {
        name: line.split("|")
        for line in text.splitlines()
        if line.startswith("| `wanggan-")
        for name in re.findall(r"`(wanggan-[\w-]+)`", line.split("|")[1])
    }
    assert set(rows) == {rule["uid"] for rule in rules()}
    for rule in rules():
        _, _, _, pending, cause, _ = rows[rule["uid"]]
        assert cause.strip() == rule["labels"]["wanggan"]
        assert re.findall(r"\d+", pending) == re.findall(r"\d+", rule["for"])
