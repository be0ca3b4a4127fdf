"""Perception's configuration: strict TOML. Every mistake is one line with its path and the fix.

Relative file names are relative to the configuration file.
"""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, field_validator

from perception import profiles
from perception.calendar import NO_CALENDAR, Calendar
from perception.calendar import load as read_calendar
from perception.scoring.profile import Profile
from perception.week import Week
from store.register import Names
from store.settings import StoreSettings
from store.tables import ConfigError, Table, check_files, convert, read_table, with_folder

File = Annotated[Path, Field(strict=False)]
Language = Literal["zh", "en"]
Format = Literal["html", "pdf", "docx", "xlsx"]

_BY_KIND: Final = {"wifi": "wifi-public-2026", "observe": "wifi-observe-2026", "gov": "gov-node-2026"}


class ProfileSettings(Table):
    """Which profiles score which venues: names of those that come with Wanggan, or files (`.yaml`). The first of a list
    is the one that the status page and the report go by; more of them score the same hours beside it."""

    wifi: Annotated[list[str], Field(min_length=1)] = [_BY_KIND["wifi"]]
    """Wi-Fi where agents join actively."""
    observe: Annotated[list[str], Field(min_length=1)] = [_BY_KIND["observe"]]
    """Wi-Fi where they only observe."""
    gov: Annotated[list[str], Field(min_length=1)] = [_BY_KIND["gov"]]


def _is_week(text: str) -> str:
    Week.parse(text)
    return text


class ReportSettings(Table):
    """The weekly report."""

    weekly: bool = True
    """Made by ``perception run`` every Monday at 06:00 local time."""
    folder: File = Path("reports")
    """Made when it is missing."""
    languages: Annotated[list[Language], Field(min_length=1)] = ["zh"]
    formats: Annotated[list[Format], Field(min_length=1)] = ["html", "pdf", "docx", "xlsx"]
    district: Names = Names(zh="本区", en="The district")
    """In the report's title."""
    author: Names = Names(zh="未登记", en="not registered")
    """Who prepares it (编制单位)."""
    measures_file: File | None = None
    """What is being done about shortfalls (整改措施)."""
    baseline: Annotated[str, AfterValidator(_is_week)] | None = None
    """A week that scores are compared with for good, like 2026-W40."""

    @field_validator("languages", "formats")
    @classmethod
    def _once(cls, values: list[str]) -> list[str]:
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f"{value} stands twice; remove one")
        return values


class Settings(Table):
    """All of it."""

    state: File = Path("perception")
    """Folder of what has to outlive a restart; made when it is missing."""
    sites: Annotated[File, Field(alias="register")] = Path("sites.toml")
    """The site register, the collector's own file."""
    calendar_file: File | None = None
    """Holidays, worked weekends, maintenance of targets; None: weekends only."""
    store: StoreSettings
    profiles: ProfileSettings = ProfileSettings()
    report: ReportSettings = ReportSettings()


class Profiles:
    """The profiles of a configuration, read and checked."""

    def __init__(self, settings: ProfileSettings, folder: Path) -> None:
        """:raises ConfigError: when one cannot be used."""
        self.wifi = [_profile(name, "wifi", folder, "wifi") for name in settings.wifi]
        self.observe = [_profile(name, "observe", folder, "wifi") for name in settings.observe]
        self.gov = [_profile(name, "gov", folder, "gov") for name in settings.gov]
        found = [*self.wifi, *self.observe, *self.gov]
        for profile in found:
            if any(other.series == profile.series and other.sha256 != profile.sha256 for other in found):
                raise ConfigError(
                    f"profiles: two different files are called {profile.series}; raise the version of one"
                )

    def busy(self) -> dict[str, Profile]:
        """By network, the one whose busy hours hold where the register has none."""
        return {"wifi": self.wifi[0], "gov": self.gov[0]}

    def of(self, network: str, *, joins: bool) -> list[Profile]:
        """Those that score a venue; `joins`: its agents join actively."""
        return self.gov if network == "gov" else self.wifi if joins else self.observe


def _profile(name: str, kind: str, folder: Path, network: str) -> Profile:
    try:
        profile = read_profile(name, folder)
    except ConfigError as error:
        raise ConfigError(f"profiles.{kind}: {error}") from None
    if profile.network != network:
        raise ConfigError(f"profiles.{kind}: {name} is for the network {profile.network}, not {network}")
    return profile


def read_profile(name: str, folder: Path) -> Profile:
    """One that comes with Wanggan, or a file (`.yaml`) in `folder`.

    :raises ConfigError: when it cannot be used.
    """
    return profiles.load(folder / name) if name.endswith((".yaml", ".yml")) else profiles.named(name)


def load(path: Path) -> Settings:
    """Read and check a configuration, and that the files it names can be read.

    :raises ConfigError: for anything that is wrong with it.
    """
    defaults = {"state": "perception", "register": "sites.toml"}
    folder = path.parent.absolute()
    table = with_folder(read_table(path), folder, defaults)
    report = table.setdefault("report", {})
    if isinstance(report, dict) and isinstance(report.setdefault("folder", "reports"), str):
        report["folder"] = str(folder / report["folder"])
    settings = convert(Settings, table, path)
    check_files({"store": settings.store, "report": settings.report}, path)
    return settings


def calendar(settings: Settings) -> Calendar:
    """:raises ConfigError: when the file cannot be used."""
    return NO_CALENDAR if settings.calendar_file is None else read_calendar(settings.calendar_file)
