"""What the web side needs of its neighbours, and nothing more: any object of this shape will do."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Protocol


class Names(Protocol):
    """A display name in both languages."""

    @property
    def zh(self) -> str: ...
    @property
    def en(self) -> str: ...


class Venue(Protocol):
    """A venue of the site register."""

    @property
    def slug(self) -> str: ...
    @property
    def name(self) -> Names: ...
    @property
    def type(self) -> str: ...


class Site(Protocol):
    """An agent's interface at a venue."""

    @property
    def agent(self) -> str: ...
    @property
    def interface(self) -> str: ...
    @property
    def venue(self) -> str:
        """Slug."""

    @property
    def network(self) -> str: ...


class Venues(Protocol):
    """The site register, as the page reads it."""

    def venue(self, slug: str) -> Venue | None:
        """The venue of that slug; None when there is none."""

    def sites(self, at: datetime) -> Iterable[Site]:
        """Every agent and interface that is registered at the instant `at`."""


class Login(Protocol):
    """Who may look."""

    @property
    def user(self) -> str: ...
    @property
    def password_file(self) -> Path:
        """First line is the password; readable by its owner alone."""


class WebSettings(Protocol):
    """Where to listen, and whether to ask who is there."""

    @property
    def listen(self) -> str:
        """Address; loopback unless configured."""

    @property
    def port(self) -> int: ...
    @property
    def simulated(self) -> bool:
        """Whether what the store holds is made up."""

    @property
    def reports_folder(self) -> Path | None:
        """Where perception puts its reports; None: they are not offered."""

    @property
    def login(self) -> Login | None:
        """None: everyone who reaches the port may read."""
