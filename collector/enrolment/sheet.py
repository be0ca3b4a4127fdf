"""The site register from a spreadsheet (XLSX or CSV): one row a site, mistakes told by row and column.

Columns are known by their heading, English or Chinese, in any order. What belongs to a venue may stand in each of its
rows or in the first alone; two rows that disagree about it are a mistake.
"""

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from store.register import Roll, Site, Sites, Venue
from store.tables import ConfigError

MAX_BYTES: Final = 10 * 2**20
MAX_ROWS: Final = 20_000
MAX_GAP: Final = 500
"""Empty rows in a row; what stands below more of them was left there, or lost sight of."""
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

SITE: Final = {
    "agent": "探针", "interface": "接口", "from": "开始", "to": "结束", "venue": "场所代码", "network": "网络",
    "aps": "AP", "portal_allowed_until": "门户放行至", "down_mbps": "下行承诺", "up_mbps": "上行承诺",
    "availability_ratio": "可用率承诺",
}  # fmt: skip
VENUE: Final = {
    "name_zh": "中文名", "name_en": "英文名", "type": "类型", "unit": "责任单位", "open": "开放时间", "busy": "忙时",
    "upgraded": "改造日期", "controls": "对照场所",
}  # fmt: skip
HEADINGS: Final = {name: name for name in (*SITE, *VENUE)} | {zh.lower(): name for name, zh in (SITE | VENUE).items()}
REQUIRED: Final = ("agent", "interface", "from", "venue", "network")
_NETWORKS: Final = {"政务外网": "gov", "政务": "gov", "无线": "wifi", "wi-fi": "wifi"}
_HOURS: Final = re.compile(r"(?P<days>[a-z]{3}(?:-[a-z]{3})?)\s+(?P<spans>[\d:,\s-]+)")

Row = dict[str, str]


class RowErrors(ConfigError):
    """A sheet with mistakes: one line for each, with its row and column."""


def read(path: Path, timezone: str = "Asia/Shanghai") -> Sites:
    """The register that the sheet describes.

    :raises RowErrors: one line for each mistake.
    :raises ConfigError: when it is no sheet at all.
    """
    errors: list[str] = []
    venues: dict[str, dict[str, Any]] = {}
    sites: list[dict[str, Any]] = []
    numbers: list[int] = []
    for number, row in _rows(path):
        wrong = [f"row {number}, column {name}: missing" for name in REQUIRED if not row.get(name)]
        if wrong:
            errors += wrong
            continue
        try:
            site, venue = _site(row), _venue(row)
        except ValueError as error:
            errors.append(f"row {number}, {error}")
            continue
        errors += _mistakes(Site, site, number)
        known = venues.setdefault(row["venue"], {})
        for key, value in venue.items():
            if known.setdefault(key, value) != value:
                errors.append(f"row {number}, column {_column([key])}: not what an earlier row says of {row['venue']}")
        sites.append(site)
        numbers.append(number)
    firsts = {site["venue"]: number for site, number in reversed([*zip(sites, numbers, strict=True)])}
    for slug, venue in venues.items():
        errors += _mistakes(Venue, venue, firsts[slug])
    if errors:
        raise RowErrors("\n".join(f"{path}: {error}" for error in dict.fromkeys(errors)))
    if not sites:
        raise ConfigError(f"{path}: no sites; the first row holds the headings: {', '.join(REQUIRED)}, ...")
    try:
        found = Sites.model_validate({"timezone": timezone, "venues": venues, "sites": sites})
        Roll(found)
    except ValueError as error:
        words = str(error.errors()[0]["ctx"]["error"]) if isinstance(error, ValidationError) else str(error)
        raise RowErrors(f"{path}: {_by_row(words, numbers, firsts)}") from None
    return found


