"""A folder of recorded upstream answers.

`MANIFEST.tsv` lists the files (columns `path`, `protocol`, `status`, …), `HEADERS.jsonl` gives the
request paths and response headers that are known. A protocol that is a vendor's name may have answers of
several wires, so the request path decides, then the answer itself.

A folder without a manifest contains fixtures: `<wire>/<case>/upstream.<kind>`, with an optional
`response.json`.
"""

import csv
import dataclasses
import json
import pathlib
import re

CONTENT_TYPES = {
    ".bin": "application/vnd.amazon.eventstream",
    ".eventstream": "application/vnd.amazon.eventstream",
    ".html": "text/html",
    ".json": "application/json",
    ".ndjson": "application/x-ndjson",
    ".sse": "text/event-stream",
}

# Any other protocol name is a vendor of OpenAI Chat.
WIRE_OF_PROTOCOL = {
    "anthropic-messages": "anthropic-messages",
    "bedrock-converse-stream": "bedrock-converse",
    "bedrock-invoke-stream": None,
    "cohere-v2": "cohere-chat",
    "gemini": "gemini",
    "ollama": "ollama-chat",
    "openai-completions": None,
    "openai-responses": "openai-responses",
}

# The first suffix of the request's path decides.
WIRE_OF_PATH = [
    (r"/chat/completions", "openai-chat"),
    (r"/completions", None),
    (r"/api/generate", None),
    (r"/invoke(-with-response-stream)?", None),
    (r"/interactions", None),
    (r"/responses", "openai-responses"),
    (r"/messages|:(stream)?rawPredict", "anthropic-messages"),
    (r":(stream)?GenerateContent", "gemini"),
    (r"/converse(-stream)?", "bedrock-converse"),
    (r"/v2/chat", "cohere-chat"),
    (r"/api/chat", "ollama-chat"),
]

# A key of the first JSON object decides for an answer without a request path.
WIRE_OF_SHAPE = [
    ("openai-responses", lambda value: value.get("object") == "response" or "response" in value and "sequence_number" in value),
    ("anthropic-messages", lambda value: value.get("type") in ("message", "message_start")),
    ("gemini", lambda value: "candidates" in value or "promptFeedback" in value),
    ("openai-chat", lambda value: any("delta" in choice or "message" in choice for choice in value.get("choices") or [])),
    (None, lambda value: "generated_text" in value or any("text" in choice for choice in value.get("choices") or [])),
]


@dataclasses.dataclass(frozen=True)
class Recording:
    number: int
    path: str
    protocol: str
    status: int
    body: bytes
    content_type: str
    # With lower-case names.
    headers: dict
    # None if the gateway has no such wire.
    wire: str | None

    @property
    def vendor(self):
        """`groq` of `openai-compat:groq`."""
        return self.protocol.split(":")[-1]

    @property
    def streamed(self):
        return not self.path.endswith((".json", ".html"))


def read(folder):
    """All recordings of a folder, in order."""
    folder = pathlib.Path(folder)
    if not (folder / "MANIFEST.tsv").exists():
        return [_fixture(folder, number, path) for number, path in enumerate(sorted(folder.glob("*/*/upstream.*")))]
    known = {}
    headers = folder / "HEADERS.jsonl"
    if headers.exists():
        for line in headers.read_text("utf-8").splitlines():
            entry = json.loads(line)
            known[entry["path"]] = entry
    with open(folder / "MANIFEST.tsv", encoding="utf-8", newline="") as manifest:
        rows = list(csv.DictReader(manifest, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [_recording(folder, number, row, known.get(row["path"], {})) for number, row in enumerate(rows)]


def _recording(folder, number, row, known):
    body = (folder / row["path"]).read_bytes()
    headers = {name.lower(): value for name, value in known.get("headers", [])}
    suffix = pathlib.PurePath(row["path"]).suffix
    return Recording(
        number=number,
        path=row["path"],
        protocol=row["protocol"],
        status=int(row["status"]),
        body=body,
        content_type=headers.get("content-type") or CONTENT_TYPES.get(suffix, "application/octet-stream"),
        headers=headers,
        wire=_wire(row["protocol"], known.get("request_path") or "", body),
    )


def _fixture(folder, number, path):
    beside = path.with_name("response.json")
    response = json.loads(beside.read_text("utf-8")) if beside.exists() else {}
    headers = {name.lower(): value for name, value in response.get("headers", {}).items()}
    wire = path.parts[-3]
    return Recording(
        number=number,
        path=str(path.relative_to(folder)),
        protocol=wire,
        status=response.get("status", 200),
        body=path.read_bytes(),
        content_type=headers.get("content-type") or CONTENT_TYPES[path.suffix],
        headers=headers,
        wire=wire,
    )


def _wire(protocol, request_path, body):
    if protocol.startswith("other:"):
        return None
    path = request_path.split("?")[0]
    for pattern, wire in WIRE_OF_PATH:
        if re.search(f"({pattern})$", path, re.IGNORECASE):
            return wire
    first = _first_object(body)
    for wire, fits in WIRE_OF_SHAPE:
        if fits(first):
            return wire
    return WIRE_OF_PROTOCOL.get(protocol, "openai-chat")


def _first_object(body):
    """The first JSON object of an answer in any framing, or an empty object."""
    text = body.decode("utf-8", "replace")
    for candidate in [text, *(line.removeprefix("data:") for line in text.splitlines())]:
        try:
            value = json.loads(candidate)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    return {}
