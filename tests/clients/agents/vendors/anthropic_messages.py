import json

from .shared import Tool, Vendor, View, new_id, sse_with_types, text_of


class AnthropicMessages(Vendor):
    path = r"/v1/messages"
    overloaded = 529

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
        deferred = {tool["name"] for tool in body.get("tools", []) if tool.get("defer_loading")}
        for name in self._found(body):
            strict.check(name in deferred, f"the tool reference {name} has no tool")
        for at, tool in enumerate(body.get("tools", [])):
            strict.name(tool["name"], f"tools[{at}]", 128)
            if tool.get("type", "custom") == "custom":
                strict.schema(tool["input_schema"], f"tools[{at}]")
        marks = json.dumps([body.get("system"), body.get("tools"), body["messages"]]).count('"cache_control"')
        strict.check(marks <= 4, f"{marks} blocks with cache_control")

    def view(self, body):
        view = View()
        view.texts.append(text_of(body.get("system") or ""))
        for message in body["messages"]:
            content = message["content"]
            view.texts.append(text_of(content))
            for block in content if isinstance(content, list) else []:
                inner = [block]
                if block["type"] == "tool_result":
                    view.results.append(text_of(block.get("content")))
                    inner = _inner(block)
                view.media |= {part["type"] for part in inner} & {"image", "document"}
        found = self._found(body)
        # The model does not see a deferred tool until a search has found it.
        for tool in body.get("tools", []):
            if not tool.get("defer_loading") or tool["name"] in found:
                view.tools.append(Tool(tool["name"], tool.get("type", "function")))
        return view

    def _found(self, body):
        """The names of the tools that searches have found."""
        contents = [message["content"] for message in body["messages"] if isinstance(message["content"], list)]
        results = [block for content in contents for block in content if block["type"] == "tool_result"]
        return {part["tool_name"] for block in results for part in _inner(block) if part["type"] == "tool_reference"}

    def answer(self, model, text, calls, tokens):
        usage = {"input_tokens": tokens, "output_tokens": 1, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
        message = {"id": new_id("msg"), "type": "message", "role": "assistant", "model": model, "content": []}
        events = [("message_start", {"message": message | {"stop_reason": None, "stop_sequence": None, "usage": usage}})]
        blocks = [({"type": "text", "text": ""}, {"type": "text_delta", "text": text})] if text else []
        for at, (tool, arguments) in enumerate(calls):
            block = {"type": "tool_use", "id": new_id("toolu"), "name": tool.name, "input": {}}
            blocks.append((block, {"type": "input_json_delta", "partial_json": arguments}))
        for at, (block, delta) in enumerate(blocks):
            events.append(("content_block_start", {"index": at, "content_block": block}))
            events.append(("content_block_delta", {"index": at, "delta": delta}))
            events.append(("content_block_stop", {"index": at}))
        reason = {"stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None}
        events += [("message_delta", {"delta": reason, "usage": {"output_tokens": 9}}), ("message_stop", {})]
        return sse_with_types(events)

    def error(self, status, message):
        kind = {400: "invalid_request_error", 429: "rate_limit_error", 529: "overloaded_error"}.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}}


def _inner(block):
    """The blocks of a tool's result."""
    return block["content"] if isinstance(block.get("content"), list) else []
