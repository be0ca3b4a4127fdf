"""What a site box needs to be an agent, in one file: configuration, certificate, keys. It is a secret itself."""

import io
import json
import secrets
import tarfile
import tomllib
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from string import Template
from typing import Any, Final, NamedTuple

from collector.enrolment.authority import Authority, write
from collector.enrolment.settings import FleetSettings
from contract import portal_check
from store.register import Site, Venue
from store.tables import ConfigError

OWN_KEYS: Final = ("agent", "state", "version", "interface", "mqtt", "hours")
"""Of the agent's configuration: enrolment writes them, a file of jobs does not."""
KEY_BYTES: Final = 24


Check = Callable[[Mapping[str, bytes]], None]
"""Takes the files of a bundle, its certificate not made yet; raises ConfigError when an agent would not take them."""


class Enrolment(NamedTuple):
    """Who is enrolled, and where it stands."""

    site: Site
    venue: Venue
    timezone: str
    values: Mapping[str, str]
    """What stands for ``${name}`` in the file of jobs."""


def make(settings: FleetSettings, authority: Authority, who: Enrolment, check: Check, now: datetime) -> bytes:
    """The bundle of a site's agent (tar), with a new certificate. The ledger and the reflector's keys know it then.

    :raises ConfigError: when a file of the settings cannot be used; no certificate has been made then.
    """
    text = configuration(settings, who, _jobs(settings, who.site.network, who.values))
    files: dict[str, bytes] = {"agent.toml": text.encode(), "ca.pem": authority.ca_pem}
    if settings.reflector.portal_key_file is not None:
        path = settings.reflector.portal_key_file
        if not path.exists():
            raise ConfigError(
                f"reflector.portal_key_file: {path}: no such file; take the reflector's, or make it for both: "
                f"{portal_check.MAKE_KEY.format(path)}"
            )
        files["portal.key"] = _read(path)
    if settings.reflector.keys_file is not None:
        files["reflector.key"] = _reflector_key(settings.reflector.keys_file, who.site.agent).encode() + b"\n"
    check(files | {"agent.pem": b"", "agent.key": b""})
    made = authority.issue(who.site.agent, "agent", now)
    return pack(files | {"agent.pem": made.certificate, "agent.key": made.key}, now)


def pack(files: Mapping[str, bytes], now: datetime) -> bytes:
    """Files as a tar whose bytes depend on nothing but them and the time."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(data), 0o600, int(now.timestamp())
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def configuration(settings: FleetSettings, who: Enrolment, jobs: str) -> str:
    """The agent's configuration: whom it reports to, its venue's hours, then its jobs."""
    broker, site, venue = settings.broker, who.site, who.venue
    lines = [
        f"# {site.agent} at {site.venue}. Made by `wanggan fleet enrol`; file names are relative to this file.",
        f"agent = {_quoted(site.agent)}",
        f"state = {_quoted(settings.state)}",
        "version = 1",
        f"interface = {_quoted(site.interface)}",
        "",
        "[mqtt]",
        f"host = {_quoted(broker.host)}",
        f"port = {broker.port}",
        'ca_file = "ca.pem"',
        'cert_file = "agent.pem"',
        'key_file = "agent.key"',
        "",
    ]
    hours: list[tuple[str, Mapping[Any, list[str]]]] = [("open", venue.open), ("busy", venue.busy)]
    if venue.open or venue.busy:
        lines += ["[hours]", f"timezone = {_quoted(who.timezone)}", ""]
    for name, days in hours:
        if days:
            lines += [f"[hours.{name}]", *(f"{day} = {json.dumps(spans)}" for day, spans in days.items()), ""]
    return "\n".join(lines) + "\n" + jobs


def _jobs(settings: FleetSettings, network: str, values: Mapping[str, str]) -> str:
    path = next((file for name, file in settings.jobs.items() if name == network), None)
    if path is None:
        raise ConfigError(f"jobs.{network}: missing; name a file with the jobs of agents on that network")
    template = Template(_read(path).decode(errors="replace"))
    missing = sorted(set(template.get_identifiers()) - set(values))
    if missing:
        wanted = " ".join(f"--set {name}=..." for name in missing)
        raise ConfigError(f"{path}: ${{{missing[0]}}} has no value; add {wanted}")
    try:
        text = template.substitute(values)
        table = tomllib.loads(text)
    except (ValueError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    for key in OWN_KEYS:
        if key in table:
            raise ConfigError(f"{path}: {key}: remove it; enrolment writes it")
    return text


def _reflector_key(path: Path, agent: str) -> str:
    """The agent's key in the reflector's file; a new one where it has none."""
    try:
        keys: dict[str, list[str]] = tomllib.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"reflector.keys_file: {path}: {error}") from error
    if agent not in keys:
        keys[agent] = [secrets.token_urlsafe(KEY_BYTES)]
        text = "".join(f"{name} = {json.dumps(own)}\n" for name, own in sorted(keys.items()))
        write(path, text.encode())
    return keys[agent][0]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def _quoted(text: str) -> str:
    """A TOML string."""
    return json.dumps(text, ensure_ascii=False)
