// What a person does in the playground.

import { until } from "./browser.mjs";

/** Chooses these models for the next question. */
export async function choose(page, ...models) {
  await page.locator("#models select").first().waitFor();
  while ((await page.locator("#models select").count()) < models.length) await page.click("#compare");
  for (const [at, model] of models.entries()) await page.locator("#models select").nth(at).selectOption(model);
}

export async function ask(page, text) {
  await page.locator("#models select").first().waitFor();
  await page.fill("#prompt", text);
  await page.press("#prompt", "Enter");
}

export const lastAnswer = (page) => page.locator(".answer").last();

/** Waits for the end of all answers; the last one. */
export async function answered(page) {
  await until(page, "the end of the answer", () => {
    const answers = [...document.querySelectorAll(".answer")];
    return answers.length > 0 && answers.every((answer) => answer.getAttribute("aria-busy") === "false");
  });
  return lastAnswer(page);
}
