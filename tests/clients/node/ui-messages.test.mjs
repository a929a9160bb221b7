// What `useChat` is made of: its transport, its reader of streams and its chat.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  AbstractChat,
  DefaultChatTransport,
  lastAssistantMessageIsCompleteWithToolCalls,
  readUIMessageStream,
} from "ai";
import { key, left, url, wires } from "./gateway.mjs";

const api = `${url}/v1/ui-messages`;

function transport(model, more = {}) {
  return new DefaultChatTransport({
    api,
    headers: { authorization: `Bearer ${key}` },
    body: { model, ...more },
  });
}

function user(text, ...files) {
  return { id: "u1", role: "user", parts: [...files, { type: "text", text }] };
}

/** Sends messages; the assistant's message as it was last, and its stream's chunks. */
async function ask(model, { messages = [user("Hello?")], body = {}, onError, abortSignal } = {}) {
  const options = { chatId: "c1", messages, trigger: "submit-message", messageId: undefined, abortSignal };
  const stream = await transport(model, body).sendMessages(options);
  const chunks = [];
  const seen = stream.pipeThrough(
    new TransformStream({
      transform(chunk, controller) {
        chunks.push(chunk);
        controller.enqueue(chunk);
      },
    }),
  );
  let message;
  for await (const state of readUIMessageStream({ stream: seen, onError, terminateOnError: true })) {
    message = state;
  }
  return { message, chunks };
}

function texts(message, type = "text") {
  return message.parts.filter((part) => part.type === type).map((part) => part.text);
}

/** Parts begin and end, one after another, each with an id of its own. */
function checkOrder(chunks) {
  const ids = new Set();
  let open;
  for (const { type, id, toolCallId } of chunks) {
    const [, kind, what] = /^(text|reasoning|tool-input)-(start|delta|end|available|error)$/.exec(type) ?? [];
    const part = `${kind} ${id ?? toolCallId}`;
    if (what === "start") {
      assert.equal(open, undefined, `${part} begins within ${open}`);
      assert.ok(!ids.has(part));
      ids.add(part);
      open = part;
    } else if (kind) {
      assert.equal(open, part);
      open = what === "delta" ? open : undefined;
    }
  }
  assert.equal(open, undefined);
}

for (const wire of wires) {
  test(`UI messages before ${wire}`, async () => {
    const { message, chunks } = await ask(`${wire}/text`);
    checkOrder(chunks);
    const [text, ...more] = texts(message);
    assert.ok(text.length > 0);
    assert.equal(more.length, 0);
    assert.equal(chunks.at(-1).finishReason, "stop");
    assert.equal(message.id, chunks[0].messageId);
    assert.ok(message.metadata.usage.outputTokens > 0);
  });
}

test("UI messages: the answer's headers", async () => {
  const answer = await fetch(api, {
    method: "POST",
    headers: { authorization: `Bearer ${key}` },
    body: JSON.stringify({ id: "c", model: "openai-chat/text", messages: [user("Hello?")], trigger: "submit-message" }),
  });
  assert.equal(answer.headers.get("x-vercel-ai-ui-message-stream"), "v1");
  assert.equal(answer.headers.get("content-type"), "text/event-stream");
  assert.match(answer.headers.get("cache-control"), /no-cache/);
  assert.match(await answer.text(), /data: \[DONE\]\n\n$/);
});

test("UI messages: reasoning and sources", async () => {
  const thinking = await ask("anthropic-messages/thinking");
  checkOrder(thinking.chunks);
  assert.equal(texts(thinking.message, "reasoning").length, 1);
  const { message } = await ask("anthropic-messages/server-tool-citations");
  const [source] = message.parts.filter((part) => part.type === "source-url");
  assert.equal(source.url, "https://canals.example/north");
  assert.equal(texts(message).length, 1);
});

test("UI messages: tool calls, also interleaved, and arguments that are not JSON", async () => {
  for (const [model, cities] of [
    ["anthropic-messages/tool-use", ["Köln"]],
    ["openai-chat/tool-call-interleaved", ["Genf", "Bern"]],
  ]) {
    const { message, chunks } = await ask(model);
    checkOrder(chunks);
    const calls = message.parts.filter((part) => part.type.startsWith("tool-"));
    assert.deepEqual(calls.map((call) => [call.state, call.input.city]), cities.map((city) => ["input-available", city]));
    assert.equal(chunks.at(-1).finishReason, "tool-calls");
  }
  const { message } = await ask("anthropic-messages/max-tokens-in-tool-use");
  const [call] = message.parts.filter((part) => part.type.startsWith("tool-"));
  assert.equal(call.state, "output-error");
  assert.ok(call.errorText);
});

