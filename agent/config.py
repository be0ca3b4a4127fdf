"""The agent's configuration: strict TOML. Unknown keys, wrong types and duplicate jobs are errors with their path."""

from typing import Annotated

from msgspec import Meta, Struct


class Mqtt(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """How to reach the broker. Secrets are in files, never in the configuration itself."""

    host: Annotated[str, Meta(min_length=1, max_length=253)]
    port: Annotated[int, Meta(ge=1, le=65535)] = 8883
    tls: bool = True
    """False only for a broker on this machine."""
    ca_file: str | None = None
    """PEM bundle that signs the broker; None: the system's."""
    cert_file: str | None = None
    key_file: str | None = None
    """Mutual TLS; the key must not be readable by others."""
    password_file: str | None = None
    """First line is the password; the user name is the agent's id."""


class OutboxLimits(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """How much may wait on disk. The compiled-in defaults are ceilings; a configuration only lowers them."""

    max_mib: Annotated[int, Meta(ge=1, le=64)] = 64
    """Used pages of the outbox."""
    max_days: Annotated[int, Meta(ge=1, le=14)] = 14
    hold_s: Annotated[float, Meta(gt=0, le=10)] = 10.0
    """Longest time that a record waits in memory without an acknowledgement before it is committed."""
