"""What the reflector counts of itself: for its metrics, its page and its tests."""

from collections import Counter


class Counts:
    """Whole numbers that only grow, by name and, where there is one, by reason."""

    def __init__(self) -> None:
        self._values: Counter[tuple[str, str]] = Counter()

    def add(self, name: str, reason: str = "", by: int = 1) -> None:
        self._values[name, reason] += by

    def of(self, name: str, reason: str | None = None) -> int:
        """The count of one reason, or without `reason` of all of them."""
        if reason is not None:
            return self._values[name, reason]
        return sum(value for (other, _), value in self._values.items() if other == name)

    def rows(self) -> list[tuple[str, str, int]]:
        """Name, reason and value, sorted."""
        return sorted((name, reason, value) for (name, reason), value in self._values.items())
