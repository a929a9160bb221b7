import json

from .shared import OpenCalls, Tool, Vendor, View, new_id, openai_error, sse, text_of


class OpenaiChat(Vendor):
    path = r"/v1/chat/completions"
    base = "/v1"

    def check(self, body, headers, strict):
        strict.members(
            body,
            "model messages stream stream_options max_tokens max_completion_tokens temperature top_p stop seed tools tool_choice "
            "parallel_tool_calls response_format reasoning_effort user prompt_cache_key metadata store verbosity",
            "body",
        )
        open_calls = OpenCalls(strict)
        for at, message in enumerate(body["messages"]):
            where, role = f"messages[{at}]", message["role"]
            strict.check(role in ("system", "developer", "user", "assistant", "tool"), f"{where}: role {role}")
            if role == "tool":
                open_calls.result(message.get("tool_call_id"), where)
                content = message["content"]
                strict.check(isinstance(content, str) or all(p["type"] == "text" for p in content), f"{where}: only text here")
                continue
            calls = message.get("tool_calls") or []
            for call in calls:
                strict.name(call["function"]["name"], where)
                strict.check(isinstance(json.loads(call["function"]["arguments"]), dict), f"{where}: arguments")
            open_calls.message([call["id"] for call in calls], where)
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
        open_calls.message([], "the end")
        for at, tool in enumerate(body.get("tools", [])):
            strict.check(tool["type"] == "function", f"tools[{at}]: {tool['type']}")
            strict.name(tool.get("function", {}).get("name"), f"tools[{at}]")
            if "parameters" in tool.get("function", {}):
                strict.schema(tool["function"]["parameters"], f"tools[{at}]")
        strict.check("tools" not in body or body["tools"], "tools: empty")
        strict.check("tool_choice" not in body or body.get("tools"), "tool_choice without tools")

    def view(self, body):
        view = View([Tool(tool["function"]["name"]) for tool in body.get("tools", [])])
        for message in body["messages"]:
            content = message.get("content")
            if message["role"] == "tool":
                view.results.append(text_of(content))
                continue
            view.texts.append(text_of(content))
            for part in content if isinstance(content, list) else []:
                view.media |= {"image_url": {"image"}, "file": {"document"}}.get(part["type"], set())
        return view

    def answer(self, model, text, calls, tokens):
        base = {"id": new_id("chatcmpl"), "object": "chat.completion.chunk", "created": 1, "model": model}
        chunk = lambda delta, finish=None: ("", base | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        events = [chunk({"role": "assistant", "content": ""})]
        if text:
            events.append(chunk({"content": text}))
        for at, (tool, arguments) in enumerate(calls):
            function = {"name": tool.name, "arguments": ""}
            events.append(chunk({"tool_calls": [{"index": at, "id": new_id("call"), "type": "function", "function": function}]}))
            events.append(chunk({"tool_calls": [{"index": at, "function": {"arguments": arguments}}]}))
        events.append(chunk({}, "tool_calls" if calls else "stop"))
        usage = {"prompt_tokens": tokens, "completion_tokens": 9, "total_tokens": tokens + 9}
        return sse(events + [("", base | {"choices": [], "usage": usage}), ("", b"[DONE]")])

    def error(self, status, message):
        return openai_error(status, message)
