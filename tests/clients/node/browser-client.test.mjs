// The browser client: against the gateway, and against a server that breaks in every way that a
// connection can break.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { after, test } from "node:test";
import { gzipSync } from "node:zlib";
import { SluicegateError, multiplex, notifications, resume, stream } from "./sluicegate.mjs";
import { key, url } from "./gateway.mjs";

const gateway = { baseUrl: url, key };
const quick = { maxBackoffMs: 1 };

async function all(reading) {
  const events = [];
  for await (const event of reading) events.push(event);
  return events;
}

const types = (events) => events.map((event) => event.type);
const texts = (events) => events.filter((event) => event.type === "token").map((event) => event.text);

// ---- The gateway ----

test("a stream of the gateway is read as events, as a text and by callbacks", async () => {
  const seen = [];
  const answer = stream({ ...gateway, model: "openai-chat/text", prompt: "Hello", onToken: (event) => seen.push(event.text) });
  const events = await all(answer);
  assert.equal(events[0].type, "start");
  assert.equal(events[0].stream, answer.id);
  assert.equal(events.at(-1).type, "complete");
  assert.equal(texts(events).join(""), await answer.text());
  assert.deepEqual(seen, texts(events));
  const again = resume(answer.id, { ...gateway, after: events[3].id });
  assert.deepEqual(await all(again), events.slice(4));
});

test("several streams of the gateway are read over one connection", async () => {
  const prompts = ["a", "b", "c"].map((prompt) => stream({ ...gateway, model: "openai-chat/text", prompt }));
  const wanted = await Promise.all(prompts.map((answer) => answer.text()));
  const events = await all(multiplex(prompts.map((answer) => answer.id), gateway));
  for (const [at, { id }] of prompts.entries()) {
    const own = events.filter((event) => event.stream === id);
    assert.equal(texts(own).join(""), wanted[at]);
    assert.equal(own.at(-1).type, "complete");
  }
});

test("a refusal of the gateway is one error event and a rejected text", async () => {
  const refused = stream({ ...gateway, key: "sk-sg-wrong", model: "openai-chat/text", prompt: "Hello" });
  const events = await all(refused);
  assert.deepEqual(types(events), ["error"]);
  assert.equal(events[0].error.code, "unauthenticated");
  assert.equal(events[0].error.status, 401);
  await assert.rejects(refused.text(), (error) => error instanceof SluicegateError && error.code === "unauthenticated");
});

test("a stream that ends in an error rejects its text", async () => {
  const broken = stream({ ...gateway, model: "openai-chat/truncated", prompt: "Hello" });
  const events = await all(broken);
  assert.equal(events.at(-1).type, "error");
  await assert.rejects(broken.text(), SluicegateError);
});

test("the gateway serves this module, smaller than 5 kB compressed", async () => {
  const served = await fetch(`${url}/sluicegate.js`);
  assert.match(served.headers.get("content-type"), /^text\/javascript/);
  const module = await served.text();
  assert.equal(module, readFileSync(new URL("./sluicegate.mjs", import.meta.url), "utf8"));
  assert.ok(gzipSync(module).length < 5000);
});

// ---- A server that breaks ----

const event = (number, type, data) => `id: st_a.${number}\nevent: ${type}\ndata: ${JSON.stringify(data)}\n\n`;
const start = event(0, "start", { stream: "st_a", model: "m" });
const complete = (number) => event(number, "complete", { finish_reason: "stop" });
const token = (number, text) => event(number, "token", { text });

