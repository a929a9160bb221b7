"""Requests that the vendors refuse, each with words of the problem. An upstream that finds nothing wrong with
one of them would prove nothing."""

from vendors import WIRES, Strict

_USER = {"role": "user", "content": "x"}
_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
_USE = {"type": "tool_use", "id": "a b", "name": "f", "input": {}}
_SEARCH = {"role": "assistant", "content": [_USE | {"id": "a"}]}
_REFERENCE = {"type": "tool_reference", "tool_name": "g"}
_FOUND = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [_REFERENCE]}]}
_CONTENTS = [{"role": "user", "parts": [{"text": "x"}]}]
_TURN = {"role": "user", "content": [{"text": "x"}]}

REFUSED = [
    ("openai-chat", {"messages": [_USER], "thinking": {}}, "unknown members"),
    ("openai-chat", {"messages": [_USER, {"role": "assistant", "tool_calls": [_CALL]}, _USER]}, "no result"),
    ("openai-chat", {"messages": [{"role": "user", "content": [{"type": "text", "text": " "}]}]}, "blank text"),
    ("openai-chat", {"messages": [_USER], "tools": [{"type": "web_search"}]}, "web_search"),
    ("anthropic-messages", {"max_tokens": 1, "messages": [{"role": "user", "content": ""}]}, "blank text"),
    ("anthropic-messages", {"max_tokens": 1, "messages": [_USER], "metadata": {"user_id": "x" * 257}}, "user_id"),
    ("anthropic-messages", {"max_tokens": 1, "messages": [_USER, {"role": "assistant", "content": [_USE]}]}, "bad name"),
    ("gemini", {"contents": _CONTENTS, "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"$ref": ""}}]}]}, "$ref"),
    ("gemini", {"contents": [{"role": "assistant", "parts": []}]}, "role"),
    ("bedrock-converse", {"messages": [_TURN, _TURN]}, "alternate"),
    ("bedrock-converse", {"messages": [{"role": "user", "content": [{"document": {"name": "a.pdf"}}]}]}, "name"),
    ("cohere-chat", {"messages": [_USER], "tool_choice": "AUTO"}, "tool_choice"),
    ("cohere-chat", {"messages": [_USER], "tools": [_TOOL], "response_format": {"type": "json_object"}}, "response_format"),
    ("cohere-chat", {"messages": [_USER | {"content": ""}]}, "no content"),
    ("ollama-chat", {"messages": [_USER], "think": "high"}, "think"),
    ("openai-responses", {"input": [], "max_output_tokens": 1}, "max_output_tokens"),
    ("openai-responses", {"input": [{"type": "function_call", "call_id": "a", "name": "f"}]}, "results"),
    ("openai-responses", {"input": [{"type": "tool_search_call", "call_id": "a"}]}, "results"),
    ("anthropic-messages", {"max_tokens": 1, "messages": [_USER, _SEARCH, _FOUND]}, "tool reference"),
]


def check():
    for wire, body, words in REFUSED:
        strict = Strict()
        WIRES[wire].check({"model": "m"} | body if wire not in ("gemini", "bedrock-converse") else body, {}, strict)
        assert any(words in problem for problem in strict.problems), (wire, body, strict.problems)
