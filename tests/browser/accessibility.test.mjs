// The playground in every look: axe, and pictures.

import { after, before } from "node:test";
import { LOOKS, assertAccessible, pageTest, picture } from "./harness/browser.mjs";
import { answered, lastAnswer } from "./harness/chat.mjs";
import { startDemo } from "./harness/programs.mjs";

let demo;
before(async () => (demo = await startDemo()));
after(() => demo?.stop());

for (const [name, look] of Object.entries(LOOKS)) {
  pageTest(`axe finds nothing serious, ${name}`, async ({ open }) => {
    const page = await open(demo.url, look);
    await page.locator("#cases button").first().waitFor();
    await assertAccessible(page, `start, ${name}`);
    await picture(page, `start-${name}`);
    await page.getByRole("button", { name: /^A formatted answer/ }).click();
    await page.locator(".prose .code").waitFor();
    await picture(page, `playground-${name}`);
    await answered(page);
    await assertAccessible(page, `answer, ${name}`);
    await page.click("#open-settings");
    await assertAccessible(page, `settings, ${name}`);
    await picture(page, `settings-${name}`);
    await page.click("#close-settings");
    for (const button of ["Code", "Events", "Share"]) {
      await lastAnswer(page).getByRole("button", { name: button, exact: true }).click();
      await assertAccessible(page, `${button}, ${name}`);
      await picture(page, `${button.toLowerCase()}-${name}`);
      await page.getByRole("button", { name: "Close" }).click();
    }
  });
}
