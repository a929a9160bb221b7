// The playground in Chromium.

import assert from "node:assert/strict";
import { after, before } from "node:test";
import { pageTest, picture } from "./harness/browser.mjs";
import { startDemo } from "./harness/programs.mjs";

let demo;
before(async () => (demo = await startDemo()));
after(() => demo?.stop());

pageTest("a prompt is answered", async ({ open }) => {
  const page = await open(demo.url);
  await page.waitForSelector("option", { state: "attached" });
  await page.click("#send");
  await page.getByText("Done.").waitFor();
  assert.match(await page.textContent("#answer"), /\w/);
  await picture(page, "playground");
});
