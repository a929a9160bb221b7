// The AI SDK's own providers for Anthropic's and OpenAI's APIs, the latter over Responses.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, jsonSchema, streamText, tool } from "ai";
import { key, left, url, wires } from "./gateway.mjs";

const anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey: key });
const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: key });
const prompt = "Hello?";
const once = { maxRetries: 0, maxOutputTokens: 100 };

const getWeather = tool({
  description: "Says what the weather is",
  inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"] }),
});

/** The parts of a stream, errors among them. */
async function parts(options) {
  const seen = [];
  for await (const part of streamText({ prompt, ...once, onError() {}, ...options }).fullStream) {
    seen.push(part);
  }
  return seen;
}

for (const [name, model] of [
  ["AI SDK anthropic", anthropic],
  ["AI SDK responses", openai.responses],
]) {
  for (const wire of wires) {
    test(`${name} before ${wire}`, async () => {
      const whole = await generateText({ model: model(`${wire}/text`), prompt, ...once });
      const streamed = streamText({ model: model(`${wire}/text`), prompt, ...once });
      assert.notEqual(whole.text, "");
      assert.equal(await streamed.text, whole.text);
      assert.equal(await streamed.finishReason, "stop");
      assert.equal(whole.finishReason, "stop");
      const usage = await streamed.usage;
      assert.ok(usage.inputTokens > 0 && usage.outputTokens > 0);
      assert.equal(usage.outputTokens, whole.usage.outputTokens);
    });
  }

  test(`${name}: tool calls, also interleaved`, async () => {
    const options = { tools: { get_weather: getWeather, get_time: getWeather } };
    for (const [fixture, cities] of [
      ["anthropic-messages/tool-use", ["Köln"]],
      ["openai-chat/tool-call-interleaved", ["Genf", "Bern"]],
    ]) {
      const whole = await generateText({ model: model(fixture), prompt, ...once, ...options });
      assert.deepEqual(whole.toolCalls.map((call) => call.input.city), cities);
      assert.equal(whole.finishReason, "tool-calls");
      const calls = (await parts({ model: model(fixture), ...options })).filter((part) => part.type === "tool-call");
      assert.deepEqual(calls.map((call) => call.input.city), cities);
    }
  });

  test(`${name}: reasoning is separate from the text`, async () => {
    const streamed = streamText({ model: model("anthropic-messages/thinking"), prompt, ...once });
    assert.match(await streamed.reasoningText, /Three boats/);
    assert.equal(await streamed.text, "The third boat waits.");
  });

  test(`${name}: a second turn`, async () => {
    // Nothing of the first turn is kept at the gateway.
    const stateless = { ...once, providerOptions: { openai: { store: false } } };
    for (const fixture of ["anthropic-messages/thinking", "openai-responses/reasoning-summary", "openai-chat/text"]) {
      const first = await generateText({ model: model(fixture), prompt, ...stateless });
      const messages = [{ role: "user", content: prompt }, ...first.response.messages, { role: "user", content: "Go on" }];
      for (const next of [fixture, "openai-chat/text"]) {
        const second = await generateText({ model: model(next), messages, ...stateless });
        assert.notEqual(second.text, "", `${fixture}, then ${next}`);
      }
    }
  });

  test(`${name}: sources`, async () => {
    const seen = await parts({ model: model("anthropic-messages/server-tool-citations") });
    // One of them knows sources only from the vendor's own search results, and gives all citations.
    const end = seen.find((part) => part.type === "text-end");
    const source = seen.find((part) => part.type === "source") ?? end.providerMetadata.anthropic.citations[0];
    assert.equal(source.url, "https://canals.example/north");
  });

  test(`${name}: a cut answer is an error`, async () => {
    for (const fixture of ["openai-chat/truncated", "openai-chat/error-mid-stream"]) {
      const seen = await parts({ model: model(fixture) });
      assert.ok(seen.some((part) => part.type === "text-delta"));
      assert.ok(seen.some((part) => part.type === "error"), fixture);
      await assert.rejects(generateText({ model: model(fixture), prompt, ...once }));
    }
  });

  test(`${name}: refusals`, async () => {
    await assert.rejects(generateText({ model: model("nothing"), prompt, ...once }), { statusCode: 404 });
  });

  test(`${name}: leaving cancels`, async () => {
    const hold = `hold-${name.replaceAll(" ", "-")}`;
    const abort = new AbortController();
    const options = { model: model(`scripted/${hold}`), prompt, ...once, abortSignal: abort.signal, onError() {} };
    for await (const part of streamText(options).fullStream) {
      if (part.type === "text-delta") {
        abort.abort();
      }
    }
    assert.ok(await left(hold));
  });
}
