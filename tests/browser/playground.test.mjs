// The playground in Chromium: a chat before the demo and before scripted upstreams.

import assert from "node:assert/strict";
import { after, before } from "node:test";
import { pageTest, picture, until } from "./harness/browser.mjs";
import { answered, ask, choose } from "./harness/chat.mjs";
import { keyEntry, startDemo, startGateway } from "./harness/programs.mjs";
import { startProxy, startUpstream } from "./harness/servers.mjs";

const KEY = "sk-sg-browser-test-key";
const started = [];
let demo, upstream, gateway, guarded;

const config = (more) => ({
  heartbeat: "1s",
  upstreams: { scripted: { wire: "openai-chat", base_url: upstream.url } },
  models: Object.fromEntries(["one", "two", "three"].map((name) => [name, { targets: [{ upstream: "scripted", model: name }] }])),
  ...more,
});

before(async () => {
  started.push((demo = await startDemo()), (upstream = await startUpstream()));
  started.push((gateway = await startGateway(config({ cors: { origins: [] } }))));
  started.push((guarded = await startGateway(config({ keys: [keyEntry("app", KEY)] }))));
});
after(() => Promise.all(started.map((program) => program.stop())));

/** Sets what a model answers; resolves with the answer under way. */
function scripted(model, handler) {
  return new Promise((begun) => upstream.answer(model, (answer, body) => (begun(answer), handler?.(answer, body))));
}

pageTest("a question is answered and both stay on the page", async ({ open }) => {
  const page = await open(demo.url);
  await ask(page, "Why do canals have locks?");
  const answer = await answered(page);
  assert.match(await page.textContent(".bubble"), /Why do canals have locks/);
  assert.match(await answer.locator(".prose").textContent(), /Streaming sends an answer/);
  assert.match(await answer.locator(".figures").textContent(), /first token .+ tokens\/s .+ tokens in .+ out .+ in all/);
  assert.equal(await page.inputValue("#prompt"), "");
});

pageTest("a conversation carries its history and the settings", async ({ open }) => {
  const page = await open(gateway.url);
  upstream.answer("one", (answer) => answer.text("First.").finish());
  await page.click("#open-settings");
  await page.fill("#system", "Be brief.");
  await page.fill("#temperature", "0.3");
  await page.fill("#max-tokens", "77");
  await page.selectOption("#effort", "low");
  await page.click("#close-settings");
  await choose(page, "one");
  await ask(page, "Question A");
  await answered(page);
  const before = upstream.requests.length;
  await ask(page, "Question B");
  await answered(page);
  const body = await upstream.asked(before + 1);
  assert.deepEqual(body.messages.map(({ role, content }) => [role, content]), [
    ["system", "Be brief."], ["user", "Question A"], ["assistant", "First."], ["user", "Question B"],
  ]);
  assert.equal(body.temperature, 0.3);
  assert.equal(body.max_completion_tokens ?? body.max_tokens, 77);
  assert.equal(body.reasoning_effort, "low");
});

pageTest("stopping closes the upstream's connection and says so", async ({ open }) => {
  const page = await open(gateway.url);
  const begun = scripted("one", (answer) => answer.text("I could go on"));
  await choose(page, "one");
  await ask(page, "Go on for ever");
  await page.getByText("I could go on").waitFor();
  await page.click("#send");
  await (await begun).left;
  assert.match(await (await answered(page)).locator(".ending").textContent(), /Stopped/);
  assert.equal(await page.textContent("#send"), "Send");
});

pageTest("an answer is regenerated in its place", async ({ open }) => {
  const page = await open(gateway.url);
  let count = 0;
  upstream.answer("one", (answer) => answer.text(`Answer ${++count}.`).finish());
  await choose(page, "one");
  await ask(page, "Question");
  await answered(page);
  await page.getByRole("button", { name: "Regenerate" }).click();
  await page.getByText("Answer 2.").waitFor();
  assert.equal(await page.locator(".answer").count(), 1);
});

