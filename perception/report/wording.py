"""How figures are written: the rules of the page, in one place."""

from datetime import datetime, timedelta
from typing import Final

from perception.report.model import Figure, Head, Lang, State, Text, Unit

MISSING: Final[dict[State, Text]] = {
    "timeout": Text("超时", "timed out"),
    "few": Text("样本不足", "too few samples"),
    "unrated": Text("不评", "not rated"),
    "unknown": Text("未测得", "not measured"),
    "incomparable": Text("无可比", "not comparable"),
}
"""Never 0, never blank."""

TRENDS: Final = {"up": Text("提升", "up"), "down": Text("下降", "down"), "flat": Text("持平", "flat")}

SUFFIXES: Final[dict[Unit, Text]] = {
    "points": Text("", ""),
    "pp": Text("个百分点", " pp"),
    "ms": Text(" ms", " ms"),
    "s": Text(" s", " s"),
    "mbps": Text(" Mbps", " Mbps"),
    "weeks": Text(" 周", " wk"),
    "hours": Text(" 小时", " h"),
    "db": Text(" dB", " dB"),
}


def number(value: float, unit: Unit) -> str:
    """The digits: points and rates one decimal, ms whole (below 10 one decimal), ratios in per cent."""
    match unit:
        case "ratio":
            return f"{_rounded(value * 100, 1)}%"
        case "ratio2":
            return f"{_rounded(value * 100, 2)}%"
        case "pp":
            return _rounded(value * 100, 1)
        case "ms":
            return _rounded(value, 1 if abs(value) < 9.95 else 0)
        case "count" | "rank" | "weeks" | "hours":
            return f"{_rounded(value, 0)}"
        case "factor":
            return _rounded(value, 2)
        case "plain":
            return f"{value:.12g}"
    return _rounded(value, 1)


def _rounded(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def shown(figure: Figure, lang: Lang, *, detail: bool = True) -> str:
    """A figure as the page has it; with `detail` a ratio with 分子/分母 and an estimate with its interval."""
    if figure.value is None:
        return word(MISSING[figure.state], lang) + ("*" if figure.mark else "")
    suffix = word(SUFFIXES.get(figure.unit, Text("", "")), lang)
    text = number(figure.value, figure.unit)
    if figure.trend is not None:
        said = word(TRENDS[figure.trend], lang)
        sign = "+" if figure.trend == "flat" and not text.startswith("-") and float(text.rstrip("%")) else ""
        text = f"{said} {sign}{text if figure.trend == 'flat' else text.lstrip('-')}{suffix}"
    else:
        text += suffix
    if figure.mark:
        text += "*"
    return text + (_detail(figure) if detail else "")


def _detail(figure: Figure) -> str:
    if figure.denominator is not None and figure.numerator is not None:
        return f" ({figure.numerator:.12g}/{figure.denominator:.12g})"
    if figure.lo is not None and figure.hi is not None:
        return f" [{number(figure.lo, figure.unit)}, {number(figure.hi, figure.unit)}]"
    return ""


def word(text: Text, lang: Lang) -> str:
    """One language of it."""
    return text.zh if lang == "zh" else text.en


def title(head: Head, lang: Lang) -> str:
    """Of the report."""
    if lang == "zh":
        return f"{head.district.zh}公共无线网络与政务网络感知周报"
    return f"{head.district.en}: Public Wi-Fi and Government Network, Weekly Perception Report"


def issue(head: Head, lang: Lang) -> str:
    """第47期, with the revision and what else must be said at once."""
    if lang == "zh":
        said = [f"{head.year}年第{head.week}期"]
        said += [f"修订{head.revision}"] * (head.revision > 1) + ["草稿，未冻结"] * head.draft
        said += ["仿真数据，未经实测"] * head.simulated
        return said[0] + (f"（{'；'.join(said[1:])}）" if said[1:] else "")
    said = [f"{head.year}, week {head.week}"]
    said += [f"revision {head.revision}"] * (head.revision > 1) + ["draft, not frozen"] * head.draft
    said += ["SIMULATED, nothing was measured"] * head.simulated
    return said[0] + (f" ({'; '.join(said[1:])})" if said[1:] else "")


def period(head: Head, lang: Lang) -> str:
    """The week's days; the years where it crosses one."""
    last = head.end - timedelta(days=1)
    if lang == "zh":
        year = f"{last.year}年" if last.year != head.start.year else ""
        return f"{head.start.year}年{_day(head.start)}—{year}{_day(last)}（{head.label}）"
    return f"{head.start:%Y-%m-%d} to {last:%Y-%m-%d} ({head.label})"


def _day(at: datetime) -> str:
    return f"{at.month}月{at.day}日"


def date(at: datetime, lang: Lang) -> str:
    """A date."""
    return f"{at.year}年{_day(at)}" if lang == "zh" else f"{at:%Y-%m-%d}"


def heading(number: int, text: Text, lang: Lang) -> str:
    """``一、总体得分``."""
    if lang == "en":
        return f"{number}. {text.en}"
    tens = "一二三四五六七八九十"
    return f"{tens[number - 1] if number <= 10 else '十' + tens[number - 11]}、{text.zh}"
