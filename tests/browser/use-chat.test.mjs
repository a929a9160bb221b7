// The AI SDK's `useChat` in a React component, in front of /v1/ui-messages, with two generations of the SDK.

import assert from "node:assert/strict";
import { after, before } from "node:test";
import { bundle } from "./harness/bundle.mjs";
import { pageTest, until } from "./harness/browser.mjs";
import { keyEntry, startGateway } from "./harness/programs.mjs";
import { startOrigin, startUpstream } from "./harness/servers.mjs";

const KEY = "sk-sg-use-chat-test-key";
const HTML = `<!doctype html><link rel="icon" href="data:,"><main id="root"></main><script type="module" src="app.js"></script>`;
const GENERATIONS = {
  "ai 7": {},
  "ai 6": { "@ai-sdk/react": "ai-sdk-react-6", ai: "ai-6" },
};

// The page's address names the gateway and the model.
const APP = `
  import { useChat } from "@ai-sdk/react";
  import { DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls } from "ai";
  import { StrictMode, useState } from "react";
  import { createRoot } from "react-dom/client";

  const { gateway, model } = Object.fromEntries(new URLSearchParams(location.search));
  const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
  const transport = new DefaultChatTransport({
    api: gateway + "/v1/ui-messages",
    headers: { authorization: "Bearer ${KEY}" },
    body: { model, tools: [{ type: "function", function: { name: "get_weather", parameters } }] },
  });

  function Part({ part }) {
    switch (part.type) {
      case "text": return <p className="text" data-state={part.state}>{part.text}</p>;
      case "reasoning": return <p className="reasoning" data-state={part.state}>{part.text}</p>;
      case "tool-get_weather": return <p className="tool" data-state={part.state}>{part.input?.city}: {part.output}</p>;
      default: return null;
    }
  }

  function Chat() {
    const [text, setText] = useState("");
    const chat = useChat({
      transport,
      sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
      onToolCall: ({ toolCall }) => void chat.addToolOutput({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output: "Sun" }),
    });
    const send = (event) => {
      event.preventDefault();
      chat.sendMessage({ text });
      setText("");
    };
    return (
      <section data-status={chat.status}>
        {chat.messages.map((message) => (
          <article key={message.id} className={message.role}>{message.parts.map((part, at) => <Part key={at} part={part} />)}</article>
        ))}
        {chat.error && <p role="alert">{chat.error.message}</p>}
        <form onSubmit={send}><input value={text} onChange={(event) => setText(event.target.value)} /></form>
        <button id="stop" onClick={chat.stop}>Stop</button>
        <button id="again" onClick={() => chat.regenerate()}>Again</button>
      </section>
    );
  }

  createRoot(document.querySelector("#root")).render(<StrictMode><Chat /></StrictMode>);`;

const started = [];
let upstream, gateway, origin;
before(async () => {
  const files = {};
  for (const [at, alias] of Object.values(GENERATIONS).entries()) {
    files[`/${at}/`] = ["text/html", HTML];
    files[`/${at}/app.js`] = ["text/javascript", await bundle(APP, alias)];
  }
  started.push((origin = await startOrigin(files)), (upstream = await startUpstream()));
  gateway = await startGateway({
    upstreams: { scripted: { wire: "openai-chat", base_url: upstream.url } },
    models: { "m/*": { targets: [{ upstream: "scripted", model: "*" }] } },
    keys: [keyEntry("page", KEY)],
    cors: { origins: [origin.url] },
  });
  started.push(gateway);
});
after(() => Promise.all(started.map((program) => program.stop())));

