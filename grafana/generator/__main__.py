"""`python -m grafana.generator [--check] [--register FILE] [--out DIR]`: write the dashboards and the alert rules."""

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from grafana.generator import alerts, dashboards
from grafana.generator.messages import LANGUAGES, Words
from grafana.generator.panels import Names
from store import register
from store.tables import ConfigError

FOLDER: Final = Path(__file__).parent.parent


def files(names: Names = Names()) -> dict[Path, str]:  # noqa: B008  a constant
    """Every generated file, by its path below grafana/."""
    found = {
        Path("dashboards", language, f"{dashboard.name}.json"): _json(dashboards.build(dashboard, language, names))
        for language in LANGUAGES
        for dashboard in dashboards.ALL
    }
    return found | {Path("provisioning", "alerting", "rules.yaml"): alerts.text()}


def main(argv: list[str]) -> int:
    """0 when all is written, or equal with --check; 1 when something differs; 2 for a register that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m grafana.generator", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; say what differs")
    parser.add_argument("--register", type=Path, metavar="FILE", help="site register: venues get their display names")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR", help="(the folder grafana/)")
    options = parser.parse_args(argv)
    try:
        wanted = files(_names(options.register) if options.register else Names())
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    stale = [path for path, text in wanted.items() if _read(options.out / path) != text]
    if options.check:
        for path in stale:
            print(f"{path}: differs from what the generator writes; run: python -m grafana.generator", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        place: Path = options.out / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(wanted[path], encoding="utf-8")
        print(place)
    return 0


def _names(path: Path) -> Names:
    """:raises ConfigError: when the register cannot be used."""
    venues = register.read(path).venues
    return Names({slug: Words(venue.name.zh, venue.name.en) for slug, venue in sorted(venues.items())})


def _json(table: object) -> str:
    return json.dumps(table, ensure_ascii=False, indent=1) + "\n"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
