"""The house is in order: packages, pages, make targets, and a probe's five parts."""

import importlib
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from agent.probes import PROBES
from contract.record import RECORDS
from contract.series import SERIES
from contract.values import VALUES

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: list[str] = PROJECT["tool"]["setuptools"]["packages"]
PROGRAMS = {name for name in PACKAGES if "." not in name}


def tracked() -> list[Path]:
    """Every file that belongs to the project, those too that are not committed yet."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


def text_of(path: Path) -> str:
    return path.read_text(errors="replace")


# Packages


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_ours_and_not_a_namesake(package: str) -> None:
    found = importlib.import_module(package).__file__
    assert found is not None
    assert Path(found) == ROOT / package.replace(".", "/") / "__init__.py"


def test_every_package_is_in_the_build() -> None:
    folders = {init.parent for init in ROOT.glob("*/__init__.py")} | {
        init.parent for program in PROGRAMS for init in (ROOT / program).rglob("__init__.py")
    }
    names = {str(folder.relative_to(ROOT)).replace("/", ".") for folder in folders}
    assert names - {"tests", "bench"} == set(PACKAGES)


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_a_program_is_typed_for_others(program: str) -> None:
    assert (ROOT / program / "py.typed").exists()


def test_the_checks_look_at_every_program() -> None:
    assert set(PROJECT["tool"]["mypy"]["packages"]) == PROGRAMS
    assert set(PROJECT["tool"]["importlinter"]["root_packages"]) == PROGRAMS


def test_data_files_of_packages_are_in_the_build() -> None:
    data = PROJECT["tool"]["setuptools"]["package-data"]
    for file in tracked():
        package = ".".join(file.parent.relative_to(ROOT).parts)
        holders = [name for name in PACKAGES if package == name or package.startswith(f"{name}.")]
        if file.suffix == ".py" or not holders:
            continue
        holder = max(holders, key=len)
        inside = file.relative_to(ROOT / holder.replace(".", "/"))
        patterns = [*data.get("*", []), *data.get(holder, [])]
        assert any(inside.match(pattern) for pattern in patterns), f"{file} would be missing in the wheel"


def test_every_test_folder_is_a_package() -> None:
    folders = {file.parent for file in (ROOT / "tests").rglob("*.py")}
    assert {folder for folder in folders if not (folder / "__init__.py").exists()} == set()


# Requirements


def test_every_requirement_is_pinned() -> None:
    pins = {_canonical(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().split()}
    named = [*PROJECT["build-system"]["requires"], *PROJECT["project"]["dependencies"]]
    for extra in PROJECT["project"]["optional-dependencies"].values():
        named += extra
    wanted = {_canonical(re.split(r"[\[<>=!~ ;]", requirement)[0]) for requirement in named} - {"wanggan"}
    assert wanted <= pins


def test_every_server_library_is_forbidden_to_the_agent() -> None:
    (site_box,) = [one for one in PROJECT["tool"]["importlinter"]["contracts"] if "site box" in one["name"]]
    server = PROJECT["project"]["optional-dependencies"]["server"]
    names = {_canonical(re.split(r"[\[<>=!~ ;]", requirement)[0]) for requirement in server}
    data_only = {"tzdata"}
    modules = {"pyyaml": "yaml"}  # where a module is not named as its distribution
    assert {modules.get(name, name) for name in names - data_only} == {
        _canonical(module) for module in site_box["forbidden_modules"]
    }


def test_constraints_are_pins_and_name_no_place() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+", line), line


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


TOOLS = {
    "mosquitto": "mosquitto",
    "influxd": "influxdb",
    "victoria-metrics": "victoria-metrics",
    "chromium": "chromium",
    "ip": "iproute2",
    "ss": "iproute2",
    "unshare": "util-linux",
    "setsid": "util-linux",
    "systemd-analyze": "systemd",
    "setpriv": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "tc": "iproute2",
    "nft": "nftables",
    "iptables": "iptables",
    "iperf3": "iperf3",
    "curl": "curl",
    "dig": "bind9-dnsutils",
    "tracepath": "iputils-tracepath",
    "dnsmasq": "dnsmasq-base",
    "docker-compose": "docker-compose",
    "nginx": "nginx",
    "ping": "iputils-ping",
    "fping": "fping",
    "irtt": "irtt",
    "openssl": "openssl",
    "faketime": "faketime",
    "debootstrap": "debootstrap",
    "qemu-system-x86_64": "qemu-system-x86",
    "mkfs.ext4": "e2fsprogs",
    "udhcpc": "udhcpc",
    "hostapd": "hostapd",
    "iw": "iw",
    "wpa_supplicant": "wpasupplicant",
    "wpa_cli": "wpasupplicant",
}
"""Programs that tests may start, and the Debian package of each."""


def test_every_package_that_tests_need_is_installed_by_make() -> None:
    makefile = (ROOT / "Makefile").read_text()
    installed = set(re.findall(r"^\t([a-z0-9.+-]+)(?: \\)?$", makefile, re.MULTILINE))
    needed = {"mount": "always there", "e2fsprogs": "always there"}
    for file in [*(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]:
        if file == Path(__file__):
            continue
        for tool, package in TOOLS.items():
            if re.search(rf"""["'](?:/usr/s?bin/)?{re.escape(tool)}["'],? ?""", text_of(file)) and _is_program(
                tool, text_of(file)
            ):
                needed.setdefault(package, f"{tool} in {file.relative_to(ROOT)}")
    missing = {package: why for package, why in needed.items() if package not in installed and why != "always there"}
    assert missing == {}


