"""Fixtures that every folder may use."""

from tests.servers import influxd, victoria_metrics

__all__ = ["influxd", "victoria_metrics"]
