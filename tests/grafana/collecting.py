"""What a real collector notes of itself: one minute of work, and one in which its database takes nothing."""

from pathlib import Path

from contract.series import COLLECTOR, SERIES
from store.interface import StoreMisconfigured
from store.point import Point
from tests.collector.lab import Mosquitto, batch, box, record, running, until
from tests.fakes import RecordingStore

MINUTE_NS = 60 * 10**9


async def minutes(folder: Path) -> tuple[Point, Point]:
    """A good minute and a bad one."""
    broker = Mosquitto(folder)
    broker.start()
    store = RecordingStore()
    try:
        async with running(folder, broker.port, store) as collector, box(broker.port) as agent:
            await agent.send(1, batch(1, [record() for _ in range(80)]))
            await agent.answer(1)
            collector.ingest.minute()
            await until(lambda: _points(store, store_up=1, received=80))
            (good,) = _points(store, store_up=1, received=80)
            store.failure = StoreMisconfigured("database missing")
            await agent.send(2, batch(2, [record()]))
            await until(lambda: not collector.state.store.up)
            collector.ingest.minute()
            store.failure = None
            await until(lambda: _points(store, store_up=0))
            return good, _points(store, store_up=0)[0]
    finally:
        broker.stop()


def _points(store: RecordingStore, **wanted: int) -> list[Point]:
    """Those that say so; the collector may note a minute of its own at any time."""
    found = [Point(COLLECTOR.name, *point) for point in store.of(COLLECTOR.name)]
    places = {list(COLLECTOR.fields).index(name): value for name, value in wanted.items()}
    return [point for point in found if all(point.fields[place] == value for place, value in places.items())]


def again(minute: Point, first_ns: int, end_ns: int) -> list[Point]:
    """The same minute, again and again."""
    return [minute._replace(time_ns=time_ns) for time_ns in range(first_ns, end_ns, MINUTE_NS)]


def changed(point: Point, **values: float) -> Point:
    """A point with other values."""
    fields = zip(SERIES[point.series].fields, point.fields, strict=True)
    return point._replace(fields=tuple(values.get(name, value) for name, value in fields))
