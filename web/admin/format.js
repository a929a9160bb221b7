// Numbers as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

/** A count or a rate: three digits where it is small. */
export const number = (value) => (value === null || value === undefined ? "–" : Math.abs(value) >= 100 ? whole.format(value) : short.format(value));

/** Milliseconds, as seconds where there are many. */
export const duration = (ms) => (ms === null || ms === undefined ? "–" : ms >= 1000 ? `${short.format(ms / 1000)} s` : `${number(ms)} ms`);

/** Seconds since something began. */
export function age(seconds) {
  if (seconds < 60) return `${number(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

/** The same, as short as it can be. */
export function uptime(seconds) {
  const [count, unit] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([size]) => seconds >= size) ?? [1, "s"];
  return `${Math.floor(seconds / count)} ${unit}`;
}

/** A number of bytes. */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${short.format(value)} ${units[unit]}`;
}

export const percent = (share) => `${number(Math.round(share * 1000) / 10)} %`;

/** `one stream`, `2 streams`. */
export const plural = (count, noun) => (count === 1 ? `one ${noun}` : `${number(count)} ${noun}s`);

export const sum = (numbers) => numbers.reduce((total, each) => total + (each ?? 0), 0);