pageTest("an edited question is sent again and what followed it is removed", async ({ open }) => {
  const page = await open(gateway.url);
  upstream.answer("one", (answer, body) => answer.text(`You said: ${body.messages.at(-1).content}`).finish());
  await choose(page, "one");
  for (const text of ["first", "second"]) {
    await ask(page, text);
    await answered(page);
  }
  await page.getByRole("button", { name: "Edit question" }).first().click();
  await page.getByRole("textbox", { name: "Edit your question" }).fill("changed");
  await page.keyboard.press("Enter");
  await page.getByText("You said: changed").waitFor();
  assert.deepEqual(await page.locator(".bubble").allTextContents(), ["changed"]);
});

pageTest("an error says what it means and can be tried again", async ({ open }) => {
  const page = await open(gateway.url);
  let tries = 0;
  upstream.answer("one", (answer) => (tries++ ? answer.text("All well.").finish() : answer.refuse(429, "slow down", { "retry-after": "7" })));
  await choose(page, "one");
  await ask(page, "Question");
  const alert = page.locator(".answer [role=alert]");
  await alert.waitFor();
  assert.match(await alert.textContent(), /no capacity.*upstream_rate_limited/s);
  await picture(page, "error");
  await alert.getByRole("button", { name: "Try again" }).click();
  await page.getByText("All well.").waitFor();
  assert.equal(await alert.count(), 0);
});

pageTest("an answer that breaks off keeps its text", async ({ open }) => {
  const page = await open(gateway.url);
  upstream.answer("one", (answer) => {
    answer.text("Half of the");
    setImmediate(() => answer.cut());
  });
  await choose(page, "one");
  await ask(page, "Question");
  await page.locator(".answer [role=alert]").waitFor();
  assert.match(await page.textContent(".answer .prose"), /Half of the/);
  assert.match(await page.textContent(".answer [role=alert]"), /broke off.*stream_interrupted/s);
});

pageTest("models answer side by side over one connection", async ({ open }) => {
  const page = await open(gateway.url);
  const reads = [];
  page.on("request", (request) => request.method() === "GET" && /\/v1\/(events|streams)/.test(request.url()) && reads.push(request.url()));
  for (const name of ["one", "two", "three"]) upstream.answer(name, (answer) => answer.text(`I am ${name}.`).finish());
  await choose(page, "one", "two", "three");
  await ask(page, "Who are you?");
  await until(page, "three answers", () => document.querySelectorAll(".answer[aria-busy=false]").length === 3);
  assert.deepEqual(await page.locator(".prose").allTextContents(), ["I am one.", "I am two.", "I am three."]);
  assert.equal(reads.length, 1);
  assert.match(reads[0], /\/v1\/events\?stream=.+&stream=.+&stream=/);
  await picture(page, "side-by-side");
  // Each goes on with its own answer.
  const before = upstream.requests.length;
  await ask(page, "And now?");
  await upstream.asked(before + 3);
  const sent = upstream.requests.slice(before);
  for (const { model, messages } of sent) assert.equal(messages[1].content, `I am ${model}.`);
  await until(page, "six answers", () => document.querySelectorAll(".answer[aria-busy=false]").length === 6);
});

pageTest("a link lets two others watch the same answer live", async ({ open }) => {
  const page = await open(gateway.url);
  const begun = scripted("one", (answer) => answer.text("The beginning"));
  await choose(page, "one");
  await ask(page, "A question to share");
  await page.getByText("The beginning").waitFor();
  await page.getByRole("button", { name: "Share" }).click();
  const link = await page.inputValue("dialog[open] input");
  const viewers = await Promise.all([open(link), open(link)]);
  for (const viewer of viewers) {
    await viewer.getByText("The beginning").waitFor();
    assert.match(await viewer.textContent(".bubble"), /A question to share/);
    assert.equal(await viewer.locator("#composer").isVisible(), false);
  }
  (await begun).text(" and the end.").finish();
  for (const each of [page, ...viewers]) await each.getByText("The beginning and the end.").waitFor();
  await picture(viewers[0], "watching");
});

