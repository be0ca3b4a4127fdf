"""Documentation that cannot lie: commands, options, probes and links are checked against the code."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from agent.probes import PROBES
from contract.values import VALUES
from wanggan.main import COMMANDS

ROOT = Path(__file__).parent.parent
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
PAGES = [*READMES, *sorted((ROOT / "docs").rglob("*.md"))]


@functools.cache
def help_of(*words: str) -> str:
    answer = subprocess.run(
        [sys.executable, "-P", "-m", "wanggan", *words, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return answer.stdout


def words_of(*command: str) -> list[str]:
    """The sub-commands that its help lists."""
    listed = help_of(*command).partition("positional arguments:")[2].partition("\noptions:")[0]
    return re.findall(r"^    ([a-z][a-z-]*)\b", listed, re.MULTILINE)


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_every_command_is_in_the_readme(readme: Path) -> None:
    text = readme.read_text()
    for command in COMMANDS:
        words = words_of(command)
        for word in words or [""]:
            assert f"wanggan {command} {word}".strip() in text, f"{readme.name} lacks `wanggan {command} {word}`"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_options_in_pages_exist(page: Path) -> None:
    for line in re.findall(r"^\s*(?:\.venv/bin/)?(wanggan [^#\n]+)", _code(page.read_text()), re.MULTILINE):
        first, *rest = line.split()[1:]
        if first.startswith("-"):
            continue
        assert first in COMMANDS, f"{page.name}: {line}"
        command = [first]
        while rest and rest[0] in words_of(*command):
            command.append(rest.pop(0))
        told = help_of(*command)
        for option in re.findall(r"(?<![\w-])--[a-z-]+", line):
            assert option in told, f"{page.name}: {option} in: {line}"


@pytest.mark.parametrize("page", ["scoring.md", "scoring.zh-CN.md"])
def test_answers_in_pages_are_the_command_s_own(page: str) -> None:
    shown = re.findall(
        r"^echo '([^']+)' \| wanggan score (.+)\n(.+)$", (ROOT / "docs" / page).read_text(), re.MULTILINE
    )
    assert len(shown) >= 4
    for given, words, answer in shown:
        command = [sys.executable, "-P", "-m", "wanggan", "score", *words.split()]
        told = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=True)
        assert told.stdout == f"{answer}\n", words


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", page.read_text()):
        target = (link[0] or link[1]).partition("#")[0]
        if target and "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_make_targets_in_the_readme_exist(readme: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)", _code(readme.read_text())):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_both_readmes_have_the_same_skeleton() -> None:
    def skeleton(path: Path) -> list[str]:
        return [line.split(" ", 1)[0] for line in path.read_text().splitlines() if re.match(r"#+ |```", line)]

    assert skeleton(READMES[0]) == skeleton(READMES[1])


def test_every_probe_that_pages_name_is_in_the_contract() -> None:
    documented = re.findall(r"^## `?([a-z_]+)`?$", (ROOT / "docs/probes.md").read_text(), re.MULTILINE)
    assert documented
    assert set(documented) <= set(VALUES)


@pytest.mark.parametrize("probe", sorted(PROBES))
def test_a_probe_s_settings_and_their_defaults_are_documented(probe: str) -> None:
    section = re.split(r"^## ", (ROOT / "docs/probes.md").read_text(), flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(f"{probe}\n")]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text, re.MULTILINE))
    fields = {field.name: field for field in msgspec.structs.fields(PROBES[probe].settings)}
    assert set(rows) == set(fields)
    for name, field in fields.items():
        if isinstance(field.default, int | float):
            assert rows[name] == str(field.default).lower().removesuffix(".0"), name


def _code(markdown: str) -> str:
    return "\n".join(re.findall(r"^```[a-z]*\n(.*?)^```", markdown, re.DOTALL | re.MULTILINE))
