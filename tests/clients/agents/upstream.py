"""One server for all the vendors of `vendors`. What it answers is a script's: the model names the run."""

import contextlib
import http.server
import json
import re
import threading
import time

from vendors import WIRES, Strict


class Run:
    """One start of a client, which asks for a model of its own."""

    def __init__(self, wire, model, script):
        self.wire, self.model, self.script = wire, model, script
        self.lock = threading.Lock()
        # What the upstream would have refused, as (number of the request, problem).
        self.problems = []
        self.requests = []

    def reply(self, body, headers):
        vendor, strict = WIRES[self.wire], Strict()
        with self.lock:
            number = len(self.requests)
            self.requests.append(body)
            try:
                vendor.check(body, headers, strict)
                view = vendor.view(body)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                strict.problems.append(f"the request cannot be read: {error!r}")
                view = None
            self.problems += [(number, problem) for problem in strict.problems]
            if view is None:
                return {"status": 400, "message": strict.problems[-1]}
            return self.script(view, number)


class Upstream:
    def __init__(self):
        self.runs = {}
        server = type("Handler", (_Handler,), {"runs": self.runs})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), server)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def add(self, run):
        self.runs[run.wire, run.model] = run

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        # The gateway leaves if its client does.
        with contextlib.suppress(ConnectionError):
            self._answer()

    def _answer(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        _, wire, rest = self.path.split("/", 2)
        vendor, path = WIRES[wire], "/" + rest.split("?")[0]
        if not re.fullmatch(vendor.path, path):
            # Counting tokens, compaction and the like: as a vendor that does not have them.
            return self._refuse(vendor, 404, "there is no such path")
        model = vendor.model(path, body)
        reply = self.runs[wire, model].reply(body, {name.lower(): value for name, value in self.headers.items()})
        if "status" in reply:
            return self._refuse(vendor, reply["status"], reply.get("message", "try again"))
        pieces = vendor.answer(model, reply.get("text", ""), reply.get("calls", []), reply.get("tokens", 100))
        self.send_response(200)
        self.send_header("content-type", vendor.content_type)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        # Silence comes before or after the first words.
        words = reply.get("text", "").encode()
        first = next((at for at, piece in enumerate(pieces) if words in piece), 0) + (reply.get("stall_place") == "after")
        self._chunk(b"".join(pieces[:first]))
        time.sleep(reply.get("stall", 0))
        self._chunk(b"".join(pieces[first:]))
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, data):
        if data:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.flush()

    def _refuse(self, vendor, status, message):
        body = json.dumps(vendor.error(status, message)).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass
