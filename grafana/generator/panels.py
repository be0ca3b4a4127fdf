"""Panels in Grafana's classic schema, version 37, which every Grafana from 9.3 on reads and migrates upward."""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from grafana.generator.columns import COLUMNS, Column
from grafana.generator.marks import GREEN, ORANGE, PLAIN, RED, YELLOW, Steps
from grafana.generator.messages import (
    ABSENT,
    NETWORKS,
    NO_DATA,
    PANELS,
    SEGMENTS,
    STATES,
    Language,
    Words,
)
from grafana.generator.queries import QUERIES

Json = dict[str, Any]
Kind = Literal["timeseries", "stat", "gauge", "bargauge", "table", "state-timeline"]

WIDTH: Final = 24
"""Columns of Grafana's grid."""

SEGMENT_COLORS: Final = {
    "none": GREEN, "radio": "purple", "join": "#B877D9", "dhcp": "#CA95E5", "portal": ORANGE, "dns": YELLOW,
    "lan": "#E0B400", "uplink": RED, "internet": "#C4162A", "target": PLAIN, "agent": "#808080",
}  # fmt: skip
STATE_COLORS: Final = {"good": GREEN, "bad": RED, "unknown": "#808080"}


class Ask(NamedTuple):
    """A query of a panel, and what its curve is called: a pattern of Grafana's, or the column's own name."""

    query: str
    alias: str = "$col"
    ref: str = ""
    hide: bool = False


class Names(NamedTuple):
    """Display names from a site register; empty where the dashboards are for any district."""

    venues: Mapping[str, Words] = {}


class Panel(NamedTuple):
    """One panel, before it has a language and a place."""

    key: str
    """Its words in messages.PANELS."""
    kind: Kind
    asks: tuple[Ask, ...]
    shown: str
    """The column that its unit and thresholds are those of."""
    empty: str
    """Its words in messages.NO_DATA."""
    width: int = 8
    height: int = 8
    min_interval: str = ""
    max_points: int = 0
    """How many steps the range is cut into at most; 0: as many as there is room for."""
    options: Json = {}
    custom: Json = {}
    transformations: tuple[Json, ...] = ()
    columns: Mapping[str, Column] = {}
    """Columns that differ from the usual."""
    hidden: tuple[str, ...] = ()
    """Columns of a table that nobody needs to see."""
    sort: tuple[str, bool] | None = None
    """Column and whether descending."""
    expressions: tuple[Json, ...] = ()
    bounds: tuple[float | None, float | None] = (None, None)
    """Least and largest of the axis."""
    links: tuple[Json, ...] = ()
    """Of the venue's cell or curve."""


def render(panel: Panel, id_: int, x: int, y: int, language: Language, names: Names) -> Json:
    """The panel as Grafana reads it."""
    told = PANELS[panel.key]
    shown = {**COLUMNS, **panel.columns}[panel.shown]
    targets = [_target(ask, place) for place, ask in enumerate(panel.asks)]
    sources = {target["datasource"]["uid"] for target in targets}
    assert len(sources) == 1, panel.key
    defaults: Json = {
        "unit": shown.unit,
        "noValue": NO_DATA[panel.empty].of(language),
        "thresholds": {"mode": "absolute", "steps": _steps(shown.steps)},
        "color": {"mode": "thresholds" if panel.kind != "timeseries" else "palette-classic"},
        "custom": {**_CUSTOM.get(panel.kind, {}), **panel.custom},
        "mappings": _mappings(panel, language),
        "links": [] if panel.kind == "table" else list(panel.links),
    }
    if shown.decimals is not None:
        defaults["decimals"] = shown.decimals
    for name, bound in zip(("min", "max"), panel.bounds, strict=True):
        if bound is not None:
            defaults[name] = bound
    return {
        "id": id_,
        "type": panel.kind,
        "title": told.title.of(language),
        "description": told.description.of(language),
        "datasource": targets[0]["datasource"],
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "targets": [*targets, *panel.expressions],
        "fieldConfig": {"defaults": defaults, "overrides": _overrides(panel, language, names)},
        "options": {**_options(panel, language), **panel.options},
        "transformations": [*panel.transformations, *_tidy(panel, language)],
        **({"interval": panel.min_interval} if panel.min_interval else {}),
        **({"maxDataPoints": panel.max_points} if panel.max_points else {}),
    }


def _target(ask: Ask, place: int) -> Json:
    query = QUERIES[ask.query]
    target: Json = {
        "refId": ask.ref or chr(ord("A") + place),
        "datasource": {"type": "influxdb", "uid": query.source},
        "query": query.text,
        "rawQuery": True,
        "resultFormat": query.shape,
    }
    if query.shape == "time_series":
        target["alias"] = ask.alias
    if ask.hide:
        target["hide"] = True
    return target


def _steps(steps: Steps) -> list[Json]:
    return [{"color": step.color, "value": step.value} for step in steps]


_CUSTOM: Final[dict[str, Json]] = {
    "timeseries": {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 8,
        "showPoints": "auto",
        "spanNulls": False,
        "thresholdsStyle": {"mode": "off"},
    },
    "table": {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True},
    "state-timeline": {"lineWidth": 0, "fillOpacity": 80},
}


