"""`fleet.toml`: how agents are enrolled. Relative file names are relative to it."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from store.tables import Table, convert, read_table, with_folder

File = Annotated[Path, Field(strict=False)]
Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,252}$")]
Network = Literal["wifi", "gov"]


class BrokerSettings(Table):
    """The broker as agents reach it."""

    host: Host
    port: Annotated[int, Field(ge=1, le=65535)] = 8883
    names: list[Host] = []
    """More names and addresses that it is reached by: they go into its certificate."""


class ReflectorSettings(Table):
    """Keys that the reflector shares with agents; enrolment adds an agent's own."""

    keys_file: File | None = None
    portal_key_file: File | None = None


class FleetSettings(Table):
    """The whole file."""

    register_file: Annotated[File, Field(alias="register")] = Path("sites.toml")
    authority: File = Path("authority")
    """Folder of our certificate authority; whoever reads it can pretend to be any agent."""
    state: str = "/var/lib/wanggan"
    """Of the agent, on its box."""
    broker: BrokerSettings
    reflector: ReflectorSettings = ReflectorSettings()
    jobs: dict[Network, File] = {}
    """By network of the site: a file with the agent's `[targets]`, `[resolvers]` and `[[jobs]]`."""


def load(path: Path) -> FleetSettings:
    """:raises ConfigError: one line for each mistake."""
    folder = path.parent.absolute()
    table = with_folder(read_table(path), folder, {"register": "sites.toml", "authority": "authority"})
    if isinstance(jobs := table.get("jobs"), dict):
        table["jobs"] = {name: str(folder / file) if isinstance(file, str) else file for name, file in jobs.items()}
    return convert(FleetSettings, table, path)
