"""What the things cost that a production gateway may have switched on: traces, TLS, a label for every key."""

import http.server
import shutil
import subprocess
import threading

from tables import heading, table
from workloads import by_turns, row

CERTIFICATE = """
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = localhost
[extensions]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1
"""


class Receiver:
    """An OTLP receiver that takes everything, and counts it."""

    def __init__(self):
        receiver, self.exports, self.bytes = self, 0, 0

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                receiver.exports += 1
                receiver.bytes += len(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:{}".format(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()


def certificate(bench):
    """The folder of a certificate for 127.0.0.1 and its key."""
    folder = bench.work / "tls"
    folder.mkdir(exist_ok=True)
    (folder / "request.conf").write_text(CERTIFICATE)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "30", "-config", folder / "request.conf", "-keyout", folder / "key.pem",
                    "-out", folder / "cert.pem"], check=True, capture_output=True)
    return folder


def everything(bench):
    heading("Everything on: what traces, TLS and a label for every key add (realistic tokens)")
    if not shutil.which("openssl"):
        print("not measured: openssl, which makes the certificate, is not installed")
        return
    receiver, tls = Receiver(), certificate(bench)
    seconds = bench.options.seconds
    loads = {
        "W1": ((500, 64, 0), {"connections": 64}),
        "W2": ((int(50 * (8 * seconds + 4)), 1, 20_000),
               {"connections": 200, "seconds": 8, "ramp": 2, "warm": 1, "once": True}),
        "W4": ((10, 10, 0), {"connections": 64, "whole": True, "dialect": "openai-chat"}),
    }
    traces, key = {"traces": receiver.url}, {"key_label": True}
    subjects = [("nginx", "nginx", {}), ("gateway", "gateway", {}), ("gateway, traces", "gateway", traces),
                ("gateway, label `key`", "gateway", key), ("nginx, TLS", "nginx", {"tls": tls}),
                ("gateway, TLS", "gateway", {"tls": tls}), ("gateway, all", "gateway", {"tls": tls, **traces, **key})]
    rows = [row([load, name], f"{load} everything", subject, *words, kind="prose", options=options, **named)
            for load, (words, named) in loads.items() for name, subject, options in subjects]
    cells = []
    for about, series in by_turns(bench, rows):
        figure = "cpu_us_per_answer" if about[0] == "W4" else "cpu_us_per_token"
        first = series.first_token() if about[0] == "W2" else ["", ""]
        cells.append([*about, series.cell(figure), *first, series.busy(), series.incomplete()])
    receiver.stop()
    table(["", "", "CPU µs/token, µs/request", "first token, ms: p50", "p99", "driver's core", "incomplete"], cells)
    print(f"\n{receiver.exports:,} exports of traces, {receiver.bytes / 1e6:.1f} MB")


SECTIONS = {"everything": everything}