pageTest("a reload in the middle of an answer goes on with it and asks once", async ({ open }) => {
  const page = await open(gateway.url);
  const before = upstream.requests.length;
  const begun = scripted("two", (answer) => answer.reasoning("Let me think.").text("Before the reload"));
  await choose(page, "two");
  await ask(page, "A question");
  await page.getByText("Before the reload").waitFor();
  await page.reload();
  await page.getByText("Before the reload").waitFor();
  assert.match(await page.textContent(".bubble"), /A question/);
  (await begun).text(", and after it.").finish();
  await page.getByText("Before the reload, and after it.").waitFor();
  assert.match(await page.textContent(".reasoning .plain"), /^Let me think\.$/);
  assert.equal(await page.locator("#models select").inputValue(), "two");
  assert.equal(upstream.requests.length, before + 1);
});

pageTest("a reload of answers side by side goes on with all of them", async ({ open }) => {
  const page = await open(gateway.url);
  const begun = ["one", "two"].map((name) => scripted(name, (answer) => answer.text(`${name} began`)));
  await choose(page, "one", "two");
  await ask(page, "A question");
  for (const name of ["one", "two"]) await page.getByText(`${name} began`).waitFor();
  await page.reload();
  for (const answer of begun) (await answer).text(" and ended.").finish();
  for (const name of ["one", "two"]) await page.getByText(`${name} began and ended.`).waitFor();
});

pageTest("a cut connection is resumed and loses nothing", async ({ open }) => {
  const proxy = await startProxy(gateway.url);
  started.push(proxy);
  const page = await open(proxy.url, { errors: /Failed to load resource|net::ERR/ });
  const begun = scripted("one", (answer) => answer.text("one "));
  await choose(page, "one");
  await ask(page, "Count");
  await page.locator(".prose", { hasText: "one" }).waitFor();
  const answer = await begun;
  proxy.refuse();
  answer.text("two ");
  await page.getByText(/Connection lost/).waitFor();
  proxy.restore();
  await page.evaluate(() => dispatchEvent(new Event("online")));
  answer.text("three ");
  await page.getByText("one two three").waitFor();
  proxy.cut();
  answer.text("four").finish();
  await page.getByText("one two three four").waitFor();
  await answered(page);
});

pageTest("a gateway with keys asks for one and forgets it unless it is told to keep it", async ({ open }) => {
  const page = await open(guarded.url, { errors: /401/ });
  const notice = page.locator("#problem");
  await notice.getByText("This gateway needs an API key").waitFor();
  await notice.getByRole("button", { name: "Enter a key" }).click();
  await page.fill("#key", KEY);
  await page.keyboard.press("Enter");
  await choose(page, "one");
  upstream.answer("one", (answer) => answer.text("Welcome.").finish());
  await ask(page, "Hello");
  await page.getByText("Welcome.").waitFor();
  assert.ok(!(await page.evaluate(() => JSON.stringify({ ...sessionStorage, ...localStorage }))).includes(KEY));
  await page.reload();
  await notice.getByText("This gateway needs an API key").waitFor();
  await page.getByText("Welcome.").waitFor();
  await page.click("#open-settings");
  await page.fill("#key", KEY);
  await page.check("#keep-key");
  await page.click("#close-settings");
  await notice.waitFor({ state: "hidden" });
  const begun = scripted("one", (answer) => answer.text("Still"));
  await ask(page, "And again");
  await page.getByText("Still").waitFor();
  await page.reload();
  (await begun).text(" here.").finish();
  await page.getByText("Still here.").waitFor();
  assert.equal(await notice.isVisible(), false);
});

