"""`wanggan reflector run | check-config`."""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Final

import msgspec

from contract.throughput import PORT
from reflector import config
from reflector import main as program
from reflector.config import Config, ConfigError

OK: Final = 0
USAGE: Final = 2


def main(argv: list[str]) -> int:
    """0 after a clean stop (Ctrl-C, SIGTERM), 1 when it could not listen, 2 for a usage or configuration error."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except ConfigError as error:
        print(f"wanggan reflector: {error}", file=sys.stderr)
        return USAGE


def _run(arguments: argparse.Namespace) -> int:
    settled = config.load(arguments.config) if arguments.config else Config()
    given = {name: getattr(arguments, name) for name in ("listen", "port", "http_port", "open")}
    wanted = {name: value for name, value in given.items() if value is not None}
    settled = config.check(msgspec.structs.replace(settled, **wanted))
    return asyncio.run(program.run(settled))


def _check(arguments: argparse.Namespace) -> int:
    settled = config.load(arguments.file)
    keys = config.keys(settled)
    asked = "no token asked for" if keys is None else f"{len(keys)} agents"
    print(f"{arguments.file}: {settled.listen} port {settled.port}, {asked}: ok")
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wanggan reflector", description="The target that agents measure against.")
    words = parser.add_subparsers(required=True, metavar="COMMAND")

    run = words.add_parser(
        "run",
        help="serve until Ctrl-C",
        description="Serve throughput tests (TCP), STAMP (UDP, the same port), and over HTTP (the next port) the "
        "portal check, video segments, metrics and a page, until Ctrl-C or SIGTERM.",
    )
    run.add_argument("--config", type=Path, metavar="FILE")
    run.add_argument("--listen", metavar="ADDR", help="address to bind (default: 127.0.0.1)")
    run.add_argument("--port", type=_port, metavar="P", help=f"TCP and UDP, 0 for any free (default: {PORT})")
    run.add_argument("--http-port", type=_port, metavar="P", help="0 for any free (default: the one after --port)")
    run.add_argument("--open", action="store_true", default=None, help="serve anyone without a token (a laboratory)")
    run.set_defaults(command=_run)

    check = words.add_parser("check-config", help="0 when the file is sound, 2 with the reason when it is not")
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(command=_check)
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
    return int(text)
