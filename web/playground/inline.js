// Markdown inside a paragraph: a text becomes a tree of nodes. No DOM, so that it can be tested anywhere.
//
// Nodes: `{ type: "text" | "code", text }`, `{ type: "break" }`, `{ type: "strong" | "em" | "del" | "link", children, href? }`.
// The time is linear in the text: every loop either advances or is bounded.

const LONGEST_TARGET = 2000;
const SPECIAL = /[\\`*_~[\]!<\n]|https?:\/\//g;
const PUNCTUATION = /[\p{P}\p{S}]/u;

/** The nodes of a text. */
export function parseInline(text) {
  return new Inline(text).parse();
}

/** The address of a link that may be followed; null for anything but web pages and e-mail of others. */
export function safeAddress(target) {
  let url;
  try {
    url = new URL(target);
  } catch {
    return null; // A relative address would call this gateway.
  }
  if (!["http:", "https:", "mailto:"].includes(url.protocol)) return null;
  // A link to this gateway could ask a model by a click.
  return url.origin === globalThis.location?.origin ? null : url.href;
}

class Inline {
  #text;
  #at = 0;
  #nodes = []; // also delimiters (`run`) and brackets, until they are resolved
  #brackets = []; // indexes into #nodes
  #ticks; // by length, where runs of backticks begin

  constructor(text) {
    this.#text = text;
  }

  parse() {
    const text = this.#text;
    while (this.#at < text.length) {
      SPECIAL.lastIndex = this.#at;
      const found = SPECIAL.exec(text);
      if (!found) {
        this.#plain(text.slice(this.#at));
        break;
      }
      if (found.index > this.#at) this.#plain(text.slice(this.#at, found.index));
      this.#at = found.index;
      this.#special(found[0]);
    }
    return resolve(this.#nodes);
  }

  #plain(text) {
    const last = this.#nodes.at(-1);
    if (last?.type === "text" && !last.run && !last.bracket) last.text += text;
    else this.#nodes.push({ type: "text", text });
  }

  #take(length) {
    this.#plain(this.#text.slice(this.#at, this.#at + length));
    this.#at += length;
  }

  #special(mark) {
    const text = this.#text;
    const next = text[this.#at + 1] ?? "";
    switch (mark) {
      case "\\":
        if (next === "\n") return this.#push({ type: "break" }, 2);
        if (!next || !/[!-/:-@[-`{-~]/.test(next)) return this.#take(1);
        this.#plain(next);
        this.#at += 2;
        return;
      case "\n": {
        const last = this.#nodes.at(-1);
        const hard = last?.type === "text" && !last.run && / {2,}$/.test(last.text.slice(-20));
        if (hard) last.text = last.text.trimEnd();
        return hard ? this.#push({ type: "break" }, 1) : this.#take(1);
      }
      case "`":
        return this.#code();
      case "*":
      case "_":
      case "~":
        return this.#run(mark);
      case "!":
        return next === "[" ? this.#bracket(2) : this.#take(1);
      case "[":
        return this.#bracket(1);
      case "]":
        return this.#closeBracket();
      case "<": {
        const address = /^<((?:https?:\/\/|mailto:)[^\s<>]{1,2000})>/.exec(text.slice(this.#at, this.#at + LONGEST_TARGET + 20));
        return address ? this.#link(address[1], address[0].length) : this.#take(1);
      }
      default:
        return this.#address();
    }
  }

  #push(node, length) {
    this.#nodes.push(node);
    this.#at += length;
  }

  #code() {
    const length = /^`+/.exec(this.#text.slice(this.#at))[0].length;
    if (!this.#ticks) {
      this.#ticks = new Map();
      for (const run of this.#text.matchAll(/`+/g)) {
        const places = this.#ticks.get(run[0].length) ?? [];
        if (!places.length) this.#ticks.set(run[0].length, places);
        places.push(run.index);
      }
    }
    const places = this.#ticks.get(length) ?? [];
    while (places.length && places[0] < this.#at + length) places.shift();
    if (!places.length) return this.#take(length);
    let code = this.#text.slice(this.#at + length, places[0]).replaceAll("\n", " ");
    if (code.startsWith(" ") && code.endsWith(" ") && code.trim()) code = code.slice(1, -1);
    this.#push({ type: "code", text: code }, places[0] + length - this.#at);
  }

  /** A run of `*`, `_` or `~`, which may open or close emphasis. */
  #run(mark) {
    let length = 1;
    while (this.#text[this.#at + length] === mark) length++;
    if (mark === "~" && length !== 2) return this.#take(length);
    const before = this.#text[this.#at - 1] ?? " ";
    const after = this.#text[this.#at + length] ?? " ";
    const space = [/\s/.test(before), /\s/.test(after)];
    const sign = [PUNCTUATION.test(before), PUNCTUATION.test(after)];
    const left = !space[1] && (!sign[1] || space[0] || sign[0]);
    const right = !space[0] && (!sign[0] || space[1] || sign[1]);
    const opens = mark === "_" ? left && (!right || sign[0]) : left;
    const closes = mark === "_" ? right && (!left || sign[1]) : right;
    this.#push({ type: "text", text: mark.repeat(length), run: { mark, length, opens, closes } }, length);
  }

  #bracket(length) {
    this.#brackets.push(this.#nodes.length);
    this.#push({ type: "text", text: this.#text.slice(this.#at, this.#at + length), bracket: true }, length);
  }

  #closeBracket() {
    const opened = this.#brackets.pop();
    if (opened === undefined) return this.#take(1);
    const target = this.#target(this.#at + 1);
    if (!target) return this.#take(1);
    const children = resolve(this.#nodes.splice(opened).slice(1));
    this.#brackets = []; // Links do not contain links.
    const href = safeAddress(target.address);
    // An image is not loaded, because its address could carry the conversation away: it is a link.
    this.#push(href ? { type: "link", href, children } : { type: "text", text: plainText(children) }, target.end - this.#at);
  }

  /** The address and the end of `(address "title")` at `from`. */
  #target(from) {
    if (this.#text[from] !== "(") return null;
    const rest = this.#text.slice(from, from + LONGEST_TARGET);
    const found = /^\(\s*(?:<([^<>\n]*)>|((?:[^\s()\\]|\\.|\([^\s()]*\))*))(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/.exec(rest);
    return found && { address: (found[1] ?? found[2]).replace(/\\(.)/g, "$1"), end: from + found[0].length };
  }

  /** A bare address, without the punctuation of the sentence. */
  #address() {
    let address = /^[^\s<>`*"]{1,2000}/.exec(this.#text.slice(this.#at, this.#at + LONGEST_TARGET))[0];
    for (;;) {
      const last = address.at(-1);
      const unbalanced = (open, close) => last === close && address.split(close).length > address.split(open).length;
      if (/[.,;:!?'_~]/.test(last) || unbalanced("(", ")") || unbalanced("[", "]")) address = address.slice(0, -1);
      else break;
    }
    this.#link(address, address.length);
  }

  #link(address, length) {
    const href = safeAddress(address);
    if (!href) return this.#take(length);
    this.#push({ type: "link", href, children: [{ type: "text", text: address }] }, length);
  }
}

/** Turns pairs of runs into emphasis. https://spec.commonmark.org/0.31.2/#phase-2-inline-structure */
function resolve(nodes) {
  const made = [];
  const openers = []; // places in `made` of runs that may still open
  const failed = {}; // by kind of closer, how many openers below were looked through in vain
  for (const node of nodes) {
    made.push(node);
    if (!node.run) continue;
    const { run } = node;
    const kind = `${run.mark}${run.opens}${run.length % 3}`;
    while (run.closes && run.length > 0) {
      let at = openers.length - 1;
      while (at >= (failed[kind] ?? 0) && !matches(made[openers[at]].run, run)) at--;
      if (at < (failed[kind] ?? 0)) {
        failed[kind] = openers.length;
        break;
      }
      join(made, openers, at, node);
      for (const other of Object.keys(failed)) failed[other] = Math.min(failed[other], openers.length);
    }
    if (run.opens && run.length > 0) openers.push(made.length - 1);
  }
  return tidy(made);
}

/** Joins texts that follow one another and leaves out what only the parser needs. */
function tidy(nodes) {
  const made = [];
  for (const { type, text, children, href } of nodes) {
    if (children) made.push(href ? { type, children, href } : { type, children });
    else if (type === "break") made.push({ type });
    else if (type === "text" && made.at(-1)?.type === "text") made.at(-1).text += text;
    else if (text !== "" || type === "code") made.push({ type, text });
  }
  return made;
}

function matches(opener, closer) {
  if (opener.mark !== closer.mark || opener.length === 0) return false;
  // Rule 9: `*foo**bar*` is one emphasis.
  const both = (opener.closes || closer.opens) && (opener.total ?? opener.length) % 3 !== 0;
  return !(both && (opener.length + closer.length) % 3 === 0);
}

/** Puts what is between the opener and the closer, which is the last node, into an element. */
function join(made, openers, at, closer) {
  const place = openers[at];
  const opener = made[place];
  const used = closer.run.mark === "~" || (opener.run.length >= 2 && closer.run.length >= 2) ? 2 : 1;
  const type = closer.run.mark === "~" ? "del" : used === 2 ? "strong" : "em";
  made.pop();
  const children = tidy(made.splice(place + 1));
  for (const side of [opener, closer]) {
    side.run.total ??= side.run.length;
    side.run.length -= used;
    side.text = side.text.slice(used);
  }
  made.push({ type, children }, closer);
  openers.length = opener.run.length > 0 ? at + 1 : at;
}

/** The text of nodes without their form. */
export function plainText(nodes) {
  const pieces = [];
  const stack = [...nodes].reverse();
  while (stack.length) {
    const node = stack.pop();
    if (node.children) for (let at = node.children.length - 1; at >= 0; at--) stack.push(node.children[at]);
    else pieces.push(node.type === "break" ? "\n" : node.text);
  }
  return pieces.join("");
}
