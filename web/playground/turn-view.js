// One turn on the page: the question, which can be edited, and its answers side by side.

import { $, bindCopy, h, icon } from "../shared/dom.js";
import { AnswerView } from "./answer-view.js";

export class TurnView {
  #turn;
  #actions;
  #views = new Map(); // answer → its view
  #dirty = new Set();

  /** `actions`: those of `AnswerView`, called with `(turn, answer)`, and `edit(turn, text)`. */
  constructor(turn, actions) {
    this.#turn = turn;
    this.#actions = actions;
    this.element = h("section", { class: "turn", "aria-label": "Question and answer" },
      h("div", { class: "question" }),
      h("div", { class: "answers" }));
    this.#drawQuestion();
    for (const answer of turn.answers) this.add(answer);
  }

  /** Shows an answer; in the place of `old`, if given. */
  add(answer, old) {
    const bound = Object.fromEntries(["stop", "retry", "showCode", "showEvents", "share"].map((name) => [name, (of) => this.#actions[name](this.#turn, of)]));
    const view = new AnswerView(answer, bound);
    const place = old && this.#views.get(old);
    if (place) {
      const focused = place.element.contains(document.activeElement);
      place.element.replaceWith(view.element);
      this.#views.delete(old);
      this.#dirty.delete(old);
      if (focused) view.element.focus({ preventScroll: true });
    } else {
      $(".answers", this.element).append(view.element);
    }
    this.#views.set(answer, view);
    this.#dirty.add(answer);
    $(".answers", this.element).dataset.count = this.#views.size;
  }

  mark(answer) {
    if (this.#views.has(answer)) this.#dirty.add(answer);
  }

  get isDirty() {
    return this.#dirty.size > 0;
  }

  /** Draws what changed. */
  draw() {
    for (const answer of this.#dirty) this.#views.get(answer).draw();
    this.#dirty.clear();
  }

  #drawQuestion() {
    const { text, images, watched } = this.#turn;
    const place = $(".question", this.element);
    const copy = bindCopy(h("button", { class: "quiet", type: "button", "aria-label": "Copy question" }, icon("copy"), h("span", {}, "Copy")), () => text);
    place.replaceChildren(
      h("h2", { class: "visually-hidden" }, "Question"),
      h("div", { class: "bubble plain", dir: "auto", tabindex: "0", role: "group", "aria-label": "Your question" }, text, images.length > 0 && h("div", { class: "thumbs" }, images.map((url, at) => h("img", { src: url, alt: `Attached image ${at + 1}` })))),
      h("div", { class: "tools" },
        !watched && h("button", { class: "quiet", type: "button", "aria-label": "Edit question", onclick: () => this.#edit() }, icon("edit"), h("span", {}, "Edit")),
        copy));
  }

  #edit() {
    const place = $(".question", this.element);
    const area = h("textarea", { rows: "3", "aria-label": "Edit your question", maxlength: "1000000" });
    area.value = this.#turn.text;
    const close = () => {
      this.#drawQuestion();
      $("button", place).focus();
    };
    const send = () => {
      const text = area.value.trim();
      if (text) this.#actions.edit(this.#turn, text);
    };
    area.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close();
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        send();
      }
    });
    place.replaceChildren(
      h("div", { class: "editing" }, area,
        h("p", { class: "soft small" }, "Sending it again removes the answers below."),
        h("div", { class: "row" },
          h("button", { class: "primary", type: "button", onclick: send }, "Send"),
          h("button", { type: "button", onclick: close }, "Cancel"))));
    area.focus();
  }
}
