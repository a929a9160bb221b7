// The pictures of the documents, from the running program. `make browser ARGS="--file pictures"` writes them to
// target/browser; with UPDATE_PICTURES=1 in the environment to docs/pictures too.

import assert from "node:assert/strict";
import { copyFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before } from "node:test";
import { pageTest, picture } from "./harness/browser.mjs";
import { answered, ask, choose } from "./harness/chat.mjs";
import { startDemo } from "./harness/programs.mjs";

const LARGEST = 150_000;
let demo;
before(async () => (demo = await startDemo()));
after(() => demo?.stop());

/** Takes a picture for the documents, which keep small. */
async function publish(page, name) {
  await picture(page, name);
  const file = join(process.env.SLUICEGATE_PICTURES, `${name}.png`);
  const { size } = statSync(file);
  assert.ok(size < LARGEST, `${name}.png has ${size} bytes`);
  if (process.env.UPDATE_PICTURES) copyFileSync(file, join(process.env.SLUICEGATE_ROOT, "docs/pictures", `${name}.png`));
}

pageTest("the playground in the middle of an answer", async ({ open }) => {
  const page = await open(demo.url, { viewport: { width: 960, height: 720 } });
  await page.getByRole("button", { name: /^A formatted answer/ }).click();
  await page.locator(".prose table td").nth(5).waitFor();
  await publish(page, "playground");
});

pageTest("the playground with answers side by side", async ({ open }) => {
  const page = await open(demo.url, { viewport: { width: 1200, height: 720 }, colorScheme: "dark" });
  await choose(page, "demo-anthropic-messages/*", "demo-openai-chat/*", "demo-openai-chat/*");
  for (const [at, name] of ["thinking", "tool-call-parallel", "truncated"].entries()) await page.locator("#models input").nth(at).fill(name);
  await ask(page, "Three boats, two locks: which boat waits?");
  await answered(page);
  await page.locator("summary").first().click();
  await publish(page, "playground-side-by-side");
});
