"""What agents are tried with. Each case starts an agent on a wire and returns what it found by feature: True,
a mark of the matrix, or words of the problem."""

import contextlib
import json
import secrets

from bench import HEARTBEAT
from vendors import WIRES

FEATURES = {
    "prompt": "a prompt and its answer",
    "file": "a tool: reads a file",
    "mcp": "a tool of an MCP server",
    "tool search": "a tool that it finds with its tool search",
    "edit": "writes a file (Codex: `apply_patch`)",
    "png": "reads a PNG",
    "pdf": "reads a PDF",
    "search": "web search (Codex: declared)",
    "429": "goes on after a 429",
    "529": "goes on after a 529, or a 503 of vendors without a 529",
    "silence": "an upstream silent for 16 heartbeats after its first words",
    "silence before": "the same before its first words",
    "compaction": "compacts the conversation",
    "remote compaction": "has OpenAI compact the conversation (`compaction_trigger`)",
}
# What the gateway answers if the vendor has no place for something.
REFUSED = "this model's upstream"


class Session:
    """A script that has an agent use one tool after another. Without steps it answers at once."""

    def __init__(self, steps, work, word):
        self.steps, self.work, self.word = list(steps), work, word
        self.open = "prompt"
        self.passed, self.feature_of = {}, {}

    def __call__(self, view, number):
        self.feature_of[number] = self.open
        if is_aside(view):
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


def is_aside(view):
    """Whether a request is none of the conversation: a title, a search."""
    return not view.tools or any(tool.kind.startswith("web_search") for tool in view.tools)


def session(agent, wire, bench):
    """The features of one session."""
    with bench.folder() as folder:
        word = secrets.token_hex(4)
        script = Session(agent.steps(folder / "work", word), folder / "work", word)
        output, run = bench.run(agent, wire, folder, script, {"word": word})
    passed = dict(script.passed)
    if f"The word is {word}." not in output:
        passed[script.open] = "refused" if REFUSED in output else f"ended with {output.strip()[-300:]!r}"
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


def tool_search(agent, wire, bench):
    word = secrets.token_hex(4)
    steps = [agent.tool_search, ("lookup", {"color": "blue"})]

    def script(view, number):
        if is_aside(view):
            return {"text": "It is nothing."}
        if len(steps) == 2 and view.tool("lookup"):
            return {"text": "The tool is there without a search."}
        if not steps:
            return {"text": f"The result is {view.results[-1:]}."}
        ending, arguments = steps.pop(0)
        if tool := view.tool(ending):
            return {"calls": [(tool, json.dumps(arguments))]}
        return {"text": f"There is no tool {ending}."}

    return {"tool search": _try(agent, wire, bench, script, f"is {word}", {"word": word, "deferred": True})}


def rate_limit(agent, wire, bench):
    return {"429": _refusal(agent, wire, bench, 429)}


def overload(agent, wire, bench):
    return {"529": _refusal(agent, wire, bench, WIRES[wire].overloaded)}


def _refusal(agent, wire, bench, status):
    answers = [{"status": status}]
    script = lambda view, number: answers.pop(0) if answers else {"text": "Back again."}
    return _try(agent, wire, bench, script, "Back again.", {})


def silence(agent, wire, bench):
    return {"silence": _silence(agent, wire, bench, "after")}


def silence_before(agent, wire, bench):
    return {"silence before": _silence(agent, wire, bench, "before")}


def _silence(agent, wire, bench, place):
    asked = []

    def script(view, number):
        asked.append(number)
        return {"text": "At last.", "stall": 16 * HEARTBEAT, "stall_place": place}

    # Half of that without an event makes Codex ask again.
    passed = _try(agent, wire, bench, script, "At last.", {"idle": int(8000 * HEARTBEAT)})
    return passed if len(asked) == 1 else f"{len(asked)} requests"


def compaction(agent, wire, bench):
    summary = f"Summary {secrets.token_hex(4)}"
    compact = lambda view: {"text": f"<summary>{summary}</summary>"}
    return {"compaction": _compaction(agent, wire, bench, summary, compact, {"compaction": True})}


def remote_compaction(agent, wire, bench):
    content = secrets.token_hex(4)
    compact = lambda view: {"calls": [(view.tool("compaction_trigger"), content)]}
    options = {"compaction": True, "provider": "OpenAI"}
    return {"remote compaction": _compaction(agent, wire, bench, content, compact, options)}


def _compaction(agent, wire, bench, content, compact, options):
    """A conversation too long for the model, after which `compact` answers with `content`."""
    with bench.folder() as folder:
        _, ending, arguments = agent.steps(folder / "work", "x")[0]
        calls = [(ending, json.dumps(arguments))]

        def script(view, number):
            if content in view.text:
                return {"text": "Compacted."}
            if calls and not is_aside(view):
                ending, arguments = calls.pop()
                return {"calls": [(view.tool(ending), arguments)], "tokens": 190_000}
            return compact(view)

        return _try(agent, wire, bench, script, "Compacted.", options, folder)


def _try(agent, wire, bench, script, words, options, folder=None):
    """Whether an agent ends with these words and no request had a problem."""
    with contextlib.nullcontext(folder) if folder else bench.folder() as folder:
        output, run = bench.run(agent, wire, folder, script, {"word": "x"} | options)
    if run.problems:
        return run.problems[0][1]
    if REFUSED in output:
        return "refused"
    return words in output or f"{len(run.requests)} requests, {output.strip()[-200:]!r}"
