/** The fields of an `error`. `code` is one of the gateway's error codes, or `unreachable` or `closed`. */
export interface ErrorFields {
  code: string;
  message: string;
  retryable: boolean;
  origin: "client" | "gateway" | "upstream";
  /** Seconds to wait before another try. */
  retry_after?: number;
  request_id?: string;
  /** The HTTP status of a refusal. */
  status?: number;
}

export class SluicegateError extends Error implements ErrorFields {
  constructor(fields: Partial<ErrorFields> & { code: string; message: string });
  code: string;
  retryable: boolean;
  origin: "client" | "gateway" | "upstream";
  retry_after?: number;
  request_id?: string;
  status?: number;
}

export interface Usage {
  input_tokens: number | null;
  output_tokens: number | null;
  cached_input_tokens: number;
  reasoning_tokens: number;
}

interface EventBase {
  /** Opaque. Give it as `after` to read on behind this event. */
  id?: string;
  /** The stream of the event, for events of `multiplex`. */
  stream?: string;
}

export type StartEvent = EventBase & { type: "start"; stream: string; model: string; upstream: string | null; upstream_model: string | null; created: string };
export type TokenEvent = EventBase & { type: "token"; text: string };
export type ReasoningEvent = EventBase & { type: "reasoning"; text: string };
/** `id` and `name` stand on a call's first piece, where `id` is the call's id. Pieces of one call have the same `index`. */
export type ToolCallEvent = EventBase & { type: "tool_call"; index: number; name?: string; arguments: string };
export type CitationEvent = EventBase & { type: "citation"; url?: string; title?: string; text?: string; start?: number; end?: number };
export type CompleteEvent = EventBase & { type: "complete"; finish_reason: string; usage: Usage | null; timing: { first_token_ms: number; total_ms: number }; continued?: number };
export type ErrorEvent = EventBase & { type: "error"; error: ErrorFields; usage?: Usage };
export type StreamEvent = StartEvent | TokenEvent | ReasoningEvent | ToolCallEvent | CitationEvent | CompleteEvent | ErrorEvent;
export type Notification = { type: string; id?: string; [field: string]: unknown };

export interface ReadOptions {
  /** The gateway's origin. Required outside a page of the gateway; else the origin of this module. */
  baseUrl?: string;
  /** An API key. A page that everybody can open must not have one. */
  key?: string;
  /** Stops reading, as `close()` does. */
  signal?: AbortSignal;
  /** Reads on behind the event with this id. */
  after?: string;
  /** Delivers at most so many batches a second; texts that follow one another are joined. */
  maxUpdatesPerSecond?: number;
  /** Delivers nothing while the page is hidden; what arrived is delivered when it is shown again. */
  pauseWhenHidden?: boolean;
  /** The longest wait before the next try to reconnect, in milliseconds: 30000 by default. */
  maxBackoffMs?: number;
  /** A connection that is silent for so long, in milliseconds, counts as broken: 60000 by default. */
  silenceMs?: number;
  onStart?(event: StartEvent): void;
  onToken?(event: TokenEvent): void;
  onReasoning?(event: ReasoningEvent): void;
  onToolCall?(event: ToolCallEvent): void;
  onCitation?(event: CitationEvent): void;
  onComplete?(event: CompleteEvent): void;
  onError?(event: ErrorEvent): void;
  /** Every event, before its own callback. */
  onEvent?(event: StreamEvent | Notification): void;
  /** A connection broke, and the next try follows after `delayMs`. */
  onReconnect?(event: { attempt: number; delayMs: number }): void;
}

/** A prompt, as `POST /v1/streams` takes it. */
export interface StreamOptions extends ReadOptions {
  model: string;
  prompt?: string;
  messages?: unknown[];
  system?: string;
  maxTokens?: number;
  temperature?: number;
  topP?: number;
  stop?: string | string[];
  seed?: number;
  tools?: unknown[];
  toolChoice?: unknown;
  responseFormat?: unknown;
  /** An effort, such as "low". */
  reasoning?: string | { effort?: string; max_tokens?: number };
  user?: string;
  metadata?: Record<string, unknown>;
  extra?: Record<string, unknown>;
}

export interface Reading<E = StreamEvent> extends AsyncIterable<E> {
  /** The stream's id: whoever has it can read the stream. Known once the gateway has accepted the prompt. */
  readonly id: string | undefined;
  /** The whole text; rejects with a `SluicegateError`. */
  text(): Promise<string>;
  /** Stops the model; needs the key that began the stream. */
  cancel(): Promise<void>;
  /** Stops reading. */
  close(): void;
}

/** Sends a prompt, once, and reads its stream over as many connections as that takes. */
export function stream(options: StreamOptions): Reading;
/** Reads a stream that exists. */
export function resume(id: string, options?: ReadOptions): Reading;
/** Reads up to 64 streams over one connection; each event has its `stream`. */
export function multiplex(ids: string[], options?: ReadOptions): Reading;
/** Reads the gateway's notifications until it is closed. */
export function notifications(options?: ReadOptions): Reading<Notification>;
