"""Field types with their bounds and units; a decoder refuses what is outside them."""

from datetime import datetime
from typing import Annotated, Final

from msgspec import Meta

Time = Annotated[datetime, Meta(tz=True)]
"""An instant with its offset; a naive one is refused."""

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Signed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Ms = Annotated[float, Meta(ge=0)]
"""Milliseconds."""
Seconds = Annotated[float, Meta(ge=0)]
Mbps = Annotated[float, Meta(ge=0)]
"""Megabits (10^6) per second of goodput."""
Ratio = Annotated[float, Meta(ge=0, le=1)]
"""0 to 1, never percent."""
Bytes = Count

AgentId = Annotated[str, Meta(pattern=r"^(?!all$)[a-z0-9-]{3,32}$")]
"""MQTT user name and client id; `all` is the broadcast topic, so no agent may have it."""

Slug = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
"""A name made for machines: target, provider, resolver. Bounded, because it becomes a tag."""

Interface = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._@-]{1,15}$")]
"""A Linux interface name (IFNAMSIZ leaves 15 characters)."""

CERT_ALARM_DAYS: Final = 60
"""An agent's certificate with fewer days left is a matter for people: enrol it again."""

Text = Annotated[str, Meta(max_length=200)]
"""Free text for people."""

Name = Annotated[str, Meta(max_length=255)]
"""A DNS name, SSID, address or host; untrusted text, therefore a field and never a tag."""