test("UI messages: the body that the upstream gets", async () => {
  const file = { type: "file", mediaType: "image/png", url: "data:image/png;base64,AA==" };
  const body = { system: "Be brief", max_tokens: 9 };
  const { message } = await ask("scripted/echo", { messages: [user("Hello?", file)], body });
  const sent = JSON.parse(texts(message)[0]);
  assert.deepEqual(sent.messages, [
    { role: "system", content: "Be brief" },
    {
      role: "user",
      content: [
        { type: "image_url", image_url: { url: "data:image/png;base64,AA==" } },
        { type: "text", text: "Hello?" },
      ],
    },
  ]);
  assert.equal(sent.max_tokens, 9);
});

test("UI messages: an answer is sent back with its signatures and results", async () => {
  const { message } = await ask("anthropic-messages/thinking");
  const result = { type: "tool-f", toolCallId: "a", state: "output-available", input: { x: 1 }, output: { y: 2 } };
  const answered = { ...message, parts: [...message.parts, result] };
  const again = await ask("scripted/echo", { messages: [user("Hello?"), answered, user("And?")] });
  const sent = JSON.parse(texts(again.message)[0]).messages;
  assert.deepEqual(sent.map((one) => one.role), ["user", "assistant", "tool", "user"]);
  assert.deepEqual(sent[1].tool_calls[0].function, { name: "f", arguments: '{"x":1}' });
  assert.equal(sent[2].content, '{"y":2}');
  // A vendor accepts its own signature.
  const sealed = await ask("anthropic-messages/thinking", { messages: [user("Hello?"), message, user("And?")] });
  assert.equal(sealed.chunks.at(-1).finishReason, "stop");
});

test("UI messages: a chat that runs its tool continues the same message", async () => {
  const state = { status: "ready", error: undefined, messages: [] };
  state.pushMessage = (message) => state.messages.push(message);
  state.popMessage = () => state.messages.pop();
  state.replaceMessage = (at, message) => (state.messages[at] = message);
  state.snapshot = (value) => structuredClone(value);
  let calls = 0;
  class Chat extends AbstractChat {
    constructor() {
      super({
        state,
        transport: {
          // The second answer is another model's.
          sendMessages: (options) =>
            transport(calls === 1 ? "openai-chat/text" : "anthropic-messages/tool-use").sendMessages(options),
        },
        sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
        onToolCall: ({ toolCall }) => {
          calls += 1;
          chat.addToolOutput({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output: "Sun" });
        },
      });
    }
  }
  const chat = new Chat();
  await chat.sendMessage({ text: "How is the weather?" });
  assert.equal(calls, 1);
  assert.equal(chat.status, "ready", String(chat.error));
  assert.deepEqual(chat.messages.map((message) => message.role), ["user", "assistant"]);
  const kinds = chat.messages[1].parts.map((part) => part.type);
  assert.deepEqual(kinds.filter((kind) => kind === "step-start").length, 2);
  assert.ok(kinds.at(-1) === "text" && kinds.includes("tool-get_weather"), kinds.join());
});

test("UI messages: a cut answer is an error", async () => {
  const errors = [];
  const { message, chunks } = await ask("openai-chat/error-mid-stream", { onError: (error) => errors.push(error) }).catch(
    (error) => {
      errors.push(error);
      return { chunks: [] };
    },
  );
  assert.ok(errors.length > 0);
  assert.match(String(errors[0].message ?? errors[0]), /had a problem/);
  assert.ok(!chunks.some((chunk) => chunk.type === "finish"), JSON.stringify(message));
});

test("UI messages: a refusal is an error with its message", async () => {
  await assert.rejects(ask("nobody's"), /not_found.*there is no model/);
  await assert.rejects(ask("openai-chat/text", { body: { temperature: "hot" } }), /temperature/);
});

test("UI messages: streams cannot be resumed", async () => {
  assert.equal(await transport("openai-chat/text").reconnectToStream({ chatId: "c1" }), null);
});

test("UI messages: leaving cancels", async () => {
  const leaving = new AbortController();
  const stream = await transport("scripted/hold-ui").sendMessages({
    chatId: "c1",
    messages: [user("Hello?")],
    trigger: "submit-message",
    abortSignal: leaving.signal,
  });
  const reader = stream.getReader();
  let type;
  while (type !== "text-delta") {
    type = (await reader.read()).value.type;
  }
  leaving.abort();
  assert.ok(await left("hold-ui"));
});
