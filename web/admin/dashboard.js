// The dashboard: draws what `/metrics-stream` says.

import { $, h } from "/web/shared/dom.js";
import { Chart } from "./chart.js";
import { bytes, duration, number, sum, uptime } from "./format.js";
import { limitName, modelState, problems, room, upstreamState } from "./health.js";
import { follow } from "./samples.js";

const refused = (sample) => sum(Object.values(sample.refusals_per_second ?? {}));

const CHARTS = [
  { title: "Open streams", shown: number, least: 4, lines: [{ name: "open", value: (sample) => sample.open_streams }] },
  { title: "Tokens per second", shown: number, least: 10, lines: [{ name: "tokens/s", value: (sample) => sample.tokens_per_second }] },
  {
    title: "Time to the first token",
    shown: duration,
    least: 100,
    lines: ["p50", "p90", "p99"].map((name) => ({ name, value: (sample) => sample.first_token_ms?.[name] })),
  },
  {
    title: "Errors and refusals per second",
    shown: number,
    lines: [
      { name: "errors", value: (sample) => sample.errors_per_second },
      { name: "refusals by limits", value: refused },
    ],
  },
  { title: "Processor, % of one core", shown: number, least: 10, lines: [{ name: "%", value: (sample) => sample.cpu_percent }] },
  { title: "Memory", shown: bytes, least: 1024 * 1024, binary: true, lines: [{ name: "resident", value: (sample) => sample.memory_bytes }] },
].map((settings) => new Chart(settings));
$("#charts").append(...CHARTS.map((chart) => chart.element));

function drawVerdict(samples) {
  const found = problems(samples);
  const level = found[0]?.level ?? "good";
  const lines = found.length === 0
    ? [h("p", {}, "Nothing is wrong.")]
    : [h("p", {}, found.length === 1 ? found[0].text : `${number(found.length)} things are wrong now:`), ...(found.length > 1 ? [h("ul", {}, found.map(({ text }) => h("li", {}, text)))] : [])];
  const verdict = $("#verdict");
  const text = lines.map((line) => line.textContent).join("\n");
  // Screen readers repeat what is set again.
  if (verdict.dataset.text === text) return;
  verdict.dataset.text = text;
  verdict.className = `notice ${level}`;
  verdict.replaceChildren(...lines);
  document.title = `${level === "good" ? "" : "⚠ "}Dashboard – Sluicegate`;
}

function drawFigures(now) {
  const figures = [
    ["Open streams", number(now.open_streams)],
    ["Tokens per second", number(now.tokens_per_second)],
    ["Requests per second", number(now.requests_per_second)],
    ["Errors per second", number(now.errors_per_second), now.errors_per_second > 0],
    ["Refusals per second", number(refused(now)), refused(now) > 0],
    ["First token, half within", duration(now.first_token_ms?.p50)],
    ["First token, 99 % within", duration(now.first_token_ms?.p99)],
    ["Resumes per second", number(sum(Object.values(now.resumes_per_second ?? {})))],
  ];
  $("#figures").replaceChildren(...figures.map(([name, value, bad]) => h("div", { class: bad && "is-bad" }, h("dt", {}, name), h("dd", {}, value))));
}

const cell = (text) => h("td", { class: "number" }, text);
const head = (...names) => h("thead", {}, h("tr", {}, names.map((name, at) => h("th", { class: at > 1 && "number", scope: "col" }, name))));
const state = ({ level, word }) => h("td", {}, h("span", { class: `state ${level}` }, word));
const none = (text) => h("tbody", {}, h("tr", {}, h("td", { class: "soft" }, text)));

function drawModels(samples) {
  const models = Object.entries(samples.last.models ?? {});
  const rows = models.map(([name, model]) => h("tr", {}, h("td", {}, name), state(modelState(samples, name)), cell(number(model.open_streams)), cell(number(model.tokens_per_second)), cell(number(model.requests_per_second)), cell(number(model.errors_per_second)), cell(number(model.failovers_per_second)), cell(duration(model.first_token_ms.p50)), cell(duration(model.first_token_ms.p99))));
  const names = ["Model", "State", "Open", "Tokens/s", "Requests/s", "Errors/s", "Failovers/s", "First token p50", "p99"];
  $("#models").replaceChildren(...(rows.length ? [head(...names), h("tbody", {}, rows)] : [none("No model was asked yet.")]));
}

function drawUpstreams(samples) {
  const names = Object.keys(samples.last.upstreams ?? {});
  const rows = names.map((name) => {
    const found = upstreamState(samples, name);
    const errors = found.errors.map(([code, count]) => `${code} ${number(count)}`).join(", ");
    return h("tr", {}, h("td", {}, name), state(found), cell(number(found.attempts)), cell(number(found.failed)), h("td", { class: "number" }, errors || "–"));
  });
  $("#upstreams").replaceChildren(...(rows.length ? [head("Upstream", "State", "Requests", "Failed", "Errors"), h("tbody", {}, rows)] : [none("No upstream was asked yet.")]));
}

function drawRefusals(samples) {
  const counts = samples.countsInLastMinute((sample) => sample.refusals_per_second);
  const most = Math.max(1, ...counts.map(([, count]) => count));
  const bars = counts.flatMap(([policy, count]) => [h("span", {}, limitName(policy)), h("meter", { max: most, low: 0, high: 0, optimum: 0, value: count, "aria-label": limitName(policy) }), h("span", { class: "figures" }, number(count))]);
  $("#refusals").replaceChildren(bars.length ? h("div", { class: "bars" }, bars) : h("p", { class: "empty" }, "No request was refused by a limit."));
}

function drawRoom(now) {
  const bars = room(now).flatMap(({ name, used, limit, shown }) => [h("span", {}, name), h("meter", { max: limit ?? 1, high: 0.9 * (limit ?? 1), optimum: 0, value: used ?? 0, "aria-label": name }), h("span", { class: "figures" }, `${shown(used)} of ${shown(limit)}`)]);
  const more = `Events kept for clients that resume: ${bytes(now.stream_buffer_bytes)}. Further readers of streams: ${number(now.readers)}. Running for ${uptime(now.uptime_seconds ?? 0)}.`;
  $("#room").replaceChildren(h("div", { class: "bars" }, bars), h("p", { class: "empty small" }, more));
}

follow((samples) => {
  drawVerdict(samples);
  const now = samples.last;
  // A hidden page draws nothing.
  if (!now || document.hidden) return;
  drawFigures(now);
  for (const chart of CHARTS) chart.draw(samples.all);
  drawModels(samples);
  drawUpstreams(samples);
  drawRefusals(samples);
  drawRoom(now);
});
