"""Strict TOML files that people write: every mistake is one line with its path and the fix."""

import difflib
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

SECRETS: Final = (".key_file", ".password_file", ".token_file")
"""Files that nobody but their owner may read."""

FIXES: Final = {
    "mqtt.ca_file": "`wanggan fleet init` makes it, in the authority's folder of this server",
    "mqtt.cert_file": "`wanggan fleet init` makes it, in the authority's folder of this server",
    "mqtt.key_file": "`wanggan fleet init` makes it, in the authority's folder of this server",
    "mqtt.password_file": "write the password into its first line",
    "web.login.password_file": "write the password into its first line",
    "store.password_file": "write the password into its first line, or let `wanggan collector init` make it",
    "store.token_file": "write the token into its first line, or let `wanggan collector init` make it",
}
"""How a file comes to be that is not there, by its place in a configuration."""

_T = TypeVar("_T", bound=BaseModel)


class ConfigError(ValueError):
    """A file that must not be used; each line of the text says where and what to do."""


class Table(BaseModel):
    """A TOML table that takes no unknown key and no wrong type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


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
    with explain(kind, path):
        return kind.model_validate(table)


@contextmanager
def explain(kind: type[BaseModel], path: Path) -> Iterator[None]:
    """What is wrong with the `kind` in the file `path`, in words.

    :raises ConfigError: one line for each mistake.
    """
    try:
        yield
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
            return f"{where}: missing; add {mistake['loc'][-1]}"
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


def with_folder(table: dict[str, Any], folder: Path, defaults: dict[str, str]) -> dict[str, Any]:
    """`table` over `defaults`, with the file names in it absolute: those of `defaults`, `path`, `..._file` and
    `..._folder`."""

    def absolute(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: absolute(name, inner) for name, inner in value.items()}
        names_file = key == "path" or key in defaults or key.endswith(("_file", "_folder"))
        return str(folder / value) if names_file and isinstance(value, str) else value

    return {key: absolute(key, value) for key, value in (defaults | table).items()}


def check_files(tables: dict[str, BaseModel | None], path: Path) -> None:
    """That each `..._file` named in `tables` (by their place in the file `path`) can be read, secrets by us alone.

    :raises ConfigError: for the first that cannot.
    """
    for name, table in tables.items():
        for key, file in table or ():
            if key.endswith("_file") and file is not None:
                _check_file(file, path, f"{name}.{key}")


def _check_file(file: Path, path: Path, name: str) -> None:
    try:
        mode = file.stat().st_mode
        with file.open("rb"):
            pass
    except OSError as error:
        fix = f"; {FIXES[name]}" if isinstance(error, FileNotFoundError) and name in FIXES else ""
        raise ConfigError(f"{path}: {name}: {file}: {error.strerror}{fix}") from error
    if name.endswith(SECRETS) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{path}: {name}: {file} can be read by others; run: chmod 600 {file}")
