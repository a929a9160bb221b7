// The browser client as an npm package: packed, installed, type-checked, imported; and the code that the playground
// shows for an answer, run as it stands.

import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { keyEntry, startGateway } from "./harness/programs.mjs";
import { startUpstream } from "./harness/servers.mjs";

const PACKAGE = join(process.env.SLUICEGATE_ROOT, "clients/js");
const KEY = "sk-sg-browser-test-key";
const folder = mkdtempSync(join(tmpdir(), "sluicegate-package-"));
let upstream, gateway;

before(async () => {
  upstream = await startUpstream();
  gateway = await startGateway({ upstreams: { scripted: { wire: "openai-chat", base_url: upstream.url } }, models: { one: { targets: [{ upstream: "scripted", model: "one" }] } }, keys: [keyEntry("app", KEY)] });
  const [packed] = JSON.parse(execFileSync("npm", ["pack", "--json", "--pack-destination", folder], { cwd: PACKAGE, encoding: "utf8" }));
  const installed = join(folder, "node_modules/sluicegate");
  mkdirSync(installed, { recursive: true });
  execFileSync("tar", ["-xzf", join(folder, packed.filename), "--strip-components=1", "-C", installed]);
  writeFileSync(join(folder, "package.json"), '{"type":"module"}');
});
after(async () => {
  await Promise.all([gateway?.stop(), upstream?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

/** Runs a program in the folder; its output. The upstream runs in this process, so nothing may wait in it. */
async function run(command, ...words) {
  const done = await promisify(execFile)(command, words, { cwd: folder, env: { PATH: process.env.PATH, SLUICEGATE_KEY: KEY }, timeout: 60_000 });
  return done.stdout;
}

test("the package has what it names, and is small", () => {
  const installed = join(folder, "node_modules/sluicegate");
  const manifest = JSON.parse(readFileSync(join(installed, "package.json"), "utf8"));
  for (const file of [...manifest.files, manifest.types, manifest.exports["."].default]) readFileSync(join(installed, file));
  assert.equal(manifest.dependencies, undefined);
  const size = gzipSync(readFileSync(join(installed, "sluicegate.js"))).length;
  assert.ok(size < 5000, `${size} bytes`);
});

test("the types accept what is documented and refuse mistakes", async () => {
  writeFileSync(join(folder, "use.ts"), `
    import { SluicegateError, multiplex, notifications, resume, stream } from "sluicegate";
    import type { ErrorEvent, Reading, StreamEvent, TokenEvent } from "sluicegate";
    const answer: Reading = stream({ baseUrl: "http://x", key: "k", model: "m", messages: [], system: "s", maxTokens: 5, temperature: 1, topP: 1, tools: [], toolChoice: "auto", reasoning: "low",
      signal: new AbortController().signal, maxUpdatesPerSecond: 5, pauseWhenHidden: true, maxBackoffMs: 5,
      onStart: (event) => { const by: string | null = event.upstream; void by; }, onToken: (event: TokenEvent) => event.text.length, onReasoning: (event) => event.text, onToolCall: (event) => event.index,
      onCitation: (event) => event.url, onComplete: (event) => event.usage?.output_tokens, onError: (event: ErrorEvent) => event.error.code, onReconnect: ({ attempt, delayMs }) => attempt + delayMs });
    for await (const event of answer) {
      if (event.type === "token") { const text: string = event.text; void text; }
      if (event.type === "error") { const code: string = event.error.code; void code; }
    }
    const text: string = await answer.text();
    await answer.cancel();
    answer.close();
    const id: string | undefined = answer.id;
    for await (const event of multiplex([id!], { after: "x" })) { const of: string | undefined = event.stream; void of; }
    for await (const event of notifications({ key: "k" })) { const type: string = event.type; void type; }
    const again: AsyncIterable<StreamEvent> = resume("st_x");
    try { void again; } catch (error) { if (error instanceof SluicegateError) { const wait: number | undefined = error.retry_after; void wait; } }
    void text;
    // @ts-expect-error A model is required.
    stream({ prompt: "p" });
    // @ts-expect-error Misspelled.
    stream({ model: "m", maxToken: 5 });
    // @ts-expect-error Only a token has a text.
    for await (const event of answer) event.text;
  `);
  const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin/tsc");
  for (const module of ["nodenext", "esnext"]) {
    const resolution = module === "nodenext" ? "nodenext" : "bundler";
    const checked = await promisify(execFile)(process.execPath, [tsc, "--noEmit", "--strict", "--target", "es2022", "--lib", "es2022,dom,esnext", "--module", module, "--moduleResolution", resolution, "use.ts"], { cwd: folder }).catch((error) => error);
    assert.equal(checked.stdout, "", module);
    assert.ok(!checked.code, `${module}: ${checked.stderr}`);
  }
});

test("the package works in Node", async () => {
  upstream.answer("one", (answer, body) => answer.text(`effort ${body.reasoning_effort}, top_p ${body.top_p}`).finish());
  writeFileSync(join(folder, "use.mjs"), `
    import { stream } from "sluicegate";
    console.log(await stream({ baseUrl: "${gateway.url}", key: "${KEY}", model: "one", prompt: "p", reasoning: "low", topP: 0.5 }).text());
  `);
  assert.equal(await run("node", "use.mjs"), "effort low, top_p 0.5\n");
});

test("the code that the playground shows runs as it stands", async () => {
  const { snippets } = await import(join(process.env.SLUICEGATE_ROOT, "web/playground/snippets.js"));
  const question = `It's "quoted" \\ and $HOME \`x\` \${y}\nover lines, with ''' and """ and é 🚀`;
  upstream.answer("one", (answer, body) => answer.text(JSON.stringify(body.messages)).finish());
  const request = { model: "one", messages: [{ role: "user", content: question }], system: "Be 'brief'.", temperature: 0.5, max_tokens: 9, reasoning: "low" };
  const codes = snippets(request, gateway.url, true);
  const wanted = JSON.stringify([{ role: "system", content: "Be 'brief'." }, { role: "user", content: question }]);
  writeFileSync(join(folder, "code.sh"), codes.curl);
  const events = await run("bash", "code.sh");
  assert.equal(JSON.parse(/^event: token\ndata: (.*)$/m.exec(events)[1]).text, wanted);
  writeFileSync(join(folder, "code.py"), codes.Python);
  assert.equal(await run("python3", "code.py"), `${wanted}\n`);
  writeFileSync(join(folder, "sluicegate.mjs"), await (await fetch(`${gateway.url}/sluicegate.js`)).text());
  writeFileSync(join(folder, "code.mjs"), codes.JavaScript);
  assert.equal(await run("node", "code.mjs"), wanted);
});
