"""`wanggan score FORMULA`: one JSON object in, the score out. The same functions that score the district.

Numbers are unrounded. null is "not measured", in and out. What is wrong with the input is one line with the field.
"""

import argparse
import difflib
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from contract.series import INDICATORS
from perception import profiles
from perception.scoring import emodel, iqb, primitives, qoo, video_kpi, web_log
from perception.scoring.aim import Experience, aim
from perception.scoring.bloat import bloat
from perception.scoring.emodel_full import Transmission, emodel_full
from perception.scoring.ppi import ppi
from perception.scoring.rpm import rpm
from perception.statistics.change import hodges_lehmann
from perception.statistics.intervals import order_stat_ci, wilson
from perception.statistics.quantiles import eighty_eighty, quantile
from perception.statistics.ranking import Ranked, tiers
from store.tables import ConfigError

OK: Final = 0
USAGE: Final = 2

LARGEST: Final = 1e15
Number = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
Amount = Annotated[float, Meta(ge=0, le=LARGEST)]
Positive = Annotated[float, Meta(gt=0, le=LARGEST)]
Ratio = Annotated[float, Meta(ge=0, le=1)]
Percent = Annotated[float, Meta(gt=0, lt=1)]
Delay = Annotated[float, Meta(ge=0, le=1e6)]
Count = Annotated[int, Meta(ge=0, le=10**9)]
Samples = Positive | list[Positive] | None
Answer = dict[str, Any]


class Strict(Struct, forbid_unknown_fields=True):
    """Takes no unknown key and no wrong type."""


class Lin(Strict):
    x: Number | None
    bad: Number
    good: Number

    def score(self) -> Answer:
        if self.bad == self.good:
            raise ValueError("good: equal to bad; make them differ")
        return {"score": primitives.lin(self.x, self.bad, self.good)}


class Log(Strict):
    x: Number | None
    bad: Positive
    good: Positive

    def score(self) -> Answer:
        if self.bad == self.good:
            raise ValueError("good: equal to bad; make them differ")
        return {"score": primitives.log(self.x, self.bad, self.good)}


class Dataset(Strict):
    down_mbps: Amount | None = None
    up_mbps: Amount | None = None
    rtt_ms: Amount | None = None
    loss_ratio: Ratio | None = None


class Need(Strict):
    thr: Amount
    w: Positive


class UseCase(Strict):
    down_mbps: Need | None = None
    up_mbps: Need | None = None
    rtt_ms: Need | None = None
    loss_ratio: Need | None = None


class Iqb(Dataset):
    datasets: dict[str, Dataset] | None = None
    weights: dict[str, Amount] = {}
    use_cases: dict[str, UseCase] | None = None

    def score(self) -> Answer:
        own = {name: getattr(self, name) for name in iqb.VALUES}
        if self.datasets is not None and any(x is not None for x in own.values()):
            raise ValueError("datasets: give the values in them or beside them, not both")
        for name in self.weights:
            if name not in (self.datasets or {}):
                raise ValueError(f"weights.{name}: no such data set; add datasets.{name}")
        cases = iqb.PUBLISHED
        if self.use_cases is not None:
            cases = {
                name: {
                    value: iqb.Requirement(need.thr, need.w)
                    for value in iqb.VALUES
                    if (need := getattr(case, value)) is not None
                }
                for name, case in self.use_cases.items()
            }
        datasets: Mapping[str, iqb.Dataset] = {"-": own}
        if self.datasets is not None:
            datasets = {name: msgspec.structs.asdict(dataset) for name, dataset in self.datasets.items()}
        return iqb.iqb(datasets, self.weights, cases)._asdict()


class Span(Strict):
    rop: Amount
    cpup: Amount


class QooNeed(Strict):
    down_mbps: Positive | None = None
    rtt_ms: dict[str, Span] = {}
    loss_ratio: Span | None = None


