// What is wrong now, in words.

import { bytes, duration, number, percent, plural, sum } from "./format.js";

/** What each limit protects, and what to do. */
const LIMITS = {
  replica_streams: ["bad", "streams that are open at once (limits.streams)"],
  memory: ["bad", "memory for requests (limits.memory)"],
  listeners: ["warn", "listeners to notifications (limits.listeners)"],
  address_requests: ["warn", "requests of one address (limits.per_ip)"],
  key_requests: ["warn", "requests of an API key"],
  key_tokens: ["warn", "tokens of an API key"],
  key_streams: ["warn", "open streams of an API key"],
};
/** From which share of failures something is bad, and from which it is worth a word. */
const BAD_SHARE = 0.5;
const WARN_SHARE = 0.05;
/** From which share of a limit its gauge is worth a word. */
const FULL = 0.9;
const SLOW_MS = 10_000;

export const limitName = (policy) => LIMITS[policy]?.[1] ?? policy;

/** How an upstream did in the last minute. */
export function upstreamState(samples, name) {
  const attempts = samples.inLastMinute((sample) => sample.upstreams?.[name]?.attempts_per_second);
  const errors = samples.countsInLastMinute((sample) => sample.upstreams?.[name]?.errors_per_second);
  const failed = sum(errors.map(([, count]) => count));
  const breakers = Object.keys(samples.last.upstreams?.[name]?.breakers ?? {});
  const found = { attempts, errors, failed, breakers, ...judged(failed, Math.max(attempts, failed)) };
  return breakers.length ? { ...found, level: "bad", word: "breaker open" } : found;
}

/** How a model's answers ended in the last minute. */
export function modelState(samples, name) {
  const errors = samples.inLastMinute((sample) => sample.models?.[name]?.errors_per_second);
  const requests = samples.inLastMinute((sample) => sample.models?.[name]?.requests_per_second);
  const open = samples.last.models?.[name]?.open_streams ?? 0;
  return { errors, requests, ...judged(errors, Math.max(errors, requests), open) };
}

function judged(failed, all, open = 0) {
  if (all === 0 && open > 0) return { level: "good", word: "fine" };
  if (all === 0) return { level: "idle", word: "idle" };
  const share = failed / all;
  if (failed === 0) return { level: "good", word: "fine" };
  if (share >= BAD_SHARE) return { level: "bad", word: "failing" };
  return share >= WARN_SHARE ? { level: "warn", word: "some errors" } : { level: "good", word: "mostly fine" };
}

/** Everything that is wrong, the worst first: `{ level: "bad" | "warn", text }`. */
export function problems(samples) {
  const now = samples.last;
  if (samples.lost || !now) return [{ level: "bad", text: "No samples arrive: the gateway is down, or this page lost its connection to it." }];
  const found = [];
  const add = (level, text) => found.push({ level, text });
  if (now.draining) add("warn", "This replica drains: it refuses new requests and stops when its open streams have ended.");
  if (!now.store_up) add("bad", "The shared state (Redis) does not answer: replicas count limits alone, and streams of other replicas cannot be read.");
  for (const name of Object.keys(now.upstreams ?? {})) {
    const { attempts, errors, failed, breakers, level } = upstreamState(samples, name);
    if (breakers.length) add("bad", `Upstream ${name}: it is not asked for ${breakers.join(", ")}, because it failed too often (breaker open).`);
    else if (level === "bad" || level === "warn") add(level, `Upstream ${name}: ${number(failed)} of ${plural(Math.max(attempts, failed), "request")} failed in the last minute, ${causes(errors)}.`);
  }
  for (const name of Object.keys(now.models ?? {})) {
    const { errors, requests, level } = modelState(samples, name);
    if (level === "bad" || level === "warn") add(level, `Model ${name}: ${number(errors)} of ${plural(Math.max(errors, requests), "answer")} ended in an error in the last minute.`);
  }
  for (const [policy, count] of samples.countsInLastMinute((sample) => sample.refusals_per_second)) {
    const [level] = LIMITS[policy] ?? ["warn"];
    add(level, `${plural(count, "request")} ${count === 1 ? "was" : "were"} refused in the last minute by the limit on ${limitName(policy)}.`.replace(/^o/, "O"));
  }
  for (const { name, used, limit, shown } of room(now)) {
    if (limit && used / limit >= FULL) add("warn", `${name}: ${percent(used / limit)} of the limit is in use (${shown(used)} of ${shown(limit)}).`);
  }
  const p50 = now.first_token_ms?.p50;
  if (p50 >= SLOW_MS) add("warn", `Half of the answers take ${duration(p50)} or longer to begin.`);
  return found.sort((one, other) => (one.level === "bad" ? 0 : 1) - (other.level === "bad" ? 0 : 1));
}

const causes = (errors) => errors.map(([code, count]) => `${code} ${number(count)} ×`).join(", ");

/** What is bounded, and how much of it is in use. */
export function room(now) {
  const limits = now.limits ?? {};
  return [
    { name: "Open streams", used: now.open_streams, limit: limits.streams, shown: number },
    { name: "Connections of clients", used: now.connections, limit: limits.connections, shown: number },
    { name: "Memory of requests", used: now.request_memory_bytes, limit: limits.memory, shown: bytes },
    { name: "Listeners", used: now.listeners, limit: limits.listeners, shown: number },
  ];
}
