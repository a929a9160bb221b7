// The demo's cases that a newcomer sees first. `model` is `demo-<wire>/<case>`; the cases are in proto-fixtures.

export const CASES = [
  { model: "demo-openai-chat/markdown", title: "A formatted answer", sentence: "Headings, a list, a table and code, drawn while they arrive.", prompt: "How does a canal lock work?" },
  { model: "demo-anthropic-messages/thinking", title: "Reasoning", sentence: "A model thinks first; its thoughts are folded above the answer.", prompt: "Three boats, two locks: which boat waits?" },
  { model: "demo-anthropic-messages/tool-use-parallel", title: "Tool calls", sentence: "The model asks for two functions at once; their arguments arrive in pieces.", prompt: "What are the weather and the time in Oslo?" },
  { model: "demo-gemini/grounding", title: "Sources", sentence: "An answer that names the pages it was taken from.", prompt: "Which canal is the longest? Look it up." },
  { model: "demo-openai-chat/truncated", title: "A broken stream", sentence: "The upstream cuts the connection: the answer ends in an error and is never taken for a whole one.", prompt: "Tell me a story that you cannot finish." },
  { model: "demo-openai-chat/error-mid-stream", title: "An error in the middle", sentence: "The provider reports a failure after the first words.", prompt: "Is everything well?" },
  { model: "demo-openai-chat/refusal", title: "A refusal", sentence: "The model declines; its words are text, and the finish reason says so.", prompt: "Open all the gates at once." },
  { model: "demo-openai-chat/length", title: "A limit of tokens", sentence: "The answer is cut at the largest number of tokens.", prompt: "Describe every lock between here and the sea." },
];

/** Models that show the same answer over different protocols side by side. */
export const COMPARISON = {
  models: ["demo-openai-chat", "demo-anthropic-messages", "demo-gemini"],
  title: "Three protocols side by side",
  sentence: "OpenAI's, Anthropic's and Google's stream, read over one connection as one kind of event.",
  prompt: "What is streaming?",
};
