"""How often one agent may send: a token bucket for each, so that one that floods costs the others nothing."""

from collections.abc import Callable


class Limits:
    """`rate` messages a second in the long run, `burst` at once."""

    def __init__(self, rate: float, burst: int, *, now: Callable[[], float]) -> None:
        """:param now: monotonic seconds."""
        self._rate = rate
        self._burst = float(burst)
        self._now = now
        self._buckets: dict[str, tuple[float, float]] = {}
        """Tokens left, and when that was."""

    def allow(self, agent: str) -> bool:
        """Take a token; False when there is none."""
        now = self._now()
        tokens, before = self._buckets.get(agent, (self._burst, now))
        tokens = min(self._burst, tokens + (now - before) * self._rate)
        allowed = tokens >= 1.0
        self._buckets[agent] = (tokens - 1.0 if allowed else tokens, now)
        return allowed
