"""What the agent remembers of an interface's radio from one look to the next."""

from typing import Literal

from msgspec import Struct

from agent.wifi.counters import Sample

Method = Literal["iw", "wireless"]
"""Where signal and noise come from: `iw`, or `/proc/net/wireless`. Their numbers differ."""


class Radio(Struct, kw_only=True):
    """One per interface, for the life of the process: what was once chosen stays, so that no series has two sources."""

    method: Method | None = None
    """None until one of them has answered."""
    air: Literal["survey", "access_point"] | None = None
    """Where the busy ratio comes from: our own survey, or what the access point says. None until one of them tells."""
    sample: Sample | None = None
    """The last one."""
    unknown: set[str] = set()
    """What `iw` will never tell of this driver; not asked again."""
    silent: set[str] = set()
    """What it was asked in vain the last time."""
