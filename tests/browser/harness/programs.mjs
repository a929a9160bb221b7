// The gateway, as the real program at ports of the system's choice.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const STARTING_MS = 20_000;
const ANY_PORT = "127.0.0.1:0";

/** Starts the program and waits for a line of its output from which `found` makes something. */
async function start(command, found) {
  const child = spawn(process.env.SLUICEGATE_BINARY, command, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env.PATH, RUST_LOG: "info" },
  });
  const stopped = new Promise((done) => child.once("exit", done));
  const lines = [];
  const addresses = await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`the gateway did not start:\n${lines.join("\n")}`)), STARTING_MS);
    const take = (line) => {
      lines.push(line);
      const made = found(line);
      if (!made) return;
      clearTimeout(timer);
      resolve(made);
    };
    createInterface({ input: child.stdout }).on("line", take);
    createInterface({ input: child.stderr }).on("line", take);
    child.once("exit", () => reject(new Error(`the gateway ended:\n${lines.join("\n")}`)));
  });
  const stop = () => (child.kill(), stopped);
  return { ...addresses, lines, stop, signal: (name) => child.kill(name) };
}

const serving = (line) => {
  if (!line.includes('"serving"')) return null;
  const address = (name) => new RegExp(`"${name}":"([^"]+)"`).exec(line)?.[1];
  return { url: `http://${address("clients")}`, admin: `http://${address("admin")}` };
};

/** The demo, which needs no config and no key. */
export const startDemo = () => start(["demo", "--listen", ANY_PORT, "--admin-listen", ANY_PORT], serving);

/** The gateway with this config (an object); `listen` may name a fixed port. */
export async function startGateway(config, { listen = ANY_PORT } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "sluicegate-browser-"));
  const file = join(folder, "gateway.yaml");
  writeFileSync(file, JSON.stringify(config)); // JSON is YAML.
  const command = ["serve", "--config", file, "--listen", listen, "--admin-listen", ANY_PORT];
  const started = await start(command, serving);
  const stop = async () => {
    await started.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  return { ...started, stop };
}

/** A key for the config. */
export const keyEntry = (name, key, more = {}) => ({ name, sha256: createHash("sha256").update(key).digest("hex"), ...more });
