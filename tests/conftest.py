"""Fixtures that every folder may use."""

import pytest

from tests.servers import influxd, victoria_metrics

__all__ = ["influxd", "victoria_metrics"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers a file's tests stay together, for they share servers. Those of the laboratory run one behind
    the other: what it measures with runs before everybody else, and two of it at once would leave no core to the
    programs that are measured."""
    for item in items:
        laboratory = item.get_closest_marker("laboratory") is not None
        group = "laboratory" if laboratory else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
