"""An upstream of the chat protocol for what fixtures cannot show: what the gateway asked, and when
it left. The model says what it does."""

import http.server
import json
import threading


class ScriptedUpstream:
    """
    | model | answer |
    |---|---|
    | `echo` | its text is the request's body |
    | `hold…` | one text, then silence until the gateway leaves |
    | `status-NNN` | that status, with an error in OpenAI's form |

    `GET /left/<model>` waits until a connection that asked for that `hold…` model was left, 204.
    """

    def __init__(self):
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.left = {}
        self._server.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # How long a test waits for the gateway to leave; it has one second.
    PATIENCE = 10

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        model = json.loads(body)["model"]
        if model == "echo":
            self._stream()
            self._event(_chunk({"content": body.decode()}))
            self._event(_chunk({}, "stop"))
            self._write(b"data: [DONE]\n\n")
            self._write(b"")
        elif model.startswith("hold"):
            self._stream()
            self._event(_chunk({"content": "Wait"}))
            # Nothing more is sent to this connection, so its end is that the gateway left.
            self.rfile.read(1)
            self._left(model).set()
            self.close_connection = True
        else:
            self._refuse(int(model.removeprefix("status-")))

    def do_GET(self):
        left = self._left(self.path.removeprefix("/left/")).wait(self.PATIENCE)
        self.send_response(204 if left else 504)
        self.send_header("content-length", "0")
        self.end_headers()

    def _left(self, model):
        with self.server.lock:
            return self.server.left.setdefault(model, threading.Event())

    def _stream(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def _event(self, data):
        self._write(b"data: " + json.dumps(data).encode() + b"\n\n")

    def _write(self, data):
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _refuse(self, status):
        error = {"message": f"refused with {status}", "type": "some_error", "param": None, "code": None}
        body = json.dumps({"error": error}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def _chunk(delta, finish=None):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "scripted-1", "object": "chat.completion.chunk", "model": "scripted", "choices": [choice]}
