"""The collector's web side: status page, JSON API, metrics and health. Reads only; see docs/api.md."""

from collector.web.app import make_app, serve

__all__ = ["make_app", "serve"]
