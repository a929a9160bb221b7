// OpenAI's own JavaScript client, over Chat Completions and Responses.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { key, left, narrowKey, url, wires } from "./gateway.mjs";

const options = { baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 };
const client = new OpenAI(options);
const messages = [{ role: "user", content: "Hello?" }];
const tools = [{ type: "function", function: { name: "get_weather", parameters: { type: "object" } } }];

test("openai: models", async () => {
  const ids = [];
  for await (const model of client.models.list()) {
    ids.push(model.id);
  }
  assert.ok(ids.includes("openai-chat/*"));
  assert.equal((await client.models.retrieve("openai-chat/text")).id, "openai-chat/text");
  await assert.rejects(client.models.retrieve("nobody's"), OpenAI.NotFoundError);
});

for (const wire of wires) {
  test(`openai before ${wire}`, async () => {
    const model = `${wire}/text`;
    const whole = await client.chat.completions.create({ model, messages });
    const runner = client.chat.completions.stream({ model, messages, stream_options: { include_usage: true } });
    const streamed = await runner.finalChatCompletion();
    assert.equal(streamed.choices[0].message.content, whole.choices[0].message.content);
    assert.equal(streamed.choices[0].finish_reason, "stop");
    assert.equal(streamed.model, model);
    assert.deepEqual(streamed.usage, whole.usage);
    assert.ok(whole.usage.prompt_tokens > 0 && whole.usage.completion_tokens > 0);
  });
}

test("openai: tool calls, also interleaved", async () => {
  for (const [model, cities] of [
    ["anthropic-messages/tool-use", ["Köln"]],
    ["openai-chat/tool-call-interleaved", ["Genf", "Bern"]],
  ]) {
    const whole = await client.chat.completions.create({ model, messages, tools });
    const streamed = await client.chat.completions.stream({ model, messages, tools }).finalChatCompletion();
    for (const { choices } of [whole, streamed]) {
      const heard = choices[0].message.tool_calls.map((call) => JSON.parse(call.function.arguments).city);
      assert.deepEqual(heard, cities);
      assert.equal(choices[0].finish_reason, "tool_calls");
    }
  }
});

test("openai: refusals of requests", async () => {
  const ask = (options, model = "openai-chat/text", more = {}) =>
    new OpenAI({ ...options, maxRetries: 0 }).chat.completions.create({ model, messages, ...more });
  await assert.rejects(ask({ ...options, apiKey: "nobody's" }), OpenAI.AuthenticationError);
  await assert.rejects(ask({ ...options, apiKey: narrowKey }, "gemini/text"), OpenAI.PermissionDeniedError);
  await assert.rejects(ask(options, "gemini/text", { n: 2 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, "n");
    assert.ok(error.requestID);
    return true;
  });
});

test("openai: a failed upstream is asked again", async () => {
  let asked = 0;
  const counting = (...request) => {
    asked += 1;
    return fetch(...request);
  };
  const patient = new OpenAI({ ...options, maxRetries: 2, fetch: counting });
  const failed = patient.chat.completions.create({ model: "scripted/status-503", messages });
  await assert.rejects(failed, OpenAI.InternalServerError);
  assert.equal(asked, 3);
});

test("openai: a cut answer raises an error", async () => {
  for (const [model, code] of [
    ["openai-chat/error-mid-stream", "upstream_error"],
    ["openai-chat/truncated", "stream_interrupted"],
  ]) {
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    const reading = async () => {
      for await (const chunk of stream) {
        assert.ok(chunk.choices);
      }
    };
    await assert.rejects(reading(), (error) => error instanceof OpenAI.APIError && error.code === code);
    await assert.rejects(client.chat.completions.create({ model, messages }), OpenAI.InternalServerError);
  }
});

test("openai: leaving cancels", async () => {
  const stream = await client.chat.completions.create({ model: "scripted/hold-openai-js", messages, stream: true });
  for await (const chunk of stream) {
    if (chunk.choices[0].delta.content) {
      break;
    }
  }
  assert.ok(await left("hold-openai-js"));
});

for (const wire of wires) {
  test(`openai: a response before ${wire}`, async () => {
    const asked = { model: `${wire}/text`, input: "Hello?" };
    const whole = await client.responses.create(asked);
    const streamed = await client.responses.stream(asked).finalResponse();
    assert.ok(whole.output_text);
    assert.equal(streamed.output_text, whole.output_text);
  });
}
