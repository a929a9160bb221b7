import json
import re

from .shared import OpenCalls, Tool, Vendor, View, new_id, sse_with_types, text_of


class CohereChat(Vendor):
    path = r"/v2/chat"

    def check(self, body, headers, strict):
        strict.members(
            body,
            "model messages stream tools tool_choice strict_tools citation_options response_format max_tokens stop_sequences "
            "temperature seed p k thinking",
            "body",
        )
        strict.check(body.get("tool_choice", "NONE") in ("REQUIRED", "NONE"), "tool_choice")
        strict.check(not (body.get("tools") and body.get("response_format")), "response_format with tools")
        open_calls = OpenCalls(strict)
        for at, message in enumerate(body["messages"]):
            where, role = f"messages[{at}]", message["role"]
            if role == "tool":
                open_calls.result(message["tool_call_id"], where)
                strict.check(message["content"], f"{where}: no content")
                continue
            calls = [call["id"] for call in message.get("tool_calls") or []]
            open_calls.message(calls, where)
            strict.check(message.get("content") or calls or message.get("tool_plan"), f"{where}: no content")
            for part in message["content"] if isinstance(message.get("content"), list) else []:
                strict.check(part["type"] in ("text", "image_url", "thinking"), f"{where}: part {part['type']}")
                if part["type"] == "text":
                    strict.text(part["text"], where)
        for at, tool in enumerate(body.get("tools", [])):
            strict.check(re.fullmatch(r"[a-zA-Z0-9_-]{1,256}", tool["function"]["name"]), f"tools[{at}]: name")
            strict.schema(tool["function"].get("parameters"), f"tools[{at}]")

    def view(self, body):
        view = View([Tool(tool["function"]["name"]) for tool in body.get("tools", [])])
        for message in body["messages"]:
            content = message.get("content")
            text = text_of(content)
            if message["role"] == "tool" and isinstance(content, list):
                text = "\n".join(part.get("text") or json.dumps(part.get("document")) for part in content)
            (view.results if message["role"] == "tool" else view.texts).append(text)
            if isinstance(content, list) and any(part["type"] == "image_url" for part in content):
                view.media.add("image")
        return view

    def answer(self, model, text, calls, tokens):
        events = [("message-start", {"id": new_id("m"), "delta": {"message": {"role": "assistant"}}})]
        if text:
            events.append(("content-start", {"index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}}))
            events.append(("content-delta", {"index": 0, "delta": {"message": {"content": {"text": text}}}}))
            events.append(("content-end", {"index": 0}))
        for at, (tool, arguments) in enumerate(calls):
            call = {"id": new_id(tool.name), "type": "function", "function": {"name": tool.name, "arguments": ""}}
            events.append(("tool-call-start", {"index": at, "delta": {"message": {"tool_calls": call}}}))
            events.append(("tool-call-delta", {"index": at, "delta": {"message": {"tool_calls": {"function": {"arguments": arguments}}}}}))
            events.append(("tool-call-end", {"index": at}))
        usage = {"tokens": {"input_tokens": tokens, "output_tokens": 9}}
        events.append(("message-end", {"delta": {"finish_reason": "TOOL_CALL" if calls else "COMPLETE", "usage": usage}}))
        return sse_with_types(events)

    def error(self, status, message):
        return {"message": message}