Object.keys(GENERATIONS).forEach((generation, at) => {
  const name = (about) => `useChat of ${generation}: ${about}`;

  /** Opens the chat with a model of its own, whose answers are `handler`'s. */
  async function chat(open, model, handler) {
    upstream.answer(`${model}-${at}`, handler);
    const address = new URLSearchParams({ gateway: gateway.url, model: `m/${model}-${at}` });
    return open(`${origin.url}/${at}/?${address}`, { origins: [gateway.url] });
  }

  async function ask(page, text) {
    await page.fill("input", text);
    await page.press("input", "Enter");
  }

  const status = (page, wanted) => page.waitForSelector(`[data-status="${wanted}"]`);
  const shows = (page, selector, text) =>
    until(page, `${selector} shows ${text}`, ([selector, text]) => [...document.querySelectorAll(selector)].at(-1)?.textContent === text, [selector, text]);

  pageTest(name("a message streams in, and the next one has the conversation"), async ({ open }) => {
    let finish;
    const asked = [];
    const page = await chat(open, "stream", (answer, body) => {
      asked.push(body.messages);
      answer.text(`Answer ${asked.length} `);
      finish = () => answer.text("ends.").finish();
    });
    await ask(page, "One?");
    await shows(page, ".assistant .text", "Answer 1 ");
    await status(page, "streaming");
    finish();
    await status(page, "ready");
    await shows(page, ".assistant .text", "Answer 1 ends.");
    await ask(page, "Two?");
    await shows(page, ".assistant .text", "Answer 2 ");
    finish();
    await status(page, "ready");
    assert.deepEqual(asked[1].map(({ role, content }) => [role, content]), [["user", "One?"], ["assistant", "Answer 1 ends."], ["user", "Two?"]]);
    assert.equal(await page.locator("article").count(), 4);
  });

  pageTest(name("reasoning is apart from the text"), async ({ open }) => {
    let next;
    const page = await chat(open, "reasoning", (answer) => {
      answer.reasoning("Let me ").reasoning("think.");
      next = () => answer.text("Done.").finish();
    });
    await ask(page, "Why?");
    await shows(page, ".reasoning", "Let me think.");
    next();
    await status(page, "ready");
    await shows(page, ".assistant .text", "Done.");
    assert.equal(await page.locator(".reasoning").getAttribute("data-state"), "done");
  });

  pageTest(name("the page runs a tool and the answer goes on in the same message"), async ({ open }) => {
    const asked = [];
    const page = await chat(open, "tool", (answer, body) => {
      asked.push(body);
      if (asked.length === 1) answer.tool(0, "get_weather", '{"city":', '"Genf"}').finish("tool_calls");
      else answer.text("It is sunny.").finish();
    });
    await ask(page, "How is the weather?");
    await shows(page, ".assistant .text", "It is sunny.");
    await status(page, "ready");
    await shows(page, '.tool[data-state="output-available"]', "Genf: Sun");
    assert.equal(await page.locator(".assistant").count(), 1);
    assert.equal(asked.length, 2);
    assert.equal(asked[0].tools[0].function.name, "get_weather");
    const [, call, result] = asked[1].messages;
    assert.equal(call.tool_calls[0].function.arguments, '{"city":"Genf"}');
    assert.deepEqual([result.role, result.tool_call_id, result.content], ["tool", call.tool_calls[0].id, "Sun"]);
  });

  pageTest(name("an answer that breaks off is an error, keeps its text and can be asked for again"), async ({ open }) => {
    let times = 0;
    let cut;
    const page = await chat(open, "cut", (answer) => {
      times += 1;
      answer.text(`Try ${times}`);
      cut = () => answer.cut();
      if (times === 2) answer.finish();
    });
    await ask(page, "Why?");
    await shows(page, ".assistant .text", "Try 1");
    cut();
    await status(page, "error");
    assert.match(await page.textContent('[role="alert"]'), /\w+ \w+/);
    await shows(page, ".assistant .text", "Try 1");
    await page.click("#again");
    await status(page, "ready");
    await shows(page, ".assistant .text", "Try 2");
    assert.equal(await page.locator('[role="alert"]').count(), 0);
  });

  pageTest(name("a refusal is an error with the gateway's message"), async ({ open }) => {
    const address = new URLSearchParams({ gateway: gateway.url, model: "other" });
    const page = await open(`${origin.url}/${at}/?${address}`, { origins: [gateway.url], errors: /404/ });
    await ask(page, "Why?");
    await status(page, "error");
    assert.match(await page.textContent('[role="alert"]'), /no model/);
  });

  pageTest(name("stopping closes the upstream's connection and keeps the text"), async ({ open }) => {
    let left;
    const page = await chat(open, "stop", (answer) => {
      left = answer.left;
      answer.text("Not yet");
    });
    await ask(page, "Why?");
    await shows(page, ".assistant .text", "Not yet");
    await page.click("#stop");
    await status(page, "ready");
    await left;
    await shows(page, ".assistant .text", "Not yet");
  });
});
