"""A Speedtest Mini server, and what www.speedtest.net tells its client: its settings, and a list of public servers.

python tests/agent/mini_server.py ADDRESS SECONDS [CERTIFICATE]: on port 80, and with a certificate on port 443."""

import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SETTINGS = """<settings><client ip="10.77.0.1" lat="39.9" lon="116.4" isp="" country="CN"/>
<server-config threadcount="4" ignoreids=""/><download testlength="{seconds}" threadsperurl="4"/>
<upload testlength="{seconds}" ratio="5" threads="2" maxchunkcount="50"/></settings>"""
SERVERS = """<settings><servers><server url="https://mini.test/speedtest/upload.php" lat="39" lon="116" name="Here"
 country="China" sponsor="Lab" id="1"/></servers></settings>"""
BLOCK = bytes(64 * 1024)


class Mini(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.endswith(".jpg"):
            side = int(path.rpartition("x")[2].removesuffix(".jpg"))
            self.say(b"", 2 * side * side)
            for start in range(0, 2 * side * side, len(BLOCK)):
                self.wfile.write(BLOCK[: 2 * side * side - start])
        elif path.startswith("/speedtest/latency.txt"):
            self.say(b"test=test\n")
        elif path == "/speedtest-config.php":
            self.say(SETTINGS.format(seconds=sys.argv[2]).encode())
        elif path == "/speedtest-servers-static.php":
            self.say(SERVERS.encode())
        else:
            self.say(b'upload_extension: "php"')

    def do_POST(self) -> None:
        left = size = int(self.headers["Content-Length"])
        while left and (data := self.rfile.read1(left)):
            left -= len(data)
        self.say(f"size={size}".encode())

    def say(self, body: bytes, size: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) if size is None else size))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer((sys.argv[1], 80), Mini)
if sys.argv[3:]:
    secure = ThreadingHTTPServer((sys.argv[1], 443), Mini)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(sys.argv[3])
    secure.socket = tls.wrap_socket(secure.socket, server_side=True)
    threading.Thread(target=secure.serve_forever, daemon=True).start()
print("ready", flush=True)
server.serve_forever()
