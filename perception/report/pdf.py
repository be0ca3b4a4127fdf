"""PDF by Typst, and pictures of charts for documents that take no SVG."""

from datetime import datetime
from importlib import resources
from typing import Any

import msgspec
import typst

from perception.report import fonts
from perception.report.model import Lang, Report
from perception.report.printed import printed


def render(report: Report, lang: Lang, *, system_fonts: bool = True) -> bytes:
    """The pages.

    :raises FontError: when a character has no glyph in any font here.
    """
    families = fonts.chosen(printed(report, lang).characters(), system=system_fonts)
    page = printed(report, lang, family=families["heading"])
    data = page.data() | {"fonts": families}
    template = resources.files("perception.report").joinpath("templates/report.typ").read_bytes()
    return _compile(
        {"main.typ": template, "report.json": msgspec.json.encode(data)},
        report.head.frozen_at,
        system_fonts,
        format="pdf",
    )


def picture(svg: str, made_at: datetime, *, ppi: float = 160.0) -> bytes:
    """A chart as PNG."""
    page = b'#set page(width: auto, height: auto, margin: 0pt)\n#image("chart.svg", width: 480pt)'
    return _compile({"main.typ": page, "chart.svg": svg.encode()}, made_at, True, format="png", ppi=ppi)


def _compile(files: dict[str, bytes], made_at: datetime, system_fonts: bool, **how: Any) -> bytes:
    made: Any = typst.compile(
        files,
        font_paths=[str(folder) for folder in fonts.folders()],
        ignore_system_fonts=not system_fonts,
        timestamp=int(made_at.timestamp()),
        **how,
    )
    return made if isinstance(made, bytes) else bytes(made[0])
