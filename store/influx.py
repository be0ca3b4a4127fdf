# ruff: noqa: S608 - identifiers come from contract.series through store.names, values are bound
"""InfluxDB 1.x, 2.x and 3.x, and whatever takes their writes (VictoriaMetrics): line protocol out, InfluxQL in."""

import json
import re
import ssl
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import aiohttp
import msgspec
from msgspec import Struct

from contract.codec import strip_controls
from contract.hosts import is_this_machine
from contract.series import HOURS, RAW, SERIES, FieldValue, Series
from store import names
from store.interface import (
    Aggregation,
    Block,
    Bucket,
    Refusal,
    Row,
    StoreError,
    StoreLimit,
    StoreMisconfigured,
    StoreUnavailable,
)
from store.line import Encoded, encode
from store.names import quoted
from store.point import MAX_TIME_NS, Point

Endpoint = Literal["/api/v2/write", "/write"]
"""`/api/v2/write` for InfluxDB 1.8 and later, 2.x, 3.x; `/write` for 1.x, and the others know it too."""

Server = Literal["influxdb", "victoriametrics"]

MAX_LINES: Final = 5_000
"""Lines of one request."""

_REFUSED_SHARE: Final = 0.05
"""Above it, it is not the points that are wrong, but the store."""

_MAX_WORDS: Final = 1_000
"""Characters kept of what a server says."""

_MAX_ERROR_BYTES: Final = 64 * 1024

_LIMIT: Final = re.compile(
    r"max-series-per-database|max-values-per-tag|\blimit (of|exceeded|reached)\b"
    r"|\bexceeds? [^'\"]{0,60}\blimit\b|\bquota\b",
    re.IGNORECASE,
)
"""How servers name a limit: 1.x its setting, 3.x "would exceed number of columns per table limit of 500 columns"."""

_ECHO: Final = re.compile(r"unable to parse|invalid line|original_line", re.IGNORECASE)
"""From here on a message repeats what was written: hostile text, not the server's words."""

_GZIP: Final = 31
"""zlib's word for: with a gzip header."""

_PERCENT: Final = {"p50": 50, "p95": 95}


