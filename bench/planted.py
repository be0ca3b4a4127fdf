"""Three bugs that the harness must find. Nothing but the harness's own entry points uses them.

python -m bench.planted PLANT run --config FILE       # the collector, with a bug
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.outbox import Batch
from agent.publisher import Publisher
from contract import topics
from store.interface import Refusal, Store
from store.point import Point

LATE_S = 0.5
"""How long after its answer a write begins that is acknowledged too early."""


class DeletesOnPuback(Publisher):
    """Takes the broker's word for the collector's: forgets a batch when the broker has it."""

    async def _publish(self, client: aiomqtt.Client, batch: Batch) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.CorrelationData = batch.id.encode()
        await client.publish(topics.up(self._agent, "records"), batch.payload, qos=1, properties=properties)
        if batch.id in self._outbox.batches:
            self._outbox.settle(batch, set())


class _Around:
    """A store that does everything as the one inside does."""

    def __init__(self, inside: Store) -> None:
        self._inside = inside

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inside, name)


class AcknowledgesBeforeTheWrite(_Around):
    """Says that points are stored before they are."""

    _writes: set[asyncio.Task[None]] = set()

    async def write(self, points: Sequence[Point]) -> list[Refusal]:
        task = asyncio.create_task(self._write(list(points)), name="a late write")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return []

    async def _write(self, points: list[Point]) -> None:
        await asyncio.sleep(LATE_S)
        await self._inside.write(points)


class StoresTheArrival(_Around):
    """Takes the time of arrival for the time of measurement."""

    async def write(self, points: Sequence[Point]) -> list[Refusal]:
        return await self._inside.write([point._replace(time_ns=time.time_ns()) for point in points])


def main(argv: list[str]) -> int:
    import collector.main
    from collector import commands
    from store.settings import open_store

    plant, *rest = argv
    around = {"ack_before_write": AcknowledgesBeforeTheWrite, "arrival_as_slot": StoresTheArrival}.get(plant)
    if around is not None:
        vars(collector.main)["open_store"] = lambda settings: around(open_store(settings))
    return commands.main(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
