"""The gateway and the fixture server, each the real program at a port of the system's choice."""

import hashlib
import json
import os
import queue
import re
import secrets
import subprocess
import threading

STARTING = 20


class Program:
    """A running program whose output is read, so that it never waits for a reader."""

    def __init__(self, command, log=None):
        environment = {"PATH": os.environ.get("PATH", ""), "RUST_LOG": "info"}
        self._process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
        )
        self._lines = queue.Queue()
        self._log = open(log, "w", encoding="utf-8") if log else None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def line(self):
        """The next line of its output; None once it ended."""
        return self._lines.get(timeout=STARTING)

    def stop(self):
        self._process.terminate()
        self._process.wait(STARTING)
        self._reader.join(STARTING)
        if self._log:
            self._log.close()

    def _read(self):
        for line in self._process.stdout:
            if self._log:
                self._log.write(line)
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)


class Replay(Program):
    """A model API that plays the fixtures."""

    def __init__(self, binary, fixtures):
        super().__init__([binary, "replay", fixtures, "--listen", "127.0.0.1:0", "--pace", "max"])
        self.url = self.line()
        self.wires = []
        if not (self.url or "").startswith("http"):
            raise RuntimeError(f"the fixture server did not start: {self.url}")
        # Its list has a line for each wire and comes at once, but says nowhere that it ended.
        for _ in [folder for folder in fixtures.iterdir() if folder.is_dir()]:
            wire, cases = self.line().strip().split(": ", 1)
            if not cases.startswith("not served"):
                self.wires.append(wire)


class Recite(Program):
    """llama.cpp with a model that was made on the spot and recites one answer of its `kind`."""

    # It ends by itself too, should nobody end it.
    SECONDS = 600
    # By wire, what its address is followed by.
    WIRES = {"openai-chat": "/v1", "openai-responses": "/v1", "anthropic-messages": ""}

    def __init__(self, python, script, kind, folder):
        model = folder / f"{kind}.gguf"
        subprocess.run([python, script, "make", kind, model], check=True, stdout=subprocess.DEVNULL)
        command = [python, script, "serve", model, 0, self.SECONDS]
        super().__init__(command, folder / f"{kind}.log")
        self.kind = kind
        # It says where it listens once it does; what its libraries say comes in between.
        while (line := self.line()) is not None:
            if line.startswith("http://"):
                self.url = line
                return
        raise RuntimeError(f"the model server for {kind} did not start, see {folder / f'{kind}.log'}")


class Demo(Program):
    """The demo, which needs no config and no key."""

    def __init__(self, binary, folder):
        anywhere = "127.0.0.1:0"
        command = [binary, "--listen", anywhere, "--admin-listen", anywhere]
        super().__init__(command, folder / "demo.log")
        while (line := self.line()) is not None:
            if found := re.search(r"Playground: (http://[^/]+)/", line):
                self.url = found[1]
                return
        raise RuntimeError(f"the demo did not start, see {folder / 'demo.log'}")


class Gateway(Program):
    """The gateway before the fixtures, with keys on."""

    def __init__(self, binary, folder, replay, scripted_url, reciters):
        self.keys = {name: f"sk-sg-test-{secrets.token_hex(16)}" for name in ("app", "narrow", "limited")}
        config = folder / "gateway.yaml"
        # JSON is YAML.
        config.write_text(json.dumps(self._config(replay, scripted_url, reciters), indent=1), "utf-8")
        anywhere = "127.0.0.1:0"
        command = [binary, "serve", "--config", config, "--listen", anywhere, "--admin-listen", anywhere]
        super().__init__(command, folder / "gateway.log")
        said = []
        while line := self.line():
            said.append(line)
            if '"serving"' in line:
                fields = dict(re.findall(r'"(clients|admin)":"([^"]+)"', line))
                self.url, self.admin_url = f"http://{fields['clients']}", f"http://{fields['admin']}"
                return
        raise RuntimeError("the gateway did not start:\n" + "\n".join(said))

    def _config(self, replay, scripted_url, reciters):
        upstreams = {wire: {"wire": wire, "base_url": replay.url, "api_key": "upstream-key"} for wire in replay.wires}
        upstreams["scripted"] = {"wire": "openai-chat", "base_url": scripted_url}
        for reciter in reciters:
            for wire, path in reciter.WIRES.items():
                name = f"recite-{reciter.kind}-{wire}"
                upstreams[name] = {"wire": wire, "base_url": reciter.url + path, "api_key": "upstream-key"}
                if wire == "openai-responses":
                    # llama.cpp leaves out members without which OpenAI's SDK cannot read the events.
                    upstreams[name]["fidelity"] = "repaired"
        return {
            "upstreams": upstreams,
            "models": {f"{name}/*": {"targets": [{"upstream": name, "model": "*"}]} for name in upstreams},
            "keys": [
                self._key("app"),
                self._key("narrow", models=["openai-chat/text"]),
                self._key("limited", limits={"requests": "1/h"}),
            ],
        }

    def _key(self, name, **more):
        return {"name": name, "sha256": hashlib.sha256(self.keys[name].encode()).hexdigest(), **more}
