"""`wanggan collector run|check-config|init|dead-letters`."""

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from collector.config import Settings, load
from store.interface import StoreError, StoreMisconfigured
from store.tables import ConfigError

if TYPE_CHECKING:
    from store.settings import InfluxSettings

SUCCESS: Final = 0
FAILED: Final = 1
USAGE: Final = 2


def main(argv: Sequence[str]) -> int:
    """Run one command; 0 success, 1 a failed write, 2 usage or configuration error."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        settings = load(arguments.config, store_files=arguments.run is not _init)
        code: int = arguments.run(settings, arguments)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return USAGE
    return code


def _run(settings: Settings, arguments: argparse.Namespace) -> int:
    from collector.main import run

    try:
        asyncio.run(run(settings))
    except StoreMisconfigured as error:
        raise ConfigError(f"{arguments.config}: {error}") from error
    except BaseExceptionGroup as group:
        return _told(group, arguments)
    return SUCCESS


def _told(group: BaseExceptionGroup[BaseException], arguments: argparse.Namespace) -> int:
    """A mistake of the configuration that showed only in running, in one line; anything else with its trace."""
    from collector.web.login import LoginError

    configured, other = group.split((ConfigError, LoginError, OSError))
    if other is not None or configured is None:
        raise group
    for error in _leaves(configured):
        print(f"{arguments.config}: {error.strerror if isinstance(error, OSError) else error}", file=sys.stderr)
    return USAGE


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves


def _check(settings: Settings, arguments: argparse.Namespace) -> int:
    from store.register import read

    roll = read(settings.sites)
    print(f"{arguments.config}: ok")
    print(f"{settings.sites}: ok, {len(roll.agents)} agents at {len(roll.venues)} venues")
    return SUCCESS


def _init(settings: Settings, arguments: argparse.Namespace) -> int:
    """Make what the store needs: file or database, tables, retention, identities."""

    async def ensure() -> None:
        from store.settings import InfluxSettings, open_store

        if isinstance(settings.store, InfluxSettings) and settings.store.server == "influxdb":
            for made in await _prepared(settings.store, arguments):
                print(f"store: {made}")
        store = open_store(settings.store)
        try:
            await store.ensure()
        finally:
            await store.close()

    code = _check(settings, arguments)
    try:
        asyncio.run(ensure())
    except StoreError as error:
        print(f"store: {error}", file=sys.stderr)
        return FAILED
    print(f"store: ready ({settings.store.engine})")
    return code


async def _prepared(settings: "InfluxSettings", arguments: argparse.Namespace) -> list[str]:
    """What an administrator does, with an administrator's identity where one is given."""
    from store.administration import Administration, Identity

    own = settings.token_file or settings.password_file
    identities = []
    if arguments.admin_token_file or arguments.admin_user:
        if own is None:
            raise ConfigError(f"{arguments.config}: store.token_file: missing; name the file that is to be made")
        name = settings.user or "wanggan"
        reader = arguments.read_secret_file or own.with_name(f"read.{own.name}")
        identities = [Identity("write", name, own), Identity("read", f"{name}-read", reader)]
    async with Administration(
        settings,
        token_file=arguments.admin_token_file,
        user=arguments.admin_user,
        password_file=arguments.admin_password_file,
    ) as administration:
        return await administration.prepare(identities)


def _list(settings: Settings, arguments: argparse.Namespace) -> int:
    from collector.deadletters import DeadLetters, as_json

    letters = DeadLetters(settings.state, settings.limits.dead_letters_mib * 2**20)
    replayed = letters.replayed()
    if arguments.json:
        print(json.dumps([as_json(found, found.id in replayed) for found in letters.letters()], ensure_ascii=False))
        return SUCCESS
    for found in letters.letters():
        where = f"{found.outbox}/{found.batch}" if found.outbox else "?"
        place = "whole" if found.index is None else f"record {found.index}"
        mark = " replayed" if found.id in replayed else ""
        print(f"{found.at:%Y-%m-%d %H:%M:%S} {found.id} {found.agent} {where} {place}: {found.reason}{mark}")
        print(f"    {found.words}")
    return SUCCESS


def _replay(settings: Settings, arguments: argparse.Namespace) -> int:
    from collector.replay import replay

    try:
        outcome = asyncio.run(replay(settings))
    except StoreError as error:
        print(f"store: {error}", file=sys.stderr)
        return FAILED
    if arguments.json:
        print(json.dumps(outcome._asdict()))
    else:
        print(f"{outcome.stored} stored, {outcome.refused} refused again, {outcome.cut} cut and not replayable")
    return SUCCESS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wanggan collector",
        description="Stores what agents send, acknowledges it, and shows it.",
        allow_abbrev=False,
    )
    parser.add_argument("--verbose", action="store_true", help="tell more on standard error")
    words = parser.add_subparsers(required=True, metavar="COMMAND")

    run = words.add_parser("run", help="run until SIGTERM", allow_abbrev=False)
    run.add_argument("--config", type=Path, required=True, metavar="FILE")
    run.set_defaults(run=_run)

    check = words.add_parser("check-config", help="check the configuration and the site register", allow_abbrev=False)
    check.add_argument("config", type=Path, metavar="FILE")
    check.set_defaults(run=_check)

    init = words.add_parser(
        "init", help="make the databases of FILE, retention, and two identities", allow_abbrev=False
    )
    init.add_argument("config", type=Path, metavar="FILE")
    init.add_argument("--admin-token-file", type=Path, metavar="FILE", help="InfluxDB 2 and 3: an operator's token")
    init.add_argument("--admin-user", metavar="NAME", help="InfluxDB 1 that asks for users: an administrator")
    init.add_argument("--admin-password-file", type=Path, metavar="FILE", help="and the file with his password")
    init.add_argument(
        "--read-secret-file", type=Path, metavar="FILE", help="what may only read gets its secret here (Grafana)"
    )
    init.set_defaults(run=_init)

    letters = words.add_parser("dead-letters", help="what was refused for good: list, replay", allow_abbrev=False)
    actions = letters.add_subparsers(required=True, metavar="ACTION")
    for name, action, text in (
        ("list", _list, "print them, oldest first"),
        ("replay", _replay, "check them again, store what passes now, and mark it"),
    ):
        sub = actions.add_parser(name, help=text, allow_abbrev=False)
        sub.add_argument("--config", type=Path, required=True, metavar="FILE")
        sub.add_argument("--json", action="store_true", help="one JSON document on standard output")
        sub.set_defaults(run=action)
    return parser
