"""A bundle of `wanggan fleet enrol`: configuration, certificate and keys of one agent in one file (tar).

It comes by hand, on a stick or by scp: it is taken only when it is whole and a sound configuration; nothing of an
earlier one is touched otherwise.
"""

import os
import pwd
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from agent import config
from agent.config import Config, ConfigError

CONFIG: Final = "agent.toml"
USER: Final = "wanggan"
"""Whom the services run as; the files become its own where there is such a user."""
MAX_BYTES: Final = 2**20
_FILES: Final = frozenset({CONFIG, "ca.pem", "agent.pem", "agent.key", "reflector.key", "portal.key"})


def install(bundle: Path, folder: Path) -> Config:
    """Unpack `bundle` into `folder`, readable by its owner alone; the configuration that holds now.

    :raises ConfigError: when the bundle cannot be used; `folder` is as it was then.
    """
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".bundle-", dir=folder))
    try:
        names = _unpack(bundle, staging)
        config.load(staging / CONFIG)
        # The configuration last: it names the others.
        for name in sorted(names, key=lambda name: name == CONFIG):
            (staging / name).replace(folder / name)
    except ConfigError as error:
        raise ConfigError(str(error).replace(f"{staging}/", f"{bundle}: ")) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return config.load(folder / CONFIG)


def _unpack(bundle: Path, folder: Path) -> list[str]:
    owner = _owner()
    names: list[str] = []
    left = MAX_BYTES
    try:
        with tarfile.open(bundle, "r:") as tar:
            for entry in tar:
                left -= entry.size
                known = entry.name in _FILES and entry.name not in names
                if not entry.isreg() or not known or left < 0:
                    raise ConfigError(f"{bundle}: {entry.name!r} does not belong into a bundle; enrol the agent again")
                content = tar.extractfile(entry)
                assert content is not None  # a regular file
                with os.fdopen(os.open(folder / entry.name, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                    file.write(content.read())
                    if owner is not None:
                        os.fchown(file.fileno(), *owner)
                    os.fsync(file.fileno())
                names.append(entry.name)
    except tarfile.TarError as error:
        raise ConfigError(f"{bundle}: no bundle: {error}") from error
    except OSError as error:
        raise ConfigError(f"{bundle}: {error.strerror}") from error
    if CONFIG not in names:
        raise ConfigError(f"{bundle}: no bundle: {CONFIG} is missing")
    return names


def _owner() -> tuple[int, int] | None:
    """User and group of the services; None where we may not give files away, or there is no such user."""
    if os.geteuid() != 0:
        return None
    try:
        found = pwd.getpwnam(USER)
    except KeyError:
        return None
    return found.pw_uid, found.pw_gid
