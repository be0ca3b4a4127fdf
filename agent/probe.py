"""The seam between the runner and its probes.

A probe is one async function: it gets its own settings and a Context and returns its values, or raises
:class:`Failure`. It knows nothing of times, records, batches or other probes; the runner adds those.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from agent.clock import Clock
from agent.facts import Facts
from agent.uplink import Uplink
from agent.wifi.watch import Watch
from contract.values import Values
from contract.vocabulary import Flag, Reason, Role

Host = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_:][A-Za-z0-9._:%-]*$", max_length=253)]
"""A name or an address; never starts with ``-``, which some tool could take for an option."""

Url = Annotated[str, Meta(pattern=r"^https?://[^\s\x00-\x20]+$", max_length=1000)]

Port = Annotated[int, Meta(ge=1, le=65535)]


MAX_KEY_BYTES: Final = 4096


class Failure(Exception):
    """A slot that did not end `ok`. The runner takes the outcome from the reason and the values from the Context."""

    def __init__(self, reason: Reason, detail: str | None = None) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason: Reason = reason
        self.detail = detail


def failure_in(error: BaseException) -> Failure | None:
    """The Failure that `error` is, or the first in a group."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := failure_in(inner))), None)
    return None


class Target(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Something on the path that is measured."""

    role: Role
    host: Host | None = None
    """Name or address; None takes that of `url`."""
    port: Port | None = None
    url: Url | None = None
    """A page, for the probes that fetch one."""
    key_file: str | None = None
    """First line is the key that this agent shares with a reflector; must not be readable by others."""

    @property
    def name(self) -> str | None:
        """`host`, else the host of `url`; None when there is neither."""
        return self.host or (urlsplit(self.url).hostname if self.url else None)

    def key(self) -> bytes | None:
        """The first line of `key_file`, read afresh: keys are exchanged while the agent runs. None without a file.

        :raises Failure: `no_permission` when it cannot be read.
        """
        if self.key_file is None:
            return None
        try:
            with Path(self.key_file).open("rb") as lines:
                return lines.readline(MAX_KEY_BYTES).strip()
        except OSError as error:
            raise Failure("no_permission", f"key of the reflector: {self.key_file}: {error.strerror}") from error


class NameServer(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A resolver that a job asks."""

    address: Host
    """An address, never a name."""
    port: Port = 53


Progress = Callable[[str], None]
"""Takes one short line on how far a run is (``down 94.1 Mbit/s, 2 s``), for a person who watches."""


def ignore(_: str) -> None:
    """Nobody watches."""


class Context(Struct, kw_only=True):
    """What a probe may use. One object per run."""

    agent: str
    """The agent's id."""
    interface: str
    """Bind every socket to it."""
    clock: Clock
    facts: Facts
    timeout_s: float
    """The runner ends the probe then; its own network time-outs end earlier."""
    target: Target | None = None
    """What the job measures; None for a probe that has no target."""
    resolver: NameServer | None = None
    """The name server that the job asks; None for a probe that asks none."""
    provider: str | None = None
    """One of the probe's `providers`; None for a probe that has none."""
    uplink: Uplink = Uplink()
    """What is known of the interface as a way out."""
    watch: Watch | None = None
    """Of the interface's radio; None where there is none."""
    progress: Progress = ignore
    flags: list[Flag] = []
    """The probe adds its cautions here."""
    values: Values | None = None
    """What was measured so far. The runner keeps it when the probe fails or has to be ended."""


class Settings(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """What every probe's own settings have in common: a probe subclasses it, unknown keys are errors."""

    def least_s(self) -> float:
        """The time that a run takes when everything is well; its deadline may not be earlier."""
        return 0.0

    def least_period_s(self) -> float:
        """How often a run may be at most, for what it does to others."""
        return 0.0

    def alone(self) -> bool:
        """Whether a run stops all other traffic of its interface, so that nothing else may be measured meanwhile."""
        return False

    def most_bytes(self, uplink: Uplink) -> int:
        """The most that a run moves, both directions together: what a heavy probe costs of the day's data budget."""
        return 0


Need = Literal["host", "url", "key", "resolver", "interface", "radio", "lead"]
"""What a job has to name: a target with a host, with a url, with a key_file, a resolver; an interface that carries
packets, one that is a radio, or a radio that we lead."""


class Probe(NamedTuple):
    """One entry of :data:`agent.probes.PROBES`."""

    settings: type[Settings]
    measure: Callable[[Any, Context], Awaitable[Values]]
    timeout_s: float
    """Deadline of one run unless the job sets its own."""
    needs: frozenset[Need] = frozenset()
    providers: tuple[str, ...] = ()
    """What a job may name as `provider`; the first is taken when it names none."""
    heavy: bool = False
    """Heavy probes (throughput, video) run one at a time per uplink; at most four light ones run beside it."""
