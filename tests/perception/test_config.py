"""The configuration: the example, and every way to get it wrong."""

from pathlib import Path

import pytest

from perception.commands import main
from perception.config import Profiles, Settings, load
from store.tables import ConfigError

EXAMPLE = Path(__file__).parents[2] / "deploy" / "perception.example.toml"
STORE = '[store]\nengine = "sqlite"\npath = "w.db"\n'


def configured(folder: Path, text: str) -> Settings:
    file = folder / "perception.toml"
    file.write_text(text)
    return load(file)


def test_the_example_is_a_configuration_and_says_the_defaults() -> None:
    settings = load(EXAMPLE)
    Profiles(settings.profiles, EXAMPLE.parent)
    assert settings.sites == EXAMPLE.with_name("sites.toml").absolute()
    assert settings.profiles == Settings.model_fields["profiles"].default
    assert settings.report.formats == ["html", "pdf", "docx", "xlsx"]


def test_files_are_relative_to_the_configuration(tmp_path: Path) -> None:
    settings = configured(tmp_path, f'register = "here.toml"\n{STORE}[report]\nfolder = "out"\n')
    assert settings.sites == tmp_path / "here.toml"
    assert settings.report.folder == tmp_path / "out"
    assert configured(tmp_path, STORE).report.folder == tmp_path / "reports"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "store: missing; add store"),
        (STORE + "[report]\nformats = []\n", "report.formats"),
        (STORE + '[report]\nformats = ["odt"]\n', "report.formats[0]"),
        (STORE + '[report]\nlanguages = ["zh", "zh"]\n', "report.languages: zh stands twice; remove one"),
        (STORE + "[report]\nweekley = true\n", "report.weekley: unknown key; did you mean weekly?"),
        (STORE + "[profiles]\nwifi = []\n", "profiles.wifi"),
        ('[store]\nengine = "oracle"\n', "store.engine: no such engine"),
    ],
)
def test_mistakes_name_the_field_and_the_fix(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        configured(tmp_path, text)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('wifi = ["wifi-2031"]', "profiles.wifi: profile: no such profile 'wifi-2031'"),
        ('wifi = ["mine.yaml"]', "profiles.wifi:"),
        ('gov = ["wifi-public-2026"]', "profiles.gov: wifi-public-2026 is for the network wifi, not gov"),
        ('gov = ["gov-node-2026", "changed.yaml"]', "raise the version of one"),
    ],
)
def test_profiles_must_fit(tmp_path: Path, table: str, words: str) -> None:
    from perception import profiles

    text = Path(profiles.__file__).with_name("gov-node-2026.yaml").read_text()
    (tmp_path / "changed.yaml").write_text(text.replace("w_busy: 0.5", "w_busy: 0.6"))
    settings = configured(tmp_path, f"{STORE}[profiles]\n{table}\n")
    with pytest.raises(ConfigError) as error:
        Profiles(settings.profiles, tmp_path)
    assert words in str(error.value)


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "perception.toml"
    file.write_text(STORE)
    window = ["--from", "2026-11-18T00:00:00Z", "--to", "2026-11-18T02:00:00Z"]
    assert main(["rollup", "--config", str(file), *window]) == 2
    assert "sites.toml" in capsys.readouterr().err
    (tmp_path / "sites.toml").write_text("")
    assert main(["rollup", "--config", str(file), *window]) == 0
    assert "2 hours rolled up, 0 rows" in capsys.readouterr().err
    assert main(["score", "--config", str(file), *window]) == 0
    assert main(["score", "--config", str(file), *window, "--profile", "nothing"]) == 2
    assert main(["rollup", "--config", str(file), *reversed_(window)]) == 2
    assert "--to: must be after --from" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["rollup", "--config", str(file), "--from", "2026-11-18"])
    assert "has no offset; add +08:00, or Z" in capsys.readouterr().err
    (tmp_path / "w.db").write_bytes(b"no database at all, but long enough to be looked at as one" * 20)
    assert main(["rollup", "--config", str(file), *window]) == 2
    assert "is damaged" in capsys.readouterr().err


def reversed_(window: list[str]) -> list[str]:
    return [window[0], window[3], window[2], window[1]]