class InfluxStore:
    """Stored data in `database` (raw points) and `hours_database` (what is computed from them; None: with `_1h`).

    Both are at `url`. Writes go to `endpoint`, with `org` and the buckets (None: the databases' names) where that
    is ``/api/v2/write``. Reads are InfluxQL at ``/query``, which 2.x serves through a DBRP mapping; VictoriaMetrics
    has none, so reading from it raises StoreMisconfigured. `token`, or `user` and `password`, identify us. Bodies
    are compressed (None: unless the server is on this host). Every request has `timeout_s` to be answered.
    VictoriaMetrics answers a write before its disk has it: whoever promises `stored` waits `ack_hold_s` more.
    """

    def __init__(
        self,
        url: str,
        *,
        endpoint: Endpoint = "/api/v2/write",
        server: Server = "influxdb",
        database: str = RAW,
        hours_database: str | None = None,
        org: str = "",
        bucket: str | None = None,
        hours_bucket: str | None = None,
        token: str | None = None,
        user: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        compress: bool | None = None,
        timeout_s: float = 10.0,
        ack_hold_s: float = 0.0,
        retention_days: int | None = 30,
        hours_retention_days: int | None = 1100,
    ) -> None:
        self.durable = server == "influxdb"
        self.ack_hold_s = ack_hold_s
        self._url = url.rstrip("/")
        self._server = server
        self._names = {RAW: database, HOURS: hours_database or f"{database}_1h"}
        self._retention_days = {RAW: retention_days, HOURS: hours_retention_days}
        self._write_url = self._url + endpoint
        self._write_params = {
            which: {"precision": "ns"} | ({"db": name} if endpoint == "/write" else {"org": org, "bucket": own or name})
            for (which, name), own in zip(self._names.items(), (bucket, hours_bucket), strict=True)
        }
        self._headers = {}
        if token is not None:
            self._headers["Authorization"] = f"Token {token}"
        elif user is not None and password is not None:
            self._headers["Authorization"] = f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"
        self._tls = tls
        self._compress = not is_this_machine(urlsplit(url).hostname or "") if compress is None else compress
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def ensure(self) -> None:
        """Make the databases where the server is an InfluxDB 1.x; elsewhere an administrator did (``collector init``).

        A database that is there keeps its retention.
        """
        if self._server == "influxdb" and (await self._version()).startswith("1."):
            try:
                found = await self._query("SHOW DATABASES")
                there = {row[0] for series in found for row in series.values}
                for which, name in self._names.items():
                    if name not in there:
                        await self._query(f"CREATE DATABASE {quoted(name)}{_retention(self._retention_days[which])}")
            except StoreUnavailable:
                raise
            except StoreError as error:  # also when somebody made it meanwhile, with another retention
                raise StoreMisconfigured(str(error)) from error
        await self.ping()

    async def ping(self) -> None:
        """Empty writes: they prove address, identity and databases, and store nothing."""
        for params in self._write_params.values():
            reply = await self._post(self._write_url, params, b"")
            # 2.x has seen everything else when it says that "writing requires points".
            if reply.status >= 300 and reply.status != 400:
                raise _fault(reply)

    async def write(self, points: Sequence[Point]) -> list[Refusal]:
        refusals: list[Refusal] = []
        for database, places in _by_database(points).items():
            encoded = encode([points[place] for place in places])
            found = encoded.refusals
            for first in range(0, len(encoded.lines), MAX_LINES):
                end = min(first + MAX_LINES, len(encoded.lines))
                found += await self._write_lines(self._write_params[database], encoded, first, end)
            refusals += [Refusal(places[refusal.place], refusal.message) for refusal in found]
        return refusals

    async def rows(
        self, series: str, start_ns: int, end_ns: int, *, where: Mapping[str, str] | None = None
    ) -> AsyncIterator[Row]:
        table = SERIES[series]
        condition, params = _condition(table, start_ns, end_ns, where)
        async for found in self._stream(f"SELECT {_columns(table)} WHERE {condition} ORDER BY time", params, table):
            for values in found.values:
                yield _row(table, values)

    async def columns(
        self,
        series: str,
        fields: Sequence[str],
        start_ns: int,
        end_ns: int,
        *,
        where: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Block]:
        table = SERIES[series]
        condition, params = _condition(table, start_ns, end_ns, where)
        wanted = ", ".join([*_tags(table), *map(quoted, names.fields(table, fields))])
        query = f"SELECT {wanted} FROM {quoted(table.name)} WHERE {condition} ORDER BY time"
        async for found in self._stream(query, params, table):
            if found.values:
                time_ns, *columns = zip(*found.values, strict=True)
                tags = tuple([value or "" for value in column] for column in columns[: len(table.tags)])
                yield Block(time_ns, tags, dict(zip(fields, columns[len(table.tags) :], strict=True)))

    async def latest(
        self, series: str, by: Sequence[str], *, since_ns: int, where: Mapping[str, str] | None = None
    ) -> list[Row]:
        table = SERIES[series]
        condition, params = _condition(table, since_ns, MAX_TIME_NS, where)
        query = f"SELECT {_columns(table)} WHERE {condition}{_group(table, by)} ORDER BY time DESC LIMIT 1"
        found = [_row(table, values) async for one in self._stream(query, params, table) for values in one.values]
        return sorted(found, key=lambda row: [row.tags[tag] for tag in by])

    async def aggregate(
        self,
        series: str,
        field: str,
        how: Aggregation,
        *,
        by: Sequence[str],
        start_ns: int,
        end_ns: int,
        every_ns: int | None = None,
        where: Mapping[str, str] | None = None,
        only_ok: bool = True,
    ) -> list[Bucket]:
        """Percentiles are counted out here: the server's rank is round(q * n), not ceil(q * n)."""
        table = SERIES[series]
        value = names.number(table, field)
        condition, params = _condition(table, start_ns, end_ns, where)
        if only_ok and table.database == RAW and "ok" in table.fields:
            condition += ' AND "ok" = 1'
        if how in _PERCENT:
            query = f"SELECT {value} FROM {quoted(table.name)} WHERE {condition}{_group(table, by)}"
        else:
            groups = _group(table, by, [] if every_ns is None else [f"time({int(every_ns)}ns)"])
            query = f"SELECT {how}({value}) FROM {quoted(table.name)} WHERE {condition}{groups}"
            query += "" if every_ns is None else " fill(none)"
        samples: dict[tuple[int, tuple[str, ...]], list[float]] = {}
        async for found in self._stream(query, params, table):
            tags = tuple(found.tags.get(tag, "") for tag in by)
            for time_ns, number in found.values:
                bucket_ns = start_ns if every_ns is None else time_ns - time_ns % every_ns
                if number is not None:
                    samples.setdefault((bucket_ns, tags), []).append(float(number))
        buckets = []
        for (bucket_ns, tags), numbers in sorted(samples.items()):
            number = nearest_rank(numbers, _PERCENT[how]) if how in _PERCENT else numbers[0]
            buckets.append(Bucket(bucket_ns, dict(zip(by, tags, strict=True)), number))
        return buckets

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _write_lines(self, params: Mapping[str, str], encoded: Encoded, first: int, end: int) -> list[Refusal]:
        """Write lines `first` to `end`; halve what the server refuses, down to the lines that it refuses alone."""
        refusals: list[Refusal] = []
        pending = [(first, end)]
        while pending:
            low, high = pending.pop()
            reply = await self._post(self._write_url, params, "\n".join(encoded.lines[low:high]).encode())
            if reply.status < 300:
                continue
            if reply.status not in (400, 413, 422):
                raise _fault(reply)
            if reply.status != 413 and _names_limit(reply.words):
                raise StoreLimit(reply.words)
            if high - low > 1:
                middle = (low + high) // 2
                pending += [(middle, high), (low, middle)]
                continue
            refusals.append(Refusal(encoded.places[low], reply.words))
            if len(refusals) > max(1, _REFUSED_SHARE * (end - first)):
                raise StoreLimit(f"more than 5 % of {end - first} lines refused, one of them: {reply.words}")
        return refusals

    async def _post(self, url: str, params: Mapping[str, str], body: bytes) -> "_Reply":
        headers = {}
        if self._compress and body:
            body = zlib.compress(body, 1, wbits=_GZIP)
            headers["Content-Encoding"] = "gzip"
        return await self._request("POST", url, params=params, data=body, headers=headers)

    async def _version(self) -> str:
        """:raises StoreError: when the server does not answer, or not kindly."""
        reply = await self._request("GET", f"{self._url}/ping")
        if reply.status >= 300:
            raise _fault(reply)
        return reply.version

    async def _request(self, method: str, url: str, **options: Any) -> "_Reply":
        async with self._exchange(method, url, **options) as response:
            words = "" if response.status < 300 else _words(await _read_some(response))
            return _Reply(
                status=response.status,
                words=words,
                retry_after_s=_seconds(response.headers.get("Retry-After")),
                version=response.headers.get("X-Influxdb-Version", "").removeprefix("v"),
            )

    @asynccontextmanager
    async def _exchange(self, method: str, url: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request; everything that goes wrong on the way, until the answer is read, becomes a StoreError."""
        try:
            async with self._connected().request(method, url, allow_redirects=False, **options) as response:
                yield response
        except TimeoutError:
            raise StoreUnavailable(f"{self._url}: no answer within {self._timeout_s:g} s") from None
        except aiohttp.ClientSSLError as error:
            raise StoreMisconfigured(
                f"{self._url}: TLS: {error}: check the address, or name its CA in ca_file"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise StoreUnavailable(f"{self._url}: {error or type(error).__name__}") from error

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls or True),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            )
        return self._session

    async def _query(self, query: str) -> "list[_Found]":
        return [found async for found in self._stream(query, {})]

    async def _stream(
        self, query: str, params: Mapping[str, str | int], table: Series | None = None
    ) -> "AsyncIterator[_Found]":
        """Answers of a query to the database of `table`, in pieces. JSON: in CSV null and "" look alike."""
        if self._server == "victoriametrics":
            raise StoreMisconfigured("VictoriaMetrics takes writes only: it has no InfluxQL to read with")
        database = self._names[RAW if table is None else table.database]
        form = {"q": query, "db": database, "epoch": "ns", "chunked": "true", "params": json.dumps(params)}
        # A long answer may take its time, but no pause in it: the deadline is between its bytes.
        patience = aiohttp.ClientTimeout(sock_connect=self._timeout_s, sock_read=self._timeout_s)
        async with self._exchange("POST", f"{self._url}/query", data=form, timeout=patience) as response:
            if response.status >= 300:
                words = _words(await _read_some(response))
                raise _fault(_Reply(response.status, words, _seconds(response.headers.get("Retry-After"))))
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    for found in _results(line):
                        yield found
            for found in _results(rest):
                yield found


class _Reply(Struct, frozen=True):
    """What a server said to a request."""

    status: int
    words: str
    """Empty on success."""
    retry_after_s: float | None = None
    version: str = ""
    """InfluxDB's version, empty when it does not tell."""


class _Found(Struct):
    """A piece of a series as ``/query`` answers it."""

    columns: list[str] = []
    values: list[list[Any]] = []
    tags: dict[str, str] = {}


class _Result(Struct):
    series: list[_Found] = []
    error: str | None = None


class _Results(Struct):
    results: list[_Result] = []
    error: str | None = None


_decode_results: Final = msgspec.json.Decoder(_Results).decode


def nearest_rank(numbers: list[float], percent: int) -> float:
    """The value at rank ceil(n * percent / 100), counted from 1; `numbers` are not empty."""
    return sorted(numbers)[(len(numbers) * percent + 99) // 100 - 1]


def _by_database(points: Sequence[Point]) -> dict[str, list[int]]:
    """Places of the points, by the database that they belong to."""
    places: dict[str, list[int]] = {}
    for place, point in enumerate(points):
        places.setdefault(SERIES[point.series].database, []).append(place)
    return places


def _results(line: bytes) -> list[_Found]:
    if not line.strip():
        return []
    try:
        answer = _decode_results(line)
    except msgspec.MsgspecError as error:
        raise StoreUnavailable(f"the answer to a query is broken off or no JSON: {error}") from error
    for words in (answer.error, *(result.error for result in answer.results)):
        if words is not None:
            gone = "database not found" in words or "not authorized" in words
            raise (StoreMisconfigured if gone else StoreError)(strip_controls(words, _MAX_WORDS))
    return [found for result in answer.results for found in result.series]


def _columns(series: Series) -> str:
    return f"{', '.join([*_tags(series), *map(quoted, series.fields)])} FROM {quoted(series.name)}"


def _tags(series: Series) -> list[str]:
    return [f"{quoted(tag)}::tag" for tag in series.tags]


def _row(series: Series, values: Sequence[Any]) -> Row:
    first = 1 + len(series.tags)
    tags = {name: value or "" for name, value in zip(series.tags, values[1:first], strict=True)}
    fields: dict[str, FieldValue] = {}
    for (name, kind), value in zip(series.fields.items(), values[first:], strict=True):
        # JSON writes the float 3.0 as 3.
        fields[name] = float(value) if kind == "float" and value is not None else value
    return Row(values[0], tags, fields)


def _condition(
    series: Series, start_ns: int, end_ns: int, where: Mapping[str, str] | None
) -> tuple[str, dict[str, str | int]]:
    terms = ["time >= $start", "time < $end"]
    params: dict[str, str | int] = {"start": start_ns, "end": end_ns}
    for place, (name, value) in enumerate((where or {}).items()):
        terms.append(f"{names.tag(series, name)} = $tag{place}")
        params[f"tag{place}"] = value
    return " AND ".join(terms), params


def _group(series: Series, by: Sequence[str], windows: Sequence[str] = ()) -> str:
    groups = [*(names.tag(series, tag) for tag in by), *windows]
    return f" GROUP BY {', '.join(groups)}" if groups else ""


def _retention(days: int | None) -> str:
    return "" if days is None else f" WITH DURATION {int(days)}d SHARD DURATION 1d"


def _fault(reply: _Reply) -> StoreError:
    """The error that a status means, for every answer that is not about the points."""
    told = f"{reply.status}: {reply.words}"
    match reply.status:
        case 401:
            return StoreMisconfigured(
                f"{told} (the server does not know us: check token_file, or user and password_file)"
            )
        case 403:
            return StoreMisconfigured(f"{told} (we may not do this: give the token or user write and read rights)")
        case 404:
            return StoreMisconfigured(f"{told} (database missing, or server older than 1.8: use endpoint /write)")
        case 408 | 429:
            return StoreUnavailable(told, reply.retry_after_s)
        case status if status >= 500:
            return StoreUnavailable(told, reply.retry_after_s)
    return StoreMisconfigured(f"{told} (is this url an InfluxDB?)")


def _names_limit(words: str) -> bool:
    return _LIMIT.search(_ECHO.split(words, maxsplit=1)[0]) is not None


async def _read_some(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) >= _MAX_ERROR_BYTES:
            break
    return body


class _Complaint(Struct):
    """Bodies of refusals: 1.x ``error``, 2.x ``code`` and ``message``, 3.x ``error`` and ``data``."""

    error: str = ""
    message: str = ""
    data: Any = None


def _words(body: bytes) -> str:
    """What a refusal says, without the lines that 3.x repeats in it."""
    try:
        complaint = msgspec.json.decode(body, type=_Complaint)
    except msgspec.MsgspecError:
        return strip_controls(body.decode("utf-8", "replace"), _MAX_WORDS).strip()
    details = complaint.data if isinstance(complaint.data, list) else [complaint.data]
    reasons = [
        str(detail["error_message"]) for detail in details if isinstance(detail, dict) and "error_message" in detail
    ]
    return strip_controls("; ".join(filter(None, [complaint.error or complaint.message, *reasons])), _MAX_WORDS)


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After, seconds or a date (RFC 9110, 10.2.3); None when absent or not understood."""
    if retry_after is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", retry_after.strip()):
        return float(retry_after)
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (at.astimezone(UTC) - datetime.now(UTC)).total_seconds())
