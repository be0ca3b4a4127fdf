"""A scoring profile: every weight, limit and mark that is not part of a published formula. Read by perception.profiles.

Numbers here are our own choice (自定) unless an indicator's `source` says otherwise.
"""

from collections import Counter
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, Self, get_args
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)

from contract.times import known_zone
from perception.scoring import qoo, video_kpi
from perception.scoring.iqb import Requirement

Dimension = Literal["coverage", "quality", "service"]
DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)
IndicatorId = Literal[
    "access_success_ratio",
    "online_ms",
    "good_signal_ratio",
    "availability_ratio",
    "reach_ratio",
    "down_mbps",
    "up_mbps",
    "rtt_p50_ms",
    "rt_pdv_p95_ms",
    "loss_ratio",
    "working_rise_ms",
    "dns_rtt_ms",
    "web",
    "video",
    "voice",
]
FailValue = Literal["inf"] | float | None
STATISTICS: Final[dict[str, tuple[str, tuple[FailValue, ...]]]] = {
    "access_success_ratio": ("ratio", (None,)),
    "online_ms": ("p50", ("inf",)),
    "good_signal_ratio": ("ratio", (None,)),
    "availability_ratio": ("ratio", (None,)),
    "reach_ratio": ("ratio", (None,)),
    "down_mbps": ("busy_idle_mean", (0,)),
    "up_mbps": ("busy_idle_mean", (0,)),
    "rtt_p50_ms": ("p50", ("inf",)),
    "rt_pdv_p95_ms": ("p50", (None,)),
    "loss_ratio": ("mean", (None, 1)),
    "working_rise_ms": ("p50", (None,)),
    "dns_rtt_ms": ("p50", (None,)),
}
"""How the tests of each indicator become one value, and what a failed one may count as: a profile says it, for those
who read it, and can say nothing else. Whether a test that failed before it could lose a packet counts as all lost is
the profile's choice."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final[tuple[Day, ...]] = get_args(Day)
MINUTES_OF_DAY: Final = 1440
WEEKEND: Final = 5
"""Index of the first day that offices are closed."""


class _Table(BaseModel):
    """Takes no unknown key and no wrong type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Header(_Table):
    """Which profile this is."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{2,62}$")]
    version: Annotated[int, Field(ge=1)]
    network: Literal["wifi", "gov"]
    tz: str
    status: Annotated[str, Field(min_length=1, max_length=100)]
    """`draft-not-official` until an authority has confirmed the marks."""

    _known = field_validator("tz")(known_zone)


def _days(text: object) -> object:
    """``mon-fri``, or a list of days, as the days."""
    if not isinstance(text, str):
        return text
    first, _, last = text.partition("-")
    last = last or first
    if first not in DAYS or last not in DAYS or DAYS.index(first) > DAYS.index(last):
        raise ValueError(f"{text!r} are no days; write mon-fri, or a list of {', '.join(DAYS)}")
    return list(DAYS[DAYS.index(first) : DAYS.index(last) + 1])


def _window(text: str) -> str:
    first, last = minutes_of(text)
    if first >= last:
        raise ValueError(f"{text!r} ends before it begins; write its two parts: 22:00-24:00 and 00:00-02:00")
    return text


def minutes_of(window: str) -> tuple[int, int]:
    """``09:30-11:30`` in minutes of the day: from, and before."""
    first, last = (int(clock[:2]) * 60 + int(clock[3:]) for clock in window.split("-"))
    return first, last


Window = Annotated[
    str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)$"), AfterValidator(_window)
]


class BusyHours(_Table):
    """Hours of some days, local time."""

    days: Annotated[list[Day], BeforeValidator(_days), Field(min_length=1)]
    at: Annotated[list[Window], Field(min_length=1)]


def _listed(value: object) -> object:
    return [value] if isinstance(value, dict) else value


def _apart(hours: list[BusyHours]) -> list[BusyHours]:
    for day in DAYS:
        windows = sorted(minutes_of(at) for one in hours if day in one.days for at in one.at)
        for (_, end), (start, _) in pairwise(windows):
            if start < end:
                raise ValueError(f"hours overlap on {day}; join them, or end the first earlier")
    return hours


class BusyIdle(_Table):
    """How busy and idle hours make one rate, and which hours are busy where the register does not say."""

    w_busy: Ratio
    hours: dict[str, Annotated[list[BusyHours], BeforeValidator(_listed), AfterValidator(_apart)]]
    """By venue type; `default` for all others."""

    @field_validator("hours")
    @classmethod
    def _complete(cls, hours: dict[str, list[BusyHours]]) -> dict[str, list[BusyHours]]:
        if "default" not in hours:
            raise ValueError("no `default`; add one for venue types that are not named")
        return hours

    def is_busy(self, venue_type: str, day: int, minute: int) -> bool:
        """Whether a minute of the day (0-1439) on a day of the week (0 is Monday) is busy, local time."""
        hours = self.hours.get(venue_type, self.hours["default"])
        return any(
            DAYS[day] in one.days and any(first <= minute < last for first, last in map(minutes_of, one.at))
            for one in hours
        )


class Mark(_Table):
    """A pass mark (达标)."""

    op: Literal[">=", "<="]
    v: Number

    def met(self, x: float, contract: float | None = None) -> bool:
        """Whether a value passes; what the contract promises replaces the mark."""
        mark = self.v if contract is None else contract
        return x >= mark if self.op == ">=" else x <= mark


class Indicator(_Table):
    """One row of the perception index."""

    id: IndicatorId
    dim: Dimension
    w: Positive
    """Within its dimension."""
    fn: Literal["lin", "log", "web", "video", "voice"]
    bad: Number | None = None
    """Scores 0; with `lin` and `log`."""
    good: Number | None = None
    """Scores 100."""
    stat: Literal["ratio", "mean", "p50", "busy_idle_mean"] | None = None
    """How many tests become one value; null for the composed ones (web, video, voice)."""
    fail_value: Number | Literal["inf"] | None = None
    """What a failed test counts as; null: the failure has no value of its own and counts elsewhere."""
    pass_: Annotated[Mark | None, Field(alias="pass")] = None
    min_n: Annotated[int, Field(ge=1)] = 1
    """Tests in a week below which the indicator is 样本不足."""
    min_busy: Annotated[int, Field(ge=0)] = 0
    """Of them in busy hours."""
    min_days: Annotated[int, Field(ge=0, le=7)] = 0
    """Days of the week that have one."""
    source: str | None = None

    @model_validator(mode="after")
    def _sound(self) -> Self:
        composed = self.fn in ("web", "video", "voice")
        if composed != (self.id in ("web", "video", "voice")) or (composed and self.fn != self.id):
            raise ValueError(f"fn {self.fn!r} does not score {self.id}; web, video and voice score themselves")
        if composed and (self.bad is not None or self.good is not None):
            raise ValueError(f"{self.fn} has its ends in a table of its own; remove bad and good")
        if composed:
            return self
        if self.bad is None or self.good is None:
            raise ValueError(f"{self.fn} needs two ends; add bad and good")
        if self.bad == self.good:
            raise ValueError(f"bad and good are both {self.bad:g}; make them differ")
        if self.fn == "log" and min(self.bad, self.good) <= 0:
            raise ValueError("log needs both ends above 0; raise the lower one, or use lin")
        stat, fail_values = STATISTICS[self.id]
        if self.stat != stat:
            raise ValueError(f"stat of {self.id} is {stat}; write that")
        if self.fail_value not in fail_values:
            told = " or ".join("null" if value is None else str(value) for value in fail_values)
            raise ValueError(f"fail_value of {self.id} is {told}; write that")
        return self


class WebLog(_Table):
    """Times of web_log."""

    t5_s: Positive
    t1_s: Positive

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.t5_s >= self.t1_s:
            raise ValueError("t5_s must be below t1_s")
        return self


class Voice(_Table):
    """The simple E-model's constants."""

    r0: Positive
    jitter_buffer_ms: Annotated[float, Field(ge=0)]
    ie: Annotated[float, Field(ge=0, lt=95)]
    bpl: Positive


