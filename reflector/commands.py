"""`wanggan reflector run`."""

import argparse
import asyncio
import ipaddress
import os
import signal
import sys
from typing import Final

from reflector.server import Reflector

DEFAULT_PORT: Final = 8862


def main(argv: list[str]) -> int:
    """0 after a clean stop (Ctrl-C, SIGTERM), 1 when it could not listen, 2 for a usage error."""
    parser = argparse.ArgumentParser(prog="wanggan reflector", description="The target that agents measure against.")
    words = parser.add_subparsers(dest="word", required=True, metavar="COMMAND")
    run = words.add_parser("run", help="serve until Ctrl-C", description=run_reflector.__doc__)
    run.add_argument("--listen", default="127.0.0.1", metavar="ADDR", help="address to bind (default: %(default)s)")
    run.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, metavar="P", help="TCP port, 0 for any free (default: %(default)s)"
    )
    run.add_argument("--open", action="store_true", help="serve anyone without a token (a laboratory)")
    arguments = parser.parse_args(argv)
    try:
        address = ipaddress.ip_address(arguments.listen)
    except ValueError:
        run.error(f"--listen: {arguments.listen!r} is not an IP address")
    if not (address.is_loopback or arguments.open):
        run.error(
            f"--listen {address}: other machines could use this reflector, and it asks for no token; "
            "add --open if that is meant"
        )
    return asyncio.run(run_reflector(str(address), arguments.port))


async def run_reflector(host: str, port: int) -> int:
    """Accept TCP connections and answer HTTP (204 at /generate_204, a page at /) until Ctrl-C or SIGTERM."""
    reflector = Reflector(host, port)
    try:
        reflector.open()
    except OSError as error:
        print(f"reflector: cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}", file=sys.stderr)
        return 1
    print(f"reflector: listening on {host} port {reflector.port}", file=sys.stderr, flush=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(reflector.run(), name="reflector")
        await stop.wait()
        serving.cancel()
    return 0


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
    return int(text)
