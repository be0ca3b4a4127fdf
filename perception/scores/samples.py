"""What a venue's rows say of each value that is scored: counts, sums and distributions, which add."""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Self

from perception.scoring.ppi import Count
from perception.sketch import Sketch, add_encoded
from perception.statistics.slots import Slots
from perception.stored import Row

Role = Callable[[str, str], str]
"""The role of an agent's target."""


class Source(NamedTuple):
    """Where a value comes from."""

    probes: tuple[str, ...]
    metric: str | None = None
    """None: the share of slots that were ok."""
    role: str | None = None
    """Of the targets that count; None: all."""
    extra: str | None = None
    """Instead of slots, these: `<extra>_ok` of `<extra>_n`."""


SOURCES: Final[dict[str, Source]] = {
    "access_success_ratio": Source(("wifi_join",)),
    "online_ms": Source(("wifi_join",), "online_ms"),
    "good_signal_ratio": Source(("wifi_link",), extra="good_signal"),
    "availability_ratio": Source(("latency",), extra="avail_5m"),
    "reach_ratio": Source(("latency", "web", "dns"), role="service"),
    "down_mbps": Source(("throughput",), "down_mbps"),
    "up_mbps": Source(("throughput",), "up_mbps"),
    "rtt_p50_ms": Source(("latency",), "rtt_p50_ms", "core"),
    "rt_pdv_p95_ms": Source(("latency",), "rt_pdv_p95_ms", "core"),
    "ipdv_mean_ms": Source(("latency",), "ipdv_mean_ms", "core"),
    "loss_ratio": Source(("latency",), "loss_ratio", "core"),
    "working_rise_ms": Source(("throughput",), "working_rise_ms"),
    "idle_rtt_p50_ms": Source(("throughput",), "idle_rtt_p50_ms"),
    "loaded_down_rtt_p50_ms": Source(("throughput",), "loaded_down_rtt_p50_ms"),
    "loaded_up_rtt_p50_ms": Source(("throughput",), "loaded_up_rtt_p50_ms"),
    "rpm_down": Source(("throughput",), "rpm_down"),
    "rpm_up": Source(("throughput",), "rpm_up"),
    "dns_rtt_ms": Source(("dns",), "rtt_ms"),
    "web_total_ms": Source(("web",), "total_ms"),
    "web_success_ratio": Source(("web",)),
    "video_start_s": Source(("video",), "start_s"),
    "video_stall_ratio": Source(("video",), "stall_ratio"),
    "video_success_ratio": Source(("video",)),
}
"""Every value by its name in :data:`contract.series.INDICATORS`, and some more that other scores need."""

METRICS: Final = {
    probe: tuple(dict.fromkeys(s.metric for s in SOURCES.values() if probe in s.probes and s.metric))
    for probe in dict.fromkeys(probe for source in SOURCES.values() for probe in source.probes)
}
"""By probe, what has to be read."""


class Sample:
    """Of one value: tests made, and what they gave."""

    __slots__ = ("buckets", "busy", "busy_n", "busy_total", "days", "failed", "failures", "n", "ok", "total", "value_n")

    def __init__(self) -> None:
        self.n = 0
        """Sample, failed ones included."""
        self.busy = 0
        """Of them in busy hours."""
        self.days: set[int] = set()
        """Local days that have one."""
        self.ok = 0
        self.failed = 0
        """Failed ones that gave no value of their own (all that is lost is a loss of 1)."""
        self.value_n = 0
        self.total = 0.0
        self.busy_n = 0
        self.busy_total = 0.0
        """Values, and their sum; those of busy hours."""
        self.buckets: dict[int, int] = {}
        self.failures = 0
        """Of the sketch."""

    def add(self, other: "Sample") -> None:
        """Take in those of another time or agent."""
        self.n += other.n
        self.busy += other.busy
        self.days |= other.days
        self.ok += other.ok
        self.failed += other.failed
        self.value_n += other.value_n
        self.total += other.total
        self.busy_n += other.busy_n
        self.busy_total += other.busy_total
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        self.failures += other.failures

    @property
    def count(self) -> Count:
        """As the floors of a profile read it."""
        return Count(self.n, self.busy, len(self.days))

    @property
    def ratio(self) -> float | None:
        """ok of all tests; None without any."""
        return self.ok / self.n if self.n else None

    def mean(self, fail_value: float | None = None) -> float | None:
        """Of the values; each failed test without one counts as `fail_value`, or for nothing where that is None."""
        failed = 0 if fail_value is None else self.failed
        n = self.value_n + failed
        return (self.total + failed * (fail_value or 0.0)) / n if n else None

    @property
    def busy_mean(self) -> float | None:
        """Of the values in busy hours."""
        return self.busy_total / self.busy_n if self.busy_n else None

    @property
    def idle_mean(self) -> float | None:
        """Of the values in all others."""
        n = self.value_n - self.busy_n
        return (self.total - self.busy_total) / n if n else None

    def quantile(self, p: float, *, failures: bool) -> float | None:
        """Within 1 %; with `failures` as +infinity among them, or of the answers alone. None of nothing."""
        return Sketch(self.buckets, self.failures if failures else 0).quantile(p)


