"""The values of every probe, one struct each. Every value is null when it was not measured, never 0.

A struct here is the whole definition of a probe's stored fields: :mod:`contract.series` derives the columns from it,
in this order. Never remove a field or change its type; add new ones at the end.
"""

from typing import Final, Literal

from msgspec import Struct

from contract.fields import Bytes, Count, Mbps, Ms, Name, Ratio, Seconds, Signed


class Values(Struct, kw_only=True, gc=False):
    """What every probe's values have in common: nothing but this type. No value can refer back to its struct."""


class Latency(Values):
    """Delay, delay variation and loss of one packet train (IPPM: RFC 2681, RFC 2680, RFC 5481, RFC 3393).

    Nothing received is `failed: all_lost` with `loss_ratio` 1.0 and null round-trip times.
    """

    method: Literal["stamp", "icmp", "tcp"] | None = None
    sent: Count | None = None
    received: Count | None = None
    duplicates: Count | None = None
    reordered: Count | None = None
    loss_ratio: Ratio | None = None
    loss_up_ratio: Ratio | None = None
    loss_down_ratio: Ratio | None = None
    """Of the replies, as `loss_up_ratio` is of the requests."""
    rtt_min_ms: Ms | None = None
    rtt_mean_ms: Ms | None = None
    rtt_p50_ms: Ms | None = None
    rtt_p95_ms: Ms | None = None
    rtt_p99_ms: Ms | None = None
    rtt_max_ms: Ms | None = None
    rt_pdv_p95_ms: Ms | None = None
    """95th percentile of the delay over the window's minimum (RFC 5481, round trip)."""
    ipdv_mean_ms: Ms | None = None
    """Mean absolute difference of consecutive delays (RFC 3393, round trip)."""
    packet_bytes: Bytes | None = None
    interval_ms: Ms | None = None


class Throughput(Values):
    """Goodput and working latency. Upload is what the receiver counted."""

    mode: Literal["quick", "working", "audit"] | None = None
    down_mbps: Mbps | None = None
    up_mbps: Mbps | None = None
    down_p10_mbps: Mbps | None = None
    up_p10_mbps: Mbps | None = None
    down_bytes: Bytes | None = None
    up_bytes: Bytes | None = None
    connections: Count | None = None
    idle_rtt_p50_ms: Ms | None = None
    loaded_down_rtt_p50_ms: Ms | None = None
    loaded_down_rtt_p95_ms: Ms | None = None
    loaded_up_rtt_p50_ms: Ms | None = None
    loaded_up_rtt_p95_ms: Ms | None = None
    working_rise_ms: Ms | None = None
    """Loaded minus idle median round-trip time, of the worse direction."""
    rpm_down: float | None = None
    rpm_up: float | None = None
    cpu_ratio: Ratio | None = None
    congestion_control: Name | None = None


class Dns(Values):
    """One query, straight to the job's resolver."""

    name: Name | None = None
    rcode: Name | None = None
    rtt_ms: Ms | None = None
    answers: Count | None = None
    transport: Literal["udp", "tcp"] | None = None
    family: Literal["a", "aaaa"] | None = None


class Web(Values):
    """One page fetch in stages; each stage counts from its own start, `total_ms` and `ttfb_ms` from the first."""

    status: Count | None = None
    dns_ms: Ms | None = None
    tcp_ms: Ms | None = None
    tls_ms: Ms | None = None
    ttfb_ms: Ms | None = None
    total_ms: Ms | None = None
    bytes: Bytes | None = None
    redirects: Count | None = None
    http_version: Name | None = None
    cert_days_left: float | None = None


class Video(Values):
    """A virtual adaptive player."""

    start_s: Seconds | None = None
    stall_count: Count | None = None
    stall_s: Seconds | None = None
    stall_ratio: Ratio | None = None
    played_s: Seconds | None = None
    mean_mbps: Mbps | None = None
    switches: Count | None = None


class Hop(Struct, kw_only=True, gc=False):
    """One router on the path; a silent one has neither address nor time."""

    address: Name | None = None
    rtt_ms: Ms | None = None


class Path(Values):
    """Route and path MTU."""

    hops: list[Hop] | None = None
    hop_count: Count | None = None
    pmtu_bytes: Bytes | None = None
    pmtu_blackhole: bool | None = None


