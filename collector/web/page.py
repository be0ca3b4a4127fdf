"""The overview as HTML. Every value goes through autoescape: names and details are hostile text."""

import gzip
import hashlib
import importlib.resources
import json
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from collector.web import faces, sparkline, standing, wifi
from collector.web.messages import HTML_LANGUAGE, LANGUAGES, TEXTS, Language, Words
from collector.web.overview import JOB_LEVEL, JobView, Overview, Waiting
from collector.web.recent import HOUR_S
from contract.record import NO_TARGET

STATIC: Final = importlib.resources.files("collector.web") / "static"
OPEN_VENUES: Final = 6
"""With more venues than this, only those that are `bad` are unfolded."""


class Rendered(NamedTuple):
    """A body, also packed, and the tag that changes with it."""

    body: bytes
    gzipped: bytes
    etag: str


def rendered(body: bytes) -> Rendered:
    """`body` made ready to be sent to many."""
    return Rendered(body, gzip.compress(body, 1, mtime=0), f'W/"{hashlib.sha256(body).hexdigest()[:24]}"')


def static_files() -> dict[str, bytes]:
    """Name -> content of everything in `static/`."""
    return {entry.name: entry.read_bytes() for entry in STATIC.iterdir() if entry.is_file()}


class Pages:
    """The templates, read once."""

    def __init__(self, static: dict[str, bytes], *, every_s: float) -> None:
        self._every_ms = round(every_s * 1000)
        self.build = hashlib.sha256(b"".join(static[name] for name in sorted(static))).hexdigest()[:12]
        """Changes when script or style do; an open page then loads itself anew."""
        self._environment = Environment(
            loader=PackageLoader("collector.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def page(self, overview: Overview, language: Language) -> bytes:
        """The whole page."""
        return self._render("page.html", overview, language)

    def fragment(self, overview: Overview, language: Language) -> bytes:
        """What changes of it; equal pictures give equal bytes, whatever the time."""
        return self._render("overview.html", overview, language)

    def _render(self, template: str, overview: Overview, language: Language) -> bytes:
        words = Words(language)
        html = self._environment.get_template(template).render(
            overview=overview,
            words=words,
            say=lambda key, **parts: Markup(words(key)).format(**parts),  # noqa: S704  our own text; parts are escaped
            clock=_clock,
            name=lambda venue: getattr(venue.name, language),
            row=lambda job: _row(job, overview.at, words),
            toml=lambda waiting: _toml(waiting, overview.at),
            unfold=len(overview.venues) <= OPEN_VENUES,
            build=self.build,
            every_ms=self._every_ms,
            language=language,
            languages=LANGUAGES,
            html_language=HTML_LANGUAGE,
            script_texts=msgspec.json.encode({key: words(key) for key in TEXTS if key.startswith(_SCRIPT)}).decode(),
            spark_box=f"0 0 {sparkline.WIDTH} {sparkline.HEIGHT}",
            no_target=NO_TARGET,
            spoken=faces.spoken,
            bar=wifi.BAR,
            trend=standing.trend,
            trend_box=f"0 0 {standing.WIDTH} {standing.HEIGHT}",
            told=lambda verdict: getattr(verdict, language),
        )
        return html.encode()


_SCRIPT: Final = ("age.", "gone", "live", "lost", "times_in")
"""Texts that the script needs."""


def _clock(at: datetime) -> Markup:
    """An instant: UTC until the script says it in the reader's zone."""
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{}" data-as="clock">{} UTC</time>').format(
        utc.isoformat(timespec="milliseconds"), f"{utc:%H:%M:%S}"
    )


def _row(job: JobView, now: datetime, words: Words) -> dict[str, Any]:
    """What the template shows of a job."""
    # Drawn on a grid of 10 s, so that a page whose data did not change does not change.
    end_s = now.timestamp() // 10 * 10 + 10
    line = sparkline.draw(job.hour, end_s - HOUR_S, end_s, job.period_s)
    field = faces.drawn_field(job.probe)
    if line.low is None or line.high is None:
        label = words("spark.none")
    else:
        label = words("spark.range", low=faces.spoken(field, line.low), high=faces.spoken(field, line.high))
    if line.failed:
        label += ", " + words("spark.failed", n=line.failed)
    beside = faces.beside(job.probe, job.values, words)
    context = (words.name("role", job.role) if job.role != job.target else "", job.provider, job.resolver)
    return {
        "level": JOB_LEVEL[job.state],
        "value": faces.newest(job.probe, job.values, words),
        # The reason says it in words.
        "beside": [part for part in beside if (job.reason, part.value) != ("nxdomain", "NXDOMAIN")],
        "reason": words.name("reason", job.reason),
        "context": [part for part in context if part],
        "line": line,
        "line_label": label,
        "stamp": job.slot.isoformat(timespec="milliseconds") if job.slot else None,
    }


def _toml(waiting: Waiting, now: datetime) -> str:
    """What to add to the site register for an agent that waits."""
    day = (waiting.last_message_at or now).date().isoformat()
    return "\n".join(
        "[[sites]]\n"
        f"agent = {json.dumps(waiting.agent)}\n"
        f"interface = {json.dumps(interface)}\n"
        'venue = "..."\n'
        'network = "wifi"  # or "gov"\n'
        f'from = "{day}"  # since when it stands there\n'
        for interface in waiting.interfaces or ["wlan0"]
    )
