"""The committed dashboards: in order, complete, in both languages the same, and what the generator writes."""

import json
import re
from itertools import combinations
from pathlib import Path

import pytest

from contract.series import RAW_SERIES, SERIES
from grafana.generator import __main__ as generator
from grafana.generator import messages, queries
from grafana.generator.panels import WIDTH
from tests.grafana.places import BOARDS, FOLDER, SOURCES, Json, all_queries, panels, targets

NAMES = sorted({name.split("/")[1] for name in BOARDS})
PANELS = [pytest.param(name, panel, id=f"{name}-{panel['id']}") for name, panel in panels()]
QUERIES = all_queries()


def test_what_is_committed_is_what_the_generator_writes(capsys: pytest.CaptureFixture[str]) -> None:
    assert generator.main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generator.main(["--out", str(tmp_path)]) == 0
    assert generator.main(["--out", str(tmp_path), "--check"]) == 0
    (tmp_path / "dashboards/zh/venue.json").write_text("{}")
    assert generator.main(["--out", str(tmp_path), "--check"]) == 1
    assert "dashboards/zh/venue.json: differs" in capsys.readouterr().err


def test_every_dashboard_of_the_description_is_there_in_both_languages() -> None:
    assert sorted(messages.DASHBOARDS) == NAMES
    assert set(BOARDS) == {f"{language}/{name}" for language in messages.LANGUAGES for name in NAMES}


def test_uids_are_unique_and_say_which() -> None:
    assert {name: board["uid"] for name, board in BOARDS.items()} == {
        name: f"wanggan-{name.split('/')[1]}-{name.split('/')[0]}" for name in BOARDS
    }


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_a_dashboard_is_in_the_classic_schema(name: str) -> None:
    board = BOARDS[name]
    assert board["schemaVersion"] == 37
    assert "id" not in board
    assert board["title"]
    assert board["description"]
    assert not board["editable"]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_no_panel_lies_over_another(name: str) -> None:
    def area(panel: Json) -> set[tuple[int, int]]:
        place = panel["gridPos"]
        return {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }

    for one, other in combinations(BOARDS[name]["panels"], 2):
        assert not area(one) & area(other), f"{one['title']} and {other['title']}"


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_a_panel_says_what_it_is_in_which_unit_and_why_it_is_empty(name: str, panel: Json) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["title"]
    assert len(panel["description"]) >= 4
    assert defaults["unit"]
    assert len(defaults["thresholds"]["steps"]) >= 1
    assert defaults["thresholds"]["steps"][0]["value"] is None
    values = [step["value"] for step in defaults["thresholds"]["steps"][1:]]
    assert values == sorted(values)
    assert re.search("check" if name.startswith("en") else "请检查", defaults["noValue"], re.IGNORECASE)
    place = panel["gridPos"]
    assert place["x"] + place["w"] <= WIDTH
    if panel["type"] == "table":
        assert place["w"] >= 9, "columns vanish"
    if panel["type"] == "bargauge":
        assert defaults["min"] == 0


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_a_panel_asks_a_provisioned_source_for_a_known_query(name: str, panel: Json) -> None:
    known = {(query.source, query.text, query.shape) for query in queries.QUERIES.values()}
    assert targets(panel)
    for target in targets(panel):
        assert target["datasource"]["type"] == "influxdb"
        assert target["datasource"]["uid"] in SOURCES
        assert target["datasource"] == panel["datasource"]
        assert (target["datasource"]["uid"], target["query"], target["resultFormat"]) in known
    refs = [target["refId"] for target in panel["targets"]]
    assert len(refs) == len(set(refs))


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_a_panel_over_time_has_steps_no_finer_than_its_data(name: str, panel: Json) -> None:
    """Six samples in a step, or each `percentile` is of one; hours are one sample each."""
    for target in targets(panel):
        if "$__interval" in target["query"]:
            least = {"1h", "1d"} if target["datasource"]["uid"] == "wanggan-1h" else {"5m", "10m"}
            assert panel["interval"] in least


