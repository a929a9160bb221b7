// Bundles a test's React components for the browser. Nothing of the program is bundled.

import { build } from "esbuild";
import { join } from "node:path";

/** The bundle of `source` (JSX). `sluicegate` is the browser client of this repository. */
export async function bundle(source) {
  const made = await build({
    stdin: { contents: source, loader: "jsx", resolveDir: import.meta.dirname },
    alias: { sluicegate: join(process.env.SLUICEGATE_ROOT, "clients/js/sluicegate.js") },
    bundle: true,
    write: false,
    format: "esm",
    jsx: "automatic",
    define: { "process.env.NODE_ENV": '"production"' },
  });
  return made.outputFiles[0].text;
}
