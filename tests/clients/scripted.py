"""An upstream of the chat protocol for what fixtures cannot show: what the gateway asked, and when
it left. The model says what it does."""

import base64
import http.server
import json
import struct
import threading


class ScriptedUpstream:
    """
    | model | answer |
    |---|---|
    | `echo` | its text is the request's body |
    | `hold…` | one text, then silence until the gateway leaves |
    | `status-NNN` | that status, with an error in OpenAI's form |

    A legacy completion of `whole` has its end, one of another model has not. `/embeddings` answers any model.

    `GET /asked/<model>` and `GET /left/<model>` wait until somebody asked for that `hold…` model, and
    until they left: 204.
    """

    def __init__(self):
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.seen = {}
        self._server.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


_USAGE = {"prompt_tokens": 5, "total_tokens": 5}


def _embedding(request):
    values = [0.5, -0.25]
    # SDKs ask for base64 by themselves.
    packed = base64.b64encode(struct.pack("<2f", *values)).decode()
    vector = packed if request.get("encoding_format") == "base64" else values
    return {"object": "embedding", "index": 0, "embedding": vector}


def _completion(text, finish=None):
    choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None}
    return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # How long a test waits for the gateway to leave; it has one second.
    PATIENCE = 10

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        request = json.loads(body)
        model = request["model"]
        if self.path == "/embeddings":
            self._json({"object": "list", "model": model, "data": [_embedding(request)], "usage": _USAGE})
        elif "prompt" in request:
            self._stream()
            self._event(_completion("Hel"))
            if model == "whole":
                self._event(_completion("lo", "stop"))
                self._write(b"data: [DONE]\n\n")
            self._write(b"")
        elif model == "echo":
            self._stream()
            self._event(_chunk({"content": body.decode()}))
            self._event(_chunk({}, "stop"))
            self._write(b"data: [DONE]\n\n")
            self._write(b"")
        elif model.startswith("hold"):
            self._stream()
            self._event(_chunk({"content": "Wait"}))
            self._seen(f"/asked/{model}").set()
            # Nothing more is sent to this connection, so its end is that the gateway left.
            self.rfile.read(1)
            self._seen(f"/left/{model}").set()
            self.close_connection = True
        else:
            self._refuse(int(model.removeprefix("status-")))

    def do_GET(self):
        seen = self._seen(self.path).wait(self.PATIENCE)
        self.send_response(204 if seen else 504)
        self.send_header("content-length", "0")
        self.end_headers()

    def _json(self, data):
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _seen(self, what):
        with self.server.lock:
            return self.server.seen.setdefault(what, threading.Event())

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
