"""The rate limit of one agent."""

from collector.limits import Limits


def test_a_burst_passes_and_then_the_rate() -> None:
    now = 0.0
    limits = Limits(10.0, 200, now=lambda: now)
    assert sum(limits.allow("a") for _ in range(1000)) == 200
    now = 1.0
    assert sum(limits.allow("a") for _ in range(1000)) == 10
    assert limits.allow("b"), "another agent has a bucket of its own"
    now = 1000.0
    assert sum(limits.allow("a") for _ in range(1000)) == 200, "tokens do not pile up beyond the burst"
