"""HTML: one file, no script, no outside link."""

import jinja2
from markupsafe import Markup

from perception.report.model import Lang, Report
from perception.report.printed import printed

FAMILIES = "'Noto Sans CJK SC','Source Han Sans SC','PingFang SC','Microsoft YaHei','WenQuanYi Micro Hei',sans-serif"
"""A browser has its own faces; it takes the first that it knows."""


def render(report: Report, lang: Lang) -> bytes:
    """The page, UTF-8."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("perception.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = printed(report, lang, family=FAMILIES)
    # A chart is made by perception.report.charts, which escapes every word in it.
    return environment.get_template("report.html").render(page=page, svg=Markup).encode()
