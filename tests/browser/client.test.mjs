// The browser client as the gateway serves it, in Chromium, and the examples of docs/browser.md.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before } from "node:test";
import { pageTest, until } from "./harness/browser.mjs";
import { startDemo, startGateway } from "./harness/programs.mjs";
import { startProxy, startUpstream } from "./harness/servers.mjs";

const started = [];
let demo, upstream, gateway;
before(async () => {
  started.push((demo = await startDemo()), (upstream = await startUpstream()));
  const any = { targets: [{ upstream: "scripted", model: "*" }] };
  started.push((gateway = await startGateway({ upstreams: { scripted: { wire: "openai-chat", base_url: upstream.url } }, models: { "m/*": any } })));
});
after(() => Promise.all(started.map((program) => program.stop())));

/** Opens a page of the gateway with this HTML, which has no content security policy. */
async function blank(open, url, html = "", errors = /(?!)/) {
  const page = await open(`${url}/sluicegate.js`, { errors });
  await page.route(`${url}/example`, (route) => route.fulfill({ contentType: "text/html", body: `<!doctype html><link rel="icon" href="data:,">${html}` }));
  await page.goto(`${url}/example`);
  return page;
}

pageTest("a stream is read as events, as a text and by callbacks", async ({ open }) => {
  const page = await blank(open, demo.url);
  const read = await page.evaluate(async () => {
    const { stream } = await import("/sluicegate.js");
    const told = [];
    const answer = stream({ model: "demo", prompt: "Hello", onToken: (event) => told.push(event.text) });
    const types = [];
    for await (const event of answer) types.push(event.type);
    return { types: [...new Set(types)], same: told.join("") === (await answer.text()), id: answer.id };
  });
  assert.deepEqual(read.types, ["start", "token", "complete"]);
  assert.ok(read.same);
  assert.match(read.id, /^st_/);
});

pageTest("twelve streams are read in one page over one connection", async ({ open }) => {
  const page = await blank(open, gateway.url);
  const begun = [];
  for (let at = 0; at < 12; at++) upstream.answer(`twelve-${at}`, (answer) => begun.push(answer.text(`${at}:`)));
  const reads = [];
  page.on("request", (request) => request.url().includes("/v1/events") && reads.push(request.url()));
  await page.evaluate(async () => {
    const { multiplex } = await import("/sluicegate.js");
    const ask = async (_, at) => {
      const body = JSON.stringify({ model: `m/twelve-${at}`, prompt: "Hello" });
      const response = await fetch("/v1/streams", { method: "POST", headers: { prefer: "respond-async" }, body });
      return (await response.json()).stream;
    };
    const ids = await Promise.all(Array.from({ length: 12 }, ask));
    globalThis.texts = ids.map(() => "");
    globalThis.reading = (async () => {
      for await (const event of multiplex(ids)) if (event.type === "token") globalThis.texts[ids.indexOf(event.stream)] += event.text;
      return "ended";
    })();
  });
  // All twelve are live at once, which six connections could not be.
  await until(page, "twelve beginnings", () => globalThis.texts.every((text) => text.endsWith(":")));
  for (const answer of begun) answer.text("end").finish();
  assert.equal(await page.evaluate(() => globalThis.reading), "ended");
  assert.deepEqual(await page.evaluate(() => globalThis.texts), Array.from({ length: 12 }, (_, at) => `${at}:end`));
  assert.equal(reads.length, 1);
});

pageTest("a cut connection is resumed and the model is asked once", async ({ open }) => {
  const proxy = await startProxy(gateway.url);
  started.push(proxy);
  let under;
  const begun = new Promise((resolve) => upstream.answer("cut", (answer) => resolve((under = answer.text("one ")))));
  const before = upstream.requests.length;
  const page = await blank(open, proxy.url, "", /ERR_CONNECTION_RESET/);
  await page.evaluate(async () => {
    const { stream } = await import("/sluicegate.js");
    globalThis.reconnects = 0;
    globalThis.text = "";
    globalThis.answer = stream({ model: "m/cut", prompt: "p", maxBackoffMs: 50, onReconnect: () => globalThis.reconnects++, onToken: (event) => (globalThis.text += event.text) });
  });
  await begun;
  await until(page, "the first text", () => globalThis.text === "one ");
  proxy.cut();
  await until(page, "a reconnection", () => globalThis.reconnects > 0);
  under.text("two").finish();
  assert.equal(await page.evaluate(() => globalThis.answer.text()), "one two");
  assert.equal(upstream.requests.length, before + 1);
});

