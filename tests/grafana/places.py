"""What the tests of Grafana's folder look at: the committed files, their panels and their queries."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

Json = dict[str, Any]

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "grafana"
BOARDS: dict[str, Json] = {
    f"{path.parent.name}/{path.stem}": json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((FOLDER / "dashboards").glob("*/*.json"))
}
"""Committed dashboards by `language/name`."""
PROVISIONING = sorted((FOLDER / "provisioning").glob("*/*.yaml"))
SOURCES = {"wanggan": "wanggan", "wanggan-1h": "wanggan_1h"}
"""Databases by the uid of their source."""


class Asked(NamedTuple):
    """One query of a committed file."""

    where: str
    """What to say when it is wrong."""
    source: str
    text: str
    table: bool
    board: str = ""
    interval: str = ""
    max_points: int = 0


def panels() -> Iterator[tuple[str, Json]]:
    for name, board in BOARDS.items():
        for panel in board["panels"]:
            yield name, panel


def targets(panel: Json) -> list[Json]:
    """The panel's own queries; not Grafana's expressions over them."""
    return [target for target in panel["targets"] if target["datasource"]["uid"] != "__expr__"]


def panel_queries(language: str = "en") -> list[Asked]:
    return [
        Asked(
            f"{name}: {panel['title']}: {target['refId']}",
            target["datasource"]["uid"],
            target["query"],
            target["resultFormat"] == "table",
            name.split("/")[1],
            panel.get("interval", ""),
            panel.get("maxDataPoints", 0),
        )
        for name, panel in panels()
        if name.startswith(f"{language}/")
        for target in targets(panel)
    ]


def variable_queries(language: str = "en") -> list[Asked]:
    return [
        Asked(
            f"{name}: variable {variable['name']}",
            variable["datasource"]["uid"],
            variable["query"],
            True,
            name.split("/")[1],
        )
        for name, board in BOARDS.items()
        if name.startswith(f"{language}/")
        for variable in board["templating"]["list"]
        if variable["type"] == "query"
    ]


def rules() -> list[Json]:
    found = yaml.safe_load((FOLDER / "provisioning/alerting/rules.yaml").read_text(encoding="utf-8"))
    return [rule for group in found["groups"] for rule in group["rules"]]


def rule_queries() -> list[Asked]:
    return [
        Asked(rule["uid"], part["datasourceUid"], part["model"]["query"], False)
        for rule in rules()
        for part in rule["data"]
        if part["datasourceUid"] != "__expr__"
    ]


def all_queries() -> list[Asked]:
    return [*panel_queries(), *variable_queries(), *rule_queries()]
