"""A server that answers every POST with a recording, byte for byte.

The request's model names the recording and the reader: `sdk-12`, `whole-12`, `pieces-12`. The model is in
the body or in the path, depending on the protocol. For `pieces-…` every byte is an HTTP chunk of its own,
so the client's HTTP library passes on single bytes.
"""

import collections
import http.server
import json
import re
import threading
import urllib.parse

KEY = re.compile(r"\b(?:sdk|whole|pieces)-(\d+)\b")
# Response headers, beside the content type, that affect the reading of an answer.
PASSED_ON = ("retry-after", "retry-after-ms", "x-amzn-errortype", "x-should-retry")


class AnswerServer:
    def __init__(self, recordings):
        self.recordings = {recording.number: recording for recording in recordings}
        # Number of requests by key.
        self.asked = collections.Counter()
        self._lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def _asked_for(self, path, body):
        try:
            named = json.loads(body).get("model") or ""
        except (ValueError, AttributeError):
            named = ""
        found = KEY.search(str(named)) or KEY.search(urllib.parse.unquote(path))
        if not found:
            return None, None
        with self._lock:
            self.asked[found[0]] += 1
        return found[0], self.recordings.get(int(found[1]))

    def _handler(owner):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                key, recording = owner._asked_for(self.path, body)
                if recording is None:
                    self.send_error(404, "no such recording")
                    return
                self.send_response(recording.status)
                self.send_header("content-type", recording.content_type)
                for name in PASSED_ON:
                    if name in recording.headers:
                        self.send_header(name, recording.headers[name])
                if key.startswith("pieces-"):
                    self.send_header("transfer-encoding", "chunked")
                    answer = b"".join(b"1\r\n%c\r\n" % byte for byte in recording.body) + b"0\r\n\r\n"
                else:
                    self.send_header("content-length", str(len(recording.body)))
                    answer = recording.body
                self.end_headers()
                try:
                    self.wfile.write(answer)
                except ConnectionError:
                    # A client may close the connection at an error in the answer.
                    self.close_connection = True

            def log_message(self, *_):
                pass

        return Handler
