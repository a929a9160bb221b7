// Builds elements. Text is always a text node, so nothing that a model or a client wrote becomes markup.

/**
 * `h("button", { class: "quiet", onclick: run }, "Stop")`. Properties that start with `on` are listeners; `null`,
 * `undefined` and `false` are left out; children are elements, texts, lists of them, or nothing.
 */
export function h(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export const $ = (selector, within = document) => within.querySelector(selector);

/** Sets the text only where it changes: screen readers repeat a live region whose text is set again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  gate: "M3 4h18M6 4v16M18 4v16M6 9h12M9 9v5h6V9M3 20c1.5-1.5 3-1.5 4.5 0s3 1.5 4.5 0 3-1.5 4.5 0 3 1.5 4.5 0",
  send: "M12 19V5M5 12l7-7 7 7",
  stop: "M7 7h10v10H7z",
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6L6 18",
  settings: "M4 7h10M18 7h2M4 17h2M10 17h10M16 5v4M8 15v4",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9h.01",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  retry: "M4 12a8 8 0 1 1 2.3 5.7M4 20v-5h5",
  edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  code: "M8 7l-5 5 5 5M16 7l5 5-5 5",
  list: "M8 6h12M8 12h12M8 18h12M4 6h.01M4 12h.01M4 18h.01",
  share: "M12 15V4M8 8l4-4 4 4M5 13v7h14v-7",
  down: "M12 5v14M5 12l7 7 7-7",
  warn: "M12 4L2.5 20h19zM12 10v4M12 17h.01",
  tool: "M14 6a4 4 0 0 0-5 5l-6 6 3 3 6-6a4 4 0 0 0 5-5l-2.5 2.5-3-3z",
  eye: "M2 12s4-7 10-7 10 7 10 7-4 7-10 7-10-7-10-7zM12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6",
};

/** An icon for the eye only: the element around it has a name. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const attributes = { viewBox: "0 0 24 24", fill: "none", stroke: "currentColor", "stroke-width": "2", "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true" };
  for (const [key, value] of Object.entries(attributes)) svg.setAttribute(key, value);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Makes a button copy what `text()` returns; its last child, a label, says for a moment whether it worked. */
export function bindCopy(button, text) {
  const label = button.lastChild;
  const usual = label.textContent;
  button.addEventListener("click", async () => {
    setText(label, (await copyText(text())) ? "Copied" : "Not copied");
    setTimeout(() => setText(label, usual), 2000);
  });
  return button;
}

/** Copies a text, also where the page has no clipboard (plain HTTP on another host than loopback). */
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { class: "visually-hidden", "aria-hidden": "true" });
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied;
  }
}
