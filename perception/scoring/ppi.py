"""PPI, 感知度指数: the headline score of a venue, 0-100. Weights and ends are the profile's; our own choice (自定).

PPI = the weighted mean of dimensions, each the weighted mean of its indicators. The three dimensions mirror the
40/30/30 of the city's 2024 scheme; the inner weights of that scheme are not public, so this is for internal monitoring.
"""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from perception.scoring.emodel import delay_ms, emodel, voice
from perception.scoring.primitives import lin, log
from perception.scoring.profile import Dimension, Indicator, Profile
from perception.scoring.video_kpi import video_kpi
from perception.scoring.web_log import web

COUNTED: Final = {
    "web": ("web_success_ratio",),
    "video": ("video_success_ratio",),
    "voice": ("rtt_p50_ms", "loss_ratio"),
}
"""Values whose tests are counted for a composed indicator; every other indicator is its own value."""

MISSING_SHARE: Final = 1 / 3
"""More of a dimension's weight missing: not rated (不评). Exactly a third is rated."""
_ROUNDING: Final = 1e-9


class Count(NamedTuple):
    """The tests behind a value, failures included."""

    n: int
    busy: int = 0
    """Of them in busy hours."""
    days: int = 0
    """Local days that have one."""


class Ppi(NamedTuple):
    """A venue's score; every part is None when it is not rated (不评)."""

    score: float | None
    level: str | None
    dimensions: dict[str, float | None]
    indicators: dict[str, float | None]
    """0-100, by indicator of the profile, in its order."""
    partial: bool
    """Whether an indicator is missing."""
    missing: list[str]
    """Which: not measured, or too few tests (样本不足)."""


def ppi(
    profile: Profile,
    values: Mapping[str, float | None],
    *,
    counts: Mapping[str, Count] | None = None,
    jitter_buffer_ms: float | None = None,
) -> Ppi:
    """The score of measured `values`, named as :data:`contract.series.INDICATORS`.

    Times may be +infinity (超时): most tests failed. Values that the profile leaves out are not read.
    With `counts`, by value, the profile's floors hold: an indicator below them is missing. Weeks are counted, hours and
    days are not. `jitter_buffer_ms` replaces the profile's.
    """
    scores: dict[str, float | None] = {}
    for indicator in profile.indicators:
        enough = counts is None or is_enough(indicator, counts)
        scores[indicator.id] = indicator_score(profile, indicator, values, jitter_buffer_ms) if enough else None
    dimensions: dict[str, float | None] = {name: _dimension(profile, name, scores) for name in profile.dimensions}
    missing = [name for name, score in scores.items() if score is None]
    score = _weighted(profile, dimensions)
    return Ppi(score, profile.levels.of(score), dimensions, scores, bool(missing), missing)


def indicator_score(
    profile: Profile, indicator: Indicator, values: Mapping[str, float | None], jitter_buffer_ms: float | None = None
) -> float | None:
    """One indicator, 0-100; None when a value that it needs is."""
    match indicator.fn:
        case "web":
            times = profile.web_log
            return web(values.get("web_total_ms"), values.get("web_success_ratio"), t5_s=times.t5_s, t1_s=times.t1_s)
        case "video":
            seen = (values.get(f"video_{name}") for name in ("start_s", "stall_ratio", "success_ratio"))
            ends = profile.video
            return video_kpi(*seen, start=ends.start_s.end(), stall=ends.stall_ratio.end())
        case "voice":
            return voice(r_factor(profile, values, jitter_buffer_ms))
    if indicator.bad is None or indicator.good is None:
        raise ValueError(f"{indicator.id} has no ends")  # the loader lets none through
    curve = lin if indicator.fn == "lin" else log
    return curve(values.get(indicator.id), indicator.bad, indicator.good)


def r_factor(
    profile: Profile, values: Mapping[str, float | None], jitter_buffer_ms: float | None = None
) -> float | None:
    """R of the simple E-model, from the core's round trip and loss; -infinity when round trips time out."""
    rtt_ms, loss_ratio = values.get("rtt_p50_ms"), values.get("loss_ratio")
    if rtt_ms is None or loss_ratio is None:
        return None
    if math.isinf(rtt_ms):
        return -math.inf
    speech = profile.voice
    buffer_ms = speech.jitter_buffer_ms if jitter_buffer_ms is None else jitter_buffer_ms
    rated = emodel(delay_ms(rtt_ms, buffer_ms), loss_ratio, ie=speech.ie, bpl=speech.bpl, r0=speech.r0)
    return None if rated is None else rated.r


def is_enough(indicator: Indicator, counts: Mapping[str, Count]) -> bool:
    """Whether the tests of a week reach the indicator's floors."""
    behind = [counts.get(name, Count(0)) for name in COUNTED.get(indicator.id, (indicator.id,))]
    return all(
        count.n >= indicator.min_n and count.busy >= indicator.min_busy and count.days >= indicator.min_days
        for count in behind
    )


def marked(profile: Profile, name: str, values: Mapping[str, float | None]) -> float | None:
    """The number that an indicator's pass mark is about: web's median time, video's stalls, voice's R, else the value
    itself."""
    match name:
        case "web":
            return math.inf if values.get("web_success_ratio") == 0 else values.get("web_total_ms")
        case "video":
            return math.inf if values.get("video_success_ratio") == 0 else values.get("video_stall_ratio")
        case "voice":
            return r_factor(profile, values)
    return values.get(name)


def passes(
    profile: Profile,
    values: Mapping[str, float | None],
    *,
    contract: Mapping[str, float | None] | None = None,
    counts: Mapping[str, Count] | None = None,
) -> dict[str, bool | None]:
    """Whether each indicator that has a mark meets it (达标); None when it is not known. `contract` has what the
    operator promised, by indicator: it replaces the mark."""
    answers: dict[str, bool | None] = {}
    for indicator in profile.indicators:
        if indicator.pass_ is None:
            continue
        x = marked(profile, indicator.id, values)
        known = x is not None and (counts is None or is_enough(indicator, counts))
        promised = (contract or {}).get(indicator.id)
        answers[indicator.id] = indicator.pass_.met(x, promised) if known and x is not None else None
    return answers


def _dimension(profile: Profile, name: Dimension, scores: Mapping[str, float | None]) -> float | None:
    weights = {indicator.id: indicator.w for indicator in profile.indicators if indicator.dim == name}
    total = sum(weights.values())
    known = {name: weight for name, weight in weights.items() if scores[name] is not None}
    present = sum(known.values())
    if present <= 0 or total - present > MISSING_SHARE * total * (1 + _ROUNDING):
        return None
    return sum(weight * (scores[name] or 0.0) for name, weight in known.items()) / present


def _weighted(profile: Profile, dimensions: Mapping[str, float | None]) -> float | None:
    """Not rated when one dimension is not."""
    total = 0.0
    for name, weight in profile.dimensions.items():
        score = dimensions[name]
        if score is None:
            return None
        total += weight * score
    return total