class Qoo(Strict):
    rtt_ms: dict[str, Amount | Literal["inf"] | None] = {}
    loss_ratio: Ratio | None = None
    down_mbps: Amount | None = None
    requirement: QooNeed | None = None
    app: str | None = None

    def score(self) -> Answer:
        measured = {_percentile(name): _number(x) for name, x in self.rtt_ms.items()}
        found = qoo.qoo(self._need(), rtt_ms=measured, loss_ratio=self.loss_ratio, down_mbps=self.down_mbps)
        return found._asdict()

    def _need(self) -> qoo.Requirement:
        if (self.requirement is None) == (self.app is None):
            raise ValueError("requirement: give a requirement or an app, one of them")
        if self.app is not None:
            apps = profiles.named("wifi-public-2026").qoo
            if self.app not in apps:
                raise ValueError(f"app: no such app {self.app!r}; one of {', '.join(apps)}")
            return apps[self.app].requirement()
        need = self.requirement
        if need is None or (need.down_mbps is None and not need.rtt_ms and need.loss_ratio is None):
            raise ValueError("requirement: asks for nothing; add one of down_mbps, rtt_ms, loss_ratio")
        return qoo.Requirement(
            {_percentile(name): _span(span, f"requirement.rtt_ms.{name}") for name, span in need.rtt_ms.items()},
            None if need.loss_ratio is None else _span(need.loss_ratio, "requirement.loss_ratio"),
            need.down_mbps,
        )


class Rpm(Strict):
    loaded_http_ms: Samples
    tcp_ms: Samples = None
    tls_ms: Samples = None
    http_ms: Samples = None

    def score(self) -> Answer:
        times = {name: _samples(getattr(self, name)) for name in ("tcp_ms", "tls_ms", "http_ms", "loaded_http_ms")}
        return rpm(**times)._asdict()


class Emodel(Strict):
    rtt_ms: Delay | msgspec.UnsetType | None = msgspec.UNSET
    jitter_buffer_ms: Delay | msgspec.UnsetType = msgspec.UNSET
    loss_ratio: Ratio | msgspec.UnsetType | None = msgspec.UNSET
    delay_ms: Delay | msgspec.UnsetType | None = msgspec.UNSET
    ie: Annotated[float, Meta(ge=0, lt=95)] = 0
    bpl: Positive | None = None
    model: Literal["simple", "full"] = "simple"
    r: Number | msgspec.UnsetType = msgspec.UNSET

    def score(self) -> Answer:
        if self.r is not msgspec.UNSET:
            if msgspec.to_builtins(self).keys() - {"r", "ie", "bpl", "model"}:
                raise ValueError("r: stands alone; remove it, or everything else")
            return {"mos": emodel.mos(self.r)}
        full = self.model == "full"
        delay, loss = self._delay(0.0 if full else None), self.loss_ratio
        if loss is msgspec.UNSET:
            if not full:
                raise ValueError("loss_ratio: missing; add it (null when not measured)")
            loss = 0.0
        if full:
            return self._full(delay, loss)
        bpl = emodel.G711_PLC_BPL if self.bpl is None else self.bpl
        found = emodel.emodel(delay, loss, ie=self.ie, bpl=bpl)
        return dict.fromkeys(emodel.Emodel._fields) if found is None else found._asdict()

    def _delay(self, default: float | None) -> float | None:
        if self.delay_ms is not msgspec.UNSET:
            if self.rtt_ms is not msgspec.UNSET or self.jitter_buffer_ms is not msgspec.UNSET:
                raise ValueError("delay_ms: stands in place of rtt_ms and jitter_buffer_ms; remove it, or them")
            return self.delay_ms
        if self.rtt_ms is msgspec.UNSET and self.jitter_buffer_ms is msgspec.UNSET and default is not None:
            return default
        if self.rtt_ms is msgspec.UNSET:
            raise ValueError("rtt_ms: missing; add it and jitter_buffer_ms, or delay_ms")
        if self.jitter_buffer_ms is msgspec.UNSET:
            raise ValueError("jitter_buffer_ms: missing; add it (0 for none)")
        return None if self.rtt_ms is None else emodel.delay_ms(self.rtt_ms, self.jitter_buffer_ms)

    def _full(self, delay: float | None, loss: float | None) -> Answer:
        names = ("r", "mos", "delay_ms", "id", "ie_eff", "ro", "is", "idd")
        if delay is None or loss is None:
            return dict.fromkeys(names)
        line = Transmission(ie=self.ie, bpl=1 if self.bpl is None else self.bpl, ppl=100 * loss).delayed(delay)
        return dict(zip(names, emodel_full(line), strict=True))


