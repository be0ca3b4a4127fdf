"""DNS round trips beside dig and the first byte of a page beside curl, on a path of 20 ms.

    python -m bench.dns_web --runs 15

dnsmasq and nginx (HTTP and HTTPS) behind the laboratory's relay; medians. Needs root. Exit 1 when a target is missed.
"""

import argparse
import os
import re
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trustme

from tests.network.namespaces import Namespace
from tests.network.priority import ahead
from tests.network.relay import relay

SERVER: Final = "10.77.0.2"
NAME: Final = "www.test"
DNS_WITHIN_MS: Final = 1.0
WEB_SHARE: Final = 0.05
WEB_WITHIN_MS: Final = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("bench.dns_web: network namespaces need root", file=sys.stderr)
        return 2
    missed = []
    print("| what | ours p50 ms | peer p50 ms | off ms |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, servers(Path(folder)) as here:
        ca = f"{folder}/ca.pem"
        rows = {
            "DNS beside dig": (lambda: dns(here), lambda: dig(here)),
            "HTTP first byte beside curl": (lambda: web(here, "http", ca), lambda: curl(here, "http", ca)),
            "HTTPS first byte beside curl": (lambda: web(here, "https", ca), lambda: curl(here, "https", ca)),
        }
        for name, (ours, peer) in rows.items():
            pairs = [(ours(), peer()) for _ in range(arguments.runs)]
            mine, its = (statistics.median(column) for column in zip(*pairs, strict=True))
            print(f"| {name} | {mine:.2f} | {its:.2f} | {mine - its:+.2f} |", flush=True)
            allowed = DNS_WITHIN_MS if name.startswith("DNS") else max(WEB_WITHIN_MS, WEB_SHARE * its)
            if abs(mine - its) > allowed:
                missed.append(f"{name}: off by {mine - its:+.2f} ms")
    for line in missed:
        print(f"missed: {line}")
    return 1 if missed else 0


@contextmanager
def servers(folder: Path) -> Iterator[Namespace]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate = authority.issue_cert(SERVER)
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    (folder / "index.html").write_text("x" * 20_000)
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; user root;\nevents {{}}\nhttp {{ access_log off;\n"
        f"server {{ listen {SERVER}:80; listen {SERVER}:443 ssl; root {folder};\n"
        f"ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.pem; }} }}\n"
    )
    with ahead(), relay(delay_ms=10) as line:
        line.there.start(
            "dnsmasq", "--keep-in-foreground", "--log-facility=-", "--no-resolv", "--no-hosts", "--user=root",
            f"--pid-file={folder}/dns.pid", f"--listen-address={SERVER}", "--bind-interfaces",
            f"--address=/{NAME}/198.51.100.7", ready="started",
        )  # fmt: skip
        line.there.start("nginx", "-c", str(folder / "nginx.conf"))
        line.there.run("sh", "-c", f"until curl -s http://{SERVER}/ > /dev/null; do sleep 0.1; done")
        yield line.here


def dns(here: Namespace) -> float:
    words = ("dns", "--interface", "v0", "--target", NAME, "--server", SERVER, "--set", 'expect=["198.51.100.0/24"]')
    return float(here.once(*words)["values"]["rtt_ms"])


def dig(here: Namespace) -> float:
    out = here.run("dig", "-u", "+tries=1", f"@{SERVER}", NAME, "A")
    return float(re.findall(r"Query time: (\d+) usec", out)[0]) / 1000


def web(here: Namespace, scheme: str, ca: str) -> float:
    words = ("web", "--interface", "v0", "--target", f"{scheme}://{SERVER}/", "--set", f'ca_file="{ca}"')
    return float(here.once(*words)["values"]["ttfb_ms"])


def curl(here: Namespace, scheme: str, ca: str) -> float:
    out = here.run(
        "curl", "-s", "--cacert", ca, "-o", "/dev/null", "-w", "%{time_starttransfer}", f"{scheme}://{SERVER}/"
    )
    return float(out) * 1000


if __name__ == "__main__":
    sys.exit(main())
