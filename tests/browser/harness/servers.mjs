// Servers of the tests: a model API that does what a test says, a proxy that cuts connections, and an origin with
// the files of a test.

import { createServer } from "node:http";
import { connect, createServer as createTcpServer } from "node:net";

const listen = (server) => new Promise((done) => server.listen(0, "127.0.0.1", () => done(server.address().port)));

/** A model API of the wire `openai-chat`. `answer(model, handler)` sets what a model does; see `Answer`. */
export async function startUpstream() {
  const handlers = new Map();
  const requests = [];
  const waiting = [];
  const server = createServer(async (request, response) => {
    const pieces = [];
    for await (const piece of request) pieces.push(piece);
    const body = JSON.parse(Buffer.concat(pieces).toString() || "{}");
    requests.push(body);
    waiting.splice(0).forEach((wake) => wake());
    const handler = handlers.get(body.model) ?? ((answer) => answer.text(`answer of ${body.model}`).finish());
    await handler(new Answer(response), body);
  });
  const port = await listen(server);
  return {
    url: `http://127.0.0.1:${port}/v1`,
    requests,
    answer: (model, handler) => handlers.set(model, handler),
    /** Waits until `count` requests have arrived. */
    async asked(count) {
      while (requests.length < count) await new Promise((wake) => waiting.push(wake));
      return requests[count - 1];
    },
    stop: () => (server.closeAllConnections(), new Promise((done) => server.close(done))),
  };
}

class Answer {
  #response;
  /** Resolves when the gateway has closed the connection. */
  left;

  constructor(response) {
    this.#response = response;
    this.left = new Promise((done) => response.once("close", done));
  }

  #chunk(delta, more = {}) {
    if (!this.#response.headersSent) this.#response.writeHead(200, { "content-type": "text/event-stream" });
    const chunk = { id: "c", object: "chat.completion.chunk", model: "scripted", choices: [{ index: 0, delta, finish_reason: null, ...more }] };
    this.#response.write(`data: ${JSON.stringify(chunk)}\n\n`);
    return this;
  }

  text(content) {
    return this.#chunk({ content });
  }

  reasoning(text) {
    return this.#chunk({ reasoning_content: text });
  }

  tool(index, name, ...pieces) {
    this.#chunk({ tool_calls: [{ index, id: `call_${index}`, type: "function", function: { name, arguments: "" } }] });
    for (const piece of pieces) this.#chunk({ tool_calls: [{ index, function: { arguments: piece } }] });
    return this;
  }

  finish(reason = "stop") {
    this.#chunk({}, { finish_reason: reason });
    const usage = { prompt_tokens: 7, completion_tokens: 42, total_tokens: 49 };
    this.#response.end(`data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", choices: [], usage })}\n\ndata: [DONE]\n\n`);
  }

  /** Closes the connection in the middle of the answer. */
  cut() {
    this.#response.destroy();
  }

  refuse(status, message, headers = {}) {
    this.#response.writeHead(status, { "content-type": "application/json", ...headers });
    this.#response.end(JSON.stringify({ error: { message, type: "error", code: "scripted" } }));
  }
}

/** A TCP proxy in front of the gateway at `url`, whose connections a test can cut. */
export async function startProxy(url) {
  const target = new URL(url);
  const open = new Set();
  let refusing = false;
  const server = createTcpServer((client) => {
    if (refusing) return client.destroy();
    const upstream = connect(Number(target.port), target.hostname);
    const pair = [client, upstream];
    open.add(pair);
    for (const [from, to] of [pair, [upstream, client]]) {
      from.pipe(to);
      from.on("error", () => to.destroy());
      from.on("close", () => (to.destroy(), open.delete(pair)));
    }
  });
  const port = await listen(server);
  const cut = () => open.forEach(([client]) => client.resetAndDestroy());
  return {
    url: `http://127.0.0.1:${port}`,
    /** Cuts every open connection. */
    cut,
    /** Cuts every open connection and refuses new ones until `restore`. */
    refuse: () => ((refusing = true), cut()),
    restore: () => (refusing = false),
    stop: () => (cut(), new Promise((done) => server.close(done))),
  };
}

/** An origin that serves these files: path → `[content type, text]`. */
export async function startOrigin(files) {
  const server = createServer((request, response) => {
    const file = files[request.url.split("?")[0]];
    if (!file) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": file[0] }).end(file[1]);
  });
  const port = await listen(server);
  return { url: `http://127.0.0.1:${port}`, stop: () => (server.closeAllConnections(), new Promise((done) => server.close(done))) };
}