class VideoEnd(_Table):
    """One part of video_kpi."""

    bad: Number
    good: Number
    w: Positive

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.bad == self.good:
            raise ValueError(f"bad and good are both {self.bad:g}; make them differ")
        return self

    def end(self) -> video_kpi.End:
        """As the formula takes it."""
        return video_kpi.End(self.bad, self.good, self.w)


class Video(_Table):
    """Both parts of video_kpi."""

    start_s: VideoEnd
    stall_ratio: VideoEnd


class IqbRequirement(_Table):
    """Threshold and weight."""

    thr: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    w: Positive


class UseCase(_Table):
    """What a use case needs; a value that is missing does not matter to it."""

    down_mbps: IqbRequirement | None = None
    up_mbps: IqbRequirement | None = None
    rtt_ms: IqbRequirement | None = None
    loss_ratio: IqbRequirement | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.requirements():
            raise ValueError("asks for nothing; add one of down_mbps, up_mbps, rtt_ms, loss_ratio")
        return self

    def requirements(self) -> dict[str, Requirement]:
        """As the formula takes them."""
        return {name: Requirement(need.thr, need.w) for name, need in self if need is not None}


class QooSpan(_Table):
    """From perfect (`rop`) to useless (`cpup`)."""

    rop: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    cpup: Annotated[float, Field(ge=0, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.rop >= self.cpup:
            raise ValueError(f"rop {self.rop:g} is not below cpup {self.cpup:g}; perfect comes before useless")
        return self


def _is_percentile(text: str) -> str:
    try:
        if 0 < float(text) <= 100:
            return text
    except ValueError:
        pass
    raise ValueError(f"{text!r} is no percentile; write one like '95'")


Percentile = Annotated[str, AfterValidator(_is_percentile)]


class QooRequirement(_Table):
    """What an application needs."""

    down_mbps: Positive | None = None
    rtt_ms: dict[Percentile, QooSpan] = {}
    loss_ratio: QooSpan | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.down_mbps is None and not self.rtt_ms and self.loss_ratio is None:
            raise ValueError("asks for nothing; add one of down_mbps, rtt_ms, loss_ratio")
        return self

    def requirement(self) -> qoo.Requirement:
        """As the formula takes it."""
        return qoo.Requirement(
            {float(percentile): qoo.Span(span.rop, span.cpup) for percentile, span in self.rtt_ms.items()},
            None if self.loss_ratio is None else qoo.Span(self.loss_ratio.rop, self.loss_ratio.cpup),
            self.down_mbps,
        )


class RiseLimits(_Table):
    """How much later than the item before it an item may answer, ms; null: not judged."""

    gateway: Positive
    core: Positive
    internet: Positive | None


class Verdict(_Table):
    """Limits of the segment verdicts."""

    min_attempted: Annotated[int, Field(ge=1)]
    """Fewer slots say nothing about an item."""
    silent_gateway_days: Annotated[int, Field(ge=1)]
    """A gateway that did not answer for so long never does."""
    failed_ratio: Ratio
    loss_rise_ratio: Ratio
    rise_ms: RiseLimits
    rssi_dbm: Number
    snr_db: Number
    tx_retry_ratio: Ratio
    busy_ratio: Ratio
    join_failures: Annotated[int, Field(ge=1)]
    join_window: Annotated[int, Field(ge=1)]
    """So many failures of so many last joins."""
    slots_ratio: Ratio
    """Or this share of the hour's slots that gives the stage's reason."""
    portal_ms: Positive
    dns_rtt_ms: Positive
    min_peers: Annotated[int, Field(ge=1)]
    shared_ratio: Ratio
    local_ratio: Ratio
    invalid_ratio: Ratio
    congested_down_ratio: Ratio
    """Of the same hour's median over `congestion_weeks`."""
    congested_rise_ms: Positive
    congestion_weeks: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.local_ratio >= self.shared_ratio:
            raise ValueError("local_ratio must be below shared_ratio; between them peers are mixed")
        if self.join_failures > self.join_window:
            raise ValueError("join_failures must not be above join_window")
        return self


class Levels(_Table):
    """The least score of each level; below all of them 差."""

    excellent: Annotated[Number, Field(alias="优")]
    good: Annotated[Number, Field(alias="良")]
    fair: Annotated[Number, Field(alias="中")]

    @model_validator(mode="after")
    def _falling(self) -> Self:
        if not 100 >= self.excellent > self.good > self.fair >= 0:
            raise ValueError("levels must fall from 优 over 良 to 中, within 100 and 0")
        return self

    def of(self, score: float | None) -> Literal["优", "良", "中", "差"] | None:
        """The level of a score; None of None."""
        if score is None:
            return None
        if score >= self.excellent:
            return "优"
        return "良" if score >= self.good else "中" if score >= self.fair else "差"


class Gates(_Table):
    """Validity from which a venue is published, and from which it is published with a mark; below it has no rank."""

    publish: Ratio
    flag: Ratio

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.flag > self.publish:
            raise ValueError("flag must not be above publish")
        return self


class Profile(_Table):
    """A whole profile."""

    profile: Header
    dimensions: dict[Dimension, Positive]
    busy_idle: BusyIdle
    indicators: Annotated[list[Indicator], Field(min_length=1)]
    web_log: WebLog
    voice: Voice
    video: Video
    iqb: Annotated[dict[str, UseCase], Field(min_length=1)]
    qoo: Annotated[dict[str, QooRequirement], Field(min_length=1)]
    verdict: Verdict
    levels: Levels
    gates: Gates
    _sha256: str = PrivateAttr("")

    @field_validator("dimensions")
    @classmethod
    def _whole(cls, weights: dict[Dimension, float]) -> dict[Dimension, float]:
        if abs(sum(weights.values()) - 1) > 1e-9:
            raise ValueError(f"weights sum to {sum(weights.values()):g}; make them sum to 1")
        return weights

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for i, indicator in enumerate(self.indicators):
            if indicator.dim not in self.dimensions:
                raise ValueError(f"indicators[{i}].dim: {indicator.dim!r} has no weight; add it to dimensions")
        for name, count in Counter(indicator.id for indicator in self.indicators).items():
            if count > 1:
                places = [i for i, indicator in enumerate(self.indicators) if indicator.id == name]
                raise ValueError(f"indicators[{places[1]}].id: {name} stands twice; remove one")
        for dimension in self.dimensions:
            if all(indicator.dim != dimension for indicator in self.indicators):
                raise ValueError(f"dimensions.{dimension}: no indicator; add one, or remove the dimension")
        return self

    @classmethod
    def of(cls, table: dict[str, Any], sha256: str) -> Self:
        """A checked profile that knows the hash of its file.

        :raises pydantic.ValidationError: for anything that is wrong with it.
        """
        made = cls.model_validate(table)
        made._sha256 = sha256
        return made

    @property
    def id(self) -> str:
        """Its name."""
        return self.profile.id

    @property
    def series(self) -> str:
        """The tag `profile` of its scores: the id, and from version 2 on ``.v2``: a changed profile never rescores in
        place."""
        return self.id if self.profile.version == 1 else f"{self.id}.v{self.profile.version}"

    @property
    def sha256(self) -> str:
        """Of the parsed file, 64 hexadecimal digits; stamped on every score."""
        return self._sha256

    @property
    def network(self) -> Literal["wifi", "gov"]:
        """Which venues it scores."""
        return self.profile.network

    @property
    def zone(self) -> ZoneInfo:
        """Of days and busy hours."""
        return ZoneInfo(self.profile.tz)

    def indicator(self, name: str) -> Indicator | None:
        """A row; None when this profile leaves it out."""
        return next((indicator for indicator in self.indicators if indicator.id == name), None)

    def use_cases(self) -> dict[str, dict[str, Requirement]]:
        """The IQB table as the formula takes it."""
        return {name: case.requirements() for name, case in self.iqb.items()}
