import json
import re

from .shared import Tool, Vendor, View, sse


class Gemini(Vendor):
    path = r"/v1beta/models/([^/]+):streamGenerateContent"
    # What the API knows of JSON Schema in `parameters`.
    SCHEMA = (
        "type format title description nullable enum maxItems minItems properties required minProperties maxProperties minLength "
        "maxLength pattern example anyOf propertyOrdering default items minimum maximum"
    )

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
        view = View([Tool(f["name"]) for tool in body.get("tools", []) for f in tool.get("functionDeclarations", [])])
        view.texts += [part.get("text", "") for part in body.get("systemInstruction", {}).get("parts", [])]
        for content in body["contents"]:
            for part in content["parts"]:
                view.texts.append(part.get("text", ""))
                if "functionResponse" in part:
                    view.results.append(json.dumps(part["functionResponse"]["response"]))
                for data in [part] + part.get("functionResponse", {}).get("parts", []):
                    kind = data.get("inlineData", {}).get("mimeType", "")
                    view.media |= {"image": {"image"}, "application": {"document"}}.get(kind.split("/")[0], set())
        return view

    def answer(self, model, text, calls, tokens):
        parts = [{"text": text}] if text else []
        parts += [{"functionCall": {"name": tool.name, "args": json.loads(arguments)}} for tool, arguments in calls]
        usage = {"promptTokenCount": tokens, "candidatesTokenCount": 9, "totalTokenCount": tokens + 9}
        chunk = {"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0}], "modelVersion": model}
        end = {"candidates": [{"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP", "index": 0}], "usageMetadata": usage}
        return sse([("", chunk), ("", end)])

    def error(self, status, message):
        return {"error": {"code": status, "message": message, "status": "INVALID_ARGUMENT" if status == 400 else "UNAVAILABLE"}}
