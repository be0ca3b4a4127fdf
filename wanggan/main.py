"""The `wanggan` command: one word chooses the program; only that program is imported."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
"""Ended by Ctrl-C: 128 + SIGINT, as shells count."""


class Command(NamedTuple):
    """A program behind a word. Its module has ``main(argv: list[str]) -> int``."""

    module: str
    extra: str
    """The extra that installs what it needs."""
    summary: str


COMMANDS: Final[dict[str, Command]] = {
    "up": Command("wanggan.up", "agent,server", "everything on this machine, with a live page: the place to start"),
    "agent": Command("agent.commands", "agent", "measure: run, once, check-config, install, doctor"),
    "reflector": Command("reflector.commands", "reflector", "the target that agents measure against: run"),
    "simulate": Command("simulator.commands", "server", "a virtual fleet with known truth: file, store or live"),
    "score": Command("perception.score", "server", "one JSON object in, its score out: every formula of the report"),
    "fleet": Command("wanggan.fleet", "agent,server", "who belongs to it: list, show, init, enrol, revoke, import"),
    "collector": Command(
        "collector.commands", "server", "store what agents send and show it: run, check-config, init, dead-letters"
    ),
    "report": Command("perception.report.commands", "report", "the weekly perception report: weekly"),
    "perception": Command("perception.commands", "server", "hours, scores and verdicts: run, rollup, score"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 success, 1 a failed measurement or write, 2 usage or configuration error."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`wanggan ... | head`). Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _run(arguments: list[str]) -> int:
    parser = _parser()
    # Only the words before the command are ours: `wanggan agent --help` is the agent's.
    named = parser.parse_args(arguments[:1])
    if named.command is None:
        parser.print_help(sys.stderr)
        return USAGE
    command = COMMANDS[named.command]
    try:
        module = importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in _OWN_PACKAGES:
            raise
        print(
            f"wanggan {named.command}: {error.name} is not installed; run: pip install 'wanggan[{command.extra}]'",
            file=sys.stderr,
        )
        return USAGE
    code: int = module.main(arguments[1:])
    return code


_OWN_PACKAGES: Final = ("contract", "agent", "reflector", "store", "collector", "perception", "simulator", "wanggan")


def _parser() -> argparse.ArgumentParser:
    words = "\n".join(f"  {word:<10} {command.summary}" for word, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="wanggan",
        usage="wanggan [--version] [--help] COMMAND ...",
        description="Measures how public Wi-Fi and government networks feel to their users.",
        epilog=f"commands:\n{words}\n\n`wanggan COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    parser.add_argument("command", nargs="?", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    return parser


class _Version(argparse.Action):
    """Looked up only when asked: importlib.metadata takes longer to import than the agent's own code."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"wanggan {version('wanggan')}")
        parser.exit()
