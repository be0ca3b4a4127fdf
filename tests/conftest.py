"""Fixtures that every folder may use."""

from types import ModuleType

import pytest

from tests.servers import influxd, victoria_metrics

__all__ = ["influxd", "victoria_metrics"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers a file's tests stay together, for they share servers. Those of the laboratory
    (:mod:`tests.network`) run one behind the other: what it measures with runs before everybody else, and two of it at
    once would leave no core to the programs that are measured."""
    for item in items:
        assert isinstance(item, pytest.Function)
        group = "laboratory" if _uses_laboratory(item.module) else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))


def _uses_laboratory(module: ModuleType) -> bool:
    return any(str(getattr(thing, "__module__", "")).startswith("tests.network.") for thing in vars(module).values())
