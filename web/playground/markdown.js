// Markdown blocks: lines become a list of blocks. No DOM, so that it can be tested anywhere.
//
// Blocks: `paragraph` and `heading` (`text`), `code` (`text`, `language`, `open`), `rule`, `quote` (`blocks`),
// `list` (`ordered`, `first`, `loose`, `items`: lists of blocks), `table` (`align`, `head`, `rows`: texts of cells).
// Each has `line`, where it begins. HTML is text.

const DEEPEST = 12; // of nested quotes and lists; what is deeper is a paragraph
const FENCE = /^( {0,3})(`{3,}|~{3,})[ \t]*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$/;
const RULE = /^ {0,3}(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?:( {1,4})(?=\S)|[ \t]*$| +)/;
const DELIMITERS = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

export const splitLines = (text) => text.replaceAll("\t", "    ").split(/\r\n|\n|\r/);

/** The blocks of some lines. */
export function parseBlocks(lines, depth = 0) {
  const blocks = [];
  for (let at = 0; at < lines.length; ) {
    if (!lines[at].trim()) {
      at++;
      continue;
    }
    const [block, next] = parseBlock(lines, at, depth);
    blocks.push({ ...block, line: at });
    at = next;
  }
  return blocks;
}

function parseBlock(lines, at, depth) {
  const line = lines[at];
  let found;
  if ((found = FENCE.exec(line))) return parseCode(lines, at, found);
  if ((found = HEADING.exec(line))) return [{ type: "heading", level: found[1].length, text: found[2] ?? "" }, at + 1];
  if (RULE.test(line)) return [{ type: "rule" }, at + 1];
  if (depth < DEEPEST && QUOTE.test(line)) return parseQuote(lines, at, depth);
  if (depth < DEEPEST && ITEM.test(line)) return parseList(lines, at, depth);
  if (beginsTable(lines, at)) return parseTable(lines, at);
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !interrupts(lines, end, depth)) end++;
  // Two spaces at the end of a line break it; those at the start mean nothing.
  const text = lines.slice(at, end).map((each) => each.trimStart()).join("\n").trimEnd();
  return [{ type: "paragraph", text }, end];
}

/** Whether a line inside a paragraph begins another block. */
function interrupts(lines, at, depth) {
  const line = lines[at];
  if (FENCE.test(line) || HEADING.test(line) || RULE.test(line) || beginsTable(lines, at)) return true;
  if (depth >= DEEPEST) return false;
  const item = ITEM.exec(line);
  // "…in\n2019. It was…" is no list.
  return QUOTE.test(line) || Boolean(item && line.length > item[0].length && !/^(?!1[.)])\d/.test(item[2]));
}

function parseCode(lines, at, [, indent, fence, info]) {
  const closing = new RegExp(`^ {0,3}${fence[0] === "`" ? "`" : "~"}{${fence.length},}[ \t]*$`);
  const margin = new RegExp(`^ {0,${indent.length}}`);
  let end = at + 1;
  while (end < lines.length && !closing.test(lines[end])) end++;
  const text = lines.slice(at + 1, end).map((line) => line.replace(margin, "")).join("\n");
  const language = info.trim().split(/\s+/)[0];
  return [{ type: "code", text, language, open: end >= lines.length }, Math.min(end + 1, lines.length)];
}

function parseQuote(lines, at, depth) {
  const inside = [];
  let end = at;
  for (; end < lines.length; end++) {
    const line = lines[end];
    const continues = inside.at(-1)?.trim() && line.trim() && !interrupts(lines, end, depth);
    if (!QUOTE.test(line) && !continues) break;
    inside.push(line.replace(QUOTE, ""));
  }
  return [{ type: "quote", blocks: parseBlocks(inside, depth + 1) }, end];
}

const indentOf = (line) => line.length - line.trimStart().length;

function parseList(lines, at, depth) {
  const [, , marker] = ITEM.exec(lines[at]);
  const ordered = /\d/.test(marker);
  /** The start of another item of this list. */
  const match = (line) => {
    const found = RULE.test(line) ? null : ITEM.exec(line);
    return found && (ordered ? /\d/.test(found[2]) : found[2] === marker) ? found : null;
  };
  const items = [];
  let loose = false;
  let end = at;
  while (end < lines.length) {
    const found = match(lines[end]);
    if (!found) break;
    const indent = found[1].length;
    const content = indent + found[2].length + (found[3]?.length ?? 1);
    const inside = [lines[end].slice(content)];
    for (end++; end < lines.length; end++) {
      const line = lines[end];
      if (!line.trim()) inside.push("");
      // Models often nest by two spaces, where CommonMark asks for the width of the marker.
      else if (indentOf(line) >= Math.min(content, indent + 2)) inside.push(line.slice(Math.min(indentOf(line), content)));
      else if (inside.at(-1) && !ITEM.test(line) && !interrupts(lines, end, depth)) inside.push(line);
      else break;
    }
    const trailing = inside.at(-1) === "" && end < lines.length && match(lines[end]);
    while (inside.length > 1 && !inside.at(-1)) inside.pop();
    const blank = inside.indexOf("", 1);
    const follows = blank > 0 && inside.find((line, place) => place > blank && line);
    loose ||= Boolean(trailing || (follows && !ITEM.test(follows)));
    items.push(parseBlocks(inside, depth + 1));
  }
  return [{ type: "list", ordered, first: ordered ? Number.parseInt(marker, 10) : 1, loose, items }, end];
}

/** The cells of a table's row. `\|` is no border; a border inside of code is one, as on GitHub. */
function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/(^|[^\\])\|$/, "$1");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function beginsTable(lines, at) {
  const next = lines[at + 1];
  return Boolean(next && lines[at].includes("|") && DELIMITERS.test(next) && cells(next).length === cells(lines[at]).length);
}

function parseTable(lines, at) {
  const align = cells(lines[at + 1]).map((cell) => {
    const [left, right] = [cell.startsWith(":"), cell.endsWith(":")];
    return right ? (left ? "center" : "right") : "left";
  });
  const head = cells(lines[at]);
  const rows = [];
  let end = at + 2;
  for (; end < lines.length && lines[end].trim() && lines[end].includes("|"); end++) {
    const row = cells(lines[end]);
    rows.push(head.map((_, column) => row[column] ?? ""));
  }
  return [{ type: "table", align, head, rows }, end];
}