class Venue:
    """Everything that is scored of a venue and network over some time. Adds over hours."""

    def __init__(self) -> None:
        self.samples: dict[str, Sample] = {name: Sample() for name in SOURCES}
        self._slots = [0] * len(Slots._fields)
        self.records = 0
        """Of scheduled slots, those in a maintenance window too."""
        self.joins = False
        """Whether its agents join actively."""
        self.busy = False
        """Of an hour: whether it is a busy one."""

    def add(self, row: Row, role: Role, day: int) -> None:
        """Take in a row; `day` numbers its local day."""
        is_availability = row.probe == "latency" and row.target == "-"
        if row.probe != "wifi_event" and not is_availability:
            slots = self._slots
            slots[0] += row.expected
            slots[1] += row.ok
            slots[2] += row.failed
            slots[3] += row.invalid
            slots[4] += row.skipped
            slots[5] += row.planned
            slots[6] += row.reasons.get("suppressed", 0)
            self.records += row.n
        if row.probe == "wifi_join" and row.expected:  # what merely happened is of no job
            self.joins = True
        for name in _NAMES.get(row.probe, ()):
            source = SOURCES[name]
            if source.role is None or role(row.agent, row.target) == source.role:
                _add(self.samples[name], source, row, day)

    def merge(self, other: "Venue") -> None:
        """Take in another time."""
        for name, tests in other.samples.items():
            self.samples[name].add(tests)
        self._slots = [mine + more for mine, more in zip(self._slots, other._slots, strict=True)]
        self.records += other.records
        self.joins |= other.joins

    @classmethod
    def total(cls, parts: Iterable["Venue"]) -> Self:
        """The sum of some times."""
        whole = cls()
        for part in parts:
            whole.merge(part)
        return whole

    @property
    def slots(self) -> Slots:
        """What became of the scheduled ones."""
        return Slots(*self._slots)

    @property
    def completeness(self) -> float | None:
        """完整率: records of the expected slots; None when nothing was expected."""
        expected = self.slots.expected
        return min(1.0, self.records / expected) if expected else None


_NAMES: Final = {
    probe: tuple(name for name, source in SOURCES.items() if probe in source.probes)
    for probe in dict.fromkeys(probe for source in SOURCES.values() for probe in source.probes)
}


def _add(tests: Sample, source: Source, row: Row, day: int) -> None:
    if source.extra is not None:
        ok, n = row.extra.get(f"{source.extra}_ok", 0), row.extra.get(f"{source.extra}_n", 0)
    elif source.metric is None:
        ok, n = row.ok, row.attempted
    else:
        metric = row.metric(source.metric)
        # Not every failure: a test may be ok and leave a value out.
        failed = row.failed - row.reasons.get("all_lost", 0) if source.metric == "loss_ratio" else row.failed
        is_rate = source.metric in ("down_mbps", "up_mbps")
        failed = 0 if is_rate else failed  # their value is 0, and in the sum
        ok, n = metric.n, metric.n + failed
        tests.failed += failed
        tests.value_n += metric.n
        tests.total += metric.total
        if row.busy:
            tests.busy_n += metric.n
            tests.busy_total += metric.total
        for text in metric.encoded:
            tests.failures += add_encoded(tests.buckets, text)
    if n:
        tests.ok += ok
        tests.n += n
        tests.busy += n if row.busy else 0
        tests.days.add(day)
