// An answer's request as a program: curl, Python, JavaScript. Each runs as it stands; a key comes from the environment.

const shell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** The snippets of a request: name → code. */
export function snippets(request, origin, hasKey) {
  const body = JSON.stringify(request, null, 2);
  return { curl: curl(body, origin, hasKey), Python: python(body, origin, hasKey), JavaScript: javascript(request, origin, hasKey) };
}

function curl(body, origin, hasKey) {
  const key = hasKey ? ' \\\n  -H "authorization: Bearer $SLUICEGATE_KEY"' : "";
  return `curl -N ${origin}/v1/streams \\\n  -H 'content-type: application/json'${key} \\\n  -d ${shell(body)}\n`;
}

function python(body, origin, hasKey) {
  const key = hasKey ? '\n    "authorization": f"Bearer {os.environ[\'SLUICEGATE_KEY\']}",' : "";
  return `import json
import os
import urllib.request

body = json.loads(r"""
${body}
""")
headers = {
    "content-type": "application/json",${key}
}
request = urllib.request.Request("${origin}/v1/streams", json.dumps(body).encode(), headers)
with urllib.request.urlopen(request) as stream:
    event = ""
    for line in stream:
        name, _, value = line.decode().rstrip("\\n").partition(": ")
        if name == "event":
            event = value
        elif name == "data" and event == "token":
            print(json.loads(value)["text"], end="", flush=True)
        elif name == "data" and event == "error":
            raise SystemExit(json.loads(value)["error"]["message"])
print()
`;
}

const OPTION_NAMES = { max_tokens: "maxTokens" };

function javascript(request, origin, hasKey) {
  const { reasoning, ...rest } = request;
  const options = Object.fromEntries(Object.entries(rest).map(([name, value]) => [OPTION_NAMES[name] ?? name, value]));
  const fields = { baseUrl: origin, ...options, ...(reasoning && { reasoning }) };
  const text = JSON.stringify(fields, null, 2);
  const withKey = hasKey ? text.replace("{", "{\n  key: process.env.SLUICEGATE_KEY,") : text;
  return `// The module is ${origin}/sluicegate.js; save it as sluicegate.mjs for Node, or import it by its address in a page.
import { stream } from "./sluicegate.mjs";

const answer = stream(${withKey});
for await (const event of answer) {
  if (event.type === "token") process.stdout.write(event.text);
}
await answer.text(); // throws if the answer ended in an error
`;
}
