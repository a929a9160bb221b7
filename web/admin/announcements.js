// Announcing something to every listener.

import { $, h, setText } from "/web/shared/dom.js";
import { plural } from "./format.js";

/** The data of the announcement; an exception says what is wrong. */
function data() {
  const more = $("#more").value.trim();
  let fields = {};
  if (more) {
    try {
      fields = JSON.parse(more);
    } catch (error) {
      throw new Error(`The further fields are not JSON: ${error.message}`, { cause: error });
    }
    if (typeof fields !== "object" || fields === null || Array.isArray(fields)) throw new Error("The further fields are not a JSON object, such as {\"level\":\"warning\"}.");
  }
  const text = $("#text").value.trim();
  return text ? { text, ...fields } : fields;
}

function fail(text) {
  $("#failure").hidden = !text;
  setText($("#failure"), text ?? "");
}

function preview() {
  try {
    setText($("#preview"), `event: announcement\ndata: ${JSON.stringify(data())}`);
    fail();
  } catch (error) {
    setText($("#preview"), error.message);
  }
}

$("#announce").addEventListener("input", preview);
$("#announce").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = $("#send");
  button.disabled = true;
  try {
    const announced = data();
    if (Object.keys(announced).length === 0) throw new Error("There is nothing to announce: write a text.");
    const response = await fetch("/notifications", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ event: "announcement", data: announced }) });
    const body = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(body.error?.message ?? `the gateway answered ${response.status}`);
    const reach = body.replicas === "all" ? "on every replica; here" : "on this replica:";
    $("#sent").prepend(h("li", {}, h("time", {}, new Date().toLocaleTimeString()), ` to the listeners ${reach} ${plural(body.listeners, "listener")} – `, h("code", {}, JSON.stringify(announced))));
    $("#none").hidden = true;
    $("#text").value = "";
    preview();
  } catch (error) {
    fail(error.message);
  } finally {
    button.disabled = false;
  }
});
preview();
