import json
import re
import struct
import zlib

from .shared import Tool, Vendor, View, new_id


class BedrockConverse(Vendor):
    path = r"/model/([^/]+)/converse-stream"
    content_type = "application/vnd.amazon.eventstream"

    def check(self, body, headers, strict):
        strict.members(body, "messages system inferenceConfig toolConfig additionalModelRequestFields outputConfig requestMetadata", "body")
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
        specs = [tool["toolSpec"] for tool in body.get("toolConfig", {}).get("tools", []) if "toolSpec" in tool]
        view = View([Tool(spec["name"]) for spec in specs])
        view.texts += [block.get("text", "") for block in body.get("system", [])]
        for message in body["messages"]:
            for block in message["content"]:
                view.texts.append(block.get("text", ""))
                inner = block.get("toolResult", {}).get("content", [])
                if "toolResult" in block:
                    view.results.append("\n".join(part.get("text", "") for part in inner))
                view.media |= {kind for part in [block, *inner] for kind in part} & {"image", "document"}
        return view

    def answer(self, model, text, calls, tokens):
        events, at = [("messageStart", {"role": "assistant"})], 0
        if text:
            events += [("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}}), ("contentBlockStop", {"contentBlockIndex": 0})]
            at = 1
        for at, (tool, arguments) in enumerate(calls, at):
            use = {"toolUseId": new_id("tooluse"), "name": tool.name}
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
