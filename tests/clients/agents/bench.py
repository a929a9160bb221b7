"""The gateway before scripted upstreams, and the start of one agent after another."""

import contextlib
import hashlib
import itertools
import json
import pathlib
import re
import secrets
import shutil
import tempfile

from programs import Program
from upstream import Run
from vendors import WIRES

HEARTBEAT = 0.25
# How often agents are started on one wire at most; each start has a model of its own.
MODELS = 40
# An agent knows what a model of this name can do.
KNOWN = "gpt-5.5-"


class Gateway(Program):
    def __init__(self, binary, folder, upstream_url):
        self.key = f"sk-sg-test-{secrets.token_hex(16)}"
        region = {"bedrock-converse": {"region": "eu-west-1"}}
        config = {
            "upstreams": {
                wire: {"wire": wire, "base_url": f"{upstream_url}/{wire}{vendor.base}", "api_key": "upstream-key"} | region.get(wire, {})
                for wire, vendor in WIRES.items()
            },
            # By name, since Codex gets no list of what a `*` stands for.
            "models": {
                f"{wire}/{kind}m{at}": {"targets": [{"upstream": wire, "model": f"{kind}m{at}"}]}
                for wire in WIRES
                for at in range(MODELS)
                for kind in ("", KNOWN)
            },
            "keys": [{"name": "agents", "sha256": hashlib.sha256(self.key.encode()).hexdigest()}],
            "heartbeat": f"{int(HEARTBEAT * 1000)}ms",
        }
        file = folder / "agents.yaml"
        file.write_text(json.dumps(config), "utf-8")
        anywhere = "127.0.0.1:0"
        command = [binary, "serve", "--config", file, "--listen", anywhere, "--admin-listen", anywhere]
        super().__init__(command, folder / "agents.log")
        while line := self.line():
            if '"serving"' in line:
                self.url = "http://" + re.search(r'"clients":"([^"]+)"', line)[1]
                return
        raise RuntimeError("the gateway did not start")


class Bench:
    def __init__(self, options, upstream, gateway):
        self.options, self.upstream, self.gateway = options, upstream, gateway
        self.models = {wire: itertools.count() for wire in WIRES}

    @contextlib.contextmanager
    def folder(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="agent-", dir=self.options.work))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def run(self, agent, wire, folder, script, options):
        """What the agent printed, and what the upstream saw of it."""
        kind = KNOWN if options.get("deferred") else ""
        run = Run(wire, f"{kind}m{next(self.models[wire])}", script)
        self.upstream.add(run)
        started = agent(self.options.binaries, self.gateway.url, self.gateway.key)
        output = started.start(folder, f"{wire}/{run.model}", "Find the word.", options)
        return output, run
