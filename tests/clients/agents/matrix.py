"""Real agents, started without a user, before a gateway whose upstreams are as strict as the vendors. What
works is the matrix of docs/clients.md."""

import argparse
import concurrent.futures
import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import re
import secrets
import shutil
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent.parent
sys.path.insert(0, str(HERE.parent))

import strictness
from agents import AGENTS
from programs import Program
from upstream import Run, Upstream
from vendors import WIRES

PAGE = ROOT / "docs" / "clients.md"
BEGIN, END = "<!-- begin: matrix -->\n", "<!-- end: matrix -->\n"
FEATURES = {
    "prompt": "a prompt and its answer",
    "file": "a tool: reads a file",
    "mcp": "a tool of an MCP server",
    "edit": "writes a file (Codex: `apply_patch`)",
    "png": "reads a PNG",
    "pdf": "reads a PDF",
    "search": "web search (Codex: declared)",
    "429": "goes on after a 429",
    "529": "goes on after a 529",
    "silence": "an upstream silent for 16 heartbeats after its first words",
    "silence before": "the same before its first words",
    "compaction": "compacts the conversation",
}
# Beside the agent's own wire, where what passes verbatim does not.
OTHER_WIRE = "openai-chat"
HEARTBEAT = 0.25
MARKS = {None: "", True: "✓", "left out": "left out", "refused": "refused"}
# How often agents are started on one wire at most; each start has a model of its own.
MODELS = 2 * 6


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
                f"{wire}/m{at}": {"targets": [{"upstream": wire, "model": f"m{at}"}]} for wire in WIRES for at in range(MODELS)
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


class Session:
    """A script that has an agent use one tool after another. Without steps it answers at once."""

    def __init__(self, steps, work, word):
        self.steps, self.work, self.word = list(steps), work, word
        self.open = "prompt"
        self.passed, self.feature_of = {}, {}

    def __call__(self, view, number):
        self.feature_of[number] = self.open
        if not view.tools or any(tool.kind.startswith("web_search") for tool in view.tools):
            # A request of its own: a title, a search.
            return {"text": f"It is {self.word}."}
        self.passed[self.open] = self._has_passed(view)
        while self.steps:
            self.open, ending, arguments = self.steps.pop(0)
            self.feature_of[number + 1] = self.open
            if tool := view.tool(ending):
                return {"calls": [(tool, json.dumps(arguments))]}
            self.passed[self.open] = f"there is no tool {ending}"
        self.open = "end"
        return {"text": f"The word is {self.word}."}

    def _has_passed(self, view):
        result = view.results[-1] if view.results else ""
        match self.open:
            case "prompt":
                return True
            case "file" | "mcp" | "search":
                return self.word in result or f"the result is {result[:100]!r}"
            case "edit":
                file = self.work / "new.txt"
                return (file.exists() and file.read_text().strip() == self.word) or f"the result is {result[:100]!r}"
            case "png":
                return "image" in view.media or "left out"
            case "pdf":
                return "document" in view.media or "left out"


def _session(agent, wire, bench):
    """The features of one session."""
    with bench.folder() as folder:
        word = secrets.token_hex(4)
        script = Session(agent.steps(folder / "work", word), folder / "work", word)
        said, run = bench.run(agent, wire, folder, script, {"word": word})
    passed = dict(script.passed)
    if f"The word is {word}." not in said:
        # The gateway refuses what the vendor has no place for.
        refused = not run.problems and "API Error: 400" in said
        passed[script.open] = "refused" if refused else f"ended with {said.strip()[-300:]!r}"
    seen = set()
    for number, problem in run.problems:
        if problem not in seen:
            passed[script.feature_of.get(number, script.open)] = problem
        seen.add(problem)
    if agent.name == "codex":
        passed["search"] = passed.get("prompt", False)
        if wire == agent.own_wire and not any(tool["type"] == "web_search" for tool in run.requests[0]["tools"]):
            passed["search"] = "the tool is missing"
    passed.pop("end", None)
    return passed


def _rate_limit(agent, wire, bench):
    return _retry(agent, wire, bench, 429)


def _overload(agent, wire, bench):
    return _retry(agent, wire, bench, 529)


def _retry(agent, wire, bench, status):
    answers = [{"status": status}]
    with bench.folder() as folder:
        script = lambda view, number: answers.pop(0) if answers else {"text": "Back again."}
        said, run = bench.run(agent, wire, folder, script, {"word": "x"})
    return {str(status): ("Back again." in said and not answers) or f"{len(run.requests)} requests, {said.strip()[-200:]!r}"}


def _silence(agent, wire, bench):
    return {"silence": _wait(agent, wire, bench, "At last.")}


def _silence_before(agent, wire, bench):
    return {"silence before": _wait(agent, wire, bench, "")}