class WebLog(Strict):
    total_ms: Amount | msgspec.UnsetType | None = msgspec.UNSET
    t5_s: Positive = web_log.T5_S
    t1_s: Positive = web_log.T1_S
    failed: bool = False

    def score(self) -> Answer:
        if self.t5_s >= self.t1_s:
            raise ValueError("t5_s: must be below t1_s")
        if self.total_ms is msgspec.UNSET and not self.failed:
            raise ValueError("total_ms: missing; add it (null when not measured), or failed")
        total_ms = None if self.total_ms is msgspec.UNSET else self.total_ms
        return {"mos": web_log.web_log(total_ms, t5_s=self.t5_s, t1_s=self.t1_s, failed=self.failed)}


class VideoKpi(Strict):
    start_s: Amount | None
    stall_ratio: Ratio | None
    success_ratio: Ratio | None = 1.0

    def score(self) -> Answer:
        return {"score": video_kpi.video_kpi(self.start_s, self.stall_ratio, self.success_ratio)}


class Bloat(Strict):
    down_rise_ms: Number | msgspec.UnsetType | None = msgspec.UNSET
    up_rise_ms: Number | msgspec.UnsetType | None = msgspec.UNSET

    def score(self) -> Answer:
        rises = [None if x is msgspec.UNSET else x for x in (self.down_rise_ms, self.up_rise_ms)]
        if self.down_rise_ms is msgspec.UNSET and self.up_rise_ms is msgspec.UNSET:
            raise ValueError("down_rise_ms: missing; add it, or up_rise_ms (null when not measured)")
        return bloat(*rises)._asdict()


class Aim(Strict):
    rtt_ms: Amount | None
    ipdv_mean_ms: Amount | None
    down_mbps: Amount | None
    rise_ms: Number | None
    loss_ratio: Ratio | None = None

    def score(self) -> Answer:
        found = aim(**msgspec.structs.asdict(self))
        return {name: _experience(experience) for name, experience in found._asdict().items()}


class Wilson(Strict):
    k: Count
    n: Count

    def score(self) -> Answer:
        lo, hi = wilson(self.k, self.n)
        return {"ratio": self.k / self.n if self.n else None, "lo": lo, "hi": hi}


class OrderStatCi(Strict):
    q: Percent
    n: Count | None = None
    values: list[Number] | None = None

    def score(self) -> Answer:
        n = len(self.values) if self.n is None and self.values is not None else self.n
        if n is None:
            raise ValueError("n: missing; add it, or values")
        if self.values is not None and len(self.values) != n:
            raise ValueError(f"n: {n}, but there are {len(self.values)} values; make them agree, or remove n")
        ranks = order_stat_ci(n, self.q)
        return ranks._asdict() | ({} if self.values is None else ranks.among(self.values)._asdict())


class Quantile(Strict):
    values: list[Number]
    q: Ratio
    failed: Count = 0
    failed_value: Number | Literal["inf"] = "inf"

    def score(self) -> Answer:
        if self.failed_value == "inf":
            return quantile(self.values, self.q, self.failed)._asdict()
        if self.failed > MOST_FAILED:
            raise ValueError(f"failed: at most {MOST_FAILED} that count as a number")
        return quantile([*self.values, *[self.failed_value] * self.failed], self.q)._asdict()


MOST_FAILED: Final = 10**6


class HodgesLehmann(Strict):
    differences: Annotated[list[Number], Meta(max_length=5000)]

    def score(self) -> Answer:
        return {"estimate": hodges_lehmann(self.differences), "n": len(self.differences)}


class Venue(Strict):
    venue: str
    score: Number
    lo: Number
    hi: Number


