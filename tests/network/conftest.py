"""These tests measure the laboratory, so nothing may hold it up."""

from collections.abc import Iterator

import pytest

from tests.network.priority import ahead


@pytest.fixture(autouse=True)
def _ahead() -> Iterator[None]:
    with ahead():
        yield
