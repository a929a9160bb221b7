// Bundles a test's React components for the browser. Nothing of the program is bundled.

import { build } from "esbuild";
import { join } from "node:path";

/**
 * The bundle of `source` (JSX). `sluicegate` is the browser client of this repository; `alias` names packages to take
 * in the place of others.
 */
export async function bundle(source, alias = {}) {
  const made = await build({
    stdin: { contents: source, loader: "jsx", resolveDir: import.meta.dirname },
    alias: { sluicegate: join(process.env.SLUICEGATE_ROOT, "clients/js/sluicegate.js"), ...alias },
    bundle: true,
    write: false,
    format: "esm",
    jsx: "automatic",
    define: { "process.env.NODE_ENV": '"production"' },
  });
  return made.outputFiles[0].text;
}
