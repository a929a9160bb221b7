import json

from .shared import Tool, Vendor, View, new_id, openai_error, sse, text_of


class OpenaiResponses(Vendor):
    path = r"/v1/responses"
    base = "/v1"

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
            if kind in ("function_call", "custom_tool_call", "tool_search_call"):
                strict.check(len(item["call_id"]) <= 64, f"input[{at}]: call_id")
                calls.append(item["call_id"])
            elif kind in ("function_call_output", "custom_tool_call_output", "tool_search_output"):
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
        items = body["input"] if isinstance(body["input"], list) else [{"role": "user", "content": body["input"]}]
        view = View(self._tools(body.get("tools", [])), texts=[body.get("instructions") or ""])
        for item in items:
            kind = item.get("type", "message")
            content = item.get("output") if kind.endswith("_output") else item.get("content")
            text = text_of(content) if isinstance(content, (str, list)) else item.get("encrypted_content", "")
            (view.results if kind.endswith("call_output") else view.texts).append(text)
            # What a search found can be called from then on.
            view.tools += self._tools(item.get("tools", []))
            if kind == "compaction_trigger":
                view.tools.append(Tool(kind, kind))
            for part in content if isinstance(content, list) else []:
                view.media |= {"input_image": {"image"}, "input_file": {"document"}}.get(part.get("type"), set())
        return view

    def _tools(self, declared):
        tools = []
        for tool in declared:
            if tool["type"] == "namespace":
                tools += [Tool(inner["name"], inner["type"], tool["name"]) for inner in tool["tools"]]
            elif tool["type"] in ("function", "custom", "tool_search"):
                tools.append(Tool(tool.get("name", tool["type"]), tool["type"]))
        return tools

    def answer(self, model, text, calls, tokens):
        response = {"id": new_id("resp"), "object": "response", "created_at": 1, "model": model, "output": []}
        events, output, sequence = [], [], [0]

        def emit(kind, **members):
            events.append((kind, {"type": kind, "sequence_number": sequence[0]} | members))
            sequence[0] += 1

        emit("response.created", response=response | {"status": "in_progress"})
        emit("response.in_progress", response=response | {"status": "in_progress"})
        if text:
            part = {"type": "output_text", "text": "", "annotations": []}
            item = {"type": "message", "id": new_id("msg"), "status": "in_progress", "role": "assistant", "content": []}
            where = {"item_id": item["id"], "output_index": 0, "content_index": 0}
            emit("response.output_item.added", output_index=0, item=item)
            emit("response.content_part.added", part=part, **where)
            emit("response.output_text.delta", delta=text, **where)
            emit("response.output_text.done", text=text, **where)
            emit("response.content_part.done", part=part | {"text": text}, **where)
            output.append(item | {"status": "completed", "content": [part | {"text": text}]})
            emit("response.output_item.done", output_index=0, item=output[-1])
        for tool, arguments in calls:
            at, deltas, item = len(output), None, self._call(tool, arguments)
            begun = item | {"status": "in_progress"}
            if tool.kind in self.DELTAS:
                deltas, member = self.DELTAS[tool.kind]
                begun[member] = ""
            emit("response.output_item.added", output_index=at, item=begun)
            if deltas:
                emit(f"{deltas}.delta", item_id=item["id"], output_index=at, delta=item[member])
                emit(f"{deltas}.done", item_id=item["id"], output_index=at, **{member: item[member]})
            output.append(item)
            emit("response.output_item.done", output_index=at, item=item)
        usage = {"input_tokens": tokens, "output_tokens": 9, "total_tokens": tokens + 9}
        usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        emit("response.completed", response=response | {"status": "completed", "output": output, "usage": usage})
        return sse(events)

    # The events of a call's text, and the member that has all of it.
    DELTAS = {
        "function": ("response.function_call_arguments", "arguments"),
        "custom": ("response.custom_tool_call_input", "input"),
    }

    def _call(self, tool, arguments):
        if tool.kind == "compaction_trigger":
            return {"type": "compaction", "id": new_id("cmp"), "encrypted_content": arguments}
        call = {"id": new_id("fc"), "call_id": new_id("call"), "status": "completed"}
        if tool.kind == "tool_search":
            return call | {"type": "tool_search_call", "execution": "client", "arguments": json.loads(arguments)}
        call |= {"name": tool.name} | ({"namespace": tool.namespace} if tool.namespace else {})
        if tool.kind == "custom":
            return call | {"type": "custom_tool_call", "input": json.loads(arguments)["input"]}
        return call | {"type": "function_call", "arguments": arguments}

    def error(self, status, message):
        return openai_error(status, message)
