"""The collector's configuration: strict TOML. Every mistake is one line with its path and the fix.

Relative file names are relative to the configuration file.
"""

import difflib
import ipaddress
import stat
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from contract.hosts import is_this_machine
from store.settings import StoreSettings

Port = Annotated[int, Field(ge=1, le=65535)]
File = Annotated[Path, Field(strict=False)]


class ConfigError(ValueError):
    """A file that must not be used; each line of the text says where and what to do."""


class Table(BaseModel):
    """A TOML table that takes no unknown key and no wrong type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


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


SECRETS: Final = ("key_file", "password_file", "token_file")
"""Files that nobody but their owner may read."""

_T = TypeVar("_T", bound=BaseModel)


def load(path: Path) -> Settings:
    """Read and check a configuration, and that the files it names can be read.

    :raises ConfigError: for anything that is wrong with it.
    """
    table = read_table(path)
    settings = convert(Settings, _with_folder(table, path.parent.absolute()), path)
    _check_files(settings, path)
    return settings


def read_table(path: Path) -> dict[str, Any]:
    """A TOML file as it stands.

    :raises ConfigError: when it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def convert(kind: type[_T], table: dict[str, Any], path: Path) -> _T:
    """`table` as `kind`.

    :raises ConfigError: one line for each mistake.
    """
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        lines = dict.fromkeys(f"{path}: {_explained(mistake, kind)}" for mistake in error.errors())
        raise ConfigError("\n".join(lines)) from None


def _explained(mistake: Any, kind: type[BaseModel]) -> str:
    """One line about one mistake: its path, what is wrong, what to write instead."""
    where = ""
    for step in mistake["loc"]:
        if isinstance(step, int):
            where += f"[{step}]"
        elif step not in ("sqlite", "influx"):  # the branch of `store` is no key of the file
            where += f".{step}" if where else str(step)
    where = where or "the file"
    message = str(mistake["msg"]).removeprefix("Value error, ")
    match mistake["type"]:
        case "extra_forbidden":
            close = difflib.get_close_matches(str(mistake["loc"][-1]), _names(kind), n=1)
            return f"{where}: unknown key" + (f"; did you mean {close[0]}?" if close else "; remove it")
        case "missing":
            return f"{where}: missing; add {mistake['loc'][-1]} = ..."
        case "union_tag_not_found":
            return f"{where}.engine: missing; add engine = 'sqlite' or 'influx'"
        case "union_tag_invalid":
            return f"{where}.engine: no such engine; one of 'sqlite', 'influx'"
        case "value_error":
            return f"{where}: {message}"
    return f"{where}: {message[:1].lower()}{message[1:]}, not {str(mistake['input'])[:80]!r}"


def _names(kind: Any, seen: set[Any] | None = None) -> list[str]:
    """Every key that stands in `kind` or in a table below it, for suggestions."""
    seen = set() if seen is None else seen
    names: list[str] = []
    if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in seen:
        seen.add(kind)
        for name, field in kind.model_fields.items():
            names += [field.alias or name, *_names(field.annotation, seen)]
    for part in getattr(kind, "__args__", ()):
        names += _names(part, seen)
    return names


def _with_folder(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """File names in `table`, absolute; `state` and `register` where they are missing, too."""

    def absolute(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: absolute(name, inner) for name, inner in value.items()}
        names_file = key in ("path", "state", "register") or key.endswith("_file")
        return str(folder / value) if names_file and isinstance(value, str) else value

    defaults = {"state": "state", "register": "sites.toml"}
    return {key: absolute(key, value) for key, value in (defaults | table).items()}


def _check_files(settings: Settings, path: Path) -> None:
    tables: dict[str, BaseModel | None] = {
        "mqtt": settings.mqtt,
        "store": settings.store,
        "web.login": settings.web.login,
    }
    for name, table in tables.items():
        for key, file in table or ():
            if key.endswith("_file") and file is not None:
                _check_file(file, f"{path}: {name}.{key}", secret=key in SECRETS)


def _check_file(file: Path, where: str, *, secret: bool) -> None:
    try:
        mode = file.stat().st_mode
        with file.open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"{where}: {file}: {error.strerror}") from error
    if secret and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{where}: {file} can be read by others; run: chmod 600 {file}")
