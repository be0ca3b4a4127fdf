"""What this machine's kernel and user allow: a test that needs more is skipped, and says for want of what."""

import functools
import os
import subprocess

import pytest

from tests.network.namespaces import namespace

_PROBES = {
    "tbf": ["tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "1mbit", "burst", "2k", "latency", "50ms"],
    "ifb": ["ip", "link", "add", "ifb9", "type", "ifb"],
    "numgen": ["nft", "add table ip t; add chain ip t c; add rule ip t c numgen inc mod 2 == 0 counter"],
    "tun": ["ip", "tuntap", "add", "dev", "tun9", "mode", "tun"],
    "cubic": ["ip", "route", "add", "10.99.0.0/24", "dev", "lo", "congctl", "cubic"],
}


@functools.cache
def missing(*features: str) -> str | None:
    """Why namespaces with these features cannot be had; None when they can."""
    if os.geteuid():
        return "network namespaces need root"
    try:
        with namespace() as space:
            for feature in features:
                done = subprocess.run(space.argv(*_PROBES[feature]), capture_output=True, text=True, timeout=30)
                if done.returncode:
                    return f"this kernel has no {feature}: {done.stderr.strip()}"
    except subprocess.CalledProcessError as error:
        return f"no network namespaces here: {error.stderr.strip()}"
    return None


def needs(*features: str) -> pytest.MarkDecorator:
    """Skip a test, or with ``pytestmark`` a file, without `tbf`, `ifb`, `numgen`, `tun` or `cubic`."""
    reason = missing(*features)
    return pytest.mark.skipif(reason is not None, reason=reason or "")