def _options(panel: Panel, language: Language) -> Json:
    match panel.kind:
        case "timeseries":
            legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
        case "state-timeline":
            return {
                "mergeValues": True,
                "showValue": "never",
                "rowHeight": 0.9,
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            }
        case "table":
            sort = panel.sort
            shown = [{"displayName": _name(panel, sort[0], language), "desc": sort[1]}] if sort else []
            return {"showHeader": True, "cellHeight": "sm", "footer": {"show": False}, "sortBy": shown}
    rows = QUERIES[panel.asks[0].query].shape == "table"
    calcs = {"calcs": ["lastNotNull"], "fields": f"/^{panel.shown}$/" if rows else "", "values": rows}
    if panel.kind == "bargauge":
        return {"displayMode": "basic", "orientation": "horizontal", "showUnfilled": True, "reduceOptions": calcs}
    if panel.kind == "gauge":
        return {"reduceOptions": calcs, "showThresholdLabels": False, "showThresholdMarkers": True}
    return {
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "auto",
        "justifyMode": "auto",
        "reduceOptions": calcs,
    }


def _tidy(panel: Panel, language: Language) -> list[Json]:
    """Answers of a table beside each other by what they have in common; never by time, which differs."""
    if panel.kind not in ("table", "bargauge") or QUERIES[panel.asks[0].query].shape != "table":
        return []
    hidden = {*panel.hidden, "en" if language == "zh" else "zh"}
    steps: list[Json] = [
        {"id": "filterFieldsByName", "options": {"exclude": {"names": sorted(hidden)}}},
    ]
    if len(panel.asks) > 1:
        steps.append({"id": "merge", "options": {}})
    return steps


def _name(panel: Panel, column: str, language: Language) -> str:
    return {**COLUMNS, **panel.columns}[column].words.of(language)


def _overrides(panel: Panel, language: Language, names: Names) -> list[Json]:
    known = {**COLUMNS, **panel.columns}
    rows_are_bars = panel.kind == "bargauge" and QUERIES[panel.asks[0].query].shape == "table"
    found: list[Json] = []
    if panel.kind == "table":
        found.append(_override("byRegexp", "/.*/", noValue=ABSENT))
    for name in _columns_of(panel):
        if name not in known:
            continue
        column = known[name]
        # A bar of a table's row is called after the row, unless its column has a name of its own.
        properties: Json = {} if rows_are_bars else {"displayName": column.words.of(language)}
        if panel.kind in ("table", "timeseries", "stat", "bargauge"):
            properties["unit"] = column.unit
            properties["thresholds"] = {"mode": "absolute", "steps": _steps(column.steps)}
            if column.decimals is not None:
                properties["decimals"] = column.decimals
        if panel.kind == "table" and len(column.steps) > 1:
            properties["custom.cellOptions"] = {"type": "color-background", "mode": "basic"}
        if panel.kind == "table" and name in ("zh", "en", "detail"):
            properties["custom.width"] = 420
        if panel.kind == "table" and name == "segment":
            properties["mappings"] = [_mapping(SEGMENTS, SEGMENT_COLORS, language)]
            properties["custom.cellOptions"] = {"type": "color-text"}
        if panel.kind == "table" and name == "network":
            properties["mappings"] = [_mapping(NETWORKS, {}, language)]
        if name == "venue":
            if panel.links and panel.kind == "table":
                properties["links"] = list(panel.links)
            if names.venues:
                properties["mappings"] = [_mapping(names.venues, {}, language)]
        found.append(_override("byName", name, **properties))
    if panel.kind in ("timeseries", "state-timeline") and any("$tag_venue" in ask.alias for ask in panel.asks):
        found += [
            _override("byName", slug, displayName=words.of(language)) for slug, words in sorted(names.venues.items())
        ]
    return found


def _columns_of(panel: Panel) -> list[str]:
    """Names that the answers may have, in the order of the queries."""
    found: dict[str, None] = {"Time": None} if panel.kind == "table" else {}
    for ask in panel.asks:
        text = QUERIES[ask.query].text
        head = text[len("SELECT ") : text.index(" FROM ")]
        for part in head.split(", "):
            name = part.rsplit(" AS ", 1)[-1].strip('"')
            found.setdefault(name)
    return [name for name in found if name not in panel.hidden]


def _override(matcher: str, what: str, **properties: Any) -> Json:
    return {
        "matcher": {"id": matcher, "options": what},
        "properties": [{"id": name, "value": value} for name, value in properties.items()],
    }


def _mappings(panel: Panel, language: Language) -> list[Json]:
    if panel.kind != "state-timeline":
        return []
    if panel.shown == "segment":
        return [_mapping(SEGMENTS, SEGMENT_COLORS, language)]
    if panel.shown.endswith("_state"):
        return [_mapping(STATES, STATE_COLORS, language)]
    words = {"0": Words("离线", "Down"), "1": Words("正常", "Up")}
    return [_mapping(words, {"0": RED, "1": GREEN}, language)]


def _mapping(words: Mapping[str, Words], colors: Mapping[str, str], language: Language) -> Json:
    return {
        "type": "value",
        "options": {
            value: {"text": text.of(language), "index": place, **({"color": colors[value]} if value in colors else {})}
            for place, (value, text) in enumerate(words.items())
        },
    }
