// Anthropic's own JavaScript client.

import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import { key, left, url, wires } from "./gateway.mjs";

const client = new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0 });
const asking = (model) => ({ model, max_tokens: 100, messages: [{ role: "user", content: "Hello?" }] });

for (const wire of wires) {
  test(`anthropic before ${wire}`, async () => {
    const whole = await client.messages.create(asking(`${wire}/text`));
    const stream = client.messages.stream(asking(`${wire}/text`));
    const streamed = await stream.finalMessage();
    assert.notEqual(whole.content[0].text, "");
    assert.deepEqual(streamed.content.map((block) => block.text), whole.content.map((block) => block.text));
    assert.equal(streamed.stop_reason, "end_turn");
    assert.equal(streamed.usage.output_tokens, whole.usage.output_tokens);
  });
}

test("anthropic: thinking and tools", async () => {
  for (const [model, kinds] of [
    ["anthropic-messages/thinking", ["thinking", "text"]],
    ["anthropic-messages/redacted-thinking", ["redacted_thinking", "text"]],
    ["openai-chat/tool-call-interleaved", ["tool_use", "tool_use"]],
  ]) {
    const whole = await client.messages.create(asking(model));
    const streamed = await client.messages.stream(asking(model)).finalMessage();
    assert.deepEqual(whole.content.map((block) => block.type), kinds);
    assert.deepEqual(JSON.parse(JSON.stringify(streamed.content)), whole.content);
  }
});

test("anthropic: a cut answer raises an error", async () => {
  await assert.rejects(client.messages.stream(asking("openai-chat/truncated")).finalMessage(), Anthropic.APIError);
  await assert.rejects(client.messages.create(asking("openai-chat/truncated")), Anthropic.InternalServerError);
  await assert.rejects(client.messages.create(asking("nothing")), Anthropic.NotFoundError);
});

test("anthropic: leaving cancels", async () => {
  const stream = client.messages.stream(asking("scripted/hold-anthropic-js"));
  stream.on("text", () => stream.abort());
  await assert.rejects(stream.done(), Anthropic.APIUserAbortError);
  assert.ok(await left("hold-anthropic-js"));
});
