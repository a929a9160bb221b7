// Draws Markdown while it arrives. Builds elements and text nodes only: what a model wrote never becomes markup.

import { bindCopy, h, icon } from "../shared/dom.js";
import { parseInline, plainText } from "./inline.js";
import { parseBlocks, splitLines } from "./markdown.js";

const DEEPEST = 24; // of nested elements in a paragraph; what is deeper is text

/** A growing text in `element`. Only the last block is drawn again when the text grows. */
export class MarkdownView {
  #element;
  #settled = 0; // the length of the text whose blocks will not change
  #tail = []; // elements of the blocks that may change
  #code = null; // the open code block at the end: `{ text, node, language }`

  constructor(element) {
    this.#element = element;
  }

  /** Draws `text`, which begins with the text that was drawn before. */
  update(text) {
    const rest = text.slice(this.#settled);
    const lines = splitLines(rest);
    const blocks = parseBlocks(lines);
    if (this.#append(blocks)) return;
    for (const element of this.#tail) element.remove();
    this.#tail = blocks.map(drawBlock);
    this.#element.append(...this.#tail);
    this.#remember(blocks);
    // A block is final when the first line of the next one is: then nothing can change what it is.
    const last = blocks.findLastIndex(({ line }, at) => at > 0 && line < lines.length - 1);
    if (last > 0) {
      this.#settled += offsetOf(rest, blocks[last].line);
      this.#tail.splice(0, last);
    }
  }

  /** Appends to the open code block, which can be long. `false` if there is more to do. */
  #append(blocks) {
    const [block] = blocks;
    if (!this.#code || blocks.length !== 1 || block.type !== "code" || block.language !== this.#code.language || !block.open) return false;
    if (!block.text.startsWith(this.#code.text)) return false;
    this.#code.node.append(block.text.slice(this.#code.text.length));
    this.#code.text = block.text;
    return true;
  }

  #remember(blocks) {
    const block = blocks.at(-1);
    const open = blocks.length === 1 && block.type === "code" && block.open;
    this.#code = open ? { text: block.text, language: block.language, node: this.#tail[0].querySelector("code") } : null;
  }
}

/** Where the line with this number begins. */
function offsetOf(text, line) {
  const breaks = /\r\n|\n|\r/g;
  for (let at = 0; at < line; at++) breaks.exec(text);
  return breaks.lastIndex;
}

/** The element of a block. */
function drawBlock(block) {
  switch (block.type) {
    case "code":
      return drawCode(block);
    case "heading":
      // The page has the levels 1 to 3.
      return h(`h${Math.min(6, block.level + 3)}`, { "data-level": block.level }, drawInline(block.text));
    case "rule":
      return h("hr");
    case "quote":
      return h("blockquote", {}, block.blocks.map(drawBlock));
    case "list":
      return h(block.ordered ? "ol" : "ul", { start: block.first === 1 ? null : block.first }, block.items.map((item) => h("li", {}, drawItem(item, block.loose))));
    case "table":
      return drawTable(block);
    default:
      return h("p", {}, drawInline(block.text));
  }
}

function drawItem(blocks, loose) {
  const [first, ...rest] = blocks;
  if (first?.type !== "paragraph") return blocks.map(drawBlock);
  const task = /^\[([ xX])\] /.exec(first.text);
  const text = drawInline(task ? first.text.slice(4) : first.text);
  const box = task && h("input", { type: "checkbox", disabled: true, checked: task[1] !== " ", "aria-label": task[1] === " " ? "not done" : "done" });
  return [box, box && " ", loose ? h("p", {}, text) : text, rest.map(drawBlock)];
}

function drawCode({ text, language }) {
  const label = language || "text";
  const code = h("code", {}, text);
  const button = h("button", { class: "quiet", type: "button", "aria-label": `Copy code (${label})` }, icon("copy"), h("span", {}, "Copy"));
  bindCopy(button, () => code.textContent);
  // The block scrolls sideways, so it takes the keyboard's focus.
  return h("figure", { class: "code" }, h("figcaption", {}, h("span", {}, label), button), h("pre", { tabindex: "0", "aria-label": `Code (${label})`, role: "region" }, code));
}

function drawTable({ align, head, rows }) {
  const row = (name, texts) => h("tr", {}, texts.map((text, column) => h(name, { class: align[column] === "left" ? null : align[column] }, drawInline(text))));
  return h("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Table" }, h("table", {}, h("thead", {}, row("th", head)), h("tbody", {}, rows.map((texts) => row("td", texts)))));
}

const drawInline = (text) => drawNodes(parseInline(text), 0);

function drawNodes(nodes, depth) {
  if (depth > DEEPEST) return [plainText(nodes)];
  return nodes.map((node) => {
    switch (node.type) {
      case "text":
        return node.text;
      case "break":
        return h("br");
      case "code":
        return h("code", {}, node.text);
      case "link":
        return h("a", { href: node.href, target: "_blank", rel: "noopener noreferrer nofollow", title: node.href }, drawNodes(node.children, depth + 1));
      default:
        return h(node.type, {}, drawNodes(node.children, depth + 1));
    }
  });
}
