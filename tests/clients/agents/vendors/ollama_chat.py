import json
import re

from .shared import Tool, Vendor, View


class OllamaChat(Vendor):
    path = r"/api/chat"
    content_type = "application/x-ndjson"

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
        view = View([Tool(tool["function"]["name"]) for tool in body.get("tools", [])])
        for message in body["messages"]:
            (view.results if message["role"] == "tool" else view.texts).append(message.get("content", ""))
            if message.get("images"):
                view.media.add("image")
        return view

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
