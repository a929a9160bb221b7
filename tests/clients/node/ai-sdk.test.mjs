// The AI SDK's provider for APIs that look like OpenAI's.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { key, left, url, wires } from "./gateway.mjs";

const gateway = createOpenAICompatible({
  name: "gateway",
  baseURL: `${url}/v1`,
  apiKey: key,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const once = { prompt: "Hello?", maxRetries: 0 };
const getWeather = tool({
  description: "Says what the weather is",
  inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"] }),
});

/** The parts of a stream, errors among them. */
async function parts(options) {
  const seen = [];
  for await (const part of streamText({ ...once, onError() {}, ...options }).fullStream) {
    seen.push(part);
  }
  return seen;
}

for (const wire of wires) {
  test(`AI SDK openai-compatible before ${wire}`, async () => {
    const model = gateway(`${wire}/text`);
    const whole = await generateText({ model, ...once });
    const streamed = streamText({ model, ...once });
    assert.notEqual(whole.text, "");
    assert.equal(await streamed.text, whole.text);
    assert.equal(await streamed.finishReason, "stop");
    assert.equal(whole.finishReason, "stop");
    const usage = await streamed.usage;
    assert.ok(usage.inputTokens > 0);
    assert.equal(usage.outputTokens, whole.usage.outputTokens);
  });
}

test("AI SDK openai-compatible: tool calls, also interleaved", async () => {
  const tools = { get_weather: getWeather, get_time: getWeather };
  for (const [fixture, cities] of [
    ["anthropic-messages/tool-use", ["Köln"]],
    ["openai-chat/tool-call-interleaved", ["Genf", "Bern"]],
  ]) {
    const whole = await generateText({ model: gateway(fixture), ...once, tools });
    assert.deepEqual(whole.toolCalls.map((call) => call.input.city), cities);
    assert.equal(whole.finishReason, "tool-calls");
    const calls = (await parts({ model: gateway(fixture), tools })).filter((part) => part.type === "tool-call");
    assert.deepEqual(calls.map((call) => call.input.city).sort(), [...cities].sort());
  }
});

test("AI SDK openai-compatible: a tool that is run, and its result sent back", async () => {
  const asked = [];
  const execute = async ({ city }) => {
    asked.push(city);
    return "Sun";
  };
  const tools = { get_weather: { ...getWeather, execute } };
  // The fixture always calls, so there is a call in each step.
  const options = { model: gateway("anthropic-messages/tool-use"), ...once, tools, stopWhen: stepCountIs(2) };
  const { steps } = await generateText(options);
  assert.equal(steps.length, 2);
  assert.deepEqual(asked, ["Köln", "Köln"]);
});

test("AI SDK openai-compatible: reasoning is separate from the text", async () => {
  const { text, reasoningText } = await generateText({ model: gateway("anthropic-messages/thinking"), ...once });
  assert.ok(reasoningText && text && !text.includes(reasoningText));
});

test("AI SDK openai-compatible: a structured answer", async () => {
  const schema = jsonSchema({ type: "object", properties: { model: { type: "string" } }, required: ["model"] });
  const answer = await generateText({ model: gateway("scripted/echo"), ...once, output: Output.object({ schema }) });
  assert.equal(answer.output.model, "echo");
  assert.equal(answer.output.response_format.type, "json_schema");
});

test("AI SDK openai-compatible: a cut answer is an error", async () => {
  for (const model of ["openai-chat/error-mid-stream", "openai-chat/truncated"]) {
    const seen = await parts({ model: gateway(model) });
    assert.ok(seen.some((part) => part.type === "error"), model);
    await assert.rejects(generateText({ model: gateway(model), ...once }));
  }
});

test("AI SDK openai-compatible: leaving cancels", async () => {
  const leaving = new AbortController();
  const { textStream } = streamText({ model: gateway("scripted/hold-ai"), ...once, abortSignal: leaving.signal });
  for await (const text of textStream) {
    assert.equal(text, "Wait");
    leaving.abort();
  }
  assert.ok(await left("hold-ai"));
});
