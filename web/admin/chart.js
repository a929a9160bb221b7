// A chart of the last five minutes, as SVG.

import { h } from "/web/shared/dom.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300; // samples
const HEIGHT = 100;

const svg = (name, attributes, ...children) => {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

/**
 * `lines` are `{ name, value(sample) }`; `shown(number)` is a value as people read it; `least` is the top of the axis
 * while all values are smaller; `binary` axes end at powers of two.
 */
export class Chart {
  #lines;
  #shown;
  #least;
  #binary;
  #samples = [];
  #pointed; // the sample under the pointer, from the right
  #paths;
  #area;
  #labels;
  #most;
  #cursor;
  #svg;

  constructor({ title, lines, shown, least = 1, binary = false }) {
    this.#lines = lines;
    this.#shown = shown;
    this.#least = least;
    this.#binary = binary;
    this.#paths = lines.map((_, at) => svg("path", { class: `line-${at}` }));
    this.#area = svg("path", { class: "area line-0" });
    this.#cursor = svg("line", { class: "cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
    const grid = [0, 0.5, 1].map((share) => svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: share * HEIGHT, y2: share * HEIGHT }));
    this.#svg = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, ...grid, this.#area, ...this.#paths, this.#cursor);
    this.#svg.setAttribute("aria-label", title);
    this.#labels = lines.map((_, at) => h("span", { class: `line-${at}` }));
    this.#most = h("span", { class: "most", "aria-hidden": "true" });
    const plot = h("div", { class: "plot" }, this.#svg, this.#most);
    plot.addEventListener("pointermove", (event) => this.#point(event));
    plot.addEventListener("pointerleave", () => this.#point());
    this.element = h(
      "figure",
      { class: "card chart" },
      h("figcaption", {}, h("h2", {}, title), h("div", { class: "legend" }, ...this.#labels)),
      plot,
      h("p", { class: "times", "aria-hidden": "true" }, h("span", {}, "5 min ago"), h("span", {}, "now")),
    );
  }

  draw(samples) {
    this.#samples = samples;
    const values = this.#lines.map(({ value }) => samples.map((sample) => value(sample) ?? null));
    const most = nice(this.#binary, Math.max(this.#least, ...values.flat().filter((value) => value !== null)));
    const x = (index) => WIDTH - samples.length + 1 + index;
    const y = (value) => round(HEIGHT * (1 - value / most));
    values.forEach((line, at) => this.#paths[at].setAttribute("d", path(line, x, y)));
    this.#area.setAttribute("d", values.length === 1 && values[0].length ? `${path(values[0].map((value) => value ?? 0), x, y)}V${HEIGHT}H${x(0)}Z` : "");
    this.#most.textContent = this.#shown(most);
    this.#tell();
  }

  #point(event) {
    const box = this.#svg.getBoundingClientRect();
    this.#pointed = event && Math.round(WIDTH * (1 - (event.clientX - box.left) / box.width));
    this.#tell();
  }

  /** The values of the newest sample, or of the one under the pointer. */
  #tell() {
    const back = this.#pointed;
    const sample = this.#samples.at(-1 - (back ?? 0));
    const told = sample ? this.#lines.map(({ name, value }) => `${name} ${this.#shown(value(sample))}`) : [];
    this.#labels.forEach((label, at) => (label.textContent = (told[at] ?? "") + (back > 0 && at === 0 && sample ? ` (${back} s ago)` : "")));
    this.#cursor.setAttribute("visibility", back > 0 && sample ? "visible" : "hidden");
    if (back > 0) for (const end of ["x1", "x2"]) this.#cursor.setAttribute(end, WIDTH - back);
    this.#svg.setAttribute("aria-label", `${this.element.querySelector("h2").textContent}: ${told.join(", ")}`);
  }
}

/** A line through the values that there are. */
function path(values, x, y) {
  let drawn = "";
  let before = null;
  values.forEach((value, index) => {
    if (value !== null) drawn += `${before === null ? "M" : "L"}${x(index)} ${y(value)}`;
    before = value;
  });
  return drawn;
}

/** The next of 1, 2, 5, 10, 20, …, or the next power of two. */
function nice(binary, value) {
  if (binary) return 2 ** Math.ceil(Math.log2(value) - 1e-9);
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

const round = (value) => Math.round(value * 100) / 100;
