"""Stores to test, each on a database of its own."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from store.influx import InfluxStore
from store.interface import Store
from store.sqlite import SqliteStore
from tests.servers import Influxd
from tests.store.scripted import Scripted


@pytest.fixture
async def influx(influxd: Influxd) -> AsyncIterator[InfluxStore]:
    """A fresh database of the real influxd."""
    store = InfluxStore(influxd.url, endpoint="/write", database=f"t{uuid.uuid4().hex}")
    await store.ensure()
    yield store
    await store.close()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A fresh file."""
    store = SqliteStore(tmp_path / "state" / "store.sqlite")
    await store.ensure()
    yield store
    await store.close()


@pytest.fixture(params=["sqlite", "influx"])
def store(request: pytest.FixtureRequest) -> Store:
    """Every engine that is written to and read from."""
    engine: Store = request.getfixturevalue(request.param)
    return engine


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    server = Scripted()
    await server.start()
    yield server
    await server.stop()
