"""The agent's configuration: strict TOML. Every mistake is one message with its path and the fix.

A job's probe has settings of its own; they stand flat among the job's keys. Relative file names are relative to the
configuration file.
"""

import difflib
import stat
import tomllib
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, cast, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from agent.hours import ALWAYS_OPEN, Hours, Span
from agent.probe import Host, NameServer, Need, Port, Settings, Target, Url
from agent.probes import PROBES
from agent.uplinks import UplinkSettings
from agent.wifi.watch import Wifi
from contract import messages
from contract.fields import AgentId, Interface, Slug
from contract.hosts import is_this_machine
from contract.record import NO_TARGET
from contract.record import Target as TargetName

MAX_JOBS: Final = 200
"""As many as a status message may announce."""


_S = TypeVar("_S", bound=Struct)


class ConfigError(ValueError):
    """A configuration that must not be used; the text says where and what to do."""


class Mqtt(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """How to reach the broker. Secrets are in files, never in the configuration itself."""

    host: Host
    port: Port = 8883
    tls: bool = True
    """False only for a broker on this machine."""
    ca_file: str | None = None
    """PEM bundle that signs the broker; None: the system's."""
    cert_file: str | None = None
    key_file: str | None = None
    """Mutual TLS; the key must not be readable by others."""
    password_file: str | None = None
    """First line is the password; the user name is the agent's id."""


class OutboxLimits(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """How much may wait on disk. The compiled-in defaults are ceilings; a configuration only lowers them."""

    max_mib: Annotated[int, Meta(ge=1, le=64)] = 64
    """Used pages of the outbox."""
    max_days: Annotated[int, Meta(ge=1, le=14)] = 14
    hold_s: Annotated[float, Meta(gt=0, le=10)] = 10.0
    """Longest time that a record waits in memory without an acknowledgement before it is committed."""


class Job(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """One probe, again and again. Its records' series is (probe, target, interface, provider, resolver)."""

    probe: Slug
    period_s: Annotated[float, Meta(ge=1, le=86_400)]
    target: TargetName = NO_TARGET
    interface: Interface
    """None in the file takes that of the agent."""
    provider: Slug | None = None
    resolver: Slug | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=120)]
    """Deadline of one run; None in the file takes the probe's own."""
    during: Literal["always", "open"] = "always"
    """`open`: outside the venue's opening hours its slots are `skipped quiet_hours`."""
    settings: Settings = Settings()
    """The probe's own, of its own type."""

    @property
    def identity(self) -> tuple[str, str, str, str, str]:
        return self.probe, self.target, self.interface, self.provider or "", self.resolver or ""

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from every other job: its identity and, for a probe that has modes, the mode."""
        mode = getattr(self.settings, "mode", None)
        return (*self.identity, mode) if mode else self.identity


class Config(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A whole agent."""

    agent: AgentId
    state: str
    """Folder of the outbox and of what has to outlive a restart."""
    version: Annotated[int, Meta(ge=0, le=2**31)] = 0
    """Grows with every change; stamped on every batch."""
    interface: Interface | None = None
    """Of every job that names none."""
    mqtt: Mqtt
    outbox: OutboxLimits = OutboxLimits()
    hours: Hours = ALWAYS_OPEN
    uplinks: dict[Interface, UplinkSettings] = {}
    """By interface."""
    wifi: Wifi = Wifi()
    targets: dict[Slug, Target] = {}
    resolvers: dict[Slug, NameServer] = {}
    jobs: list[Job] = []

    def watched(self) -> list[str]:
        """The Wi-Fi interfaces: those of the jobs that look at a radio."""
        return sorted({job.interface for job in self.jobs if job.probe.startswith("wifi_")})

    def announced(self) -> list[messages.Job]:
        """The jobs as the status message tells them; of two modes in one series the more frequent."""
        rarest_first = sorted(self.jobs, key=lambda job: -job.period_s)
        series = {job.identity: job for job in rarest_first}
        return [
            messages.Job(
                probe=job.probe,
                target=job.target,
                role=self.targets[job.target].role if job.target != NO_TARGET else None,
                interface=job.interface,
                provider=job.provider,
                resolver=job.resolver,
                period_s=job.period_s,
            )
            for job in self.jobs
            if job is series[job.identity]
        ]


def load(path: Path) -> Config:
    """Read and check a file.

    :raises ConfigError: for anything that is wrong with it, or with the files that it names.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text") from error
    try:
        return parse(text, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse(text: str, folder: Path) -> Config:
    """A configuration from its text; file names in it are relative to `folder`.

    :raises ConfigError: with the path of the first mistake.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not TOML: {error}") from error
    _check_keys(table, _names(Config), "")
    targets = {name: make_target(row, f"targets.{name}", folder) for name, row in _tables(table, "targets")}
    resolvers = {name: make_name_server(row, f"resolvers.{name}") for name, row in _tables(table, "resolvers")}
    interface = _value(table["interface"], Interface, "interface") if "interface" in table else None
    rows = table.get("jobs", [])
    if not isinstance(rows, list) or len(rows) > MAX_JOBS:
        raise ConfigError(f"jobs: expected at most {MAX_JOBS} tables; write each as [[jobs]]")
    jobs = [_job(row, f"jobs[{i}]", interface, targets, resolvers, folder) for i, row in enumerate(rows)]
    _check_duplicates(jobs)
    wifi = _struct(Wifi, table.get("wifi", {}), "wifi")
    for i, job in enumerate(jobs):
        check_lead(job, wifi, f"jobs[{i}]")
    uplinks = {
        name: _struct(UplinkSettings, row, f"uplinks.{name}") for name, row in _tables(table, "uplinks", Interface)
    }
    made = {"targets", "resolvers", "jobs", "mqtt", "outbox", "hours", "uplinks", "wifi"}
    rest = {key: value for key, value in table.items() if key not in made}
    if "mqtt" not in table:
        raise ConfigError("mqtt: missing; add [mqtt] with the broker's host")
    config = _struct(
        Config,
        rest
        | {
            "mqtt": _mqtt(table["mqtt"], folder),
            "outbox": _struct(OutboxLimits, table.get("outbox", {}), "outbox"),
            "hours": _struct(Hours, table.get("hours", {}), "hours"),
            "uplinks": uplinks,
            "wifi": wifi,
            "targets": targets,
            "resolvers": resolvers,
            "jobs": jobs,
        },
        "",
    )
    return msgspec.structs.replace(config, state=str(folder / config.state))


def make_target(row: Any, path: str, folder: Path) -> Target:
    """:raises ConfigError: with `path` in front."""
    target = _with_files(_struct(Target, row, path), folder, path)
    try:
        name, _ = target.name, urlsplit(target.url or "").port
    except ValueError as error:
        raise ConfigError(f"{path}.url: {error}") from error
    if not name:
        raise ConfigError(f"{path}: nothing to measure; give it a host or a url")
    return target


def make_name_server(row: Any, path: str) -> NameServer:
    """:raises ConfigError: with `path` in front."""
    server = _struct(NameServer, row, path)
    try:
        ip_address(server.address)
    except ValueError:
        raise ConfigError(f"{path}.address: {server.address!r} is no IP address; a resolver has no name") from None
    return server


def make_job(row: dict[str, Any], path: str, targets: dict[str, Target], resolvers: dict[str, NameServer]) -> Job:
    """One job from its table, `interface` included.

    :raises ConfigError: with `path` in front.
    """
    return _job(row, path, None, targets, resolvers, Path())


def check_lead(job: Job, wifi: Wifi, path: str) -> None:
    """:raises ConfigError: when the job would touch a radio that somebody else leads."""
    if "lead" in PROBES[job.probe].needs and wifi.manager != "wpa":
        raise ConfigError(
            f"{path}: {job.probe} leaves the network and joins it again; allow that with manager = 'wpa' in [wifi], "
            "or remove the job: joins that happen are recorded anyway"
        )


def _job(
    row: Any,
    path: str,
    interface: str | None,
    targets: dict[str, Target],
    resolvers: dict[str, NameServer],
    folder: Path,
) -> Job:
    if not isinstance(row, dict):
        raise ConfigError(f"{path}: expected a table; write [[jobs]]")
    if "probe" not in row:
        raise ConfigError(f"{path}.probe: missing; one of {', '.join(PROBES)}")
    probe = PROBES.get(row["probe"]) if isinstance(row["probe"], str) else None
    if probe is None:
        raise ConfigError(
            f"{path}.probe: no such probe{suggestion(row['probe'], PROBES)}; there are {', '.join(PROBES)}"
        )
    own = _names(probe.settings)
    common = [name for name in _names(Job) if name != "settings"]
    _check_keys(row, [*common, *own], path)
    settings = _struct(probe.settings, {key: value for key, value in row.items() if key in own}, path)
    settings = _with_files(settings, folder, path)
    fields = {key: value for key, value in row.items() if key in common}
    provider = probe.providers[0] if probe.providers else None
    fields = {"interface": interface, "timeout_s": probe.timeout_s, "provider": provider} | fields
    if fields["interface"] is None:
        raise ConfigError(f"{path}.interface: missing; name it here, or once for all jobs at the top of the file")
    job = _struct(Job, fields | {"settings": settings}, path)
    _check_needs(job, probe.needs, path, targets, resolvers)
    if settings.least_period_s() > job.period_s:
        raise ConfigError(
            f"{path}.period_s: {job.period_s:g} is too often for what a run does to others; "
            f"at least {settings.least_period_s():g}"
        )
    if settings.least_s() > job.timeout_s:
        raise ConfigError(
            f"{path}: a run takes {settings.least_s():g} s, longer than timeout_s = {job.timeout_s:g}; "
            "send fewer or raise timeout_s"
        )
    return job


def _check_needs(
    job: Job, needs: frozenset[Need], path: str, targets: dict[str, Target], resolvers: dict[str, NameServer]
) -> None:
    wants_target = "host" in needs or "url" in needs
    if job.target != NO_TARGET and job.target not in targets:
        raise ConfigError(
            f"{path}.target: no such target{suggestion(job.target, targets)}, or add [targets.{job.target}]"
        )
    if wants_target and job.target == NO_TARGET:
        raise ConfigError(f"{path}.target: missing; {job.probe} needs the name of one of [targets]")
    if "url" in needs and targets[job.target].url is None:
        raise ConfigError(f"{path}.target: {job.probe} needs a page; add url to [targets.{job.target}]")
    if "key" in needs and targets[job.target].key_file is None:
        raise ConfigError(f"{path}.target: {job.probe} checks a signature; add key_file to [targets.{job.target}]")
    if job.resolver is not None and job.resolver not in resolvers:
        raise ConfigError(
            f"{path}.resolver: no such resolver{suggestion(job.resolver, resolvers)}, or add [resolvers.{job.resolver}]"
        )
    _check_provider(job, path)
    if "resolver" in needs and job.resolver is None:
        raise ConfigError(f"{path}.resolver: missing; {job.probe} needs the name of one of [resolvers]")


def _check_provider(job: Job, path: str) -> None:
    providers = PROBES[job.probe].providers
    if job.provider not in (providers or (None,)):
        known = f"one of {', '.join(providers)}" if providers else f"{job.probe} has none; remove it"
        raise ConfigError(f"{path}.provider: {job.provider!r} is not known here; {known}")


def _check_duplicates(jobs: list[Job]) -> None:
    first: dict[tuple[str, ...], int] = {}
    for i, job in enumerate(jobs):
        if job.key in first:
            raise ConfigError(
                f"jobs[{i}]: the same job as jobs[{first[job.key]}] (equal probe, target, interface, provider "
                "and resolver): their records would overwrite each other; remove one or give it another target"
            )
        first[job.key] = i


def _mqtt(row: Any, folder: Path) -> Mqtt:
    mqtt = _struct(Mqtt, row, "mqtt")
    if not mqtt.tls and not is_this_machine(mqtt.host):
        raise ConfigError("mqtt.tls: false is only for a broker on this machine; use TLS, or host = '127.0.0.1'")
    if (mqtt.cert_file is None) != (mqtt.key_file is None):
        raise ConfigError("mqtt: cert_file and key_file belong together; give both or none")
    return _with_files(mqtt, folder, "mqtt")


def _with_files(row: _S, folder: Path, path: str) -> _S:
    """`row` with the files that it names (keys in ``_file``) found and checked."""
    found: dict[str, str] = {}
    for name in row.__struct_fields__:
        value = getattr(row, name)
        if name.endswith("_file") and value is not None:
            file = folder / value
            _check_file(file, path, name)
            found[name] = str(file)
    return msgspec.structs.replace(row, **found)


def _check_file(file: Path, path: str, name: str) -> None:
    try:
        mode = file.stat().st_mode
        with file.open("rb"):
            pass
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        fix = "write the password into it" if name == "password_file" else "the bundle of `wanggan fleet enrol` has it"
        raise ConfigError(f"{path}.{name}: {file}: {error.strerror}" + (f"; {fix}" if missing else "")) from error
    if name in ("key_file", "password_file") and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{path}.{name}: {file} can be read by others; run: chmod 600 {file}")


def _struct(kind: type[_S], row: Any, path: str) -> _S:
    """`row` as `kind`, field by field, so that a mistake is named by its path."""
    if not isinstance(row, dict):
        raise ConfigError(f"{path}: expected a table; write [{path}]")
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    _check_keys(row, list(fields), path)
    for name, field in fields.items():
        if field.required and name not in row:
            raise ConfigError(f"{_join(path, name)}: missing{_why(kind, name)}")
    values = {name: _value(value, fields[name].type, _join(path, name)) for name, value in row.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _value(value: Any, kind: Any, path: str) -> Any:
    if isinstance(value, Struct) or (isinstance(value, dict | list) and value and _holds_structs(value)):
        return value  # checked already, where its path was known
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        wanted = next((words for pattern, words in _WORDS.items() if repr(pattern) in str(error)), None)
        if get_origin(kind) is Literal:
            wanted = f"one of {', '.join(get_args(kind))}"
        raise ConfigError(f"{path}: {_expected(str(error), wanted)}, not {value!r}") from error


def _expected(message: str, wanted: str | None) -> str:
    """msgspec's words without its own path; `wanted` in place of a regular expression."""
    reason = message.partition(" - at ")[0].partition(", got ")[0]
    return f"expected {wanted}" if wanted else reason[:1].lower() + reason[1:]


def _pattern(kind: Any) -> str:
    return str(get_args(kind)[1].pattern)


_WORDS: Final = {
    _pattern(AgentId): "3 to 32 of a-z, 0-9 and - ('all' is taken)",
    _pattern(Slug): "a name of a-z, 0-9, dot, - and _",
    _pattern(TargetName): "a name of a-z, 0-9, dot, - and _",
    _pattern(Interface): "an interface name",
    _pattern(Host): "a host name or an address, which never starts with '-'",
    _pattern(Span): "hours like 09:00-17:30",
    _pattern(Url): "an address that starts with http:// or https://",
}
"""What people are told instead of a regular expression."""


def _holds_structs(value: dict[str, Any] | list[Any]) -> bool:
    members = value.values() if isinstance(value, dict) else value
    return all(isinstance(member, Struct) for member in members)


def _tables(table: dict[str, Any], key: str, kind: Any = Slug) -> list[tuple[str, Any]]:
    """The named tables under `key`."""
    rows = table.get(key, {})
    if not isinstance(rows, dict):
        raise ConfigError(f"{key}: expected tables; write [{key}.NAME]")
    for name in rows:
        _value(name, kind, f"{key}.{name}")
    return list(rows.items())


def _check_keys(row: dict[str, Any], known: list[str], path: str) -> None:
    for key in row:
        if key not in known:
            hint = suggestion(key, known) or f"; known keys: {', '.join(known)}"
            raise ConfigError(f"{_join(path, key)}: unknown key{hint}")


def suggestion(word: Any, known: Any) -> str:
    """The nearest of `known`, as words behind a mistake; empty where none is near."""
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _why(kind: type[Struct], name: str) -> str:
    """What to write where a key is missing."""
    fixes = {
        (Target, "role"): "; say what it stands for on the path: gateway, core, internet or service",
        (Config, "agent"): "; the agent's id, which is its MQTT user name",
        (Config, "state"): "; the folder that keeps the outbox",
    }
    return cast(dict[tuple[type[Struct], str], str], fixes).get((kind, name), f"; add {name} = ...")


def _names(kind: type[Struct]) -> list[str]:
    return list(kind.__struct_fields__)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