def as_toml(sites: Sites) -> str:
    """The register as its file."""
    lines = [f"timezone = {_toml(sites.timezone)}"]
    for slug, venue in sites.venues.items():
        table = venue.model_dump(mode="python", by_alias=True, exclude_defaults=True, exclude={"slug", "open", "busy"})
        lines += ["", f"[venues.{_key(slug)}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
        for name, days in (("open", venue.open), ("busy", venue.busy)):
            if days:
                lines += [
                    "",
                    f"[venues.{_key(slug)}.{name}]",
                    *(f"{day} = {_toml(spans)}" for day, spans in days.items()),
                ]
    for site in sites.sites:
        table = site.model_dump(mode="python", by_alias=True, exclude_defaults=True)
        lines += ["", "[[sites]]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Number (as the spreadsheet shows it) and cells of every row that is not empty, by the columns' names; what stands
    right of the last heading is not looked at."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_BYTES // 2**20} MiB: that is no register")
        table = _xlsx(path) if path.suffix.lower() == ".xlsx" else _csv(path)
        names: list[str] | None = None
        last = 0
        for number, row in enumerate(table, 1):
            cells = [_cell(value) for value in (row if names is None else row[: len(names)])]
            if not any(cells):
                continue
            if number > MAX_ROWS:
                raise ConfigError(f"{path}: more than {MAX_ROWS} rows")
            if number - last - 1 > MAX_GAP:
                raise ConfigError(
                    f"{path}: row {number}: below {number - last - 1} empty rows, at most {MAX_GAP} are allowed: "
                    "delete the empty rows, or what stands below them"
                )
            last = number
            if names is None:
                names = _names(path, number, cells)
            else:
                yield number, {name: cell for name, cell in zip(names, cells, strict=False) if name and cell}
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def _names(path: Path, number: int, cells: list[str]) -> list[str]:
    while not cells[-1]:  # a spreadsheet's rows are as long as its longest
        cells.pop()
    unknown = [repr(cell) for cell in cells if cell and cell.lower() not in HEADINGS]
    names = [HEADINGS.get(cell.lower(), "") for cell in cells]
    missing = [name for name in REQUIRED if name not in names]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    for words, found in (("unknown heading", unknown), ("missing heading", missing), ("heading stands twice", twice)):
        if found:
            known = ", ".join(f"{name} ({zh})" for name, zh in (SITE | VENUE).items())
            raise ConfigError(f"{path}: row {number}: {words}: {', '.join(found)}; known are {known}")
    return names


def _csv(path: Path) -> Iterator[Sequence[object]]:
    """UTF-8, with or without a mark, else GB18030 as Chinese spreadsheets write it."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = data.decode("gb18030")
        except UnicodeDecodeError:
            raise ConfigError(f"{path}: neither UTF-8 nor GB18030 text; save it as CSV UTF-8") from None
    try:
        yield from csv.reader(io.StringIO(text, newline=""), strict=True)
    except csv.Error as error:
        raise ConfigError(f"{path}: no CSV: {error}") from error


def _xlsx(path: Path) -> Iterator[Sequence[object]]:
    """The first sheet."""
    from openpyxl import load_workbook

    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > 20 * MAX_BYTES:
                raise ConfigError(f"{path}: unpacks to more than {20 * MAX_BYTES // 2**20} MiB: that is no register")
        book = load_workbook(path, read_only=True, data_only=True)
        try:
            yield from book.worksheets[0].iter_rows(values_only=True, max_row=MAX_ROWS + 1)
        finally:
            book.close()
    except (zipfile.BadZipFile, KeyError, IndexError, ValueError, SyntaxError) as error:  # XML that is none is the last
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: no XLSX: {error}") from error


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime) and value.time() == datetime.min.time():
        return value.date().isoformat()
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _site(row: Row) -> dict[str, Any]:
    """:raises ValueError: with the column in front."""
    site: dict[str, Any] = {name: row[name] for name in ("agent", "interface", "from", "to", "venue") if name in row}
    site["network"] = _NETWORKS.get(row["network"].lower(), row["network"].lower())
    if "aps" in row:
        site["aps"] = [ap.lower().replace("-", ":") for ap in re.split(r"[\s,;，；]+", row["aps"]) if ap]
    if "portal_allowed_until" in row:
        site["portal_allowed_until"] = row["portal_allowed_until"]
    promised = {
        name: _number(name, row[name]) for name in ("down_mbps", "up_mbps", "availability_ratio") if name in row
    }
    return site | ({"contract": promised} if promised else {})


def _venue(row: Row) -> dict[str, Any]:
    """:raises ValueError: with the column in front."""
    venue: dict[str, Any] = {name: row[name] for name in ("type", "unit", "upgraded") if name in row}
    if "name_zh" in row or "name_en" in row:
        # A display name in one language alone stands for both.
        zh, en = row.get("name_zh"), row.get("name_en")
        venue["name"] = {"zh": zh or en, "en": en or zh}
    for name in ("open", "busy"):
        if name in row:
            venue[name] = _hours(name, row[name])
    if "controls" in row:
        venue["controls"] = [slug for slug in re.split(r"[\s,;，；]+", row["controls"]) if slug]
    return venue


def _hours(column: str, text: str) -> dict[str, list[str]]:
    """``mon-fri 09:00-21:00; sat 10:00-12:00, 14:00-17:00``."""
    found: dict[str, list[str]] = {}
    for part in re.split(r"[;；\n]", text.lower().replace("：", ":").replace("，", ",")):
        if not part.strip():
            continue
        match = _HOURS.fullmatch(part.strip())
        first, _, last = (match["days"] if match else "").partition("-")
        if match is None or first not in DAYS or (last or first) not in DAYS:
            raise ValueError(f"column {column}: {part.strip()!r}: write mon-fri 09:00-21:00; sat 10:00-17:00")
        start, end = DAYS.index(first), DAYS.index(last or first)
        for day in DAYS[start : end + 1] if start <= end else (*DAYS[start:], *DAYS[: end + 1]):
            found.setdefault(day, []).extend(span.strip() for span in match["spans"].split(",") if span.strip())
    return found


def _number(column: str, text: str) -> float:
    try:
        return float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ValueError(f"column {column}: {text!r} is no number") from None


def _mistakes(kind: type[BaseModel], table: dict[str, Any], row: int) -> list[str]:
    try:
        kind.model_validate(table)
    except ValidationError as error:
        return [
            f"row {row}, column {_column(mistake['loc'])}: "
            f"{str(mistake['msg']).removeprefix('Value error, ')}"
            + ("" if mistake["type"] in ("missing", "value_error") else f", not {str(mistake['input'])[:60]!r}")
            for mistake in error.errors()
        ]
    return []


def _column(steps: Sequence[int | str]) -> str:
    """A field's path as the heading that it came from, with the weekday where it has one."""
    names = [step for step in steps if isinstance(step, str) and step != "contract"]
    return "name_zh" if names[0] == "name" else ".".join(names)


def _by_row(message: str, numbers: Sequence[int], firsts: dict[str, int]) -> str:
    """`sites[3].to` and `venues.lib.controls` as the row and column that they came from."""
    message = re.sub(r"sites\[(\d+)\]", lambda match: f"row {numbers[int(match[1])]}", message)
    message = re.sub(r"^venues\.(.+?)(?=\.\w+: )", lambda match: f"row {firsts[match[1]]}", message)
    return re.sub(r"^(row \d+)\.(\w+): ", r"\1, column \2: ", message)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _toml(value: Any) -> str:
    if isinstance(value, datetime):
        return (
            value.date().isoformat()
            if value.tzinfo is None and not value.time().isoformat().strip("0:")
            else value.isoformat()
        )
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    # DEL is legal in JSON's strings and not in TOML's.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") if isinstance(value, str) else repr(value)