pageTest("images are sent with the question", async ({ open }) => {
  const page = await open(gateway.url);
  upstream.answer("one", (answer) => answer.text("A dot.").finish());
  await choose(page, "one");
  const png = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", "base64");
  await page.setInputFiles("#files", [{ name: "dot.png", mimeType: "image/png", buffer: png }, { name: "a.txt", mimeType: "text/plain", buffer: Buffer.from("x") }]);
  await page.locator("#thumbs img").waitFor();
  assert.match(await page.textContent("#problem"), /a\.txt: only PNG/);
  const before = upstream.requests.length;
  await ask(page, "What is this?");
  await answered(page);
  const { content } = (await upstream.asked(before + 1)).messages.at(-1);
  assert.deepEqual(content.map((part) => part.type), ["text", "image_url"]);
  assert.match(content[1].image_url.url, /^data:image\/png;base64,iVBOR/);
  assert.equal(await page.locator(".bubble img").count(), 1);
});

pageTest("the demo's cases play on a click", async ({ open }) => {
  const page = await open(demo.url);
  const play = async (name) => {
    if (await page.locator("#new").isVisible()) await page.click("#new");
    await page.getByRole("button", { name }).click();
    return answered(page);
  };
  const thinking = await play(/^Reasoning/);
  assert.equal(await thinking.locator("details").getAttribute("open"), null);
  assert.match(await thinking.locator(".reasoning .plain").textContent(), /Three boats/);
  const tools = await play(/^Tool calls/);
  assert.deepEqual(await tools.locator(".call h4 code").allTextContents(), ["get_weather", "get_time"]);
  assert.match(await tools.locator(".call pre").first().textContent(), /"city": "Oslo"/);
  await picture(page, "tool-calls");
  const sources = await play(/^Sources/);
  assert.equal(await sources.locator(".sources a").first().getAttribute("href"), "https://canals.example/longest");
  await picture(page, "sources");
  const broken = await play(/^A broken stream/);
  assert.match(await broken.locator("[role=alert]").textContent(), /broke off/);
  await play(/^Three protocols/);
  await until(page, "three answers", () => document.querySelectorAll(".answer[aria-busy=false]").length === 3);
});

pageTest("a gateway that keeps no streams answers too", async ({ open }) => {
  const forgetful = await startGateway(config({ resume: { window: 0 } }));
  started.push(forgetful);
  const page = await open(forgetful.url);
  const begun = scripted("one", (answer) => answer.text("Read directly"));
  await choose(page, "one", "two");
  upstream.answer("two", (answer) => answer.text("At once.").finish());
  await ask(page, "Question");
  await page.getByText("Read directly").waitFor();
  assert.equal(await page.getByRole("button", { name: "Share" }).count(), 0);
  await page.click("#send");
  await (await begun).left;
  await answered(page);
  assert.match(await page.textContent(".ending"), /Stopped/);
  assert.deepEqual(await page.locator(".prose").allTextContents(), ["Read directly", "At once."]);
});

pageTest("the button to the newest text moves nothing on the page", async ({ open }) => {
  const page = await open(gateway.url);
  upstream.answer("one", (answer) => answer.text("A line of the answer.\n\n".repeat(80)).finish());
  await choose(page, "one");
  await ask(page, "A long answer, please");
  await answered(page);
  const height = () => page.evaluate(() => document.documentElement.scrollHeight);
  await until(page, "the page to be at its end", () => document.querySelector("#jump").hidden);
  const before = await height();
  await page.evaluate(() => scrollTo(0, 0));
  await page.locator("#jump").waitFor();
  assert.equal(await height(), before);
  await page.click("#jump");
  await until(page, "the button to go", () => document.querySelector("#jump").hidden);
  assert.equal(await height(), before);
});

pageTest("a question that cannot be sent can be tried again", async ({ open }) => {
  const proxy = await startProxy(gateway.url);
  started.push(proxy);
  const page = await open(proxy.url, { errors: /Failed to load resource|net::ERR/ });
  await choose(page, "one");
  const before = upstream.requests.length;
  upstream.answer("one", (answer) => answer.text("Here again.").finish());
  proxy.refuse();
  await ask(page, "Are you there?");
  await page.getByRole("heading", { name: "The gateway cannot be reached" }).waitFor();
  proxy.restore();
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByText("Here again.").waitFor();
  assert.equal(upstream.requests.length, before + 1);
});

