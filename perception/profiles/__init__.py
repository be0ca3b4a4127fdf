"""Scoring profiles: the files here, and their strict reader.

A file's hash is the SHA-256 of what it says (sorted keys, no spaces, UTF-8 JSON), so comments and layout do not change
it, and every number does.
"""

import hashlib
import json
from collections.abc import Hashable
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml

from perception.scoring.profile import Profile
from store.tables import ConfigError, explain

_FOLDER: Final = resources.files("perception.profiles")
DEFAULTS: Final = {"wifi": "wifi-public-2026", "gov": "gov-node-2026"}
"""The profile of a network's venues when nobody names another."""


class _Loader(yaml.SafeLoader):
    """Plain data only, no key twice (YAML itself would silently keep the last), and no aliases: a few lines of them
    make gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(None, None, "aliases are not taken", self.get_mark())
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def names() -> list[str]:
    """The profiles that come with Wanggan."""
    return sorted(file.name.removesuffix(".yaml") for file in _FOLDER.iterdir() if file.name.endswith(".yaml"))


def named(profile_id: str) -> Profile:
    """One of them.

    :raises ConfigError: when there is none of that name.
    """
    if profile_id not in names():
        raise ConfigError(f"profile: no such profile {profile_id!r}; one of {', '.join(names())}")
    return parse((_FOLDER / f"{profile_id}.yaml").read_text(encoding="utf-8"), Path(f"{profile_id}.yaml"))


def load(path: Path) -> Profile:
    """A profile from a file of one's own.

    :raises ConfigError: one line for each mistake, with its path and the fix.
    """
    try:
        return parse(path.read_text(encoding="utf-8"), path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text") from error


def parse(text: str, path: Path) -> Profile:
    """A profile from its text; `path` is for messages.

    :raises ConfigError: one line for each mistake, with its path and the fix.
    """
    try:
        table = yaml.load(text, _Loader)  # noqa: S506  a SafeLoader, strict about keys
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: not a table; begin with `profile: {{id: ...}}`")
    with explain(Profile, path):
        return Profile.of(table, _sha256(table, path))


def _sha256(table: dict[str, Any], path: Path) -> str:
    try:
        text = json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: holds what JSON cannot ({error}); quote dates, and write infinity as inf") from None
    return hashlib.sha256(text.encode()).hexdigest()
