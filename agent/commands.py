"""`wanggan agent run | once | check-config | install | doctor`."""

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, Literal, TextIO

from agent import bundle, config, once
from agent import main as program
from agent.config import Config, ConfigError
from agent.probes import PROBES
from contract.codec import encode
from contract.record import Record
from contract.throughput import PORT
from contract.values import Latency

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2

DEFAULT_CONFIG: Final = Path("/etc/wanggan/agent.toml")
"""What `once` takes when it is there and no other is named."""

UNITS: Final = ("wanggan-agent-wifi.service", "wanggan-agent.service")
"""Of the profiles: with rights over the radio, and without any."""
SYSTEMCTL_S: Final = 60

_DRAW_S: Final = 0.25
_CLEAR_LINE: Final = "\x1b[K"


def main(argv: list[str]) -> int:
    """0 success, 1 a failed measurement or write, 2 usage or configuration error."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        return int(arguments.command(arguments))
    except ConfigError as error:
        print(f"wanggan agent: {error}", file=sys.stderr)
        return USAGE


def _run(arguments: argparse.Namespace) -> int:
    settled = config.load(arguments.config)
    if not arguments.once:
        program.run(settled)
        return OK
    results = program.run_once(settled)
    if arguments.json:
        print(json.dumps({"records": [_plain(r.record) | {"stored": r.stored} for r in results]}, ensure_ascii=False))
    else:
        for result in results:
            print(f"{_line(result.record)}  {'stored' if result.stored else 'NOT STORED'}")
    return OK if all(result.stored for result in results) else FAILED


def _once(arguments: argparse.Namespace) -> int:
    path = arguments.config
    if path is None and DEFAULT_CONFIG.exists():
        path = DEFAULT_CONFIG
    settled: Config | None = config.load(path) if path else None
    wish = once.Wish(
        target=arguments.target,
        server=arguments.server,
        interface=arguments.interface,
        provider=arguments.provider,
        agent=arguments.agent,
        key_file=arguments.key_file,
        settings=arguments.set,
    )
    plan = once.plan(arguments.probe, settled, wish)
    if not arguments.verbose:
        logging.getLogger("agent.runner").setLevel(logging.ERROR)  # the Record itself says how it ended
    record = asyncio.run(_watched(plan, sys.stderr) if sys.stderr.isatty() else once.measure(plan))
    if arguments.json:
        print(json.dumps(_plain(record), ensure_ascii=False))
    else:
        print(_line(record))
        if isinstance(record.values, Latency) and "method_fallback" in record.flags:
            print(f"  {_fallback(plan, record.values)}")
        for name, value in (_plain(record)["values"] or {}).items():
            if value is not None:
                print(f"  {name} {value if isinstance(value, str) else json.dumps(_short(value), ensure_ascii=False)}")
    return OK if record.outcome == "ok" else FAILED


async def _watched(plan: once.Plan, out: TextIO) -> Record:
    """The same with one line on `out` that says how far it is, and is gone in the end."""
    said = ""

    def progress(text: str) -> None:
        nonlocal said
        said = text

    async def draw() -> None:
        started_s = time.monotonic()
        while True:
            line = f"{plan.job.probe} {plan.job.target}  {time.monotonic() - started_s:.0f} s  {said}"
            print(f"\r{_CLEAR_LINE}{line}", end="", file=out, flush=True)
            await asyncio.sleep(_DRAW_S)

    drawing = asyncio.create_task(draw(), name="progress")
    try:
        return await once.measure(plan, progress)
    finally:
        drawing.cancel()
        print(f"\r{_CLEAR_LINE}", end="", file=out, flush=True)


def _check(arguments: argparse.Namespace) -> int:
    settled = config.load(arguments.file)
    print(f"{arguments.file}: {settled.agent}, {len(settled.jobs)} jobs: ok")
    return OK


def _install(arguments: argparse.Namespace) -> int:
    settled = bundle.install(arguments.bundle, arguments.to)
    file = arguments.to / bundle.CONFIG
    print(f"{file}: {settled.agent}, {len(settled.jobs)} jobs: installed", file=sys.stderr)
    if arguments.run:
        argv = [sys.executable, "-P", "-m", "wanggan", "agent", "run", "--config", str(file)]
        sys.stderr.flush()
        os.execv(argv[0], argv)  # noqa: S606 - ourselves
    return _start(settled) if arguments.start else OK


def _start(settled: Config) -> int:
    """Let the service of this agent's profile start now and at every boot; the other profile's must not run."""
    wifi = any(job.probe.startswith("wifi_") for job in settled.jobs)
    unit, other = UNITS if wifi else UNITS[::-1]
    for words in (["disable", "--now", other], ["enable", unit], ["restart", unit]):
        try:
            ended = subprocess.run(["systemctl", *words], capture_output=True, text=True, timeout=SYSTEMCTL_S)  # noqa: S603, S607
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"systemctl {' '.join(words)}: {error}", file=sys.stderr)
            return FAILED
        if ended.returncode != 0 and words[0] != "disable":
            print(f"systemctl {' '.join(words)}: {ended.stderr.strip()}", file=sys.stderr)
            return FAILED
    print(f"{unit}: started", file=sys.stderr)
    return OK


def _doctor(arguments: argparse.Namespace) -> int:
    from agent import doctor

    language: doctor.Language = arguments.lang or _language()
    findings = asyncio.run(doctor.examine(arguments.config))
    if arguments.json:
        print(json.dumps([finding.as_json(language) for finding in findings], ensure_ascii=False))
    else:
        for finding in findings:
            print(finding.line(language))
    if findings[0].state == "failed":
        return USAGE
    return FAILED if any(finding.state == "failed" for finding in findings) else OK


def _language() -> Literal["en", "zh"]:
    """That of the terminal."""
    named = next((value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := os.environ.get(name))), "")
    return "zh" if named.startswith("zh") else "en"


def _plain(record: Record) -> dict[str, Any]:
    """A Record as it stands on the wire."""
    plain: dict[str, Any] = json.loads(encode(record))
    return plain


def _line(record: Record) -> str:
    """A Record in one line for people."""
    identity = [record.probe, record.target, record.provider, record.resolver, record.interface]
    said = record.outcome if record.reason is None else f"{record.outcome}: {record.reason}"
    detail = f" ({record.detail})" if record.detail else ""
    flags = f" [{', '.join(record.flags)}]" if record.flags else ""
    return f"{' '.join(part for part in identity if part)}: {said}{detail}{flags}"


def _fallback(plan: once.Plan, values: Latency) -> str:
    """Why the first method did not measure."""
    target = plan.targets[plan.job.target]
    if target.role == "core":
        where = f"{target.name} UDP port {target.port or PORT}"
        return f"no reflector answered at {where}: measured by {values.method} instead; check host and port"
    return f"this host permits no ICMP socket: measured by {values.method} instead; set net.ipv4.ping_group_range"


def _short(value: Any) -> Any:
    """For people: six digits that count; with --json it has all."""
    match value:
        case float():
            return float(f"{value:.6g}")
        case list():
            return [_short(one) for one in value]
        case dict():
            return {name: _short(one) for name, one in value.items()}
    return value


def _probe(text: str) -> str:
    if text not in PROBES:
        known = ", ".join(sorted(PROBES))
        raise argparse.ArgumentTypeError(f"no probe {text!r}{config.suggestion(text, PROBES)}; there are {known}")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wanggan agent", description="Measures, keeps and publishes.")
    parser.add_argument("--verbose", action="store_true", help="log more, to standard error")
    words = parser.add_subparsers(required=True, metavar="COMMAND")

    run = words.add_parser("run", help="measure on schedule until SIGTERM or Ctrl-C")
    run.add_argument("--config", type=Path, required=True, metavar="FILE")
    run.add_argument("--once", action="store_true", help="every job once, now; end when the records are stored")
    run.add_argument("--json", action="store_true", help="with --once: the records as one JSON document")
    run.set_defaults(command=_run)

    one = words.add_parser("once", help="one probe, now; prints its Record")
    one.add_argument("probe", type=_probe, metavar="PROBE", help=", ".join(sorted(PROBES)))
    one.add_argument(
        "--target",
        metavar="T",
        help="name of a configured target, or a host, or a URL (default: that of the first such job; without a "
        "configuration the gateway for latency, else a public page)",
    )
    one.add_argument("--server", metavar="HOST[:PORT]", help="a reflector; for web: a host; for dns: ask this resolver")
    one.add_argument("--provider", metavar="P", help="of throughput: who serves the test")
    one.add_argument(
        "--key-file", metavar="FILE", help="this agent's key for the reflector; for portal: its portal key"
    )
    one.add_argument("--agent", metavar="NAME", help="whose key that is (default: that of the configuration)")
    one.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the probe")
    one.add_argument("--interface", metavar="IF", help="interface to measure (default: that of the route)")
    one.add_argument("--config", type=Path, metavar="FILE", help=f"(default: {DEFAULT_CONFIG} where it exists)")
    one.add_argument("--json", action="store_true", help="print the Record as one JSON document")
    one.set_defaults(command=_once)

    check = words.add_parser("check-config", help="0 when the file is sound, 2 with the reason when it is not")
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(command=_check)

    doctor = words.add_parser("doctor", help="is this box ready? what was found, and what to do about it")
    doctor.add_argument("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=f"({DEFAULT_CONFIG})")
    doctor.add_argument("--lang", choices=("en", "zh"), help="(that of the terminal)")
    doctor.add_argument("--json", action="store_true", help="one JSON document on standard output")
    doctor.set_defaults(command=_doctor)

    install = words.add_parser("install", help="take a bundle of `wanggan fleet enrol`: configuration and keys")
    install.add_argument("bundle", type=Path, metavar="BUNDLE")
    install.add_argument(
        "--to", type=Path, default=DEFAULT_CONFIG.parent, metavar="DIR", help=f"(default: {DEFAULT_CONFIG.parent})"
    )
    then = install.add_mutually_exclusive_group()
    then.add_argument("--start", action="store_true", help="and let the service start, now and at every boot")
    then.add_argument("--run", action="store_true", help="and run it here until SIGTERM or Ctrl-C")
    install.set_defaults(command=_install)
    return parser