@pytest.mark.parametrize("name", NAMES)
def test_both_languages_have_the_same_panels_and_queries(name: str) -> None:
    def bones(board: Json) -> list[object]:
        return [
            [
                panel["id"],
                panel["type"],
                panel["gridPos"],
                panel["fieldConfig"]["defaults"]["unit"],
                panel["fieldConfig"]["defaults"]["thresholds"],
                [(target["refId"], target.get("query"), target.get("expression")) for target in panel["targets"]],
            ]
            for panel in board["panels"]
        ]

    chinese, english = BOARDS[f"zh/{name}"], BOARDS[f"en/{name}"]
    assert bones(chinese) == bones(english)
    for one, other in zip(chinese["panels"], english["panels"], strict=True):
        assert re.search(r"[\u4e00-\u9fff]", one["description"])
        assert not re.search(r"[\u4e00-\u9fff]", other["title"] + other["description"])
    variables = [
        [(variable["name"], variable["query"] if variable["type"] == "query" else "") for variable in each]
        for each in (chinese["templating"]["list"], english["templating"]["list"])
    ]
    assert variables[0] == variables[1]


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_a_query_s_variables_are_the_dashboard_s(name: str) -> None:
    board = BOARDS[name]
    own = {variable["name"] for variable in board["templating"]["list"]}
    builtin = {"timeFilter", "__interval"}
    texts = [target["query"] for panel in board["panels"] for target in targets(panel)]
    texts += [variable["query"] for variable in board["templating"]["list"] if variable["type"] == "query"]
    for text in texts:
        assert set(re.findall(r"\$(\w+)", text)) <= own | builtin, text


def test_links_carry_venue_and_time_to_a_dashboard_that_exists() -> None:
    uids = {board["uid"]: name for name, board in BOARDS.items()}
    found = 0
    for name, panel in panels():
        for link in re.findall(r'"/d/[^"]*"', json.dumps(panel)):
            (target,) = re.findall(r"/d/([\w-]+)", link)
            assert uids[target].split("/")[0] == name.split("/")[0], "a link leaves its language"
            assert "var-venue=" in link
            assert "var-network=" in link
            assert "${__url_time_range}" in link
            found += 1
    assert found >= 20
    for name, board in BOARDS.items():
        (menu,) = board["links"]
        assert menu["includeVars"]
        assert menu["keepTime"]
        assert menu["tags"] == [f"wanggan-{name.split('/')[0]}"]
        assert menu["tags"][0] in board["tags"]


# Queries


def test_every_name_in_a_query_exists() -> None:
    for asked in QUERIES:
        database = SOURCES[asked.source]
        by_name = {series.name: series for series in SERIES.values() if series.database == database}
        measurements = [
            measurement
            for listed in re.findall(r'FROM ("\w+"(?:, "\w+")*)', asked.text)
            for measurement in re.findall(r'"(\w+)"', listed)
        ]
        assert measurements
        for measurement in measurements:
            assert measurement in by_name, f"{database} has no measurement {measurement}"
        aliases = set(re.findall(r'AS "(\w+)"', asked.text))
        for identifier in set(re.findall(r'"(\w+)"', asked.text)) - aliases - set(measurements):
            for measurement in measurements:
                series = by_name[measurement]
                assert identifier in {*series.tags, *series.fields}, f"{measurement} has no {identifier}"


def test_aggregates_are_of_fields_and_groups_of_tags() -> None:
    """The other way round InfluxQL answers, and nothing says that it is nonsense."""
    for asked in QUERIES:
        database = SOURCES[asked.source]
        by_name = {series.name: series for series in SERIES.values() if series.database == database}
        measurement = re.findall(r'FROM "(\w+)"', asked.text)[0]
        series = by_name[measurement]
        tags = set(series.tags)
        for group in re.findall(r"GROUP BY ([^()]*(?:\([^)]*\)[^()]*)*?)(?:\)|fill|tz|$)", asked.text):
            assert set(re.findall(r'"(\w+)"', group)) <= tags, group
        for how, field in re.findall(r'(\w+)\("(\w+)"', asked.text):
            if how.lower() != "distinct":
                inner_alias = field in set(re.findall(r'AS "(\w+)"', asked.text))
                assert field in series.fields or inner_alias, f"{how}({field})"


CLAUSES = {
    "select", "from", "where", "and", "or", "as", "group", "by", "order", "limit", "desc", "time", "fill", "none",
}  # fmt: skip
FUNCTIONS = {
    "now", "tz", "last", "first", "mean", "min", "max", "sum", "count", "percentile", "median", "top", "bottom",
    "distinct",
}  # fmt: skip


