"""The probes, by name: one file each, found in one dict."""

from typing import Final

from agent.probe import Probe
from agent.probes import agent, dns, latency, web

PROBES: Final[dict[str, Probe]] = {
    "latency": latency.PROBE,
    "dns": dns.PROBE,
    "web": web.PROBE,
    "agent": agent.PROBE,
}
