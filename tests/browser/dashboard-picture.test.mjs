// The picture of the dashboard in the documents: under load, with one upstream that fails. It takes 100 seconds of load to
// fill the charts, so this does nothing without UPDATE_PICTURES=1 in the environment.

import assert from "node:assert/strict";
import { copyFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { pageTest, picture } from "./harness/browser.mjs";
import { startGateway } from "./harness/programs.mjs";

const LARGEST = 150_000;
const LOAD_MS = 100_000;
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const event = (data) => `data: ${JSON.stringify(data)}\n\n`;

/** An upstream that answers with words at a model's pace, or with 500. */
async function answer(request, response) {
  let body = "";
  for await (const bytes of request) body += bytes;
  if (JSON.parse(body).model === "flaky" && Math.random() < 0.6) return response.writeHead(500).end("{}");
  await pause(80 + Math.random() * Math.random() * 700);
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (let left = 60 + Math.random() * 300; left > 0 && !response.destroyed; left--) {
    response.write(event({ choices: [{ index: 0, delta: { content: "word " } }] }));
    await pause(30 + Math.random() * 20);
  }
  response.end(`${event({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] })}data: [DONE]\n\n`);
}

if (process.env.UPDATE_PICTURES) {
  pageTest("the dashboard under load", async ({ open }) => {
    const upstream = createServer(answer);
    await new Promise((done) => upstream.listen(0, "127.0.0.1", done));
    const base_url = `http://127.0.0.1:${upstream.address().port}/v1`;
    const wire = { wire: "openai-chat", base_url };
    const gateway = await startGateway({
      upstreams: { main: wire, second: wire, spare: wire },
      models: {
        fast: { targets: [{ upstream: "main", model: "a" }] },
        smart: { targets: [{ upstream: "second", model: "b" }] },
        local: { targets: [{ upstream: "spare", model: "flaky" }] },
      },
      limits: { streams: 50 },
    });
    const over = Date.now() + LOAD_MS;
    const prompt = async (model) => (await fetch(`${gateway.url}/v1/streams`, { method: "POST", body: JSON.stringify({ model, prompt: "Hello" }) })).text();
    const load = async (model, every) => {
      while (Date.now() < over) {
        await pause((every * (0.4 + Math.random())) / (1.3 + Math.sin(Date.now() / 9000)));
        prompt(model).catch(() => {}); // The gateway stops before the last answers end.
      }
    };
    await Promise.all([load("fast", 700), load("smart", 1100), load("local", 4000)]);
    const page = await open(`${gateway.admin}/dashboard`, { viewport: { width: 1200, height: 980 } });
    await page.locator("#models tbody tr").nth(2).waitFor();
    await picture(page, "dashboard-load");
    const file = join(process.env.SLUICEGATE_PICTURES, "dashboard-load.png");
    assert.ok(statSync(file).size < LARGEST, `the picture has ${statSync(file).size} bytes`);
    copyFileSync(file, join(process.env.SLUICEGATE_ROOT, "docs/pictures/dashboard.png"));
    await page.close();
    await gateway.stop();
    upstream.closeAllConnections();
    upstream.close();
  });
}
