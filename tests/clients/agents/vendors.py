"""Model APIs as strict as the vendors: each checks a request, reads what a script needs of it, and writes
an answer in its own protocol."""

import dataclasses
import json
import re
import secrets
import struct
import urllib.parse
import zlib


@dataclasses.dataclass
class Tool:
    name: str
    # `function`, `custom`, or the vendor's own kind.
    kind: str = "function"
    namespace: str = ""


@dataclasses.dataclass
class View:
    """What a script reads of a request, whatever its protocol."""

    tools: list
    # The texts of the tools' results.
    results: list
    # All other text of the conversation.
    text: str
    # The kinds of media in the conversation: `image`, `document`.
    media: set

    def tool(self, ending):
        """The tool with a name that ends so: clients and gateways put prefixes before it."""
        return next((tool for tool in self.tools if tool.name.lower().endswith(ending.lower())), None)


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


def _sse(events):
    return [
        (f"event: {name}\n" if name else "").encode() + b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"
        for name, data in events
    ]


def _id(kind):
    """Agents take what has the same id for the same thing."""
    return f"{kind}_{secrets.token_hex(4)}"


def _text_of(content, kinds=("text", "input_text", "output_text")):
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content or [] if part.get("type") in kinds)


class OpenaiChat:
    path = r"/v1/chat/completions"
    base = "/v1"
    content_type = "text/event-stream"

    def model(self, path, body):
        return body["model"]

    def check(self, body, headers, strict):
        strict.members(
            body,
            "model messages stream stream_options max_tokens max_completion_tokens temperature top_p stop seed tools tool_choice "
            "parallel_tool_calls response_format reasoning_effort user prompt_cache_key metadata store verbosity",
            "body",
        )
        open_calls = []
        for at, message in enumerate(body["messages"]):
            where, role = f"messages[{at}]", message["role"]
            strict.check(role in ("system", "developer", "user", "assistant", "tool"), f"{where}: role {role}")
            if role == "tool":
                strict.check(message.get("tool_call_id") in open_calls, f"{where}: no call for this result")
                open_calls = [call for call in open_calls if call != message.get("tool_call_id")]
                content = message["content"]
                strict.check(isinstance(content, str) or all(p["type"] == "text" for p in content), f"{where}: only text here")
                continue
            strict.check(not open_calls, f"{where}: the calls {open_calls} have no result")
            calls = message.get("tool_calls") or []
            for call in calls:
                strict.name(call["function"]["name"], where)
                strict.check(isinstance(json.loads(call["function"]["arguments"]), dict), f"{where}: arguments")
            open_calls = [call["id"] for call in calls]
            content = message.get("content")
            if isinstance(content, list):
                for part in content:
                    strict.check(part["type"] in ("text", "image_url", "file"), f"{where}: part {part['type']}")
                    strict.check(role == "user" or part["type"] == "text", f"{where}: {part['type']} of {role}")
                    if part["type"] == "text":
                        strict.text(part["text"], where)
                    if part["type"] == "file":
                        strict.check("file_id" in part["file"] or part["file"].get("filename"), f"{where}: a file without a name")
            else:
                strict.check(content or calls, f"{where}: no content")
        strict.check(not open_calls, "the last calls have no result")
        for at, tool in enumerate(body.get("tools", [])):
            strict.check(tool["type"] == "function", f"tools[{at}]: {tool['type']}")
            strict.name(tool.get("function", {}).get("name"), f"tools[{at}]")
            if "parameters" in tool.get("function", {}):
                strict.schema(tool["function"]["parameters"], f"tools[{at}]")
        strict.check("tools" not in body or body["tools"], "tools: empty")
        strict.check("tool_choice" not in body or body.get("tools"), "tool_choice without tools")

    def view(self, body):
        results, texts, media = [], [], set()
        for message in body["messages"]:
            content = message.get("content")
            if message["role"] == "tool":
                results.append(_text_of(content))
                continue
            texts.append(_text_of(content))
            for part in content if isinstance(content, list) else []:
                media |= {"image"} if part["type"] == "image_url" else set()
                media |= {"document"} if part["type"] == "file" else set()
        tools = [Tool(tool["function"]["name"]) for tool in body.get("tools", [])]
        return View(tools, results, "\n".join(texts), media)

    def answer(self, model, text, calls, tokens):
        base = {"id": _id("chatcmpl"), "object": "chat.completion.chunk", "created": 1, "model": model}
        chunk = lambda delta, finish=None: ("", base | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        events = [chunk({"role": "assistant", "content": ""})]
        if text:
            events.append(chunk({"content": text}))
        for at, (tool, arguments) in enumerate(calls):
            function = {"name": tool.name, "arguments": ""}
            events.append(chunk({"tool_calls": [{"index": at, "id": _id("call"), "type": "function", "function": function}]}))
            events.append(chunk({"tool_calls": [{"index": at, "function": {"arguments": arguments}}]}))
        events.append(chunk({}, "tool_calls" if calls else "stop"))
        usage = {"prompt_tokens": tokens, "completion_tokens": 9, "total_tokens": tokens + 9}
        return _sse(events + [("", base | {"choices": [], "usage": usage}), ("", b"[DONE]")])

    def error(self, status, message):
        return {"error": {"message": message, "type": "invalid_request_error" if status == 400 else "server_error", "code": None}}


class OpenaiResponses(OpenaiChat):
    path = r"/v1/responses"

    ITEMS = (
        "message reasoning function_call function_call_output custom_tool_call custom_tool_call_output web_search_call "
        "tool_search_call tool_search_output additional_tools compaction compaction_trigger"
    ).split()
    TOOLS = "function custom namespace web_search tool_search image_generation local_shell".split()

    def check(self, body, headers, strict):
        strict.members(
            body,
            "model input instructions stream tools tool_choice parallel_tool_calls reasoning store include prompt_cache_key text "
            "max_output_tokens temperature top_p metadata user safety_identifier service_tier truncation client_metadata",
            "body",
        )
        items = body["input"] if isinstance(body["input"], list) else []
        calls, results = [], []
        for at, item in enumerate(items):
            kind = item.get("type", "message")
            strict.check(kind in self.ITEMS, f"input[{at}]: {kind}")
            if kind in ("function_call", "custom_tool_call"):
                strict.check(len(item["call_id"]) <= 64, f"input[{at}]: call_id")
                calls.append(item["call_id"])
            elif kind in ("function_call_output", "custom_tool_call_output"):
                results.append(item["call_id"])
        strict.answered(calls, results, "input")
        for at, tool in enumerate(body.get("tools", [])):
            strict.check(tool["type"] in self.TOOLS, f"tools[{at}]: {tool['type']}")
            if tool["type"] == "function":
                strict.name(tool["name"], f"tools[{at}]")
                strict.schema(tool["parameters"], f"tools[{at}]")
        strict.check(body.get("max_output_tokens", 16) >= 16, "max_output_tokens below 16")
        strict.check(len(body.get("prompt_cache_key") or "") <= 64, "prompt_cache_key")
        strict.check(len(body.get("user") or "") <= 64, "user")

    def view(self, body):
        results, texts, media = [], [body.get("instructions") or ""], set()
        for item in body["input"] if isinstance(body["input"], list) else [{"role": "user", "content": body["input"]}]:
            kind = item.get("type", "message")
            content = item.get("output") if kind.endswith("_output") else item.get("content")
            text = _text_of(content) if isinstance(content, (str, list)) else ""
            (results if kind.endswith("call_output") else texts).append(text)
            for part in content if isinstance(content, list) else []:
                media |= {"image"} if part.get("type") == "input_image" else set()
                media |= {"document"} if part.get("type") == "input_file" else set()
        tools = []
        for tool in body.get("tools", []):
            for inner in tool.get("tools", []) if tool["type"] == "namespace" else []:
                tools.append(Tool(inner["name"], inner["type"], tool["name"]))
            if tool["type"] in ("function", "custom"):
                tools.append(Tool(tool["name"], tool["type"]))
        return View(tools, results, "\n".join(texts), media)

    def answer(self, model, text, calls, tokens):
        response = {"id": _id("resp"), "object": "response", "created_at": 1, "model": model, "output": []}
        events, output, sequence = [], [], [0]

        def emit(kind, **members):
            events.append((kind, {"type": kind, "sequence_number": sequence[0]} | members))
            sequence[0] += 1

        emit("response.created", response=response | {"status": "in_progress"})
        emit("response.in_progress", response=response | {"status": "in_progress"})
        if text:
            part = {"type": "output_text", "text": "", "annotations": []}
            item = {"type": "message", "id": _id("msg"), "status": "in_progress", "role": "assistant", "content": []}
            where = {"item_id": item["id"], "output_index": 0, "content_index": 0}
            emit("response.output_item.added", output_index=0, item=item)
            emit("response.content_part.added", part=part, **where)
            emit("response.output_text.delta", delta=text, **where)
            emit("response.output_text.done", text=text, **where)
            emit("response.content_part.done", part=part | {"text": text}, **where)
            output.append(item | {"status": "completed", "content": [part | {"text": text}]})
            emit("response.output_item.done", output_index=0, item=output[-1])
        for tool, arguments in calls:
            at = len(output)
            item = {"id": _id("fc"), "call_id": _id("call"), "name": tool.name, "status": "in_progress"}
            if tool.namespace:
                item["namespace"] = tool.namespace
            kind, member, delta = ("function_call", "arguments", "response.function_call_arguments")
            if tool.kind == "custom":
                kind, member, delta = ("custom_tool_call", "input", "response.custom_tool_call_input")
                arguments = json.loads(arguments)["input"]
            item = {"type": kind, member: ""} | item
            emit("response.output_item.added", output_index=at, item=item)
            emit(f"{delta}.delta", item_id=item["id"], output_index=at, delta=arguments)
            emit(f"{delta}.done", item_id=item["id"], output_index=at, **{member: arguments})
            output.append(item | {"status": "completed", member: arguments})
            emit("response.output_item.done", output_index=at, item=output[-1])
        usage = {"input_tokens": tokens, "output_tokens": 9, "total_tokens": tokens + 9}
        usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        emit("response.completed", response=response | {"status": "completed", "output": output, "usage": usage})
        return _sse(events)


class AnthropicMessages:
    path = r"/v1/messages"
    base = ""
    content_type = "text/event-stream"

    def model(self, path, body):
        return body["model"]

    def check(self, body, headers, strict):
        strict.members(
            body,
            "model messages system max_tokens stream metadata stop_sequences temperature top_p top_k tools tool_choice thinking "
            "output_config context_management service_tier cache_control",
            "body",
        )
        strict.check(body.get("max_tokens", 0) >= 1, "max_tokens is required")
        strict.check(len((body.get("metadata") or {}).get("user_id") or "") <= 256, "metadata.user_id is too long")
        beta = headers.get("anthropic-beta", "")
        strict.check("context_management" not in body or "context-management" in beta, "context_management without its beta header")
        thinking = body.get("thinking") or {}
        strict.check(thinking.get("budget_tokens", 0) < body["max_tokens"], "thinking.budget_tokens must be below max_tokens")
        strict.check(not (thinking.get("type") == "enabled" and body.get("temperature", 1) != 1), "temperature with thinking")
        open_calls = []
        for at, message in enumerate(body["messages"]):
            where, content = f"messages[{at}]", message["content"]
            strict.check(message["role"] in ("user", "assistant", "system"), f"{where}: role")
            if isinstance(content, str):
                strict.text(content, where)
                content = []
            results = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
            if message["role"] != "system":
                strict.answered(open_calls, results, where)
                open_calls = [block["id"] for block in content if block["type"] == "tool_use"]
            for block in content:
                if block["type"] == "text":
                    strict.text(block["text"], where)
                if block["type"] == "tool_use":
                    strict.name(block["id"], where)
                    strict.check(isinstance(block["input"], dict), f"{where}: input")
        strict.check(not open_calls, "the last calls have no result")
        for at, tool in enumerate(body.get("tools", [])):
            strict.name(tool["name"], f"tools[{at}]", 128)
            if tool.get("type", "custom") == "custom":
                strict.schema(tool["input_schema"], f"tools[{at}]")
        marks = json.dumps([body.get("system"), body.get("tools"), body["messages"]]).count('"cache_control"')
        strict.check(marks <= 4, f"{marks} blocks with cache_control")

    def view(self, body):
        results, texts, media = [], [_text_of(body.get("system") or "")], set()
        for message in body["messages"]:
            content = message["content"]
            texts.append(_text_of(content))
            for block in content if isinstance(content, list) else []:
                inner = [block]
                if block["type"] == "tool_result":
                    results.append(_text_of(block.get("content")))
                    inner = block["content"] if isinstance(block.get("content"), list) else []
                media |= {part["type"] for part in inner} & {"image", "document"}
        tools = [Tool(tool["name"], tool.get("type", "function")) for tool in body.get("tools", [])]
        return View(tools, results, "\n".join(texts), media)

    def answer(self, model, text, calls, tokens):
        usage = {"input_tokens": tokens, "output_tokens": 1, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
        message = {"id": _id("msg"), "type": "message", "role": "assistant", "model": model, "content": []}
        events = [("message_start", {"message": message | {"stop_reason": None, "stop_sequence": None, "usage": usage}})]
        blocks = [({"type": "text", "text": ""}, {"type": "text_delta", "text": text})] if text else []
        for at, (tool, arguments) in enumerate(calls):
            block = {"type": "tool_use", "id": _id("toolu"), "name": tool.name, "input": {}}
            blocks.append((block, {"type": "input_json_delta", "partial_json": arguments}))
        for at, (block, delta) in enumerate(blocks):
            events.append(("content_block_start", {"index": at, "content_block": block}))
            events.append(("content_block_delta", {"index": at, "delta": delta}))
            events.append(("content_block_stop", {"index": at}))
        reason = {"stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None}
        events += [("message_delta", {"delta": reason, "usage": {"output_tokens": 9}}), ("message_stop", {})]
        return _sse([(name, {"type": name} | data) for name, data in events])

    def error(self, status, message):
        kind = {400: "invalid_request_error", 429: "rate_limit_error", 529: "overloaded_error"}.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}}


class Gemini:
    path = r"/v1beta/models/([^/]+):streamGenerateContent"
    base = ""
    content_type = "text/event-stream"
    # What the API knows of JSON Schema in `parameters`.
    SCHEMA = (
        "type format title description nullable enum maxItems minItems properties required minProperties maxProperties minLength "
        "maxLength pattern example anyOf propertyOrdering default items minimum maximum"
    )

    def model(self, path, body):
        return urllib.parse.unquote(re.search(self.path, path)[1])

    def check(self, body, headers, strict):
        strict.members(body, "contents systemInstruction tools toolConfig generationConfig safetySettings cachedContent", "body")
        known = "maxOutputTokens temperature topP topK stopSequences seed responseMimeType responseSchema responseJsonSchema thinkingConfig"
        strict.members(body.get("generationConfig", {}), known + " candidateCount mediaResolution", "generationConfig")
        open_calls = []
        for at, content in enumerate(body["contents"]):
            where = f"contents[{at}]"
            strict.check(content["role"] in ("user", "model"), f"{where}: role")
            strict.check(content["parts"], f"{where}: no parts")
            results = [part["functionResponse"]["name"] for part in content["parts"] if "functionResponse" in part]
            strict.answered(open_calls, results, where)
            open_calls = [part["functionCall"]["name"] for part in content["parts"] if "functionCall" in part]
            for part in content["parts"]:
                if "functionResponse" in part:
                    strict.check(isinstance(part["functionResponse"]["response"], dict), f"{where}: response")
        for tool in body.get("tools", []):
            strict.members(tool, "functionDeclarations googleSearch codeExecution urlContext", "tools")
            for function in tool.get("functionDeclarations", []):
                strict.check(re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}", function["name"]), f"bad name {function['name']}")
                strict.members(function, "name description parameters parametersJsonSchema", function["name"])
                if "parameters" in function:
                    self._schema(function["parameters"], function["name"], strict)

    def _schema(self, schema, where, strict):
        strict.members(schema, self.SCHEMA, where)
        for name, inner in schema.get("properties", {}).items():
            self._schema(inner, f"{where}.{name}", strict)
        if "items" in schema:
            self._schema(schema["items"], f"{where}[]", strict)

    def view(self, body):
        results, media = [], set()
        texts = [part.get("text", "") for part in body.get("systemInstruction", {}).get("parts", [])]
        for content in body["contents"]:
            for part in content["parts"]:
                texts.append(part.get("text", ""))
                if "functionResponse" in part:
                    results.append(json.dumps(part["functionResponse"]["response"]))
                for data in [part] + part.get("functionResponse", {}).get("parts", []):
                    kind = data.get("inlineData", {}).get("mimeType", "")
                    media |= {"image"} if kind.startswith("image/") else set()
                    media |= {"document"} if kind == "application/pdf" else set()
        tools = [Tool(f["name"]) for tool in body.get("tools", []) for f in tool.get("functionDeclarations", [])]
        return View(tools, results, "\n".join(texts), media)

    def answer(self, model, text, calls, tokens):
        parts = [{"text": text}] if text else []
        parts += [{"functionCall": {"name": tool.name, "args": json.loads(arguments)}} for tool, arguments in calls]
        usage = {"promptTokenCount": tokens, "candidatesTokenCount": 9, "totalTokenCount": tokens + 9}
        chunk = {"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0}], "modelVersion": model}
        end = {"candidates": [{"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP", "index": 0}], "usageMetadata": usage}
        return _sse([("", chunk), ("", end)])

    def error(self, status, message):
        return {"error": {"code": status, "message": message, "status": "INVALID_ARGUMENT" if status == 400 else "UNAVAILABLE"}}


class BedrockConverse:
    path = r"/model/([^/]+)/converse-stream"
    base = ""
    content_type = "application/vnd.amazon.eventstream"

    def model(self, path, body):
        return urllib.parse.unquote(re.search(self.path, path)[1])

    def check(self, body, headers, strict):
        strict.members(body, "messages system inferenceConfig toolConfig additionalModelRequestFields requestMetadata", "body")
        strict.members(body.get("inferenceConfig", {}), "maxTokens temperature topP stopSequences", "inferenceConfig")
        open_calls, previous = [], None
        for at, message in enumerate(body["messages"]):
            where, content = f"messages[{at}]", message["content"]
            strict.check(message["role"] != previous, f"{where}: roles must alternate")
            previous = message["role"]
            strict.check(content, f"{where}: no content")
            results = [block["toolResult"]["toolUseId"] for block in content if "toolResult" in block]
            strict.answered(open_calls, results, where)
            open_calls = [block["toolUse"]["toolUseId"] for block in content if "toolUse" in block]
            kinds = [next(iter(block)) for block in content]
            strict.check("document" not in kinds or "text" in kinds, f"{where}: a document without a text beside it")
            for block in content:
                strict.members(block, "text image document toolUse toolResult reasoningContent cachePoint", where)
                if "text" in block:
                    strict.text(block["text"], where)
                if "document" in block:
                    strict.check(re.fullmatch(r"[\w\s()\[\]-]+", block["document"]["name"]), f"{where}: the document's name")
                if "toolUse" in block:
                    strict.name(block["toolUse"]["toolUseId"], where)
                    strict.name(block["toolUse"]["name"], where)
                for part in block.get("toolResult", {}).get("content", []):
                    strict.members(part, "text image document json", where)
        has_calls = '"toolUse"' in json.dumps(body["messages"])
        strict.check(not has_calls or body.get("toolConfig", {}).get("tools"), "toolConfig is missing")
        for tool in body.get("toolConfig", {}).get("tools", []):
            if "toolSpec" in tool:
                strict.name(tool["toolSpec"]["name"], "toolConfig")
                strict.schema(tool["toolSpec"]["inputSchema"]["json"], tool["toolSpec"]["name"])
                strict.check(tool["toolSpec"].get("description", "x"), f"{tool['toolSpec']['name']}: an empty description")

    def view(self, body):
        results, media = [], set()
        texts = [block.get("text", "") for block in body.get("system", [])]
        for message in body["messages"]:
            for block in message["content"]:
                texts.append(block.get("text", ""))
                inner = block.get("toolResult", {}).get("content", [])
                if "toolResult" in block:
                    results.append("\n".join(part.get("text", "") for part in inner))
                media |= {kind for part in [block, *inner] for kind in part} & {"image", "document"}
        specs = [tool["toolSpec"] for tool in body.get("toolConfig", {}).get("tools", []) if "toolSpec" in tool]
        return View([Tool(spec["name"]) for spec in specs], results, "\n".join(texts), media)

    def answer(self, model, text, calls, tokens):
        events, at = [("messageStart", {"role": "assistant"})], 0
        if text:
            events += [("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}}), ("contentBlockStop", {"contentBlockIndex": 0})]
            at = 1
        for at, (tool, arguments) in enumerate(calls, at):
            use = {"toolUseId": _id("tooluse"), "name": tool.name}
            events.append(("contentBlockStart", {"contentBlockIndex": at, "start": {"toolUse": use}}))
            events.append(("contentBlockDelta", {"contentBlockIndex": at, "delta": {"toolUse": {"input": arguments}}}))
            events.append(("contentBlockStop", {"contentBlockIndex": at}))
        usage = {"inputTokens": tokens, "outputTokens": 9, "totalTokens": tokens + 9}
        events.append(("messageStop", {"stopReason": "tool_use" if calls else "end_turn"}))
        events.append(("metadata", {"usage": usage, "metrics": {"latencyMs": 1}}))
        return [self._message(name, json.dumps(data).encode()) for name, data in events]

    def _message(self, name, payload):
        headers = b""
        for key, value in ((":message-type", "event"), (":event-type", name), (":content-type", "application/json")):
            headers += bytes([len(key)]) + key.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
        message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
        return message + struct.pack(">I", zlib.crc32(message))

    def error(self, status, message):
        return {"message": message}


class CohereChat:
    path = r"/v2/chat"
    base = ""
    content_type = "text/event-stream"

    def model(self, path, body):
        return body["model"]

    def check(self, body, headers, strict):
        strict.members(
            body,
            "model messages stream tools tool_choice strict_tools citation_options response_format max_tokens stop_sequences "
            "temperature seed p k thinking",
            "body",
        )
        strict.check(body.get("tool_choice", "NONE") in ("REQUIRED", "NONE"), "tool_choice")
        open_calls = []
        for at, message in enumerate(body["messages"]):
            where, role = f"messages[{at}]", message["role"]
            if role == "tool":
                strict.check(message["tool_call_id"] in open_calls, f"{where}: no call for this result")
                strict.check(message["content"], f"{where}: no content")
                open_calls = [call for call in open_calls if call != message["tool_call_id"]]
                continue
            strict.check(not open_calls, f"{where}: the calls {open_calls} have no result")
            open_calls = [call["id"] for call in message.get("tool_calls") or []]
            strict.check(message.get("content") or open_calls or message.get("tool_plan"), f"{where}: no content")
            for part in message["content"] if isinstance(message.get("content"), list) else []:
                strict.check(part["type"] in ("text", "image_url", "thinking"), f"{where}: part {part['type']}")
                if part["type"] == "text":
                    strict.text(part["text"], where)
        for at, tool in enumerate(body.get("tools", [])):
            strict.check(re.fullmatch(r"[a-zA-Z0-9_-]{1,256}", tool["function"]["name"]), f"tools[{at}]: name")
            strict.schema(tool["function"].get("parameters"), f"tools[{at}]")

    def view(self, body):
        results, texts, media = [], [], set()
        for message in body["messages"]:
            content = message.get("content")
            text = _text_of(content)
            if message["role"] == "tool" and isinstance(content, list):
                text = "\n".join(part.get("text") or json.dumps(part.get("document")) for part in content)
            (results if message["role"] == "tool" else texts).append(text)
            for part in content if isinstance(content, list) else []:
                media |= {"image"} if part["type"] == "image_url" else set()
        return View([Tool(tool["function"]["name"]) for tool in body.get("tools", [])], results, "\n".join(texts), media)

    def answer(self, model, text, calls, tokens):
        events = [("message-start", {"id": _id("m"), "delta": {"message": {"role": "assistant"}}})]
        if text:
            events.append(("content-start", {"index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}}))
            events.append(("content-delta", {"index": 0, "delta": {"message": {"content": {"text": text}}}}))
            events.append(("content-end", {"index": 0}))
        for at, (tool, arguments) in enumerate(calls):
            call = {"id": _id(tool.name), "type": "function", "function": {"name": tool.name, "arguments": ""}}
            events.append(("tool-call-start", {"index": at, "delta": {"message": {"tool_calls": call}}}))
            events.append(("tool-call-delta", {"index": at, "delta": {"message": {"tool_calls": {"function": {"arguments": arguments}}}}}))
            events.append(("tool-call-end", {"index": at}))
        usage = {"tokens": {"input_tokens": tokens, "output_tokens": 9}}
        events.append(("message-end", {"delta": {"finish_reason": "TOOL_CALL" if calls else "COMPLETE", "usage": usage}}))
        return _sse([(name, {"type": name} | data) for name, data in events])

    def error(self, status, message):
        return {"message": message}


class OllamaChat:
    path = r"/api/chat"
    base = ""
    content_type = "application/x-ndjson"

    def model(self, path, body):
        return body["model"]

    def check(self, body, headers, strict):
        strict.members(body, "model messages tools stream think format options keep_alive", "body")
        strict.check(isinstance(body.get("think", True), bool), f"think: {body.get('think')!r}")
        for at, message in enumerate(body["messages"]):
            where = f"messages[{at}]"
            strict.members(message, "role content images tool_calls tool_name tool_call_id thinking", where)
            strict.check(isinstance(message.get("content", ""), str), f"{where}: the content is no text")
            for image in message.get("images") or []:
                strict.check(re.fullmatch(r"[A-Za-z0-9+/=]+", image), f"{where}: an image that is no base64")
            for call in message.get("tool_calls") or []:
                strict.check(isinstance(call["function"]["arguments"], dict), f"{where}: arguments")
        for at, tool in enumerate(body.get("tools", [])):
            strict.check(tool["type"] == "function" and tool["function"]["name"], f"tools[{at}]")
            strict.schema(tool["function"].get("parameters"), f"tools[{at}]")

    def view(self, body):
        results, texts, media = [], [], set()
        for message in body["messages"]:
            (results if message["role"] == "tool" else texts).append(message.get("content", ""))
            media |= {"image"} if message.get("images") else set()
        return View([Tool(tool["function"]["name"]) for tool in body.get("tools", [])], results, "\n".join(texts), media)

    def answer(self, model, text, calls, tokens):
        line = lambda **members: json.dumps({"model": model, "created_at": "2026-01-01T00:00:00Z"} | members).encode() + b"\n"
        lines = [line(message={"role": "assistant", "content": text}, done=False)] if text else []
        if calls:
            functions = [{"function": {"name": tool.name, "arguments": json.loads(arguments)}} for tool, arguments in calls]
            lines.append(line(message={"role": "assistant", "content": "", "tool_calls": functions}, done=False))
        end = {"done": True, "done_reason": "stop", "prompt_eval_count": tokens, "eval_count": 9}
        return lines + [line(message={"role": "assistant", "content": ""}, **end)]

    def error(self, status, message):
        return {"error": message}


WIRES = {
    "anthropic-messages": AnthropicMessages(),
    "bedrock-converse": BedrockConverse(),
    "cohere-chat": CohereChat(),
    "gemini": Gemini(),
    "ollama-chat": OllamaChat(),
    "openai-chat": OpenaiChat(),
    "openai-responses": OpenaiResponses(),
}