def _is_program(tool: str, text: str) -> bool:
    """Whether the word is the first of an argument list, a path, or asked of `which`."""
    word = rf"""["'](?:/usr/s?bin/)?{re.escape(tool)}["']"""
    return re.search(rf"\[\s*{word}|/usr/s?bin/{re.escape(tool)}|which\({word}|exec\(\s*{word}", text) is not None


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    nobody = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    script = (ROOT / "tests/packages.sh").read_text()
    asked = subprocess.run(
        [*nobody, "sh", "-s", "util-linux", "no-such-package"], input=script, capture_output=True, text=True, timeout=60
    )
    assert asked.returncode == 1
    assert asked.stderr == (
        "packages are missing; run as root: apt-get update && apt-get install --no-install-recommends no-such-package\n"
    )


def test_make_needs_nothing_but_what_it_names() -> None:
    listed = subprocess.run(["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True)
    assert listed.returncode == 0
    words = {line.split()[0] for line in listed.stdout.splitlines()}
    assert {"up", "test", "test-long", "check", "bench"} <= words
    assert (ROOT / ".ci/run").read_text().endswith("exec make test\n")


def test_every_suite_of_make_bench_exists_and_is_a_program() -> None:
    (suites,) = re.findall(r"^SUITES := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"python -m bench\.(\w+)", (ROOT / "docs/benchmarks.md").read_text())
    for suite in {*suites.split(), *named}:
        assert "__main__" in text_of(ROOT / f"bench/{suite}.py"), suite
    assert set(named) <= set(suites.split())


# Pages

FOREIGN = [
    re.compile(pattern)
    for pattern in (
        r"\.\./shared",
        r"/work/",
        r"/tmp/team",
        r"(?i)pypi\.(?:org|python)",
        r"(?i)pythonhosted",
        r"(?i)index[-_]url",
        r"(?i)tsinghua|aliyun",
    )
]
"""The project stands alone: no workplace, and no registry that a reader might not reach."""


def test_no_file_names_a_place_outside_the_project() -> None:
    own = {Path(__file__)}
    found = {
        f"{file.relative_to(ROOT)}: {match.group()}"
        for file in tracked()
        if file not in own
        for pattern in FOREIGN
        for match in pattern.finditer(text_of(file))
    }
    assert found == set()


def test_the_changelog_has_an_unreleased_heading_with_its_contract_part() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    unreleased = text.split("\n## ")[1]
    assert unreleased.startswith("[Unreleased]") or unreleased.startswith("Unreleased")
    assert "### Contract" in unreleased


def test_the_index_of_decisions_names_every_page_and_no_other() -> None:
    folder = ROOT / "docs/decisions"
    pages = {page.name for page in folder.glob("[0-9]*.md")}
    linked = re.findall(r"\]\(([0-9]{4}-[a-z0-9-]+\.md)\)", (folder / "README.md").read_text())
    assert sorted(linked) == sorted(pages)
    for page in sorted(pages):
        text = (folder / page).read_text()
        assert text.startswith(f"# {page[:4]} "), page
        for heading in ("## Context", "## Decision", "## Consequence"):
            assert heading in text, f"{page} lacks {heading!r}"


# A probe's five parts


@pytest.mark.parametrize("probe", sorted(PROBES))
def test_a_probe_has_all_its_parts(probe: str) -> None:
    assert probe in VALUES, "contract/values.py: its struct"
    assert probe in SERIES, "contract/series.py: its entry"
    assert (ROOT / f"agent/probes/{probe}.py").exists()
    assert _tests_of(probe), "its test in tests/agent"
    for outcome in ("ok", "failed"):
        assert (ROOT / f"tests/contract/golden/v1/{probe}.{outcome}.json").exists()
    example = (ROOT / "deploy/agent.example.toml").read_text()
    led = "# " if "lead" in PROBES[probe].needs else ""  # what takes a radio from its owner is only shown
    assert f'\n{led}[[jobs]]\n{led}probe = "{probe}"' in example, "deploy/agent.example.toml: a sample job"
    assert re.search(rf"^#+ `?{probe}`?", (ROOT / "docs/probes.md").read_text(), re.MULTILINE), "docs/probes.md"


def _tests_of(probe: str) -> list[Path]:
    """Test files that import the probe."""
    wanted = re.compile(rf"^from agent\.probes(?:\.{probe} import| import .*\b{probe}\b)", re.MULTILINE)
    return [file for file in (ROOT / "tests/agent").glob("test_*.py") if wanted.search(text_of(file))]


def test_every_probe_of_the_contract_has_golden_messages() -> None:
    golden = {file.name for file in (ROOT / "tests/contract/golden/v1").glob("*.json")}
    assert {f"{probe}.{outcome}.json" for probe in RECORDS for outcome in ("ok", "failed")} <= golden
