"""The gateway under test: starts it with its own config and reads its native stream."""

import http.client
import json
import os
import pathlib
import re
import socket
import subprocess
import time

from reading import Call, Reading, Usage

# The key sent to every upstream. It must not appear in any output.
CREDENTIAL = "conformance-credential-7f3a"
# Vendor names of recordings, and the preset names they stand for.
PRESET_OF_VENDOR = {
    "alibaba": "dashscope",
    "anthropic-messages": "anthropic",
    "bedrock-converse": "bedrock",
    "bedrock-converse-stream": "bedrock",
    "bedrock-mantle": "openai",
    "cohere-chat": "cohere",
    "cohere-v2": "cohere",
    "ollama-chat": "ollama",
    "openai-chat": "openai",
    "openai-responses": "openai",
}
STARTING = 20


class Gateway:
    """A running gateway with one upstream per wire and vendor, all of which are the answer server."""

    def __init__(self, binary, folder, answers_url, pairs):
        self._binary = binary
        self._folder = pathlib.Path(folder)
        self._url = answers_url
        self.wires, presets = self._known(pairs)
        # (wire, vendor) → preset, or None for a vendor without a preset.
        self.presets = {}
        for wire, vendor in pairs:
            preset = PRESET_OF_VENDOR.get(vendor, vendor)
            self.presets[wire, vendor] = preset if preset in presets else None
        self._process = None

    def start(self):
        config = self._write("gateway.yaml", self._config())
        port, admin = _free_port(), _free_port()
        self._address = ("127.0.0.1", port)
        log = open(self._folder / "gateway.log", "wb")
        command = [self._binary, "serve", "--config", config, "--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{admin}"]
        self._process = subprocess.Popen(command, stdout=log, stderr=log, env=_environment())
        self._wait()

    def stop(self):
        if self._process:
            self._process.terminate()
            self._process.wait()

    def ask(self, recording, key):
        """The native answer to a request for `key`: a reading and the HTTP status."""
        model = f"{_upstream(recording.wire, recording.vendor)}/{key}"
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        try:
            body = json.dumps({"model": model, "prompt": "Hello."})
            connection.request("POST", "/v1/streams", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode("utf-8")
        finally:
            connection.close()
        try:
            heard = read_native(text) if answer.status == 200 else _refused(text)
        except (KeyError, ValueError) as error:
            heard = Reading().fail("not the native form", error)
        return heard, answer.status, text

    def _config(self):
        upstreams, models = {}, {}
        for (wire, vendor), preset in self.presets.items():
            if wire not in self.wires:
                continue
            name = _upstream(wire, vendor)
            upstreams[name] = {"wire": wire, "base_url": self._url, "api_key": CREDENTIAL}
            if preset:
                upstreams[name]["preset"] = preset
            models[f"{name}/*"] = {"targets": [{"upstream": name, "model": "*"}]}
        return {
            "upstreams": upstreams,
            "models": models,
            "limits": {"streams": 100000},
            "resume": {"window": "0s"},
        }

    def _known(self, pairs):
        """The wires and presets that the gateway lists."""
        upstreams = {}
        for wire in {wire for wire, _ in pairs}:
            upstreams[f"wire-{wire}"] = {"wire": wire, "base_url": self._url}
        upstreams["no-preset"] = {"preset": "?", "base_url": self._url}
        config = self._write("probe.yaml", {"upstreams": upstreams})
        checked = subprocess.run([self._binary, "check", "--config", config], capture_output=True, text=True, env=_environment())
        refused = set(re.findall(r"upstreams\.wire-([\w-]+)\.wire:", checked.stderr))
        presets = re.search(r"there is no preset `\?`; known: (.*)", checked.stderr)
        if not presets:
            raise RuntimeError(f"`check` did not say which presets it knows:\n{checked.stderr}")
        return {wire for wire, _ in pairs} - refused, set(presets[1].split(", "))

    def _write(self, name, config):
        # JSON is valid YAML.
        path = self._folder / name
        path.write_text(json.dumps(config, indent=1), "utf-8")
        return str(path)

    def _wait(self):
        until = time.monotonic() + STARTING
        while time.monotonic() < until and self._process.poll() is None:
            try:
                socket.create_connection(self._address, 1).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.05)
        log = (self._folder / "gateway.log").read_text("utf-8", "replace")
        raise RuntimeError(f"the gateway did not start:\n{log}")


def read_native(text):
    """Reads a native stream and reports violations of the stream's rules."""
    reading = Reading()
    calls, order = {}, []
    for name, data in _events(text):
        if order and order[-1] in ("complete", "error"):
            return reading.fail("events behind the terminal one")
        order.append(name)
        if name == "token":
            reading.text += _not_empty(data["text"])
        elif name == "reasoning":
            reading.reasoning += _not_empty(data["text"])
        elif name == "tool_call":
            call = calls.setdefault(data["index"], Call(data.get("id"), data.get("name"), ""))
            call.arguments += data["arguments"]
        elif name == "complete":
            reading.finish = data["finish_reason"]
            reading.usage = _usage(data["usage"])
        elif name == "error":
            reading.fail(data["error"]["code"], data["error"]["message"])
            reading.usage = _usage(data.get("usage"))
    reading.calls = [calls[index] for index in sorted(calls)]
    if sorted(calls) != list(range(len(calls))):
        return reading.fail("the tool calls' indexes have gaps")
    if order[:1] != ["start"] or order.count("start") != 1:
        return reading.fail("not exactly one start event, first")
    if order[-1] not in ("complete", "error"):
        return reading.fail("no terminal event")
    return reading


def _events(text):
    for block in text.split("\n\n"):
        fields = [line.partition(":") for line in block.split("\n")]
        values = {name: value.removeprefix(" ") for name, _, value in fields if name}
        if "event" in values:
            yield values["event"], json.loads(values["data"])


def _not_empty(text):
    if not text:
        raise ValueError("an event without text")
    return text


def _usage(stated):
    if not stated:
        return Usage()
    return Usage(stated["input_tokens"], stated["output_tokens"], stated["cached_input_tokens"], stated["reasoning_tokens"])


def _refused(text):
    error = json.loads(text)["error"]
    return Reading().fail(error["code"], error["message"])


def _upstream(wire, vendor):
    return f"{wire}.{vendor}"


def _environment():
    """An environment without proxies, credentials and external config."""
    return {"PATH": os.environ.get("PATH", ""), "RUST_LOG": "warn"}


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
