"""`wanggan fleet init | enrol | revoke | list | show | import`: who belongs to the fleet, and who may connect."""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from collector.enrolment import settings as fleet
from collector.enrolment.authority import RESERVED, SERVERS, Authority, Certificate, utc_now, write
from collector.enrolment.bundle import Enrolment, make
from contract.fields import CERT_ALARM_DAYS
from store.register import Site, Sites, checked, read_sites
from store.tables import ConfigError

SUCCESS: Final = 0
FAILED: Final = 1
USAGE: Final = 2
DEFAULT_CONFIG: Final = Path("/etc/wanggan/fleet.toml")


def main(argv: Sequence[str]) -> int:
    """Run one command; 0 success, 1 nothing found to do, 2 usage or configuration error."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return USAGE
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return FAILED
    return code


def _init(arguments: argparse.Namespace) -> int:
    """The authority, and what broker, collector and perception need; what is good for long is left alone."""
    settings = fleet.load(arguments.config)
    now = utc_now()
    authority = Authority.create(settings.authority, now)
    hosts = [settings.broker.host, *settings.broker.names]
    for name in ("broker", *SERVERS):
        if arguments.again or _days_left(authority, name, now) < CERT_ALARM_DAYS:
            is_broker = name == "broker"
            folder = authority.write_server(name, "broker" if is_broker else "server", now, hosts if is_broker else ())
            print(f"{folder}: certificate, key and CA for the {name}", file=sys.stderr)
    authority.write_revocations(now)
    print(f"authority: ready in {settings.authority}; keep ca.key away from everybody, and a copy of it offline")
    return SUCCESS


def _enrol(arguments: argparse.Namespace) -> int:
    settings = fleet.load(arguments.config)
    authority = Authority(settings.authority)
    now = utc_now()
    sites = _sites(settings)
    site = _standing(sites, arguments.agent, now)
    if site is None:
        raise ConfigError(
            f"{settings.register_file}: agent {arguments.agent!r} has no site now; add [[sites]] with its interface, "
            "venue and network"
        )
    if site.agent in RESERVED:
        raise ConfigError(f"{settings.register_file}: {site.agent!r} is the name of a server; call the agent otherwise")
    if not arguments.renew and _days_left(authority, site.agent, now) > 0:
        raise ConfigError(f"{site.agent}: has a certificate already; --renew makes another, revoke ends the old one")
    who = Enrolment(site, sites.venues[site.venue], sites.timezone, dict(arguments.set))
    data = make(settings, authority, who, _check, now)
    out = arguments.out / f"{site.agent}.tar"
    arguments.out.mkdir(parents=True, exist_ok=True)
    write(out, data, keep_owner=False)
    if settings.reflector.keys_file is not None:
        fix = "the reflector takes them at: systemctl reload wanggan-reflector (a container: restart it)"
        print(f"{settings.reflector.keys_file}: {fix}", file=sys.stderr)
    print(f"on the box, as root: wanggan agent install {out.name} --start", file=sys.stderr)
    print(json.dumps({"agent": site.agent, "bundle": str(out)}) if arguments.json else out)
    return SUCCESS


def _revoke(arguments: argparse.Namespace) -> int:
    settings = fleet.load(arguments.config)
    authority = Authority(settings.authority)
    revoked = authority.revoke(arguments.agent, utc_now())
    if not revoked:
        print(f"{arguments.agent}: has no certificate that is not revoked already", file=sys.stderr)
        return FAILED
    print(f"{arguments.agent}: {len(revoked)} certificates revoked")
    print(
        f"give the broker {authority.folder / 'broker/crl.pem'} and restart it: a reload refuses new connections, only "
        "a restart ends one that is open",
        file=sys.stderr,
    )
    return SUCCESS


def _list(arguments: argparse.Namespace) -> int:
    members = _members(fleet.load(arguments.config), utc_now())
    if arguments.json:
        print(json.dumps([member.as_json() for member in members], ensure_ascii=False))
        return SUCCESS
    width = max((len(member.name) for member in members), default=0)
    for member in members:
        days = "" if member.days_left is None else f"{member.days_left:6.0f} days"
        print(f"{member.name:<{width}}  {member.state:<13} {days:<11}  {member.place}")
    return SUCCESS


def _show(arguments: argparse.Namespace) -> int:
    settings = fleet.load(arguments.config)
    now = utc_now()
    found = [member for member in _members(settings, now) if member.name == arguments.agent]
    if not found:
        print(f"{arguments.agent}: neither registered nor enrolled", file=sys.stderr)
        return FAILED
    member = found[0]
    if arguments.json:
        print(json.dumps(member.as_json(), ensure_ascii=False))
        return SUCCESS
    print(f"{member.name}: {member.state}")
    for site in member.sites:
        until = "" if site.to is None else f" to {site.to:%Y-%m-%d}"
        print(f"  {site.interface} at {site.venue} ({site.network}) from {site.from_:%Y-%m-%d}{until}")
    for one in member.certificates:
        end = f"revoked {one.revoked_at:%Y-%m-%d}" if one.revoked_at else f"until {one.expires_at:%Y-%m-%d}"
        print(f"  certificate {one.serial}: issued {one.issued_at:%Y-%m-%d}, {end}")
    return SUCCESS


def _import(arguments: argparse.Namespace) -> int:
    """A spreadsheet as the site register; nothing is written while a row is wrong."""
    from collector.enrolment import sheet

    found = sheet.read(arguments.sheet, arguments.timezone)
    if arguments.out.exists() and not arguments.replace:
        raise ConfigError(f"{arguments.out}: is there already; --replace overwrites it")
    write(arguments.out, sheet.as_toml(found).encode(), 0o644)
    print(f"{arguments.out}: {len(found.venues)} venues, {len(found.sites)} sites")
    return SUCCESS


class Member(NamedTuple):
    """An agent or server, as the register and the ledger know it."""

    name: str
    state: str
    """`enrolled`, `expiring` (60 days or less), `expired`, `revoked`, `not enrolled`, `unregistered` (a certificate
    without a site), `server`."""
    days_left: float | None
    """Of its longest certificate; None without one."""
    sites: list[Site]
    certificates: list[Certificate]

    @property
    def place(self) -> str:
        return ", ".join(f"{site.venue} ({site.interface})" for site in self.sites if site.to is None)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "name": self.name,
            "state": self.state,
            "days_left": None if self.days_left is None else round(self.days_left, 1),
            "sites": [site.model_dump(mode="json", by_alias=True, exclude_none=True) for site in self.sites],
            "certificates": [
                {
                    "serial": one.serial,
                    "issued_at": one.issued_at.isoformat(),
                    "expires_at": one.expires_at.isoformat(),
                    "revoked_at": one.revoked_at and one.revoked_at.isoformat(),
                }
                for one in self.certificates
            ],
        }


def _members(settings: fleet.FleetSettings, now: datetime) -> list[Member]:
    """Servers first, then every agent of the register or the ledger, by name."""
    sites: dict[str, list[Site]] = {}
    for site in _sites(settings).sites:
        sites.setdefault(site.agent, []).append(site)
    certificates: dict[str, list[Certificate]] = {}
    if (settings.authority / "ca.key").exists():
        for one in Authority(settings.authority).certificates():
            certificates.setdefault(one.name, []).append(one)
    names = sorted({*sites, *certificates}, key=lambda name: (name not in RESERVED, name))
    return [_member(name, sites.get(name, []), certificates.get(name, []), now) for name in names]


def _member(name: str, sites: list[Site], certificates: list[Certificate], now: datetime) -> Member:
    good = [one.days_left(now) for one in certificates if one.revoked_at is None]
    days_left = max(good, default=None)
    if days_left is None:
        state = "revoked" if certificates else "not enrolled"
    elif days_left <= 0:
        state = "expired"
    elif days_left <= CERT_ALARM_DAYS:
        state = "expiring"
    elif name in RESERVED:
        state = "server"
    else:
        state = "enrolled" if sites else "unregistered"
    return Member(name, state, days_left, sites, certificates)


def _days_left(authority: Authority, name: str, now: datetime) -> float:
    """Of the longest certificate that is not revoked; 0 where there is none."""
    good = [one.days_left(now) for one in authority.certificates() if one.name == name and one.revoked_at is None]
    return max(good, default=0.0)


def _sites(settings: fleet.FleetSettings) -> Sites:
    path = settings.register_file
    sites = read_sites(path)
    checked(sites, path)
    return sites


def _standing(sites: Sites, agent: str, now: datetime) -> Site | None:
    """Where the agent stands now, or is to stand next; on Wi-Fi where it has several interfaces."""
    own = [site for site in sites.sites if site.agent == agent and (site.to is None or _aware(site.to) > now)]
    return min(own, key=lambda site: (_aware(site.from_) > now, site.network != "wifi"), default=None)


def _aware(at: datetime) -> datetime:
    """A day of the register, near enough to tell past from future."""
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _check(files: Mapping[str, bytes]) -> None:
    """Whether the agent would take the configuration."""
    from agent import config

    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            write(Path(folder) / name, data)
        try:
            config.load(Path(folder) / "agent.toml")
        except config.ConfigError as error:
            raise ConfigError(f"the agent would refuse it: {str(error).removeprefix(folder).lstrip('/')}") from None


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wanggan fleet", description="Who belongs to the fleet, and who may connect.", allow_abbrev=False
    )
    words = parser.add_subparsers(required=True, metavar="COMMAND")

    def word(name: str, run: Any, text: str, *, agent: bool = False, as_json: bool = True) -> argparse.ArgumentParser:
        sub = words.add_parser(name, help=text, allow_abbrev=False)
        if agent:
            sub.add_argument("agent", metavar="AGENT")
        sub.add_argument("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=f"({DEFAULT_CONFIG})")
        if as_json:
            sub.add_argument("--json", action="store_true", help="one JSON document on standard output")
        sub.set_defaults(run=run)
        return sub

    word("list", _list, "every agent: its site, and how long its certificate is good")
    word("show", _show, "one agent: its sites and its certificates", agent=True)
    init = word("init", _init, "make the certificate authority, and certificates of the servers", as_json=False)
    init.add_argument("--again", action="store_true", help="new certificates also for servers that have good ones")
    enrol = word("enrol", _enrol, "make a registered agent's key, certificate and bundle", agent=True)
    enrol.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where the bundle goes (here)")
    enrol.add_argument("--renew", action="store_true", help="also where it has a good certificate")
    enrol.add_argument(
        "--set", type=_assignment, action="append", default=[], metavar="NAME=VALUE", help="for ${NAME} in its jobs"
    )
    word("revoke", _revoke, "let an agent connect no more", agent=True, as_json=False)
    sheet = words.add_parser("import", help="make the site register from a spreadsheet", allow_abbrev=False)
    sheet.add_argument("sheet", type=Path, metavar="FILE", help="XLSX or CSV, one row a site")
    sheet.add_argument("--out", type=Path, required=True, metavar="FILE", help="the register (sites.toml)")
    sheet.add_argument("--timezone", default="Asia/Shanghai", metavar="ZONE", help="(Asia/Shanghai)")
    sheet.add_argument("--replace", action="store_true", help="also when the register is there")
    sheet.set_defaults(run=_import)
    return parser