class WifiLink(Values):
    """The radio link as the driver reports it; counters are deltas within one association."""

    ssid: Name | None = None
    bssid: Name | None = None
    frequency_mhz: Count | None = None
    channel: Count | None = None
    width_mhz: Count | None = None
    band: Literal["2.4", "5", "6"] | None = None
    rssi_dbm: float | None = None
    noise_dbm: float | None = None
    snr_db: float | None = None
    tx_mbps: Mbps | None = None
    rx_mbps: Mbps | None = None
    mcs: Count | None = None
    streams: Count | None = None
    tx_retry_ratio: Ratio | None = None
    tx_failed_ratio: Ratio | None = None
    beacon_loss: Count | None = None
    busy_ratio: Ratio | None = None
    stations: Count | None = None


class WifiScan(Values):
    """The neighbourhood, as counts only."""

    ap_count: Count | None = None
    co_channel_count: Count | None = None
    overlap_count: Count | None = None
    strongest_neighbour_dbm: float | None = None


class WifiJoin(Values):
    """The stages of joining; a stage that did not happen is null."""

    scan_ms: Ms | None = None
    auth_ms: Ms | None = None
    assoc_ms: Ms | None = None
    eap_ms: Ms | None = None
    handshake_ms: Ms | None = None
    dhcp_ms: Ms | None = None
    first_dns_ms: Ms | None = None
    first_byte_ms: Ms | None = None
    online_ms: Ms | None = None
    failed_stage: Literal[
        "scan", "auth", "assoc", "eap", "handshake", "dhcp", "dns", "portal", "internet"
    ] | None = None  # fmt: skip
    reason_code: Count | None = None
    status_code: Count | None = None
    bssid: Name | None = None


class WifiEvent(Values):
    """A roam or a disconnect, when it happened."""

    kind: Literal["roam", "disconnect"] | None = None
    from_bssid: Name | None = None
    to_bssid: Name | None = None
    roam_ms: Ms | None = None
    reason_code: Count | None = None
    local: bool | None = None


class Portal(Values):
    """Whether a captive portal stands in the way."""

    state: Literal[
        "open", "portal", "dns_hijack", "walled", "limited", "no_internet", "no_dns", "no_ip", "unknown"
    ] | None = None  # fmt: skip
    detect_ms: Ms | None = None
    portal_ms: Ms | None = None
    portal_host: Name | None = None
    http_status: Count | None = None
    seconds_remaining: Count | None = None


class Agent(Values):
    """The agent's own health.

    `outbox_dropped` counts records lost to the outbox's caps, in all; the fields after it count by eviction class.
    """

    uptime_s: Seconds | None = None
    rss_bytes: Bytes | None = None
    cpu_ratio: float | None = None
    """CPU time of the agent over wall time since its last record; may pass 1 with threads."""
    loop_lag_p95_ms: Ms | None = None
    outbox_records: Count | None = None
    outbox_oldest_s: Seconds | None = None
    outbox_dropped: Count | None = None
    outbox_dropped_context: Count | None = None
    """Class 1: agent, wifi_scan, wifi_link, path."""
    outbox_dropped_light: Count | None = None
    """Class 2: latency, dns, web, video."""
    outbox_dropped_heavy: Count | None = None
    """Class 3: throughput."""
    outbox_dropped_rare: Count | None = None
    """Class 4: wifi_join, wifi_event, portal and replies."""
    outbox_quarantined: Count | None = None
    disk_free_bytes: Bytes | None = None
    clock_offset_ms: float | None = None
    """Wall clock minus the collector's, positive when the agent is ahead."""
    restarts: Count | None = None
    last_exit: Name | None = None
    config_version: Signed | None = None
    temperature_c: float | None = None
    reconnects: Count | None = None
    degraded: bool | None = None
    cert_days_left: float | None = None


VALUES: Final[dict[str, type[Values]]] = {
    "latency": Latency,
    "throughput": Throughput,
    "dns": Dns,
    "web": Web,
    "video": Video,
    "path": Path,
    "wifi_link": WifiLink,
    "wifi_scan": WifiScan,
    "wifi_join": WifiJoin,
    "wifi_event": WifiEvent,
    "portal": Portal,
    "agent": Agent,
}
"""Every probe, by the name it has on the wire and in the store."""
