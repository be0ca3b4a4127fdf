"""Which store, as people write it in a configuration; strict, with secrets in files of their own."""

import ssl
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from contract.series import RAW
from store.influx import Endpoint, InfluxStore, Server
from store.interface import Store, StoreMisconfigured
from store.sqlite import SqliteStore

VICTORIA_HOLD_S = 10.0
"""VictoriaMetrics answers before its disk has the data: 200 points were lost when it was killed within 2 s."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    retention_days: Annotated[int, Field(ge=1)] | None = 30
    """How long raw points are kept; null: for ever. An InfluxDB database that is already there keeps its own."""
    hours_retention_days: Annotated[int, Field(ge=1)] | None = 1100
    """The same for rollups, scores and verdicts: baselines of an upgrade are among them."""


class SqliteSettings(_Settings):
    """One file on this host: no database server."""

    engine: Literal["sqlite"]
    path: Path


class InfluxSettings(_Settings):
    """A server that takes line protocol."""

    engine: Literal["influx"]
    url: str
    """http(s)://host:port, without credentials."""
    server: Server = "influxdb"
    """`victoriametrics` takes writes only, and acknowledgements wait for its disk."""
    endpoint: Endpoint = "/api/v2/write"
    """`/write` for InfluxDB older than 1.8."""
    database: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = RAW
    hours_database: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    """Of rollups, scores and verdicts; null: `database` with `_1h`."""
    org: str = ""
    bucket: str | None = None
    """Null: as `database`."""
    hours_bucket: str | None = None
    """Null: as `hours_database`."""
    token_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    """Certificates (PEM) to trust instead of the system's."""
    compress: bool | None = None
    """Null: unless the server is on this host."""
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 10.0
    ack_hold_s: Annotated[float, Field(ge=0, le=300)] | None = None
    """Null: 10 for `victoriametrics`, else 0."""

    @property
    def databases(self) -> tuple[str, str]:
        """Of raw points, and of what is computed from them."""
        return self.database, self.hours_database or f"{self.database}_1h"

    @property
    def buckets(self) -> tuple[str, str]:
        """The same, as 2.x calls them."""
        raw, hours = self.databases
        return self.bucket or raw, self.hours_bucket or hours

    @field_validator("url")
    @classmethod
    def _plain_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected http://host:port or https://host:port")
        if parts.username is not None or parts.password is not None:
            raise ValueError("credentials do not belong here: use user and password_file, or token_file")
        if parts.query or parts.fragment:
            raise ValueError("expected no query: use database, org and bucket")
        return url

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file belong together")
        if self.token_file is not None and self.user is not None:
            raise ValueError("use either token_file, or user and password_file")
        return self


StoreSettings = Annotated[SqliteSettings | InfluxSettings, Field(discriminator="engine")]
"""The `store` table of a configuration; `engine` says which."""


def open_store(settings: SqliteSettings | InfluxSettings) -> Store:
    """The store that `settings` describe. Nothing is connected or made yet: that is :meth:`Store.ensure`.

    :raises StoreMisconfigured: when a secret or a certificate cannot be read.
    """
    if isinstance(settings, SqliteSettings):
        return SqliteStore(
            settings.path,
            retention_days=settings.retention_days,
            hours_retention_days=settings.hours_retention_days,
        )
    hold_s = settings.ack_hold_s
    if hold_s is None:
        hold_s = VICTORIA_HOLD_S if settings.server == "victoriametrics" else 0.0
    return InfluxStore(
        settings.url,
        endpoint=settings.endpoint,
        server=settings.server,
        database=settings.database,
        hours_database=settings.hours_database,
        org=settings.org,
        bucket=settings.bucket,
        hours_bucket=settings.hours_bucket,
        token=secret("token_file", settings.token_file),
        user=settings.user,
        password=secret("password_file", settings.password_file),
        tls=trust(settings.ca_file),
        compress=settings.compress,
        timeout_s=settings.timeout_s,
        ack_hold_s=hold_s,
        retention_days=settings.retention_days,
        hours_retention_days=settings.hours_retention_days,
    )


def secret(key: str, path: Path | None) -> str | None:
    """What the file `path` of `store.<key>` holds; None where none is named.

    :raises StoreMisconfigured: when it cannot be read, or is no single line.
    """
    if path is None:
        return None
    try:
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreMisconfigured(f"store.{key}: cannot read {path}: {error}") from error
    if not secret or not secret.isprintable():
        raise StoreMisconfigured(f"store.{key}: {path} must hold the secret alone, on one line")
    return secret


def trust(ca_file: Path | None) -> ssl.SSLContext | None:
    """Verified TLS with these certificates; None where none are named: the system's.

    :raises StoreMisconfigured: when they cannot be used.
    """
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise StoreMisconfigured(f"store.ca_file: cannot use {ca_file}: {error}") from error
