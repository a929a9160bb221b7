"""An MCP server over stdio with one tool, `lookup`, which answers with the word of its first argument."""

import json
import sys

TOOL = {
    "name": "lookup",
    "description": "Looks a color up.",
    "inputSchema": {"type": "object", "properties": {"color": {"type": "string"}}, "required": ["color"]},
}


def answer(request):
    method, parameters = request["method"], request.get("params") or {}
    if method == "initialize":
        version = parameters.get("protocolVersion", "2025-06-18")
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "colors", "version": "1"}}
    if method == "tools/list":
        return {"tools": [TOOL]}
    if method == "tools/call":
        color = parameters["arguments"]["color"]
        return {"content": [{"type": "text", "text": f"{color} is {sys.argv[1]}"}]}
    return {}


for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": answer(message)}), flush=True)
