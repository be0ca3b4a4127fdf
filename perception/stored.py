"""Rollup rows as they are read back, and their addition over agents, targets and hours."""

import math
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Self, cast

from contract.series import COUNTS, EXTRA, METRICS, ROLLUP_TAGS, ROLLUPS, SKETCHED, TIMES
from perception.sketch import Sketch
from store.interface import Store
from store.point import Point


@dataclass(frozen=True)
class Metric:
    """What is known of one value over some hours. Without values (`n` 0) all but the counts is None."""

    n: int = 0
    """Values; failed tests among them where they count as 0 (rates)."""
    total: float = 0.0
    minimum: float | None = None
    maximum: float | None = None
    p50: float | None = None
    """Of a single hour; math.inf for a time-out. None where hours were added: ask :meth:`quantile`."""
    p95: float | None = None
    failures: int = 0
    """Slots that failed, where that makes a time infinite."""
    encoded: tuple[str, ...] = ()
    """The sketches, not yet decoded; none for metrics without one."""

    @property
    def mean(self) -> float | None:
        """Of the values; None without any."""
        return self.total / self.n if self.n else None

    @cached_property
    def sketch(self) -> Sketch | None:
        """Of all hours; None for metrics without one."""
        if not self.encoded:
            return None
        return Sketch.total([Sketch.decode(text) for text in self.encoded])

    def quantile(self, p: float, *, failures: bool = True) -> float | None:
        """From the sketch (within 1 %), math.inf for a time-out; `failures` False looks at answers alone.

        Without a sketch the hour's own p50 and p95 are all there is; None for what is not known.
        """
        sketch = self.sketch
        if sketch is not None:
            return (sketch if failures else Sketch(sketch.buckets)).quantile(p)
        return {0.5: self.p50, 0.95: self.p95}.get(p)

    def __add__(self, other: "Metric") -> "Metric":
        return _sum((self, other))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One series and hour, or the sum of several; a tag in which they differ is then ``""``."""

    probe: str
    time_ns: int
    """The hour's start; of a sum, the earliest."""
    agent: str = ""
    venue: str = ""
    network: str = ""
    target: str = ""
    provider: str = ""
    resolver: str = ""

    busy: int = 0
    """With `hour` and `dow`: the earliest hour's."""
    hour: int = 0
    dow: int = 0

    n: int = 0
    attempted: int = 0
    ok: int = 0
    failed: int = 0
    invalid: int = 0
    skipped: int = 0
    planned: int = 0
    expected: int = 0

    reasons: Mapping[str, int] = field(default_factory=dict)
    """With `portal.STATE`, `stage.STAGE`, `event.KIND`, as :data:`contract.series.COUNTS` says."""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    extra: Mapping[str, int] = field(default_factory=dict)
    """`avail_5m_ok avail_5m_n good_signal_ok good_signal_n` where they were counted."""
    method: str = ""

    def metric(self, name: str) -> Metric:
        """Nothing where it was not read.

        :raises KeyError: when the probe has no such metric.
        """
        if name not in METRICS[self.probe]:
            raise KeyError(f"{self.probe} has no metric {name!r}")
        return self.metrics.get(name, _NONE)

    @property
    def success_ratio(self) -> float | None:
        """ok / attempted (成功率); None without attempts."""
        return self.ok / self.attempted if self.attempted else None

    @property
    def failed_ratio(self) -> float | None:
        """failed / attempted; None without attempts."""
        return self.failed / self.attempted if self.attempted else None

    @classmethod
    def of(cls, point: Point) -> Self:
        """A row that was just computed.

        :raises KeyError: when the point is no rollup.
        """
        probe = _PROBES[point.series]
        table = ROLLUPS[probe]
        tags = dict(zip(table.tags, point.tags, strict=True))
        fields = dict(zip(table.fields, point.fields, strict=True))
        return cls._made(probe, point.time_ns, tags, fields, METRICS[probe])

    @classmethod
    def _made(
        cls, probe: str, time_ns: int, tags: Mapping[str, str], fields: Mapping[str, Any], metrics: Sequence[str]
    ) -> Self:
        counts: dict[str, Any] = {name: fields.get(name) or 0 for name in _NUMBERS}
        labels: dict[str, Any] = dict(tags)
        failed = counts["failed"]
        return cls(
            probe=probe,
            time_ns=time_ns,
            **labels,
            **counts,
            reasons=counted(fields.get("reasons") or ""),
            metrics={name: _metric(probe, name, fields, failed) for name in metrics},
            extra={
                name: cast(int, fields[name])
                for name, kind in EXTRA.get(probe, {}).items()
                if kind == "int" and fields.get(name) is not None
            },
            method=fields.get("method") or "",
        )


_NONE: Final = Metric()
_NUMBERS: Final = tuple(name for name, kind in COUNTS.items() if kind == "int")
_SUMMED: Final = ("n", "attempted", "ok", "failed", "invalid", "skipped", "planned", "expected")
_PROBES: Final = {table.key: probe for probe, table in ROLLUPS.items()}