pageTest("an answer that the gateway no longer keeps after a reload says so", async ({ open }) => {
  const brief = await startGateway(config({ resume: { window: "100ms" } }));
  started.push(brief);
  const page = await open(brief.url, { errors: /40[04]|410/ });
  const begun = scripted("one", (answer) => answer.text("Gone soon"));
  await choose(page, "one");
  await ask(page, "Question");
  await page.getByText("Gone soon").waitFor();
  // Without a viewer, the gateway leaves the upstream after the window.
  await page.goto(`${brief.url}/sluicegate.js`);
  await (await begun).left;
  await page.goBack();
  await page.locator(".answer[aria-busy=false]").waitFor();
  assert.match(await page.textContent(".prose"), /^Gone soon/);
  assert.equal(await page.locator(".bubble").count(), 1);
});

pageTest("the keyboard alone sends, stops, edits and leaves dialogs", async ({ open }) => {
  const page = await open(gateway.url);
  await choose(page, "one");
  const begun = scripted("one", (answer) => answer.text("A long story"));
  await page.focus("#prompt");
  await page.keyboard.type("First line");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("second line");
  await page.keyboard.press("Enter");
  await page.getByText("A long story").waitFor();
  assert.equal(await page.textContent(".bubble"), "First line\nsecond line");
  await page.keyboard.press("Escape");
  await (await begun).left;
  await answered(page);
  assert.match(await page.textContent("#announce"), /was stopped/);
  // Every control is reached by Tab, with a name, and in the order of the page.
  await page.evaluate(() => document.querySelector(".skip").focus());
  const names = [];
  for (let count = 0; count < 40 && names.at(-1) !== "prompt"; count++) {
    names.push(await page.evaluate(() => document.activeElement.id || document.activeElement.getAttribute("aria-label") || document.activeElement.textContent));
    await page.keyboard.press("Tab");
  }
  for (const name of ["open-settings", "Edit question", "Copy", "Regenerate", "Code", "Events", "Share", "Model", "prompt"]) assert.ok(names.includes(name), `${name} in ${names}`);
  await page.getByRole("button", { name: "Events" }).focus();
  await page.keyboard.press("Enter");
  await page.locator("dialog[open]").waitFor();
  await page.keyboard.press("Escape");
  await page.locator("dialog[open]").waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Events");
});

pageTest("a hidden page is drawn when it is shown", async ({ open }) => {
  const page = await open(gateway.url);
  await choose(page, "one");
  const begun = scripted("one", (answer) => answer.text("Seen. "));
  await ask(page, "Question");
  await page.getByText("Seen.").waitFor();
  const setHidden = (hidden) => page.evaluate((hidden) => {
    Object.defineProperty(document, "hidden", { configurable: true, value: hidden });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  await setHidden(true);
  (await begun).text("Not seen yet.").finish();
  const ended = async () => Boolean((await import("/web/playground/conversation.js")).turns[0].answers[0].end);
  while (!(await page.evaluate(ended)));
  assert.doesNotMatch(await page.textContent(".prose"), /Not seen/);
  await setHidden(false);
  await page.getByText("Seen. Not seen yet.").waitFor();
});

pageTest("the page works where the browser forbids storage", async ({ open }) => {
  const forbid = () => Object.defineProperty(globalThis, "sessionStorage", { get() { throw new DOMException("forbidden", "SecurityError"); } });
  const page = await open(demo.url, { before: forbid });
  await ask(page, "Hello");
  assert.match(await (await answered(page)).locator(".prose").textContent(), /Streaming sends/);
  await page.getByText("The browser does not keep this chat").waitFor();
});

pageTest("what was typed survives a reload", async ({ open }) => {
  const page = await open(gateway.url);
  await page.locator("#models select").waitFor();
  await page.fill("#prompt", "A draft");
  await page.reload();
  assert.equal(await page.inputValue("#prompt"), "A draft");
});
