"""The collector's configuration: strict TOML. Every mistake is one line with its path and the fix.

Relative file names are relative to the configuration file.
"""

import ipaddress
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from contract.hosts import is_this_machine
from store.settings import StoreSettings
from store.tables import Table, check_files, convert, read_table, with_folder

Port = Annotated[int, Field(ge=1, le=65535)]
File = Annotated[Path, Field(strict=False)]


class MqttSettings(Table):
    """How to reach the broker. Secrets are in files, never in the configuration itself."""

    host: Annotated[str, Field(min_length=1, max_length=253)]
    port: Port = 8883
    tls: bool = True
    """False only for a broker on this machine."""
    ca_file: File | None = None
    """PEM bundle that signs the broker; None: the system's."""
    cert_file: File | None = None
    key_file: File | None = None
    """Mutual TLS; the key must not be readable by others."""
    user: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    password_file: File | None = None
    """First line is the password."""
    share_group: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")] | None = None
    """Collectors with the same group share the agents' records (MQTT 5 shared subscription)."""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if not self.tls and not is_this_machine(self.host):
            raise ValueError("tls = false is only for a broker on this machine; use TLS, or host = '127.0.0.1'")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together; give both or none")
        if self.password_file is not None and self.user is None:
            raise ValueError("password_file needs a user")
        return self


class Login(Table):
    """Who may look at the status page."""

    user: Annotated[str, Field(min_length=1, max_length=64)]
    password_file: File
    """First line is the password; readable by its owner alone."""


class WebSettings(Table):
    """Where the status page listens, and whether it asks who is there."""

    listen: str = "127.0.0.1"
    """An IP address, or `localhost`."""
    port: Port = 8080
    login: Login | None = None
    simulated: bool = False
    """Everything in the store is made up: said on the page and in the API."""
    reports_folder: File | None = None
    """Where perception puts the weekly reports (its `report.folder`): the page then offers the newest."""
    allow_open: bool = False
    """True: without a login, also where other machines can reach the page."""

    @field_validator("listen")
    @classmethod
    def _address(cls, listen: str) -> str:
        if listen != "localhost":
            try:
                ipaddress.ip_address(listen)
            except ValueError:
                raise ValueError(f"{listen!r} is no IP address; '127.0.0.1' for this machine, '::' for all") from None
        return listen

    @model_validator(mode="after")
    def _not_open_by_accident(self) -> Self:
        if self.login is None and not self.allow_open and not is_this_machine(self.listen):
            raise ValueError(
                f"everyone who reaches {self.listen} could read the page; add [web.login], or allow_open = true"
            )
        return self


class Limits(Table):
    """How much is taken from one agent and kept in memory or on disk."""

    messages_per_s: Annotated[float, Field(gt=0, le=1000, strict=False)] = 10.0
    """Of one agent, in the long run; more is answered `later: rate_limited`."""
    burst: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Messages of one agent that may come at once."""
    queue_mib: Annotated[int, Field(ge=1, le=1024)] = 16
    """Batches that wait for the store; what comes on top is dropped and counted, the agents have it still."""
    dead_letters_mib: Annotated[int, Field(ge=1, le=10_240)] = 64
    """Of the dead letters' files; the oldest go first."""
    linger_ms: Annotated[int, Field(ge=0, le=1000)] = 30
    """A batch waits this long for others to be written with."""


class Settings(Table):
    """A whole collector."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{3,32}$")] = "collector"
    """MQTT client id, and tag of its own points; each collector of a group has its own."""
    state: File = Path("state")
    """Folder of the dead letters; made when it is missing."""
    sites: Annotated[File, Field(alias="register")] = Path("sites.toml")
    """The site register."""
    mqtt: MqttSettings
    store: StoreSettings
    web: WebSettings = WebSettings()
    limits: Limits = Limits()


def load(path: Path, *, store_files: bool = True) -> Settings:
    """Read and check a configuration, and that the files it names can be read.

    :param store_files: False before `collector init`, which makes the store's secrets.
    :raises ConfigError: for anything that is wrong with it.
    """
    table = with_folder(read_table(path), path.parent.absolute(), {"state": "state", "register": "sites.toml"})
    settings = convert(Settings, table, path)
    check_files({"mqtt": settings.mqtt, "web.login": settings.web.login}, path)
    if store_files:
        check_files({"store": settings.store}, path)
    return settings
