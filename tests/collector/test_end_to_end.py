"""Real broker, real InfluxDB: killed in the middle, nothing is lost and nothing twice."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from collector.ingest import Timing
from store.influx import InfluxStore
from tests.collector.lab import Mosquitto, batch, box, record, running, until
from tests.servers import Influxd


async def test_influxd_is_killed_and_comes_back(
    tmp_path: Path, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.main.Timing", lambda **_: Timing(retry_s=(0.1, 0.5), ping_s=0.5))
    server = Influxd(tmp_path)
    server.start()
    store = InfluxStore(server.url, endpoint="/write", database=f"t{uuid4().hex}")
    batches = {number: batch(number, [record() for _ in range(20)]) for number in range(60)}
    try:
        async with (
            running(tmp_path, mosquitto.port, store, "messages_per_s = 1000") as collector,
            box(mosquitto.port) as agent,
        ):
            for number, sent in batches.items():
                if number == 20:
                    server.kill()
                if number == 40:
                    await until(lambda: not collector.state.store.up)
                    assert "127.0.0.1" in str(collector.state.store.reason) or collector.state.store.reason
                    server.start()
                await agent.send(number, sent)
                await asyncio.sleep(0.005)
            await until(lambda: len(agent.acks) == 60, 60)
            assert all(ack.stored == 20 and ack.later is None for ack in agent.acks)
            count = 0
            async for _ in store.rows("latency", 0, 2**62):
                count += 1
            assert count == 1200
            assert collector.state.store.up
    finally:
        server.kill()
