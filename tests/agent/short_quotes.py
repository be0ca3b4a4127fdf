"""A router as old ones are: of a packet whose TTL has ended it quotes the IP header and 8 bytes, none of the payload.

python tests/agent/short_quotes.py DEVICE ADDRESS: beside a kernel that keeps silent itself."""

import socket
import struct
import sys

device, address = sys.argv[1:]
heard = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
heard.bind((device, 0x0800))
said = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
print("ready", flush=True)
while True:
    packet, (_, _, kind, *_) = heard.recvfrom(2048)
    if kind == socket.PACKET_OUTGOING or packet[8] != 1 or packet[9] != socket.IPPROTO_UDP:
        continue
    body = struct.pack("!BBHI", 11, 0, 0, 0) + packet[:28]
    total = sum(struct.unpack(f"!{len(body) // 2}H", body))
    total = (total & 0xFFFF) + (total >> 16)
    body = body[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + body[4:]
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, 1, 0, socket.inet_aton(address), packet[12:16])
    said.sendto(header + body, (socket.inet_ntoa(packet[12:16]), 0))
