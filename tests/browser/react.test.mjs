// The React hook of docs/browser.md, with React from npm.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before } from "node:test";
import { bundle } from "./harness/bundle.mjs";
import { pageTest } from "./harness/browser.mjs";
import { startDemo } from "./harness/programs.mjs";
import { startOrigin } from "./harness/servers.mjs";

const HTML = `<!doctype html><link rel="icon" href="data:,"><main id="root"></main><script type="module" src="/app.js"></script>`;
const started = [];
let demo;
before(async () => started.push((demo = await startDemo())));
after(() => Promise.all(started.map((program) => program.stop())));

const document = readFileSync(join(process.env.SLUICEGATE_ROOT, "docs/browser.md"), "utf8");
const HOOK = /```jsx\n(.*?)```/s.exec(document)[1];

pageTest("the React hook of the documentation shows a stream", async ({ open }) => {
  const app = await bundle(`${HOOK}
    import { createRoot } from "react-dom/client";
    function App() {
      const answer = useStream({ model: "demo", prompt: "Hello", baseUrl: ${JSON.stringify(demo.url)} });
      return <p data-status={answer.status}>{answer.text}</p>;
    }
    createRoot(document.querySelector("#root")).render(<App />);`);
  const origin = await startOrigin({ "/": ["text/html", HTML], "/app.js": ["text/javascript", app] });
  started.push(origin);
  const page = await open(origin.url, { origins: [demo.url] });
  await page.waitForSelector('[data-status="complete"]');
  assert.match(await page.textContent("p"), /\w/);
});