/** A server whose answers to the reads of a stream are `script`, one function for each request. */
async function scripted(...script) {
  const requests = [];
  const server = createServer((request, response) => {
    requests.push({ method: request.method, url: request.url, after: request.headers["last-event-id"], auth: request.headers.authorization });
    request.resume();
    if (request.method === "POST") {
      response.writeHead(202, { "content-type": "application/json" });
      return response.end('{"stream":"st_a","events":"/v1/streams/st_a/events"}');
    }
    const next = script.shift();
    if (!next) return response.writeHead(500).end();
    return next(response, request);
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  after(() => (server.closeAllConnections(), server.close()));
  return { baseUrl: `http://127.0.0.1:${server.address().port}`, requests };
}

const open = (response) => response.writeHead(200, { "content-type": "text/event-stream" });
const ends = (...blocks) => (response) => open(response).end(blocks.join(""));
const breaks = (...blocks) => (response) => {
  open(response).write(blocks.join(""), () => response.destroy());
};

test("a broken connection is resumed behind the last event and the model is asked once", async () => {
  const server = await scripted(
    breaks(start, token(1, "Hel"), 'id: st_a.2\nevent: token\ndata: {"te'),
    ends(token(2, "lo")),
    (response) => response.writeHead(503, { "retry-after": "0" }).end("{}"),
    ends(": keep-alive\n\n", token(3, "!"), complete(4)),
  );
  const delays = [];
  const answer = stream({ ...quick, baseUrl: server.baseUrl, key: "k", model: "m", prompt: "p", onReconnect: (at) => delays.push(at.attempt) });
  assert.deepEqual(types(await all(answer)), ["start", "token", "token", "token", "complete"]);
  assert.equal(await answer.text(), "Hello!");
  assert.equal(server.requests.filter((request) => request.method === "POST").length, 1);
  assert.deepEqual(server.requests.slice(1).map((request) => request.after), [undefined, "st_a.1", "st_a.2", "st_a.2"]);
  assert.deepEqual(delays, [1, 1, 2]);
  assert.ok(server.requests.every((request) => request.auth === "Bearer k"));
});

test("an error with the id of the last content is resumed once", async () => {
  const moved = (number) => event(number, "error", { error: { code: "draining", message: "m", retryable: true } });
  const going = await scripted(ends(start, token(1, "a"), moved(1)), ends(token("02", "b"), complete("03")));
  const answer = stream({ ...quick, baseUrl: going.baseUrl, model: "m", prompt: "p" });
  assert.deepEqual(types(await all(answer)), ["start", "token", "token", "complete"]);
  assert.equal(await answer.text(), "ab");
  for (const second of [ends(moved(1)), (response) => response.writeHead(204).end()]) {
    const lost = await scripted(ends(start, token(1, "a"), moved(1)), second);
    const events = await all(stream({ ...quick, baseUrl: lost.baseUrl, model: "m", prompt: "p" }));
    assert.deepEqual(types(events), ["start", "token", "error"]);
    assert.equal(events.at(-1).error.code, "draining");
  }
});

test("a stream that is gone ends in its refusal", async () => {
  const server = await scripted(breaks(start), (response) => response.writeHead(410).end('{"error":{"code":"gone","message":"m","retryable":false}}'));
  const answer = stream({ ...quick, baseUrl: server.baseUrl, model: "m", prompt: "p" });
  assert.deepEqual(types(await all(answer)), ["start", "error"]);
  await assert.rejects(answer.text(), { code: "gone", status: 410 });
});

test("a prompt is not sent again where nobody answered", async () => {
  const posts = [];
  const server = createServer((request) => {
    posts.push(request.url);
    request.socket.destroy();
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  after(() => server.close());
  const answer = stream({ ...quick, baseUrl: `http://127.0.0.1:${server.address().port}`, model: "m", prompt: "p" });
  assert.deepEqual(types(await all(answer)), ["error"]);
  await assert.rejects(answer.text(), { code: "unreachable", retryable: true });
  assert.equal(posts.length, 1);
});

test("a silent connection counts as broken", async () => {
  const server = await scripted((response) => open(response).write(start + token(1, "a")), ends(complete(2)));
  const answer = stream({ ...quick, silenceMs: 50, baseUrl: server.baseUrl, model: "m", prompt: "p" });
  assert.deepEqual(types(await all(answer)), ["start", "token", "complete"]);
});

test("events may be cut anywhere, inside a character too", async () => {
  const bytes = Buffer.from(start + token(1, "naïve 你好 🚀") + complete(2));
  const server = await scripted(async (response) => {
    open(response);
    for (const byte of bytes) await new Promise((written) => response.write(Buffer.of(byte), written));
    response.end();
  });
  const answer = stream({ baseUrl: server.baseUrl, model: "m", prompt: "p" });
  assert.equal(await answer.text(), "naïve 你好 🚀");
});

test("updates are batched and no text is lost", async () => {
  const many = Array.from({ length: 500 }, (_, at) => token(at + 1, `${at} `));
  const server = await scripted(ends(start, ...many, complete(501)));
  const answer = stream({ baseUrl: server.baseUrl, model: "m", prompt: "p", maxUpdatesPerSecond: 10 });
  const events = await all(answer);
  assert.ok(events.length < 20, `${events.length} events`);
  assert.equal(texts(events).join(""), Array.from({ length: 500 }, (_, at) => `${at} `).join(""));
});

test("a hidden page gets nothing until it is shown, then everything", async () => {
  const page = Object.assign(new EventTarget(), { hidden: true });
  globalThis.document = page;
  after(() => delete globalThis.document);
  let finish;
  const first = (response) => {
    open(response).write(start + token(1, "a") + token(2, "b"));
    finish = () => response.end(complete(3));
  };
  const server = await scripted(first, ends(start, complete(1)));
  const seen = [];
  let arrived;
  const delivered = new Promise((done) => (arrived = done));
  const answer = stream({ baseUrl: server.baseUrl, model: "m", prompt: "p", pauseWhenHidden: true, onEvent: (event) => { seen.push(event); arrived(); } });
  while (!finish) await new Promise(setImmediate);
  // Read later from the same server, so that the first reading has had its events by then.
  await resume("st_a", server).text();
  assert.deepEqual(seen, []);
  page.hidden = false;
  page.dispatchEvent(new Event("visibilitychange"));
  await delivered;
  assert.deepEqual(texts(seen), ["ab"]);
  finish();
  assert.equal(await answer.text(), "ab");
});

test("closing, aborting and leaving the loop stop the reading", async () => {
  const endless = (response) => open(response).write(start + token(1, "a"));
  for (const leave of ["close", "abort", "break"]) {
    const server = await scripted(endless);
    const aborting = new AbortController();
    const answer = stream({ ...quick, baseUrl: server.baseUrl, model: "m", prompt: "p", signal: aborting.signal });
    for await (const event of answer) {
      if (event.type !== "token") continue;
      if (leave === "close") answer.close();
      if (leave === "abort") aborting.abort();
      if (leave === "break") break;
    }
    await assert.rejects(answer.text(), { code: "closed" });
    assert.equal(server.requests.length, 2);
  }
});

test("cancel asks the gateway to stop the model, with the key", async () => {
  let finish;
  const server = await scripted(
    (response) => {
      open(response).write(start);
      finish = () => response.end(event(1, "complete", { finish_reason: "cancelled" }));
    },
    (response) => {
      response.writeHead(200).end("{}");
      finish();
    },
  );
  const answer = stream({ baseUrl: server.baseUrl, key: "k", model: "m", prompt: "p", onStart: () => answer.cancel() });
  assert.equal((await all(answer)).at(-1).finish_reason, "cancelled");
  assert.deepEqual(server.requests.at(-1), { method: "DELETE", url: "/v1/streams/st_a", after: undefined, auth: "Bearer k" });
});

test("notifications go on over breaks and have no end", async () => {
  const news = (number) => `id: ${number}\nevent: announcement\ndata: {"text":"${number}"}\n\n`;
  const server = await scripted(breaks(news(1)), ends(news(2)), (response) => open(response).write(news(3)));
  const reading = notifications({ ...quick, baseUrl: server.baseUrl });
  const seen = [];
  for await (const item of reading) if (seen.push(item.text) === 3) break;
  assert.deepEqual(seen, ["1", "2", "3"]);
  assert.deepEqual(server.requests.map((request) => request.after), [undefined, "1", "2"]);
});
