// The choice of models: one field for each answer that the next question gets.

import { $, h, icon } from "../shared/dom.js";
import { authorization, settings } from "./conversation.js";

const MOST = 12;

let names = []; // as /v1/models lists them; one with `*` stands for many
let changed = () => {};
export const onModels = (listener) => (changed = listener);

export const isDemo = () => names.some((name) => name.startsWith("demo-") && name.endsWith("/*"));

/** Asks the gateway for its models. The error, if it does not list any. */
export async function loadModels() {
  const response = await fetch("/v1/models", { headers: authorization() }).catch(() => null);
  if (!response) return { code: "unreachable" };
  const body = await response.json().catch(() => null);
  if (!response.ok) return body?.error ?? { code: "not_the_gateway", message: `status ${response.status}` };
  names = (body?.data ?? []).map((model) => model.id);
  // A name that may be anything comes last.
  names.sort((one, other) => one.includes("*") - other.includes("*") || one.localeCompare(other, undefined, { numeric: true }));
  if (!settings.models.length && names.length) settings.models = [names[0].replace("*", "")];
  draw();
  return names.length ? null : { code: "no_models", message: "This gateway, or this key, has no models." };
}

/** The pattern that a name stands for, or the name itself. */
function listed(name) {
  if (names.includes(name)) return name;
  const fits = (pattern) => {
    const [before, after] = pattern.split("*");
    return name.length >= before.length + after.length && name.startsWith(before) && name.endsWith(after);
  };
  const patterns = names.filter((pattern) => pattern.includes("*") && fits(pattern));
  return patterns.sort((one, other) => other.length - one.length)[0] ?? names[0];
}

export function setModels(models) {
  settings.models = models;
  draw();
  changed();
}

/** The models of the next question, and what is missing to send it. */
export function chosenModels() {
  const fields = [...$("#models").querySelectorAll(".model")];
  const empty = fields.find((field) => field.querySelector("input")?.value.trim() === "");
  empty?.querySelector("input").focus();
  return empty ? [] : [...new Set(settings.models)];
}

function draw() {
  $("#models").replaceChildren(...settings.models.map(drawField));
  $("#compare").hidden = settings.models.length >= MOST || names.length === 0;
}

function drawField(name, at) {
  const pattern = listed(name);
  if (!pattern) return "";
  const label = settings.models.length > 1 ? `Model ${at + 1}` : "Model";
  const set = (model) => {
    settings.models[at] = model;
    changed();
  };
  const select = h("select", { "aria-label": label }, names.map((each) => h("option", { value: each, selected: each === pattern }, each === "*" ? "any other name" : each.replace("*", "…"))));
  select.addEventListener("change", () => {
    set(select.value.replace("*", ""));
    draw();
    const made = $("#models").querySelectorAll(".model")[at];
    (made.querySelector("input") ?? made.querySelector("select")).focus();
  });
  const parts = [select];
  if (pattern.includes("*")) {
    const [before, after] = pattern.split("*");
    const rest = h("input", { "aria-label": `${label}: name`, placeholder: "name", autocomplete: "off", spellcheck: "false", autocapitalize: "off" });
    rest.value = name.slice(before.length, name.length - after.length);
    rest.addEventListener("input", () => set(before + rest.value.trim() + after));
    parts.push(rest);
  }
  if (settings.models.length > 1) {
    parts.push(h("button", { type: "button", class: "quiet", "aria-label": `Remove model ${at + 1}`, onclick: () => removeModel(at) }, icon("close")));
  }
  return h("span", { class: "model" }, parts);
}

/** Adds a field for one more model. */
export function addModel() {
  const unused = names.find((name) => !name.includes("*") && !settings.models.includes(name));
  setModels([...settings.models, unused ?? names[0].replace("*", "")]);
  [...$("#models").querySelectorAll("select")].at(-1).focus();
}

function removeModel(at) {
  setModels(settings.models.filter((_, place) => place !== at));
  $("#models select").focus();
}
