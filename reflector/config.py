"""The reflector's configuration: strict TOML. Every mistake is one message with its path and the fix.

Relative file names are relative to the configuration file.
"""

import stat
import tomllib
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from contract import portal_check
from contract.fields import AgentId
from contract.throughput import MAX_BYTES, MAX_DURATION_S, MAX_STREAMS, PORT
from reflector.admission import Limits

MIN_KEY_BYTES: Final = 16
MAX_PORT: Final = 65535

Port = Annotated[int, Meta(ge=1, le=MAX_PORT)]
AnyPort = Annotated[int, Meta(ge=0, le=MAX_PORT)]
Rate = Annotated[float, Meta(gt=0, le=1_000_000)]


class ConfigError(ValueError):
    """A configuration that must not be used; the text says where and what to do."""


class LimitsTable(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """What this reflector gives at most; see :class:`reflector.admission.Limits`."""

    capacity_mbps: Rate = 1000.0
    per_test_mbps: Rate = 300.0
    duration_s: Annotated[float, Meta(ge=1, le=MAX_DURATION_S)] = MAX_DURATION_S
    byte_cap: Annotated[int, Meta(ge=1, le=MAX_BYTES)] = MAX_BYTES
    streams: Annotated[int, Meta(ge=1, le=MAX_STREAMS)] = MAX_STREAMS
    pause_s: Annotated[float, Meta(ge=0, le=3600)] = 60.0
    bytes_per_day: Annotated[int, Meta(ge=0)] = 20_000_000_000
    connections: Annotated[int, Meta(ge=1, le=10_000)] = 64
    public_slots: Annotated[int, Meta(ge=0, le=100)] = 0
    stamp_packets_per_s: Annotated[int, Meta(ge=1, le=100_000)] = 200
    """From one source address, with bursts of twice as many; what is above is dropped and counted."""


class Config(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A whole reflector."""

    listen: str = "127.0.0.1"
    """Address; ``::`` and ``0.0.0.0`` are all of this machine's."""
    port: AnyPort = PORT
    """Throughput (TCP) and STAMP (UDP); 0 is any free one."""
    http_port: AnyPort | None = None
    """None: the one after `port`."""
    portal_port: Port | None = None
    """The portal check alone, usually 80; None: only on the HTTP port."""
    stamp_port: Port | None = None
    """STAMP a second time, usually 862, where routers and other people's senders look for it."""
    portal_key_file: str | None = None
    """First line signs the portal check; without it the 204 is unsigned."""
    keys_file: str | None = None
    """Keys of the agents: a TOML table ``agent-id = ["key"]``, with two keys while one replaces the other."""
    open: bool = False
    """Serve anyone without a token: a laboratory."""
    limits: LimitsTable = LimitsTable()

    def admission_limits(self) -> Limits:
        own = {name: getattr(self.limits, name) for name in Limits.__struct_fields__}
        if self.open:
            own["public_slots"] = max(1, self.limits.public_slots)
        return Limits(**own)


Keys = dict[AgentId, Annotated[list[Annotated[str, Meta(min_length=MIN_KEY_BYTES, max_length=200)]], Meta(min_length=1, max_length=2)]]  # noqa: E501 # fmt: skip


def load(path: Path) -> Config:
    """Read and check a file, and the files that it names.

    :raises ConfigError: for anything that is wrong.
    """
    text = _read(path)
    try:
        config = check(msgspec.convert(tomllib.loads(text), Config))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_said(error)}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    files = {name: str(path.parent / value) for name in ("portal_key_file", "keys_file") if (value := getattr(config, name))}  # noqa: E501 # fmt: skip
    config = msgspec.structs.replace(config, **files)
    keys(config)
    portal_key(config)
    return config


def check(config: Config) -> Config:
    """`config`, when its parts fit together.

    :raises ConfigError: when they do not.
    """
    try:
        address = ip_address(config.listen)
    except ValueError:
        raise ConfigError(f"listen: {config.listen!r} is not an IP address") from None
    if config.http_port is None and config.port == MAX_PORT:
        raise ConfigError(f"port: there is none after {MAX_PORT} for HTTP; take a lower one, or give http_port")
    if config.limits.per_test_mbps > config.limits.capacity_mbps:
        raise ConfigError("limits.per_test_mbps: more than capacity_mbps; one test cannot get what is not there")
    if config.keys_file is None and not config.open and not address.is_loopback:
        raise ConfigError(
            f"listen: {config.listen} can be reached from other machines, and no token would be asked for; "
            "give keys_file, or set open (--open) if that is meant"
        )
    return config


def keys(config: Config) -> dict[str, tuple[bytes, ...]] | None:
    """The agents' keys; None where no token is asked for (open, or the loopback alone without a keys file).

    :raises ConfigError: when the file cannot be used.
    """
    if config.open or config.keys_file is None:
        return None
    text = _read_secret(
        Path(config.keys_file), "keys_file", "install -m 600 /dev/null {}; `wanggan fleet enrol` fills it"
    )
    try:
        table = msgspec.convert(tomllib.loads(text), Keys)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"keys_file: {config.keys_file}: not TOML: {error}") from error
    except msgspec.ValidationError as error:
        # The message never repeats the value.
        raise ConfigError(
            f'keys_file: {config.keys_file}: {_said(error)}; write agent-id = ["a key of 16 or more characters"]'
        ) from error
    return {agent: tuple(key.encode() for key in found) for agent, found in table.items()}


def portal_key(config: Config) -> bytes | None:
    """:raises ConfigError: when the file cannot be used."""
    if config.portal_key_file is None:
        return None
    file = Path(config.portal_key_file)
    first = _read_secret(file, "portal_key_file", portal_check.MAKE_KEY).partition("\n")[0].strip()
    if len(first) < MIN_KEY_BYTES:
        raise ConfigError(
            f"portal_key_file: {config.portal_key_file}: its first line has under {MIN_KEY_BYTES} characters"
        )
    return first.encode()


def _read_secret(file: Path, name: str, command: str) -> str:
    """:raises ConfigError: with the `command` that makes the file, when there is none."""
    if not file.exists():
        raise ConfigError(f"{name}: {file}: no such file; make it: {command.format(file)}")
    text = _read(file, name)
    if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{name}: {file} can be read by others; run: chmod 600 {file}")
    return text


def _read(file: Path, name: str = "") -> str:
    where = f"{name}: {file}" if name else str(file)
    try:
        return file.read_text()
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: not UTF-8 text") from error


def _said(error: msgspec.ValidationError) -> str:
    """msgspec's words, the path first."""
    reason, _, path = str(error).partition(" - at `$")
    where = path.strip("`").lstrip(".")
    if "unknown field" in reason:
        known = ", ".join(LimitsTable.__struct_fields__ if where == "limits" else Config.__struct_fields__)
        reason = f"{reason.replace('Object contains ', '')}; known keys: {known}"
    return f"{where}: {reason[:1].lower()}{reason[1:]}" if where else reason[:1].lower() + reason[1:]
