"""A network with known faults: answers ICMP echo on a TUN device, and tells in the end what it did.

Usage: tun_echo.py DEVICE ADDRESS DELAY_MS LOST DUPLICATED LATE   (comma-separated places in the order of arrival, or -)
The first two requests of a run are warm-ups, so that place 2 is the first that is counted. On SIGTERM it prints
``{"requests": n, "replies": n}``.
"""

import fcntl
import heapq
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def main() -> None:
    device, address, delay_ms = sys.argv[1], sys.argv[2], float(sys.argv[3])
    lost, duplicated, late = ({int(word) for word in text.split(",") if word != "-"} for text in sys.argv[4:7])
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22s", device.encode(), IFF_TUN | IFF_NO_PI, b""))
    subprocess.run(["ip", "addr", "add", address, "dev", device], check=True)
    subprocess.run(["ip", "link", "set", device, "up"], check=True)
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    print("ready", flush=True)
    due: list[tuple[float, int, bytes]] = []
    requests = replies = serial = 0
    while not stopped:
        timeout = max(0.0, due[0][0] - time.monotonic()) if due else 0.2
        if select.select([tun], [], [], timeout)[0]:
            packet = os.read(tun, 2048)
            arrived = time.monotonic()
            if packet[0] >> 4 != 4 or packet[9] != 1 or packet[20] != 8:
                continue
            place, requests = requests, requests + 1
            if place in lost:
                continue
            extra_ms = 50.0 if place in late else 0.0
            for _ in range(2 if place in duplicated else 1):
                serial += 1
                heapq.heappush(due, (arrived + (delay_ms + extra_ms) / 1000, serial, answer(packet)))
        while due and due[0][0] <= time.monotonic():
            os.write(tun, heapq.heappop(due)[2])
            replies += 1
    print(json.dumps({"requests": requests, "replies": replies}))


def answer(packet: bytes) -> bytes:
    """The echo reply: addresses swapped, type 0, checksum 8 less (RFC 1071: its word lost 0x0800)."""
    header = packet[:12] + packet[16:20] + packet[12:16]
    (checksum,) = struct.unpack_from("!H", packet, 22)
    total = checksum + 0x0800
    total = (total & 0xFFFF) + (total >> 16)
    return header + b"\0" + packet[21:22] + struct.pack("!H", total) + packet[24:]


main()
