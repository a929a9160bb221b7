// One answer on the page: drawn at most once per frame, and only what is new.

import { bindCopy, h, icon, setText } from "../shared/dom.js";
import { isRunning } from "./conversation.js";
import { describeEnd, explain } from "./errors.js";
import { safeAddress } from "./inline.js";
import { MarkdownView } from "./markdown-view.js";

export class AnswerView {
  #answer;
  #actions;
  #parts = {};
  #shown = { reasoning: 0, sources: 0, calls: "", error: null };
  #markdown;

  /** `actions`: `{ stop, retry, showCode, showEvents, share }`, each called with the answer. */
  constructor(answer, actions) {
    this.#answer = answer;
    this.#actions = actions;
    const part = (name, element) => (this.#parts[name] = element);
    const button = (name, label, symbol, run) => part(name, h("button", { class: "quiet", type: "button", onclick: run && (() => run(answer)) }, icon(symbol), h("span", {}, label)));
    const named = `${answer.model}: `;
    this.element = h("article", { class: "answer", "aria-label": `Answer of ${answer.model}`, tabindex: "-1" },
      h("header", {}, part("model", h("h3", {}, answer.model)), part("upstream", h("span", { class: "soft small" }))),
      part("reasoning", h("details", { class: "reasoning", hidden: true }, part("summary", h("summary", {}, "Reasoning")), part("reasoningText", h("div", { class: "plain" })))),
      part("text", h("div", { class: "prose", dir: "auto" })),
      part("calls", h("div", { class: "calls", hidden: true })),
      part("sources", h("section", { class: "sources", hidden: true, "aria-label": `${named}sources` }, h("h4", {}, "Sources"), part("sourceList", h("ol")))),
      part("waiting", h("p", { class: "waiting soft small" }, h("span", { class: "dots", "aria-hidden": "true" }, h("i"), h("i"), h("i")), part("status", h("span")))),
      part("ending", h("p", { class: "ending soft small", hidden: true })),
      part("error", h("div", { hidden: true })),
      part("figures", h("p", { class: "figures soft small" })),
      h("div", { class: "tools" },
        button("stop", "Stop", "stop", actions.stop),
        bindCopy(button("copy", "Copy", "copy"), () => answer.text),
        button("retry", "Regenerate", "retry", actions.retry),
        button("code", "Code", "code", actions.showCode),
        button("events", "Events", "list", actions.showEvents),
        button("share", "Share", "share", actions.share),
      ),
    );
    this.#markdown = new MarkdownView(this.#parts.text);
  }

  /** Draws what changed. */
  draw() {
    const running = isRunning(this.#answer);
    this.#drawText();
    this.#drawCalls();
    this.#drawSources();
    this.#drawEnd(running);
    this.#drawFigures(running);
  }

  #drawText() {
    const { text, reasoning, start, model } = this.#answer;
    const { summary, upstream } = this.#parts;
    if (reasoning.length > this.#shown.reasoning) {
      this.#parts.reasoning.hidden = false;
      this.#parts.reasoningText.append(reasoning.slice(this.#shown.reasoning));
      this.#shown.reasoning = reasoning.length;
      setText(summary, `Reasoning (${reasoning.split(/\s+/).filter(Boolean).length} words)`);
    }
    if (text) this.#markdown.update(text);
    if (this.#answer.watched && start) setText(this.#parts.model, start.model);
    const by = start?.upstream ? `${start.upstream} · ${start.upstream_model}` : "";
    setText(upstream, by === model ? "" : by);
  }

  #drawCalls() {
    const calls = this.#answer.calls.filter(Boolean);
    const seen = calls.map((call) => `${call.name}${call.arguments.length}`).join();
    if (seen === this.#shown.calls) return;
    this.#shown.calls = seen;
    this.#parts.calls.hidden = false;
    this.#parts.calls.replaceChildren(...calls.map(drawCall));
  }

  #drawSources() {
    const { sources } = this.#answer;
    for (const [at, source] of sources.entries()) {
      // One page can support several places of the text.
      const known = sources.findIndex(({ url, text }) => url === source.url && text === source.text);
      if (at >= this.#shown.sources && known === at) this.#parts.sourceList.append(drawSource(source));
    }
    this.#parts.sources.hidden = sources.length === 0;
    this.#shown.sources = sources.length;
  }

  #drawEnd(running) {
    const answer = this.#answer;
    const { waiting, status, ending, error, stop, copy, retry, code, share } = this.#parts;
    const quiet = running && !answer.status && answer.firstAt !== null;
    this.element.setAttribute("aria-busy", String(running));
    waiting.hidden = !running;
    setText(status, quiet ? "" : answer.status || "Waiting for the first token …");
    const end = answer.end ? describeEnd(answer.end.finish_reason) : "";
    ending.hidden = !end;
    setText(ending, end);
    stop.hidden = !running || answer.watched;
    copy.hidden = running || !answer.text;
    retry.hidden = running || answer.watched || Boolean(answer.error);
    share.hidden = !answer.stream || answer.unresumable;
    code.hidden = !answer.request;
    if (answer.error && this.#shown.error !== answer.error) {
      this.#shown.error = answer.error;
      const again = answer.watched ? null : () => this.#actions.retry(answer);
      error.replaceWith((this.#parts.error = drawError(answer.error, again)));
    }
  }

  #drawFigures(running) {
    const { end, firstAt, sentAt, pieces, error } = this.#answer;
    const shown = [];
    const timing = end?.timing;
    const first = timing?.first_token_ms ?? (firstAt && firstAt - sentAt);
    if (first !== null && first !== undefined) shown.push(`first token ${seconds(first)}`);
    const total = timing ? timing.total_ms - timing.first_token_ms : firstAt && Date.now() - firstAt;
    const tokens = end?.usage?.output_tokens ?? pieces;
    const about = end?.usage?.output_tokens ? "" : "≈ ";
    if ((running || end) && total > 200 && tokens > 1) shown.push(`${about}${Math.round((tokens / total) * 1000)} tokens/s`);
    if (end?.usage) {
      const { input_tokens: input, output_tokens: output, cached_input_tokens: cached, reasoning_tokens: reasoning } = end.usage;
      shown.push(`${input ?? "?"} tokens in${cached ? ` (${cached} cached)` : ""}`, `${output ?? "?"} out${reasoning ? ` (${reasoning} reasoning)` : ""}`);
    } else if (running && pieces) {
      shown.push(`≈ ${pieces} tokens`);
    }
    if (timing) shown.push(`${seconds(timing.total_ms)} in all`);
    if (end?.attempts?.length > 1) shown.push(`${end.attempts.length} attempts`);
    if (!error || shown.length) setText(this.#parts.figures, shown.join(" · "));
  }
}

const seconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`);

function drawCall(call) {
  let text = call.arguments;
  try {
    text = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // Not complete yet: shown as it is.
  }
  return h("section", { class: "call", "aria-label": `Tool call ${call.name}` },
    h("h4", {}, icon("tool"), h("span", { class: "soft" }, "Tool call"), h("code", {}, call.name), h("span", { class: "soft small mono" }, call.id)),
    h("pre", { tabindex: "0", role: "region", "aria-label": `Arguments of ${call.name}` }, h("code", {}, text)));
}

function drawSource({ url, title, text }) {
  const href = url && safeAddress(url);
  const name = title || url || "Source";
  const host = href ? new URL(href).host : "";
  return h("li", {},
    href ? h("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, name) : h("span", {}, name),
    host && host !== name && h("span", { class: "soft small" }, ` ${host}`),
    text && h("q", { class: "soft small" }, text));
}

function drawError(error, again) {
  const { title, meaning, message, details, wait } = explain(error);
  const button = again && h("button", { type: "button", onclick: again }, icon("retry"), "Try again");
  return h("div", { class: "notice bad error", role: "alert" },
    h("h4", {}, icon("warn"), title),
    h("p", {}, meaning),
    message && h("p", { class: "message" }, message),
    wait > 0 && h("p", {}, `The gateway asks to wait ${wait} s.`),
    h("p", { class: "small mono" }, details),
    button);
}
