"""What the vendors share: the reading of a request, the list of its problems, and events."""

import dataclasses
import json
import re
import secrets
import urllib.parse


class Vendor:
    # The pattern of the path; a group in it is the model's name.
    path = ""
    # What the base URL of an upstream ends with.
    base = ""
    content_type = "text/event-stream"
    # What the vendor answers when it is overloaded.
    overloaded = 503

    def model(self, path, body):
        named = re.fullmatch(self.path, path).groups()
        return urllib.parse.unquote(named[0]) if named else body["model"]


@dataclasses.dataclass
class Tool:
    name: str
    # `function`, `custom`, or the vendor's own kind.
    kind: str = "function"
    namespace: str = ""


@dataclasses.dataclass
class View:
    """What a script reads of a request, whatever its protocol."""

    tools: list = dataclasses.field(default_factory=list)
    # The texts of the tools' results.
    results: list = dataclasses.field(default_factory=list)
    # All other texts of the conversation.
    texts: list = dataclasses.field(default_factory=list)
    # The kinds of media in the conversation: `image`, `document`.
    media: set = dataclasses.field(default_factory=set)

    @property
    def text(self):
        return "\n".join(self.texts)

    def tool(self, ending):
        """The tool with this name, else one with a name that ends so: clients and gateways put prefixes before it."""
        found = [tool for tool in self.tools if tool.name.lower().endswith(ending.lower())]
        return min(found, key=lambda tool: len(tool.name), default=None)


class Strict:
    """Collects what is wrong with a request."""

    def __init__(self):
        self.problems = []

    def check(self, holds, problem):
        if not holds:
            self.problems.append(problem)

    def members(self, value, allowed, where):
        unknown = set(value) - set(allowed.split())
        self.check(not unknown, f"{where}: unknown members {sorted(unknown)}")

    def name(self, name, where, longest=64):
        self.check(re.fullmatch(rf"[a-zA-Z0-9_-]{{1,{longest}}}", name or ""), f"{where}: bad name {name!r}")

    def text(self, text, where):
        self.check(isinstance(text, str) and text.strip(), f"{where}: blank text")

    def schema(self, schema, where):
        self.check(isinstance(schema, dict) and schema.get("type") == "object", f"{where}: the schema has no type object")

    def answered(self, calls, results, where):
        self.check(sorted(calls) == sorted(results), f"{where}: calls {calls} have the results {results}")


class OpenCalls:
    """The calls that have no result yet, of a protocol with a message for each result."""

    def __init__(self, strict):
        self.strict, self.ids = strict, []

    def result(self, id, where):
        self.strict.check(id in self.ids, f"{where}: no call for this result")
        self.ids = [call for call in self.ids if call != id]

    def message(self, calls, where):
        """A message that is no result, with the ids of its calls."""
        self.strict.check(not self.ids, f"{where}: the calls {self.ids} have no result")
        self.ids = calls


def sse(events):
    """Server-sent events from pairs of name (may be empty) and data (JSON or bytes)."""
    return [_event(name, data if isinstance(data, bytes) else json.dumps(data).encode()) for name, data in events]


def sse_with_types(events):
    """The same, whose data repeats the name."""
    return sse([(name, {"type": name} | data) for name, data in events])


def _event(name, data):
    return (f"event: {name}\n" if name else "").encode() + b"data: " + data + b"\n\n"


def openai_error(status, message):
    return {"error": {"message": message, "type": "invalid_request_error" if status == 400 else "server_error", "code": None}}


def new_id(kind):
    """Agents take what has the same id for the same thing."""
    return f"{kind}_{secrets.token_hex(4)}"


def text_of(content, kinds=("text", "input_text", "output_text")):
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content or [] if part.get("type") in kinds)
