"""A broker for the tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.collector.lab import Mosquitto


@pytest.fixture
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A real broker of the test's own."""
    broker = Mosquitto(tmp_path_factory.mktemp("broker"), "max_packet_size 1000000")
    broker.start()
    yield broker
    broker.stop()