async def read(
    store: Store,
    probe: str,
    start_ns: int,
    end_ns: int,
    *,
    metrics: Sequence[str] | None = None,
    where: Mapping[str, str] | None = None,
) -> AsyncIterator[Row]:
    """The rows of a window, oldest first; `metrics` are those wanted (None: all), `where` tags that must be equal.

    :raises StoreError: when they cannot be read.
    """
    wanted = METRICS[probe] if metrics is None else tuple(metrics)
    table = ROLLUPS[probe]
    fields = [*COUNTS, *EXTRA.get(probe, {})]
    for metric in wanted:
        fields += [name for name in table.fields if name.rpartition("_")[0] == metric]
    async for block in store.columns(table.key, fields, start_ns, end_ns, where=where):
        tags = zip(*block.tags, strict=True)
        values = zip(*(block.fields[name] for name in fields), strict=True)
        for time_ns, labels, row in zip(block.time_ns, tags, values, strict=True):
            yield Row._made(
                probe,
                time_ns,
                dict(zip(ROLLUP_TAGS, labels, strict=True)),
                dict(zip(fields, row, strict=True)),
                wanted,
            )


def total(rows: Iterable[Row]) -> Row:
    """Their sum. Quantiles come from sketches alone; sums, counts, smallest and largest add.

    :raises ValueError: when there are none, or of more than one probe.
    """
    found = list(rows)
    if not found:
        raise ValueError("no rows to add")
    probes = {row.probe for row in found}
    if len(probes) > 1:
        raise ValueError(f"rows of {', '.join(sorted(probes))} do not add")
    if len(found) == 1:
        return found[0]
    first = min(found, key=lambda row: row.time_ns)
    reasons: Counter[str] = Counter()
    extra: Counter[str] = Counter()
    for row in found:
        reasons.update(row.reasons)
        extra.update(row.extra)
    names = dict.fromkeys(name for row in found for name in row.metrics)
    tags: dict[str, Any] = {tag: _common(getattr(row, tag) for row in found) for tag in ROLLUP_TAGS}
    methods = {row.method for row in found if row.method}
    return Row(
        probe=first.probe,
        time_ns=first.time_ns,
        **tags,
        busy=first.busy,
        hour=first.hour,
        dow=first.dow,
        **{name: sum(getattr(row, name) for row in found) for name in _SUMMED},
        reasons=reasons,
        metrics={name: _sum([row.metrics[name] for row in found if name in row.metrics]) for name in names},
        extra=extra,
        method=methods.pop() if len(methods) == 1 else "",
    )


def _sum(metrics: Sequence[Metric]) -> Metric:
    return Metric(
        n=sum(metric.n for metric in metrics),
        total=math.fsum(metric.total for metric in metrics),
        minimum=min(_known(*(metric.minimum for metric in metrics)), default=None),
        maximum=max(_known(*(metric.maximum for metric in metrics)), default=None),
        failures=sum(metric.failures for metric in metrics),
        encoded=tuple(text for metric in metrics for text in metric.encoded),
    )


def _metric(probe: str, name: str, fields: Mapping[str, Any], failed: int) -> Metric:
    n = fields.get(f"{name}_n") or 0
    failures = failed if name in TIMES.get(probe, ()) else 0
    sketch = fields.get(f"{name}_sketch") if name in SKETCHED.get(probe, ()) else None
    encoded = (sketch,) if sketch else ()
    if not n:  # what else stands there is left from a former run: a null erases nothing
        at = math.inf if failures else None
        return Metric(failures=failures, p50=at, p95=at, encoded=encoded)
    return Metric(
        n=n,
        total=fields.get(f"{name}_sum") or 0.0,
        minimum=fields.get(f"{name}_min"),
        maximum=fields.get(f"{name}_max"),
        p50=math.inf if timeout(0.5, n, failures) else fields.get(f"{name}_p50"),
        p95=math.inf if timeout(0.95, n, failures) else fields.get(f"{name}_p95"),
        failures=failures,
        encoded=encoded,
    )


def timeout(p: float, n: int, failures: int) -> bool:
    """Whether the quantile `p` of a time with `n` values and some failures is infinite: the nearest rank is one."""
    return failures > 0 and math.ceil(p * (n + failures) - 1e-9) > n


def counted(reasons: str) -> dict[str, int]:
    """The field `reasons` taken apart."""
    if not reasons:
        return {}
    pairs = (part.rpartition("=") for part in reasons.split(",") if part)
    return {name: int(count) for name, _, count in pairs}


def _known(*values: float | None) -> list[float]:
    return [value for value in values if value is not None]


def _common(values: Iterable[str]) -> str:
    found = set(values)
    return found.pop() if len(found) == 1 else ""
