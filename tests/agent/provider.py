"""One provider of throughput alone, for a test that runs it inside a namespace:

python -m tests.agent.provider NAME HOST PORT INTERFACE [MODE [CONGESTION_CONTROL]]

Prints reason, detail, values and what a watcher was told, as one JSON object."""

import asyncio
import importlib
import sys
from typing import Any, NamedTuple

import msgspec

from agent.clock import SystemClock
from agent.facts import Facts
from agent.probe import Context, Failure, Target


class Settings(NamedTuple):
    mode: str = "quick"
    congestion_control: str = "default"


async def main(name: str, host: str, port: str, interface: str, *settings: str) -> None:
    provider = importlib.import_module(f"agent.{name}")
    told: list[str] = []
    context = Context(
        agent="lib-01",
        interface=interface,
        clock=SystemClock(),
        facts=Facts(),
        timeout_s=60.0,
        target=Target(role="core", host=host, port=int(port)),
        progress=told.append,
    )
    end: dict[str, Any] = {"reason": None, "detail": None}
    try:
        await provider.measure(Settings(*settings), context)
    except Failure as failure:
        end = {"reason": failure.reason, "detail": failure.detail}
    print(msgspec.json.encode(end | {"values": context.values, "told": told}).decode())


asyncio.run(main(*sys.argv[1:]))