def test_identifiers_are_quoted() -> None:
    for asked in QUERIES:
        bare = re.sub(r"\"[^\"]*\"|'[^']*'|=~ /[^/]*/|!~ /[^/]*/|\$\w+", " ", asked.text)
        words = {word.lower() for word in re.findall(r"[A-Za-z_]\w*", bare)}
        allowed = CLAUSES | FUNCTIONS
        assert {word for word in words if not re.fullmatch(r"[mhd]", word)} <= allowed


FORBIDDEN = {
    r"\bSLIMIT\b|\bSOFFSET\b": "not in 3.x",
    r"\bsample\(|\bhistogram\(|\bholt_winters": "not in 3.x",
    r"\bSHOW\b": "keeps dead agents, and ON is not in 3.x",
    r"\bINTO\b|\bDELETE\b|\bDROP\b|\bCREATE\b|\bALTER\b": "a dashboard reads",
    r'"\."|"\.\.': "a database or policy is named",
    r"\bOR time\b|time\b[^)]*\bOR\b[^)]*\btime\b": "OR of time ranges is silently empty",
    r";": "one statement",
    r"\bmean\(\"ok\"\)": "invalid and skipped slots have ok 0",
}


def test_a_query_keeps_to_what_every_server_has() -> None:
    for asked in QUERIES:
        for pattern, why in FORBIDDEN.items():
            assert not re.search(pattern, asked.text, re.IGNORECASE), f"{why}: {asked.text}"


def test_a_table_s_tags_are_columns() -> None:
    """Some versions of Grafana mix up columns when a table has two tags in its GROUP BY."""
    for asked in QUERIES:
        if asked.table:
            outside = re.sub(r" FROM \(.*\)", "", asked.text)
            assert "GROUP BY" not in outside


def test_no_raw_point_older_than_two_days_is_read() -> None:
    for asked in QUERIES:
        if asked.source != "wanggan":
            continue
        windows = re.findall(r"time > now\(\) - (\d+)([mhd])", asked.text)
        assert len(windows) == asked.text.count('FROM "'), "each select of raw points has a window of its own"
        hours = [int(number) * {"m": 1 / 60, "h": 1, "d": 24}[unit] for number, unit in windows]
        if '"status"' in asked.text:
            assert max(hours) <= 30 * 24, "births are few, and an agent may have been up for weeks"
        else:
            assert max(hours) <= 48


def test_values_of_raw_points_are_those_of_ok_slots() -> None:
    for asked in QUERIES:
        if asked.source == "wanggan" and any(f'FROM "{probe}"' in asked.text for probe in RAW_SERIES):
            assert re.search(r"\"ok\" = 1|\"outcome\" = 'failed'", asked.text), asked.text


def test_means_of_rollups_are_of_windows_that_have_values() -> None:
    """Nothing divided by nothing is 0 in InfluxQL."""
    for asked in QUERIES:
        for metric in re.findall(r'/ sum\("(\w+?)(?:_n)?"\)', asked.text):
            assert f'"{metric}_n" > 0' in asked.text or f'"{metric}" > 0' in asked.text


def test_every_text_is_used() -> None:
    used = {target["query"] for _, panel in panels() for target in targets(panel)}
    assert {name for name, query in queries.QUERIES.items() if query.text not in used} == set()
    titles = {panel["title"] for _, panel in panels()}
    for told in messages.PANELS.values():
        assert told.title.zh in titles
        assert told.title.en in titles


def test_a_register_gives_venues_their_names(tmp_path: Path) -> None:
    sites = tmp_path / "sites.toml"
    sites.write_text('[venues.lib]\nname = { zh = "图书馆", en = "Library" }\ntype = "library"\n')
    assert generator.main(["--register", str(sites), "--out", str(tmp_path)]) == 0
    for language, name in (("zh", "图书馆"), ("en", "Library")):
        text = (tmp_path / f"dashboards/{language}/district.json").read_text()
        assert f'"text": "{name}"' in text
        assert f'"value": "{name}"' in text
    assert "图书馆" not in (FOLDER / "dashboards/zh/district.json").read_text()


def test_a_register_that_cannot_be_used_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sites = tmp_path / "sites.toml"
    sites.write_text("[venues.lib]\n")
    assert generator.main(["--register", str(sites), "--out", str(tmp_path)]) == 2
    assert "venues.lib" in capsys.readouterr().err
    assert not (tmp_path / "dashboards").exists()