pageTest("updates are batched", async ({ open }) => {
  const page = await blank(open, gateway.url);
  upstream.answer("many", (answer) => {
    for (let at = 0; at < 2000; at++) answer.text(`${at} `);
    answer.finish();
  });
  const { updates, text } = await page.evaluate(async () => {
    const { stream } = await import("/sluicegate.js");
    let updates = 0;
    const answer = stream({ model: "m/many", prompt: "p", maxUpdatesPerSecond: 5, onToken: () => updates++ });
    return { text: await answer.text(), updates };
  });
  assert.equal(text, Array.from({ length: 2000 }, (_, at) => `${at} `).join(""));
  assert.ok(updates < 200, `${updates} updates`);
});

pageTest("a hidden page gets nothing until it is shown", async ({ open }) => {
  const page = await blank(open, gateway.url);
  let under;
  upstream.answer("hidden", (answer) => (under = answer.text("a")));
  const setHidden = (hidden) => page.evaluate((hidden) => {
    Object.defineProperty(document, "hidden", { configurable: true, value: hidden });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  await page.evaluate(async () => {
    const { stream } = await import("/sluicegate.js");
    Object.assign(globalThis, { text: "", all: "" });
    const options = { model: "m/hidden", prompt: "p" };
    globalThis.answer = stream({ ...options, pauseWhenHidden: true, onToken: (event) => (globalThis.text += event.text) });
    const { resume } = await import("/sluicegate.js");
    await new Promise((known) => (globalThis.answer.known = setInterval(() => globalThis.answer.id && known(), 5)));
    clearInterval(globalThis.answer.known);
    // A second reading tells when the events have arrived.
    resume(globalThis.answer.id, { onToken: (event) => (globalThis.all += event.text) });
  });
  await until(page, "the first text", () => globalThis.text === "a" && globalThis.all === "a");
  await setHidden(true);
  under.text("b").text("c");
  await until(page, "the events at the second reading", () => globalThis.all === "abc");
  assert.equal(await page.evaluate(() => globalThis.text), "a");
  await setHidden(false);
  await until(page, "the held events", () => globalThis.text === "abc");
  under.finish();
  await page.evaluate(() => globalThis.answer.text());
});

pageTest("notifications reach a page", async ({ open }) => {
  const page = await blank(open, gateway.url);
  await page.evaluate(async () => {
    const { notifications } = await import("/sluicegate.js");
    globalThis.seen = [];
    (async () => {
      for await (const event of notifications()) globalThis.seen.push(event);
    })();
  });
  const announce = (text) => fetch(`${gateway.admin}/notifications`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ event: "announcement", data: { text } }) });
  // Announced until the page listens: an announcement before that is not for it.
  for (let count = 0; !(await page.evaluate(() => globalThis.seen.length)); count++) {
    assert.ok(count < 200, "no announcement arrived");
    assert.ok((await announce("maintenance at noon")).ok);
  }
  const [event] = await page.evaluate(() => globalThis.seen);
  assert.equal(event.type, "announcement");
  assert.equal(event.text, "maintenance at noon");
});

const document = readFileSync(join(process.env.SLUICEGATE_ROOT, "docs/browser.md"), "utf8");

for (const [at, [, language, code]] of [...document.matchAll(/```(html|js)\n(.*?)```/gs)].entries()) {
  pageTest(`the example ${at + 1} of the documentation runs`, async ({ open }) => {
    const html = language === "html" ? code : `<script type="module">${code}\ndocument.body.dataset.done = "yes";</script>`;
    const page = await blank(open, demo.url, html);
    if (language === "html") await page.getByText(/Streaming sends an answer .+\./).waitFor();
    else await page.locator("body[data-done=yes]").waitFor({ state: "attached" });
  });
}