class Tiers(Strict):
    venues: list[Venue]

    def score(self) -> Answer:
        seen: set[str] = set()
        for i, one in enumerate(self.venues):
            if one.lo > one.hi:
                raise ValueError(f"venues[{i}].lo: above hi")
            if one.venue in seen:
                raise ValueError(f"venues[{i}].venue: {one.venue!r} stands twice")
            seen.add(one.venue)
        return {"tiers": tiers([Ranked(one.venue, one.score, one.lo, one.hi) for one in self.venues])}


class EightyEighty(Strict):
    units: dict[str, list[Amount]]

    def score(self) -> Answer:
        rate, units = eighty_eighty(self.units)
        return {"mbps": rate, "units": units}


class PassRatio(Strict):
    values: list[Number]
    op: Literal[">=", "<="]
    threshold: Number
    failed: Count = 0

    def score(self) -> Answer:
        passed = sum(x >= self.threshold if self.op == ">=" else x <= self.threshold for x in self.values)
        attempted = len(self.values) + self.failed
        lo, hi = wilson(passed, attempted)
        ratio = passed / attempted if attempted else None
        return {"ratio": ratio, "passed": passed, "attempted": attempted, "lo": lo, "hi": hi}


def _type(indicator: str) -> object:
    """A time may be infinite: most tests failed."""
    if indicator.endswith("_ratio"):
        return Ratio | None
    return Amount | None if indicator.endswith("_mbps") else Amount | Literal["inf"] | None


Values = msgspec.defstruct("Values", [(name, _type(name), None) for name in INDICATORS], bases=(Strict,))


class Ppi(Strict):
    profile: str
    values: Values  # type: ignore[valid-type]
    jitter_buffer_ms: Delay | None = None

    def score(self) -> Answer:
        own = self.profile.endswith((".yaml", ".yml"))
        profile = profiles.load(Path(self.profile)) if own else profiles.named(self.profile)
        measured = {name: _number(getattr(self.values, name)) for name in INDICATORS}
        found = ppi(profile, measured, jitter_buffer_ms=self.jitter_buffer_ms)
        return found._asdict() | {"profile_sha": profile.sha256}


class Formula(NamedTuple):
    """What a formula takes, and an example."""

    input: type[Any]
    """A struct with a method `score`."""
    example: str


FORMULAS: Final[dict[str, Formula]] = {
    "lin": Formula(Lin, '{"x": 0.95, "bad": 0.8, "good": 1}'),
    "log": Formula(Log, '{"x": 10, "bad": 1, "good": 100}'),
    "iqb": Formula(Iqb, '{"down_mbps": 15, "up_mbps": 20, "rtt_ms": 75, "loss_ratio": 0.007}'),
    "qoo": Formula(Qoo, '{"app": "web", "rtt_ms": {"95": 80}, "loss_ratio": 0.001, "down_mbps": 28}'),
    "rpm": Formula(Rpm, '{"tcp_ms": 30, "tls_ms": 35, "http_ms": 40, "loaded_http_ms": [60, 70]}'),
    "emodel": Formula(Emodel, '{"rtt_ms": 80, "jitter_buffer_ms": 40, "loss_ratio": 0.01}'),
    "web_log": Formula(WebLog, '{"total_ms": 960}'),
    "video_kpi": Formula(VideoKpi, '{"start_s": 2, "stall_ratio": 0.01}'),
    "bloat": Formula(Bloat, '{"down_rise_ms": 20, "up_rise_ms": 40}'),
    "aim": Formula(Aim, '{"rtt_ms": 5, "ipdv_mean_ms": 5, "loss_ratio": 0, "down_mbps": 100, "rise_ms": 10}'),
    "ppi": Formula(Ppi, '{"profile": "wifi-public-2026", "values": {"rtt_p50_ms": 18, "down_mbps": 45}}'),
    "wilson": Formula(Wilson, '{"k": 95, "n": 100}'),
    "order_stat_ci": Formula(OrderStatCi, '{"n": 84, "q": 0.5}'),
    "quantile": Formula(Quantile, '{"values": [12, 15, 18, 22, 30], "q": 0.95, "failed": 1}'),
    "hodges_lehmann": Formula(HodgesLehmann, '{"differences": [1.2, -0.4, 2.1, 0.8]}'),
    "tiers": Formula(Tiers, '{"venues": [{"venue": "a", "score": 91, "lo": 88, "hi": 93}]}'),
    "eighty_eighty": Formula(EightyEighty, '{"units": {"a": [10, 20, 30, 40, 50]}}'),
    "pass_ratio": Formula(PassRatio, '{"values": [10, 25, 30, 40], "op": ">=", "threshold": 20, "failed": 1}'),
}


