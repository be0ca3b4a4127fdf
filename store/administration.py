"""What an administrator does once for an InfluxDB: databases or buckets, retention, DBRP mappings, two identities.

One identity reads and writes both databases (collector, perception), the other only reads them (Grafana). 1.x knows
users, 2.x tokens; 3.x Core knows neither databases of a user nor tokens of less than an administrator: only the
databases are made there. Requests and answers of 2.x and 3.x follow their manuals (API v2, API v3).
"""

import json
import os
import re
import secrets
import ssl
from base64 import b64encode
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Self

import aiohttp

from contract.codec import strip_controls
from store.interface import StoreError, StoreMisconfigured, StoreUnavailable
from store.names import quoted
from store.settings import InfluxSettings, secret, trust

PASSWORD_BYTES: Final = 24
DAY_S: Final = 86_400
_MAX_WORDS: Final = 1_000
_USER: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

Rights = Literal["write", "read"]
"""`write` includes reading: the collector looks up what it stored."""


class Identity(NamedTuple):
    """Who an identity is, and the file that gets its secret; a file that is there is kept, and nothing is made."""

    rights: Rights
    name: str
    file: Path


class Administration:
    """An administrator's connection to the server of `settings`."""

    def __init__(
        self, settings: InfluxSettings, *, token_file: Path | None, user: str | None, password_file: Path | None
    ) -> None:
        """`token_file` (2.x, 3.x), or `user` and `password_file` (1.x) are the administrator's; None: not asked for.

        :raises StoreMisconfigured: when a secret cannot be read.
        """
        self._settings = settings
        token = secret("admin_token_file", token_file)
        password = secret("admin_password_file", password_file)
        self._has_token, self._has_user = token is not None, user is not None
        self._headers: dict[str, str] = {}
        if token is not None:
            self._headers["Authorization"] = f"Token {token}"
        elif user is not None:
            self._headers["Authorization"] = f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"
        self._names = settings.databases
        days = (settings.retention_days, settings.hours_retention_days)
        self._days = dict(zip(self._names, days, strict=True))
        self._tls: ssl.SSLContext | None = trust(settings.ca_file)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls or True),
            timeout=aiohttp.ClientTimeout(total=self._settings.timeout_s),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def prepare(self, identities: list[Identity]) -> list[str]:
        """Make what is missing; a line on each thing that was made, for people.

        :raises StoreError: when the server does not let us.
        """
        version = await self._version()
        if version.startswith("1."):
            return await self._prepare_1(identities)
        if version.startswith("2."):
            return await self._prepare_2(identities)
        if version.startswith("3."):
            return await self._prepare_3()
        raise StoreMisconfigured(f"{self._settings.url}: is this an InfluxDB? It says it is version {version!r}")

    # -- 1.x: InfluxQL

    async def _prepare_1(self, identities: list[Identity]) -> list[str]:
        made = []
        there = {row[0] for row in await self._ask("SHOW DATABASES")}
        for name in self._names:
            if name not in there:
                days = self._days[name]
                with_ = f" WITH DURATION {days}d REPLICATION 1 SHARD DURATION 1d" if days else ""
                await self._ask(f"CREATE DATABASE {quoted(name)}{with_}")
                made.append(f"database {name}, kept {_days(days)}")
        if not self._has_user:
            return made
        for identity in identities:
            if not _USER.fullmatch(identity.name):
                raise StoreMisconfigured(f"store.user: {identity.name!r}: use letters, digits, dot, - and _ only")
        users = {row[0] for row in await self._ask("SHOW USERS")}
        for identity in identities:
            if not identity.file.exists():
                password = secrets.token_urlsafe(PASSWORD_BYTES)
                # The alphabet of the password has no quote; that of the name is the settings' own.
                if identity.name in users:
                    await self._ask(f"SET PASSWORD FOR {quoted(identity.name)} = '{password}'")
                else:
                    await self._ask(f"CREATE USER {quoted(identity.name)} WITH PASSWORD '{password}'")
                _write_secret(identity.file, password)
                made.append(f"user {identity.name}, password in {identity.file}")
            right = "ALL" if identity.rights == "write" else "READ"
            for name in self._names:
                await self._ask(f"GRANT {right} ON {quoted(name)} TO {quoted(identity.name)}")
        return made

    async def _ask(self, query: str) -> list[list[Any]]:
        status, answer = await self._call("POST", "/query", form={"q": query})
        found = (answer.get("results") or [{}])[0] if status < 300 else {}
        if status >= 300 or "error" in found or "error" in answer:
            raise _refused(
                query.split(" WITH PASSWORD")[0].split(" = ")[0], status, found if "error" in found else answer
            )
        return [row for series in found.get("series", []) for row in series.get("values", [])]

    # -- 2.x: buckets, mappings for InfluxQL, tokens

    async def _prepare_2(self, identities: list[Identity]) -> list[str]:
        if not self._has_token:
            raise StoreMisconfigured("InfluxDB 2 is prepared with an administrator's token: give --admin-token-file")
        org = self._settings.org
        if not org:
            raise StoreMisconfigured("store.org: missing; InfluxDB 2 keeps buckets in an organization")
        status, answer = await self._call("GET", "/api/v2/orgs", query={"org": org})
        orgs = answer.get("orgs") or []
        if status == 404 or (status < 300 and not orgs):
            raise StoreMisconfigured(f"store.org: the server has no organization {org!r}, or hides it from this token")
        if status >= 300:
            raise _refused("looking for the organization", status, answer)
        org_id = orgs[0]["id"]
        made: list[str] = []
        buckets = {}
        for name, bucket in zip(self._names, self._settings.buckets, strict=True):
            buckets[bucket] = await self._bucket(org_id, bucket, self._days[name], made)
            await self._mapping(org_id, name, bucket, buckets[bucket], made)
        for identity in identities:
            if not identity.file.exists():
                await self._authorization(org_id, identity, list(buckets.values()), made)
        return made

    async def _bucket(self, org_id: str, name: str, days: int | None, made: list[str]) -> str:
        """Its id; made where it is missing. One that is there keeps its retention."""
        status, answer = await self._call("GET", "/api/v2/buckets", query={"orgID": org_id, "name": name})
        if status < 300 and answer.get("buckets"):
            return str(answer["buckets"][0]["id"])
        if status >= 300 and status != 404:
            raise _refused(f"looking for the bucket {name}", status, answer)
        rules = [{"type": "expire", "everySeconds": days * DAY_S}] if days else []
        body = {"orgID": org_id, "name": name, "retentionRules": rules}
        status, answer = await self._call("POST", "/api/v2/buckets", body=body)
        if status != 201:
            raise _refused(f"making the bucket {name}", status, answer)
        made.append(f"bucket {name}, kept {_days(days)}")
        return str(answer["id"])

    async def _mapping(self, org_id: str, database: str, bucket: str, bucket_id: str, made: list[str]) -> None:
        """What lets InfluxQL find the bucket under the database's name."""
        status, answer = await self._call("GET", "/api/v2/dbrps", query={"orgID": org_id, "db": database})
        if status >= 300:
            raise _refused(f"looking for the mapping of {database}", status, answer)
        for found in answer.get("content") or []:
            if found.get("virtual") or not found.get("default"):
                continue
            if found.get("bucketID") != bucket_id:
                raise StoreMisconfigured(
                    f"the database {database} is mapped to another bucket than {bucket}; remove that mapping, or "
                    "choose another store.database"
                )
            return
        body = {
            "orgID": org_id, "bucketID": bucket_id, "database": database, "retention_policy": "autogen",
            "default": True,
        }  # fmt: skip
        status, answer = await self._call("POST", "/api/v2/dbrps", body=body)
        if status != 201:
            raise _refused(f"mapping the database {database}", status, answer)
        made.append(f"mapping of the database {database} to the bucket {bucket}")

    async def _authorization(self, org_id: str, identity: Identity, bucket_ids: list[str], made: list[str]) -> None:
        actions = ("read", "write") if identity.rights == "write" else ("read",)
        permissions = [
            {"action": action, "resource": {"type": "buckets", "id": bucket, "orgID": org_id}}
            for bucket in bucket_ids
            for action in actions
        ]
        body = {"orgID": org_id, "description": identity.name, "permissions": permissions}
        status, answer = await self._call("POST", "/api/v2/authorizations", body=body)
        if status != 201 or not answer.get("token"):
            raise _refused(f"making the token {identity.name}", status, answer)
        _write_secret(identity.file, str(answer["token"]))
        made.append(f"token {identity.name} ({' and '.join(actions)}), in {identity.file}")

    # -- 3.x

    async def _prepare_3(self) -> list[str]:
        made = []
        for name in self._names:
            days = self._days[name]
            body = {"db": name} | ({"retention_period": f"{days}d"} if days else {})
            status, answer = await self._call("POST", "/api/v3/configure/database", body=body)
            if status < 300:
                made.append(f"database {name}, kept {_days(days)}")
            elif status != 409:  # it is there
                raise _refused(f"making the database {name}", status, answer)
        return made

    # -- HTTP

    async def _version(self) -> str:
        """Its number, without a v; 3.x tells it in the body."""
        status, answer = await self._call("GET", "/ping")
        if status >= 300:
            raise _refused("asking for the version", status, answer)
        return str(answer.get("version", "")).removeprefix("v")

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        form: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON answer; what is no JSON object becomes ``{"message": text}``."""
        assert self._session is not None
        url = self._settings.url.rstrip("/") + path
        try:
            async with self._session.request(
                method, url, params=query, json=body, data=form, headers=self._headers,
                allow_redirects=False,
            ) as response:  # fmt: skip
                text = (await response.content.read(2**20)).decode(errors="replace")
                version = response.headers.get("X-Influxdb-Version")
                try:
                    answer = json.loads(text) if text else {}
                except ValueError:
                    answer = None
                if not isinstance(answer, dict):
                    answer = {"message": text}
                return response.status, answer | ({"version": version} if version and path == "/ping" else {})
        except TimeoutError:
            raise StoreUnavailable(f"{url}: no answer within {self._settings.timeout_s:g} s") from None
        except aiohttp.ClientSSLError as error:
            raise StoreMisconfigured(f"{url}: TLS: {error}: check the address, or name its CA in ca_file") from error
        except (aiohttp.ClientError, OSError) as error:
            raise StoreUnavailable(f"{url}: {error or type(error).__name__}") from error


def _refused(what: str, status: int, answer: dict[str, Any]) -> StoreError:
    words = strip_controls(str(answer.get("error") or answer.get("message") or ""), _MAX_WORDS)
    hint = ": is this an administrator's identity?" if status in (401, 403) else ""
    return StoreMisconfigured(f"{what}: {status}: {words}{hint}")


def _days(days: int | None) -> str:
    return "for ever" if days is None else f"{days} days"


def _write_secret(path: Path, text: str) -> None:
    """A file for its owner alone; it must not be there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