def _wait(agent, wire, bench, words):
    with bench.folder() as folder:
        script = lambda view, number: {"text": "At last.", "stall": 16 * HEARTBEAT, "stall_after": words}
        # Half of that without an event makes Codex ask again.
        said, run = bench.run(agent, wire, folder, script, {"word": "x", "idle": int(8000 * HEARTBEAT)})
    return ("At last." in said and len(run.requests) == 1) or f"{len(run.requests)} requests, {said.strip()[-200:]!r}"


def _compaction(agent, wire, bench):
    with bench.folder() as folder:
        word = secrets.token_hex(4)
        _, ending, arguments = agent.steps(folder / "work", word)[0]
        seen = {"called": False, "compacted": False}

        def script(view, number):
            if f"Summary {word}" in view.text:
                return {"text": "Compacted."}
            if not seen["called"]:
                seen["called"] = True
                return {"calls": [(view.tool(ending), json.dumps(arguments))], "tokens": 190_000}
            seen["compacted"] = True
            return {"text": f"<summary>Summary {word}</summary>"}

        options = {"word": word, "codex": "model_auto_compact_token_limit = 100000", "claude": {"CLAUDE_CODE_MAX_CONTEXT_TOKENS": "200000"}}
        said, run = bench.run(agent, wire, folder, script, options)
    problems = [problem for _, problem in run.problems]
    return {"compaction": ("Compacted." in said and not problems) or f"{problems[:1]} {said.strip()[-200:]!r}"}


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
        run = Run(wire, f"m{next(self.models[wire])}", script)
        self.upstream.add(run)
        started = agent(self.options.binaries, self.gateway.url, self.gateway.key)
        said = started.start(folder, f"{wire}/{run.model}", "Find the word.", options)
        return said, run


def _cases(options):
    for agent in AGENTS:
        for wire in WIRES:
            kinds = [_session]
            if wire in (agent.own_wire, OTHER_WIRE):
                kinds += [_rate_limit, _overload, _silence, _silence_before, _compaction]
            for kind in kinds:
                if not options.only or options.only in f"{agent.name} {wire} {kind.__name__}":
                    yield agent, wire, kind


def _matrix(results):
    """The tables as they stand in the page."""
    out = ""
    for agent in AGENTS:
        version = json.loads((HERE / "package.json").read_text("utf-8"))["dependencies"][agent.package]
        out += f"## {agent.title} {version}\n\n| | {' | '.join(f'`{wire}`' for wire in WIRES)} |\n|---|{'---|' * len(WIRES)}\n"
        for feature, title in FEATURES.items():
            cells = [results.get((agent.name, wire, feature)) for wire in WIRES]
            if any(cell is not None for cell in cells):
                marks = [MARKS.get(cell, "✗") for cell in cells]
                out += f"| {title} | {' | '.join(marks)} |\n"
        out += "\n"
    return out


def main():
    options = _options()
    strictness.check()
    results = {}
    with contextlib.ExitStack() as started:
        upstream = started.enter_context(contextlib.closing(Upstream()))
        gateway = Gateway(options.binary, options.work, upstream.url)
        started.callback(gateway.stop)
        bench = Bench(options, upstream, gateway)
        pool = started.enter_context(concurrent.futures.ThreadPoolExecutor(max(2, os.cpu_count() or 2)))
        running = {pool.submit(kind, agent, wire, bench): (agent, wire) for agent, wire, kind in _cases(options)}
        for done in concurrent.futures.as_completed(running):
            agent, wire = running[done]
            for feature, passed in done.result().items():
                results[agent.name, wire, feature] = passed
                if passed is not True:
                    print(f"agents: {agent.title}, {wire}, {FEATURES[feature]}: {passed}")
    print(f"agents: {len(running)} starts, {sum(passed is True for passed in results.values())} of {len(results)} features work")
    if options.only:
        return
    before, rest = PAGE.read_text("utf-8").split(BEGIN)
    old, after = rest.split(END)
    new = _matrix(results)
    if options.update:
        PAGE.write_text(f"{before}{BEGIN}{new}{END}{after}", "utf-8")
    elif new != old:
        sys.exit(f"agents: docs/clients.md is not current: run `make agents ARGS=--update`. It must have\n{new}")


def _options():
    parser = argparse.ArgumentParser(prog="agents", description=__doc__)
    parser.add_argument("--binary", required=True, type=pathlib.Path, help="the gateway")
    parser.add_argument("--work", required=True, type=pathlib.Path, help="where `make` installed the agents")
    parser.add_argument("--only", help="only cases whose agent, wire or kind has this in it")
    parser.add_argument("--update", action="store_true", help="write the matrix to docs/clients.md")
    options = parser.parse_args()
    options.binary = options.binary.resolve()
    options.work = options.work.resolve()
    options.binaries = options.work / "node_modules" / ".bin"
    return options


main()
