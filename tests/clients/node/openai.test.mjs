// OpenAI's own JavaScript client.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { key, url } from "./gateway.mjs";

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });

test("the models of a key", async () => {
  const ids = [];
  for await (const model of client.models.list()) {
    ids.push(model.id);
  }
  assert.ok(ids.includes("openai-chat/*"));
});
