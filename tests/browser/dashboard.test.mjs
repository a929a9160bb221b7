// The operator's pages in Chromium.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before } from "node:test";
import { assertAccessible, LOOKS, pageTest, picture, until } from "./harness/browser.mjs";
import { startGateway } from "./harness/programs.mjs";

/** An upstream of the chat protocol: `slow` sends a token now and then, `broken` answers 500. */
const upstream = createServer((request, response) => {
  let body = "";
  request.on("data", (bytes) => (body += bytes));
  request.on("end", () => {
    if (JSON.parse(body).model === "broken") return response.writeHead(500).end("{}");
    response.writeHead(200, { "content-type": "text/event-stream" });
    const chunk = () => response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: "word " } }] })}\n\n`);
    chunk();
    const timer = setInterval(chunk, 50);
    response.on("close", () => clearInterval(timer));
  });
});

let gateway;
before(async () => {
  await new Promise((done) => upstream.listen(0, "127.0.0.1", done));
  const base_url = `http://127.0.0.1:${upstream.address().port}/v1`;
  const targets = (model) => ({ targets: [{ upstream: model === "broken" ? "spare" : "main", model }], retry: "off" });
  gateway = await startGateway({
    upstreams: { main: { wire: "openai-chat", base_url }, spare: { wire: "openai-chat", base_url } },
    models: { slow: targets("slow"), broken: targets("broken") },
    limits: { streams: 6 },
    resume: { window: "0s" },
  });
});
after(async () => {
  await gateway?.stop();
  upstream.closeAllConnections();
  await new Promise((done) => upstream.close(done));
});

/** A stream that is open until `close` is called. */
async function prompt(model = "slow") {
  const leave = new AbortController();
  const response = await fetch(`${gateway.url}/v1/streams`, { method: "POST", signal: leave.signal, body: JSON.stringify({ model, prompt: "Hello" }) });
  if (response.ok) await response.body.getReader().read();
  return { status: response.status, close: () => leave.abort() };
}

const open = async () => (await (await fetch(`${gateway.admin}/streams`)).json()).open;
const idle = async () => {
  while ((await open()) > 0) await new Promise((done) => setImmediate(done));
};

pageTest("the dashboard says that nothing is wrong, and what is", async ({ open }) => {
  const page = await open(`${gateway.admin}/dashboard`);
  await page.getByText("Nothing is wrong.").waitFor();
  const streams = await Promise.all([prompt(), prompt()]);
  await until(page, "two open streams", () => document.querySelector("#figures dd").textContent === "2");
  await until(page, "tokens", () => /tokens\/s [1-9]/.test(document.querySelector("#charts").textContent));
  for (let n = 0; n < 3; n++) assert.equal((await prompt("broken")).status, 502);
  await page.getByText("Upstream spare: 3 of 3 requests failed in the last minute, upstream_unavailable 3 ×.").waitFor();
  assert.match(await page.getAttribute("#verdict", "class"), /bad/);
  assert.match(await page.title(), /^⚠/);
  for (let n = 0; n < 2; n++) assert.equal((await prompt("broken")).status, 502);
  await page.getByText("Upstream spare: it is not asked for broken, because it failed too often (breaker open).").waitFor();
  const more = await Promise.all([1, 2, 3, 4].map(() => prompt()));
  assert.equal((await prompt()).status, 503);
  await page.getByText("limits.streams", { exact: false }).first().waitFor();
  await picture(page, "dashboard", { fullPage: true });
  for (const stream of [...streams, ...more]) stream.close();
  await idle();
});

pageTest("the dashboard says that the gateway is gone", async ({ open }) => {
  const other = await startGateway({ models: {}, upstreams: {} });
  const page = await open(`${other.admin}/dashboard`, { errors: /Failed to load|ERR_|EventSource/ });
  await page.getByText("Nothing is wrong.").waitFor();
  await other.stop();
  await page.getByText("No samples arrive", { exact: false }).waitFor();
});

pageTest("a stream is cancelled from its list", async ({ open }) => {
  const streams = await Promise.all([prompt(), prompt()]);
  const page = await open(`${gateway.admin}/dashboard/streams`);
  await until(page, "two rows", () => document.querySelectorAll("#streams tbody tr").length === 2);
  assert.doesNotMatch(await page.content(), /st_[a-z2-8]{26}/);
  await page.getByRole("button", { name: "Cancel st_" }).first().click();
  await page.getByRole("button", { name: "Cancel the stream" }).click();
  await until(page, "one row", () => document.querySelectorAll("#streams tbody tr").length === 1);
  await picture(page, "streams");
  for (const stream of streams) stream.close();
  await idle();
});

pageTest("an announcement reaches the listeners", async ({ open }) => {
  const listening = await fetch(`${gateway.url}/v1/notifications`);
  const reader = listening.body.pipeThrough(new TextDecoderStream()).getReader();
  const page = await open(`${gateway.admin}/dashboard/announcements`);
  await page.fill("#text", "Maintenance at 18:00 <b>sharp</b>");
  await page.click("summary");
  await page.fill("#more", "{");
  await page.getByText("not JSON", { exact: false }).first().waitFor();
  await page.fill("#more", '{"level":"warning"}');
  await page.click("#send");
  await page.getByText("one listener", { exact: false }).waitFor();
  let text = "";
  while (!text.includes("event: announcement")) text += (await reader.read()).value;
  assert.ok(text.includes('data: {"text":"Maintenance at 18:00 <b>sharp</b>","level":"warning"}'), text);
  await reader.cancel();
});

for (const [look, options] of Object.entries(LOOKS)) {
  pageTest(`axe finds nothing serious in the operator's pages: ${look}`, async ({ open }) => {
    const streams = await Promise.all([prompt(), prompt()]);
    await prompt("broken");
    for (const name of ["dashboard", "dashboard/streams", "dashboard/announcements"]) {
      const page = await open(`${gateway.admin}/${name}`, options);
      if (name === "dashboard") await page.locator("#models tbody tr").first().waitFor();
      if (name === "dashboard/streams") await page.locator("#streams tbody tr").first().waitFor();
      await assertAccessible(page, `${name}, ${look}`);
      await picture(page, `${name.replace("/", "-")}-${look}`, { fullPage: true });
    }
    for (const stream of streams) stream.close();
    await idle();
  });
}
