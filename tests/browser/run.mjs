// Runs the tests in Chromium: `node tests/browser/run.mjs --binary FILE --work FOLDER [--only NAME] [--file NAME]`.
//
// Node looks for packages from a test's own folder upwards, so the tests are copied to where `make` installed
// the packages. Pictures are written to the folder WORK.

import { spawnSync } from "node:child_process";
import { cpSync, readdirSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const TIMEOUT_MS = 900_000;

const here = dirname(fileURLToPath(import.meta.url));
const text = { type: "string" };
const { values } = parseArgs({ options: { binary: text, work: text, only: text, file: text } });
const work = resolve(values.work);
const copy = join(work, "tests");
rmSync(copy, { recursive: true, force: true });
cpSync(here, copy, { recursive: true });

const files = readdirSync(copy).filter((name) => name.endsWith(".test.mjs") && name.includes(values.file ?? ""));
const flags = ["--test", "--test-reporter=spec", "--test-concurrency=2", "--test-timeout=300000"];
if (values.only) flags.push(`--test-name-pattern=${values.only}`);
// No credentials and no proxies of the caller.
const inherited = ["PATH", "HOME", "TMPDIR", "LANG", "UPDATE_PICTURES"].filter((name) => name in process.env);
const done = spawnSync(process.execPath, [...flags, ...files], {
  cwd: copy,
  stdio: "inherit",
  timeout: TIMEOUT_MS,
  env: {
    ...Object.fromEntries(inherited.map((name) => [name, process.env[name]])),
    SLUICEGATE_BINARY: resolve(values.binary),
    SLUICEGATE_ROOT: resolve(here, "../.."),
    SLUICEGATE_PICTURES: work,
  },
});
if (done.error) console.error(`browser: ${done.error.message}`);
process.exit(done.status ?? 1);
