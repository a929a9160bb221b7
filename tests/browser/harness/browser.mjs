// Chromium, and tests that have a page in it.
//
// Every test fails if a page asks another origin than those it was opened for, throws an exception, logs an error
// or violates its content security policy.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, test } from "node:test";
import { chromium } from "playwright-core";

const EXECUTABLE = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Sizes and themes in which the pages are looked at. */
export const LOOKS = {
  light: { colorScheme: "light", viewport: { width: 1200, height: 800 } },
  dark: { colorScheme: "dark", viewport: { width: 1200, height: 800 } },
  phone: { colorScheme: "light", viewport: { width: 390, height: 780 }, hasTouch: true, isMobile: true, deviceScaleFactor: 1 },
  "phone-dark": { colorScheme: "dark", viewport: { width: 390, height: 780 }, hasTouch: true, isMobile: true, deviceScaleFactor: 1 },
};

let browser;
after(() => browser?.close());
// `chromium.launch` makes a new folder for the profile each time.
const launch = async () => (browser ??= await chromium.launch({ executablePath: EXECUTABLE, headless: true, args: FLAGS }));

/**
 * A test with pages. `run` gets `open(url, options)`, which opens a page in a context of its own; `options` are
 * Playwright's for the context, and `origins` (others that the page may ask), `errors` (a pattern of errors in the
 * page's console that the test expects), `before` (a function that runs in the page before its scripts) and `context`
 * (of another page, to share its storage).
 */
export function pageTest(name, run) {
  test(name, async (t) => {
    const problems = [];
    const contexts = new Set();
    const open = async (url, { origins = [], errors = /(?!)/, before, context, ...options } = {}) => {
      const own = context ?? (await (await launch()).newContext({ ...LOOKS.light, reducedMotion: "reduce", ...options }));
      contexts.add(own);
      const page = await own.newPage();
      watch(page, [new URL(url).origin, ...origins], errors, problems);
      page.setDefaultTimeout(15_000);
      if (before) await page.addInitScript(before);
      await page.goto(url);
      return page;
    };
    try {
      await run({ t, open, problems });
    } catch (error) {
      const pages = [...contexts].flatMap((context) => context.pages());
      await Promise.all(pages.map((page, at) => picture(page, `failed-${name.replaceAll(/\W+/g, "-")}-${at}`).catch(() => {})));
      throw problems.length ? new Error(`${error.message}\n${problems.join("\n")}`, { cause: error }) : error;
    } finally {
      await Promise.all([...contexts].map((context) => context.close()));
    }
    assert.deepEqual(problems, []);
  });
}

function watch(page, origins, errors, problems) {
  page.on("request", (request) => {
    const { protocol, origin } = new URL(request.url());
    const local = protocol === "data:" || protocol === "blob:";
    if (!local && !origins.includes(origin)) problems.push(`a request left the origin: ${request.url()}`);
  });
  page.on("pageerror", (error) => problems.push(`uncaught: ${error.stack ?? error}`));
  page.on("console", (message) => {
    if (message.type() === "error" && !errors.test(message.text())) problems.push(`console: ${message.text()}`);
  });
}

/** Fails if axe finds something serious or critical in the page, or if the page is wider than the screen. */
export async function assertAccessible(page, name) {
  const [needed, wide] = await page.evaluate(() => [document.documentElement.scrollWidth, screen.width]);
  assert.ok(needed <= Math.max(wide, page.viewportSize().width), `${name}: the page is ${needed} pixels wide`);
  // The page's policy forbids scripts of others, so axe comes through the debugger.
  await page.evaluate(AXE);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const serious = found.violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const described = serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("; ")}`);
  assert.deepEqual(described, [], `axe: ${name}`);
}

/** Writes a picture of the page to target/browser. */
export const picture = (page, name, options = {}) => page.screenshot({ path: join(process.env.SLUICEGATE_PICTURES, `${name}.png`), ...options });

/** The texts of a locator's elements once `holds` is true for them. */
export async function until(page, what, holds, argument) {
  await page.waitForFunction(holds, argument, { polling: 50 }).catch((error) => {
    throw new Error(`waited in vain: ${what}: ${error.message}`);
  });
}
