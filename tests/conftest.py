"""Fixtures that every folder may use."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.network.priority import favoured
from tests.servers import influxd, victoria_metrics

__all__ = ["influxd", "victoria_metrics"]

# Every worker loads this; on a busy machine any example may take long.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")


@pytest.hookimpl(tryfirst=True)  # before xdist looks for the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers a file's tests stay together, for they share servers. Those of the laboratory run one behind
    the other: what it measures with runs before everybody else, and two of it at once would leave no core to the
    programs that are measured."""
    for item in items:
        laboratory = item.get_closest_marker("laboratory") is not None
        group = "laboratory" if laboratory else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def _favoured(request: pytest.FixtureRequest) -> Iterator[None]:
    """The agent says `cpu_limited` where it has to wait for other tests."""
    if request.node.get_closest_marker("laboratory") is None:
        yield
    else:
        with favoured():
            yield
