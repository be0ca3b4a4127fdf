"""Charts as SVG: small, without scripts, the same bytes for the same figures."""

from html import escape
from typing import Final

from perception.report.model import Chart, Lang
from perception.report.wording import number, word

WIDTH: Final = 680
HEIGHT: Final = 240
LEFT, RIGHT, TOP, BOTTOM = 44, 200, 14, 30
DASHES: Final = ("", "6 3", "2 3", "8 3 2 3", "1 4")
"""Curves differ by dash and mark, not by colour alone: it is printed black."""
COLOURS: Final = ("#000000", "#1f5fa8", "#b5451b", "#4d7d2a", "#6b4a99")


def svg(chart: Chart, lang: Lang, family: str) -> str:
    """The picture; an axis from `bottom` to `top`, a point for each label, gaps where a figure is not known."""
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    step = wide / max(1, len(chart.labels) - 1)

    def x(place: int) -> float:
        return LEFT + (place * step if len(chart.labels) > 1 else wide / 2)

    def y(value: float) -> float:
        inside = min(max(value, chart.bottom), chart.top)
        return TOP + high * (chart.top - inside) / (chart.top - chart.bottom)

    def text(at: tuple[float, float], words: str, anchor: str = "middle", size: int = 12) -> str:
        return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" font-family="{escape(family)}"><title>{escape(word(chart.title, lang))}</title>'
    ]
    for tick in range(5):
        value = chart.bottom + (chart.top - chart.bottom) * tick / 4
        parts.append(
            f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="#cccccc" stroke-width="0.8" fill="none"/>'
            + text((LEFT - 6, y(value) + 4), f"{value:g}", "end", 11)
        )
    parts += [text((x(place), HEIGHT - 10), label) for place, label in enumerate(chart.labels)]
    ends: list[float] = []
    for place, curve in enumerate(chart.curves):
        colour, dash = COLOURS[place % len(COLOURS)], DASHES[place % len(DASHES)]
        path, pen = [], "M"
        for at, point in enumerate(curve.points):
            if point.value is None:
                pen = "M"
                continue
            path.append(f"{pen}{x(at):.1f} {y(point.value):.1f}")
            pen = "L"
        style = f'stroke="{colour}" stroke-width="1.6" fill="none"' + (f' stroke-dasharray="{dash}"' if dash else "")
        if path:
            parts.append(f'<path d="{"".join(path)}" {style}/>')
        for at, point in enumerate(curve.points):
            if point.value is not None:
                parts.append(f'<circle cx="{x(at):.1f}" cy="{y(point.value):.1f}" r="2.6" fill="{colour}"/>')
        known = [point for point in curve.points if point.value is not None]
        last = known[-1].value if known else None
        label_y = _free(ends, (y(last) if last is not None else TOP + high) + 4)
        ends.append(label_y)
        said = word(curve.name, lang) + (f" {number(last, curve.points[-1].unit)}" if last is not None else "")
        parts.append(
            f'<path d="M{WIDTH - RIGHT + 8} {label_y - 4:.1f}h22" {style}/>'
            + text((WIDTH - RIGHT + 34, label_y), said, "start")
        )
    return "".join(parts) + "</svg>"


def _free(taken: list[float], wanted: float) -> float:
    """The nearest height that no other label has."""
    offsets = sorted(range(-12 * 15, 12 * 15, 15), key=abs)
    return next(
        wanted + offset
        for offset in offsets
        if TOP <= wanted + offset <= HEIGHT and all(abs(wanted + offset - one) >= 14 for one in taken)
    )
