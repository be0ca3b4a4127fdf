"""The Store: what every engine promises, by intent."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from contract.series import FieldValue
from store.point import Point

Aggregation = Literal["count", "sum", "mean", "min", "max", "p50", "p95"]
"""Percentiles are nearest rank: the value at rank ceil(q * n)."""


class StoreError(Exception):
    """A store did not do what it was asked. Nothing of the batch counts as stored."""


class StoreUnavailable(StoreError):
    """It may pass by itself: refused, timeout, 429, 5xx. Keep the batch and try again."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """What the server asked for; None when it did not."""


class StoreMisconfigured(StoreError):
    """A person must act: 401, 403, 404, database missing. Stop writing, alarm, probe again every 30 s."""


class StoreLimit(StoreError):
    """The store says that a limit of its own is reached. Keep, alarm, answer `later: store_limit`."""


class Refusal(NamedTuple):
    """A point that the store will never take, with the store's words."""

    place: int
    """Index in the written sequence."""
    message: str


class Row(NamedTuple):
    """One stored point as read back. Absent tags are ``""``, absent fields None."""

    time_ns: int
    tags: dict[str, str]
    fields: dict[str, FieldValue]


class Block(NamedTuple):
    """Some rows, column by column: for whoever computes over many. Absent tags are ``""``, absent fields None."""

    time_ns: Sequence[int]
    tags: tuple[Sequence[str], ...]
    """One sequence for each tag of the series, in its order."""
    fields: dict[str, Sequence[FieldValue]]
    """One sequence for each field asked for. A whole number may stand in a float field as an int."""


class Bucket(NamedTuple):
    """One aggregated value; windows without a value are left out."""

    time_ns: int
    """Start of the window."""
    tags: dict[str, str]
    value: float


class Store(Protocol):
    """A place for points. Times are nanoseconds; windows are [start, end).

    Names that are not in :mod:`contract.series` raise KeyError before anything is sent.
    """

    durable: bool
    """Whether a successful write survives a crash of the store at once."""

    ack_hold_s: float
    """Seconds after a successful write before anyone is told `stored`; 0 where the store is durable."""

    async def ensure(self) -> None:
        """Make databases, tables and retention, or bring them up to date.

        :raises StoreError: when it cannot.
        """

    async def ping(self) -> None:
        """Return when the store answers.

        :raises StoreError: when it does not, with the reason.
        """

    async def write(self, points: Sequence[Point]) -> list[Refusal]:
        """Store `points`; return those that were refused for good. All others are stored when this returns.

        :raises StoreError: when nothing can be promised of any of them.
        """

    def rows(
        self, series: str, start_ns: int, end_ns: int, *, where: Mapping[str, str] | None = None
    ) -> AsyncIterator[Row]:
        """Every row of the window, oldest first, streamed; `where` are tags that must be equal."""

    def columns(
        self,
        series: str,
        fields: Sequence[str],
        start_ns: int,
        end_ns: int,
        *,
        where: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Block]:
        """The same rows by columns, with these fields alone, streamed in blocks of some thousand."""

    async def latest(
        self, series: str, by: Sequence[str], *, since_ns: int, where: Mapping[str, str] | None = None
    ) -> list[Row]:
        """The newest whole row of each group of the tags `by`, not older than `since_ns`."""

    async def aggregate(
        self,
        series: str,
        field: str,
        how: Aggregation,
        *,
        by: Sequence[str],
        start_ns: int,
        end_ns: int,
        every_ns: int | None = None,
        where: Mapping[str, str] | None = None,
        only_ok: bool = True,
    ) -> list[Bucket]:
        """`how` over a numeric field per group of `by` and per window of `every_ns` (None: one window from `start_ns`).

        Windows are aligned to 1970 UTC. `only_ok` leaves out raw rows with `ok` = 0 (other series are not filtered).
        """

    async def close(self) -> None:
        """Give back connections and files. Safe to call twice."""
