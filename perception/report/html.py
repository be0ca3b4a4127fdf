"""HTML: one file, no script, no outside link."""

from typing import Final

import jinja2
from markupsafe import Markup

from perception.report.model import Lang, Report
from perception.report.printed import printed

FAMILIES: Final = (
    "'Noto Sans CJK SC','Source Han Sans SC','PingFang SC','Hiragino Sans GB','Microsoft YaHei','WenQuanYi Micro Hei',"
    "'WenQuanYi Zen Hei','Droid Sans Fallback','Heiti SC','SimHei','AR PL UMing CN','SimSun',sans-serif"
)
"""A browser has its own faces and takes the first that it knows: of Debian, macOS and Windows, old and new."""


def render(report: Report, lang: Lang) -> bytes:
    """The page, UTF-8."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("perception.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = printed(report, lang, family=FAMILIES, paper=False)
    # A chart is made by perception.report.charts, which escapes every word in it.
    return environment.get_template("report.html").render(page=page, safe=Markup, families=FAMILIES).encode()