class InputError(ValueError):
    """What is wrong with the input, with the field."""


def score(formula: str, text: bytes) -> Answer:
    """The answer of a formula to one JSON object.

    :raises InputError: when the object is not what the formula takes.
    """
    kind = FORMULAS[formula].input
    try:
        answer: Answer = msgspec.json.decode(text, type=kind).score()
    except (msgspec.ValidationError, RecursionError) as error:
        raise InputError(_explained(str(error))) from None
    except msgspec.DecodeError as error:
        raise InputError(f"standard input: not one JSON object: {error}") from None
    except (ConfigError, ValueError, OverflowError) as error:
        raise InputError(str(error)) from None
    return answer


def main(argv: list[str]) -> int:
    """0 with an answer, 2 for an input or usage error."""
    found = _parser().parse_args(argv)
    if sys.stdin.isatty():
        print(f"one JSON object, then Ctrl-D; as {FORMULAS[found.formula].example}", file=sys.stderr)
    try:
        answer = score(found.formula, sys.stdin.buffer.read())
    except InputError as error:
        print(f"wanggan score {found.formula}: {error}", file=sys.stderr)
        return USAGE
    told = answer if found.json else _first(answer)
    print(told if isinstance(told, str) else msgspec.json.encode(told).decode())
    if answer.get("missing") and not found.json:
        print(f"wanggan score {found.formula}: not measured: {', '.join(answer['missing'])}", file=sys.stderr)
    return OK


def _first(answer: Answer) -> object:
    """The first value; null is kept for what was not measured."""
    return "timeout" if answer.get("timeout") else next(iter(answer.values()))


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, FORMULAS))
    listed = "\n".join(f"  {name:<{width}} {formula.example}" for name, formula in FORMULAS.items())
    parser = argparse.ArgumentParser(
        prog="wanggan score",
        description="One JSON object on standard input, the score on standard output. null is: not measured; timeout: "
        "the quantile lies among failed attempts.",
        epilog=f"formulas, each with an example of its input:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("formula", choices=FORMULAS, metavar="FORMULA", help="one of the list below")
    parser.add_argument("--json", action="store_true", help="the whole answer; without it its first value alone")
    return parser


# Input


def _explained(message: str) -> str:
    """msgspec's words, with the field in front."""
    what, _, where = message.partition(" - at `$")
    path = where.rstrip("`").lstrip(".").replace("[...]", "{}")
    if named := re.search(r"unknown field `(.*)`", what):
        known = sorted({name for struct in Strict.__subclasses__() for name in struct.__struct_fields__})
        close = difflib.get_close_matches(named[1], known, n=1)
        return f"{_joined(path, named[1])}: unknown key" + (f"; did you mean {close[0]}?" if close else "; remove it")
    if named := re.search(r"missing required field `(.*)`", what):
        return f"{_joined(path, named[1])}: missing; add it (null when not measured)"
    return f"{path or 'standard input'}: {what[:1].lower()}{what[1:]}"


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _percentile(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found <= 100:
        raise ValueError(f"rtt_ms.{text}: no percentile; write one like 95")
    return found


def _span(span: Span, path: str) -> qoo.Span:
    if span.rop >= span.cpup:
        raise ValueError(f"{path}.rop: {span.rop:g} is not below cpup {span.cpup:g}")
    return qoo.Span(span.rop, span.cpup)


def _samples(given: Samples) -> Sequence[float]:
    if given is None:
        return ()
    return given if isinstance(given, list) else (given,)


def _number(x: float | str | None) -> float | None:
    return math.inf if isinstance(x, str) else x


def _experience(experience: Experience) -> Answer:
    return {"points": experience.points, "class": experience.class_}
