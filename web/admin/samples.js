// The samples of the last minutes, from `/metrics-stream`.

import { sum } from "./format.js";

const KEPT = 300;
const MINUTE = 60;
/** How long a sample may be late before the page says so. */
const LATE_MS = 5000;

/**
 * Calls `changed(samples)` for every sample, and when none comes any more. The browser connects again by itself
 * where a connection breaks, except where the answer was an error: then this does.
 */
export function follow(changed) {
  const samples = new Samples();
  let timer;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      samples.lost = true;
      changed(samples);
      if (source.readyState === EventSource.CLOSED) connect();
      wait();
    }, LATE_MS);
  };
  let source;
  const connect = () => {
    source = new EventSource("/metrics-stream?history=1");
    source.addEventListener("history", (event) => samples.begin(JSON.parse(event.data)));
    source.addEventListener("metrics", (event) => {
      samples.add(JSON.parse(event.data));
      changed(samples);
      wait();
    });
  };
  connect();
  wait();
  addEventListener("pagehide", () => source.close());
  // A page that comes back from the browser's cache.
  addEventListener("pageshow", (event) => event.persisted && connect());
}

class Samples {
  all = [];
  lost = false;

  begin(history) {
    this.all = history.slice(-KEPT);
  }

  add(sample) {
    this.lost = false;
    this.all.push(sample);
    if (this.all.length > KEPT) this.all.shift();
  }

  get last() {
    return this.all.at(-1);
  }

  /** How often something happened in the last minute; `rate` finds its rate in a sample. */
  inLastMinute(rate) {
    // A sample covers a second.
    return Math.round(sum(this.all.slice(-MINUTE).map((sample) => rate(sample))));
  }

  /** The same by name: `rates` finds an object of rates in a sample. */
  countsInLastMinute(rates) {
    const counts = {};
    for (const sample of this.all.slice(-MINUTE)) {
      for (const [name, rate] of Object.entries(rates(sample) ?? {})) counts[name] = (counts[name] ?? 0) + rate;
    }
    const rounded = Object.entries(counts).map(([name, count]) => [name, Math.round(count)]);
    return rounded.filter(([, count]) => count > 0).sort((one, other) => other[1] - one[1]);
  }
}
