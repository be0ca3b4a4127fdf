"""The probes, by name: one file each, found in one dict."""

from typing import Final

from agent.probe import Probe
from agent.probes import agent, dns, latency, path, portal, throughput, video, web, wifi_join, wifi_link, wifi_scan

PROBES: Final[dict[str, Probe]] = {
    "latency": latency.PROBE,
    "throughput": throughput.PROBE,
    "dns": dns.PROBE,
    "web": web.PROBE,
    "video": video.PROBE,
    "path": path.PROBE,
    "portal": portal.PROBE,
    "wifi_link": wifi_link.PROBE,
    "wifi_scan": wifi_scan.PROBE,
    "wifi_join": wifi_join.PROBE,
    "agent": agent.PROBE,
}
